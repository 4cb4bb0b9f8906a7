from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.smtp.sasl import (
    FIELD_OCTETS_MAX,
    MECHANISMS,
    Challenge,
    Failed,
    Login,
    Mechanism,
    Password,
    Plain,
    prepared,
)

TIM = Password("tim", "tanstaaftanstaaf")


@pytest.mark.parametrize(
    ("response", "step"),
    [
        (b"\0tim\0tanstaaftanstaaf", TIM),
        (b"tim\0tim\0tanstaaftanstaaf", TIM),
        (b"Ursel\0Kurt\0xipj3plmq", Failed.REFUSED),
        (b"\0tim\0a b", Password("tim", "a b")),
        ("\0jürgen\0straße".encode(), Password("jürgen", "straße")),
        (b"", Failed.REFUSED),
        (b"tim\0tanstaaftanstaaf", Failed.REFUSED),
        (b"\0tim\0tan\0staaf", Failed.REFUSED),
        (b"\0\0tanstaaftanstaaf", Failed.REFUSED),
        (b"\0tim\0", Failed.REFUSED),
        (b"\0\0", Failed.REFUSED),
        (b"\0tim\0\xff", Failed.REFUSED),
        (b"\0t\nim\0x", Failed.REFUSED),
        (b"\0tim\0" + b"x" * FIELD_OCTETS_MAX, Password("tim", "x" * FIELD_OCTETS_MAX)),
        (b"\0tim\0" + b"x" * (FIELD_OCTETS_MAX + 1), Failed.REFUSED),
        (b"\0" + b"x" * FIELD_OCTETS_MAX + b"\0y", Password("x" * FIELD_OCTETS_MAX, "y")),
        (b"\0" + b"x" * (FIELD_OCTETS_MAX + 1) + b"\0y", Failed.REFUSED),
        (b"x" * (FIELD_OCTETS_MAX + 1) + b"\0tim\0y", Failed.REFUSED),
    ],
)
def test_plain_reads_one_response(response: bytes, step: object) -> None:
    assert Plain().respond(response) == step
    exchange = Plain()
    assert exchange.respond(None) == Challenge(b"")
    assert exchange.respond(response) == step


def test_login_asks_for_name_and_password() -> None:
    exchange = Login()
    assert exchange.respond(None) == Challenge(b"Username:")
    assert exchange.respond(b"tim") == Challenge(b"Password:")
    assert exchange.respond(b"tanstaaftanstaaf") == TIM


def test_login_takes_an_initial_response_for_the_name() -> None:
    exchange = Login()
    assert exchange.respond(b"tim") == Challenge(b"Password:")
    assert exchange.respond(b"tanstaaftanstaaf") == TIM


@pytest.mark.parametrize(
    ("name", "password"),
    [
        (b"", b"x"),
        (b"tim", b""),
        (b"tim\0", b"x"),
        (b"tim", b"x\0"),
        (b"\xff", b"x"),
        (b"tim", b"\xff"),
        (b"x" * (FIELD_OCTETS_MAX + 1), b"x"),
        (b"tim", b"x" * (FIELD_OCTETS_MAX + 1)),
    ],
)
def test_login_asks_for_the_password_of_whatever_name(name: bytes, password: bytes) -> None:
    exchange = Login()
    assert exchange.respond(name) == Challenge(b"Password:")
    assert exchange.respond(password) is Failed.REFUSED


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        # The examples of RFC 4013 3.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", None),
        ("\u0627\u0031", None),
        ("a\u00a0b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u0627a\u0628", None),
        ("u\u0308", "ü"),
        ("\ud7ff", None),
        ("", ""),
    ],
)
def test_names_and_passwords_are_prepared(text: str, normal: str | None) -> None:
    assert prepared(text) == normal


def test_a_password_is_not_shown() -> None:
    assert "tanstaaf" not in repr(TIM)


@given(
    st.sampled_from(sorted(MECHANISMS)), st.lists(st.one_of(st.none(), st.binary(max_size=300)), max_size=4)
)
def test_no_response_raises_and_every_exchange_ends(name: str, responses: list[bytes | None]) -> None:
    exchange: Mechanism = MECHANISMS[name]()
    steps = [exchange.respond(responses[0] if responses else None)]
    for response in [*responses[1:], b"", b"", b""]:
        if not isinstance(steps[-1], Challenge):
            break
        steps.append(exchange.respond(response or b""))
    assert len(steps) <= 3
    assert not isinstance(steps[-1], Challenge)


@given(st.text(max_size=40))
def test_preparing_is_stable(text: str) -> None:
    once = prepared(text)
    assert once is None or prepared(once) in (once, None)
