"""Verdicts check themselves; views show what came, and not more."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import compat32
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Accept, ContentView, HeaderView, ReceiveHooks, Recipient, Redirect, Reject, Reply, Tarpit
from penstock.hook_views import CHUNK_OCTETS, unstuffed
from penstock.hooks import ADDED_OCTETS_MAX, REPLY_TEXT_MAX, TARPIT_MAX_S
from penstock.receive.hook_counts import names_of

NO = Reply(550, "5.7.1", "no")


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (NO, b"550 5.7.1 no\r\n"),
        (Reply(451, None, "later"), b"451 4.0.0 later\r\n"),
        (Reply(599, "5.999.999", "x" * REPLY_TEXT_MAX), b"599 5.999.999 " + b"x" * REPLY_TEXT_MAX + b"\r\n"),
        (Reply(400, "4.1.2", " "), b"400 4.1.2  \r\n"),
    ],
)
def test_refusal_is_one_line(reply: Reply, octets: bytes) -> None:
    assert Reject(reply).octets == octets
    assert len(octets) <= 512


@pytest.mark.parametrize(
    "reply",
    [
        Reply(250, "2.0.0", "no"),
        Reply(354, None, "no"),
        Reply(399, None, "no"),
        Reply(600, None, "no"),
        Reply(True, None, "no"),
        Reply(550, "4.7.1", "no"),
        Reply(550, "5.7", "no"),
        Reply(550, "5.7.1 x", "no"),
        Reply(550, "", "no"),
        Reply(550, "5.7.1", ""),
        Reply(550, "5.7.1", "no\r\n250 2.0.0 yes"),
        Reply(550, "5.7.1", "n\0o"),
        Reply(550, "5.7.1", "n\x7fo"),
        Reply(550, "5.7.1", "n\xf6"),
        Reply(550, "5.7.1", "x" * (REPLY_TEXT_MAX + 1)),
    ],
)
def test_what_is_no_refusal_cannot_be_made(reply: Reply) -> None:
    with pytest.raises(ValueError, match="reply: "):
        Reject(reply)


def test_header_fields_are_lines() -> None:
    assert Accept([("X-One", "1"), ("x_2!", " two\tthree ")]).octets == b"X-One: 1\r\nx_2!:  two\tthree \r\n"
    assert Accept().octets == b""
    assert len(Accept([("X", "x" * 995)]).octets) == 998 + 2
    lines = ADDED_OCTETS_MAX // 1000
    assert len(Accept([("X", "x" * 995)] * lines).octets) == lines * 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("X Y", "x"),
        ("X:", "x"),
        (".X", "x"),
        ("X\n", "x"),
        ("\xd6", "x"),
        ("X", "a\r\nY: b"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\0"),
        ("X", "\x7f"),
        ("X", "\xf6"),
        ("X", "x" * 996),
        ("Received", "from nowhere"),
        ("return-Path", "<>"),
    ],
)
def test_what_is_no_header_field_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="add_headers: "):
        Accept([(name, value)])


@given(name=st.text(), value=st.text())
def test_whatever_is_taken_is_one_field(name: str, value: str) -> None:
    try:
        octets = Accept([(name, value)]).octets
    except ValueError:
        return
    parsed = BytesParser(policy=compat32).parsebytes(octets + b"\r\n")
    assert list(parsed.keys()) == [name]
    assert octets.count(b"\n") == octets.count(b"\r") == 1
    assert not octets.startswith(b".")


def test_more_header_fields_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="add_headers: more than"):
        Accept([("X", "x" * 900)] * 37)


@pytest.mark.parametrize("seconds", [0, -1, TARPIT_MAX_S + 0.1, float("nan"), float("inf")])
def test_no_answer_is_held_back_for_ever(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds: "):
        Tarpit(seconds)


def test_tarpit_holds_back_a_verdict() -> None:
    assert Tarpit(TARPIT_MAX_S).then == Accept()
    with pytest.raises(ValueError, match="then: "):
        Tarpit(1, Tarpit(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "x\n", "a/b", "x" * 65])
def test_connectors_have_names(name: str) -> None:
    with pytest.raises(ValueError, match="connector: "):
        Redirect(name)


class First(ReceiveHooks):
    pass


class Named(ReceiveHooks):
    def __init__(self, name: str) -> None:
        self.name = name


def test_hooks_are_called_as_they_say_or_after_their_class() -> None:
    assert names_of([First(), Named("second")]) == ["First", "second"]
    for hooks in ([First(), First()], [Named("a b")], [Named("x" * 65)]):
        with pytest.raises(ValueError, match="hook"):
            names_of(hooks)
    with pytest.raises(TypeError, match="not a ReceiveHooks: int"):
        names_of([1])  # type: ignore[list-item]


class Slipped(ReceiveHooks):
    async def on_rcpt(self) -> None:
        """Be called like an event."""


def test_method_that_is_called_like_an_event_and_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Slipped\.on_rcpt is no event .* on_rcpt_to"):
        names_of([Slipped()])


SECTION = (
    b"From: me@contoso.example\r\nSubject: one\r\n two\r\n\tthree\r\nno field\r\n  of none\r\n"
    b"X-Empty:\r\nsubject : again\r\nX-Bytes: \xff\xc3\xb6\r\n"
)


def test_header_fields_are_unfolded_in_order() -> None:
    view = HeaderView(SECTION)
    assert view.fields == (
        ("From", "me@contoso.example"),
        ("Subject", "one two\tthree"),
        ("X-Empty", ""),
        ("subject", "again"),
        ("X-Bytes", "\udcff\xf6"),
    )
    assert view.get("SUBJECT") == "one two\tthree"
    assert view.get_all("Subject") == ("one two\tthree", "again")
    assert view.get("X-None") is None
    assert HeaderView(b"").fields == ()


@given(
    st.binary()
    | st.lists(st.sampled_from([b"A: b\r\n", b" c\r\n", b"\r\n", b":", b"\t", b"x"])).map(b"".join)
)
def test_any_header_section_can_be_looked_at(octets: bytes) -> None:
    for name, value in HeaderView(octets).fields:
        assert name
        assert "\r\n" not in name + value


async def view_of(stored: bytes, *, is_stuffed: bool, piece: int) -> bytes:
    async def read(offset: int, length: int) -> bytes:
        assert length <= CHUNK_OCTETS
        return stored[offset : offset + min(length, piece)]

    view = ContentView(len(stored), 0, read, is_stuffed=is_stuffed)
    return await view.read()


@given(
    content=st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b"a", b"\r\n."])).map(b"".join),
    piece=st.integers(1, 7),
)
async def test_content_is_unstuffed_however_it_is_cut(content: bytes, piece: int) -> None:
    # As a client does it: RFC 5321 4.5.2.
    stuffed = re.sub(rb"(^|\r\n)\.", rb"\1..", content)
    assert await view_of(stuffed, is_stuffed=True, piece=piece) == content
    assert await view_of(content, is_stuffed=False, piece=piece) == content
    assert unstuffed(stuffed) == content


async def test_a_limit_keeps_content_out_of_memory() -> None:
    async def read(_offset: int, _length: int) -> bytes:
        raise AssertionError("it is not read")

    with pytest.raises(ValueError, match="has 11 octets, more than 10"):
        await ContentView(11, 0, read, is_stuffed=False).read(10)


def test_recipients_of_a_session_may_have_utf8() -> None:
    assert Recipient.received("\xf6@contoso.example").domain == "contoso.example"


@pytest.mark.parametrize("made", [lambda: Accept([("X", "y")]), lambda: Reject(NO), lambda: Redirect("out")])
def test_verdicts_are_equal_by_what_they_say(made: Callable[[], Any]) -> None:
    assert made() == made()
    assert hash(made()) == hash(made())
