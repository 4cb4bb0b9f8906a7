from __future__ import annotations

import re

import pytest

from penstock.smtp import replies
from penstock.smtp.extensions import Extensions

REPLY_LINE_MAX = 512  # RFC 5321 4.5.3.1.5
CONSTANTS = {
    name: value for name in replies.__all__ if isinstance(value := getattr(replies, name), bytes)
} | {f"MALFORMED {key}": value for key, value in (replies.MALFORMED | replies.MALFORMED_OF_VERB).items()}
ONE_LINE = re.compile(rb"([2-5]\d\d) (?:([245])\.\d{1,3}\.\d{1,3} )?[ -~]+\r\n")


@pytest.mark.parametrize("name", CONSTANTS)
def test_reply_is_one_printable_line_with_an_enhanced_status_of_its_class(name: str) -> None:
    reply = CONSTANTS[name]
    found = ONE_LINE.fullmatch(reply)
    assert found, reply
    assert len(reply) <= REPLY_LINE_MAX
    code, digit = found.groups()
    if code == b"354":
        assert digit is None
    else:
        # RFC 2034 4.
        assert digit == code[:1]


def test_all_names_are_listed() -> None:
    own = {
        name for name, value in vars(replies).items() if isinstance(value, bytes | dict) and name[0] != "_"
    }
    assert own <= set(replies.__all__)


def test_ehlo_offers_exactly_what_is_implemented() -> None:
    offers = Extensions().lines(max_message_bytes=37_748_736, max_recipients=200)
    lines = replies.ehlo("relay1.contoso.example", offers).split(b"\r\n")
    assert lines == [
        b"250-relay1.contoso.example",
        b"250-PIPELINING",
        b"250-SIZE 37748736",
        b"250-8BITMIME",
        b"250-CHUNKING",
        b"250-LIMITS RCPTMAX=200",
        b"250 ENHANCEDSTATUSCODES",
        b"",
    ]


@pytest.mark.parametrize(
    "message_id", ["", "<" + "x" * 249 + ">", "a\r\n250 2.0.0 forged", "<ü@example>", "<a\x00b@example>"]
)
def test_message_id_that_does_not_fit_is_left_out(message_id: str) -> None:
    reply = replies.queued(message_id, "0saj3v6580402", "relay1.contoso.example")
    assert reply == (
        b"250 2.6.0 [InternalId=0saj3v6580402, Hostname=relay1.contoso.example] Queued mail for delivery\r\n"
    )


def test_longest_reply_to_a_message_fits_one_line() -> None:
    reply = replies.queued("<" + "x" * 148 + ">", "0saj3v6580402", "f" * 255)
    assert reply.startswith(b"250 2.6.0 <xxx")
    assert len(reply) <= REPLY_LINE_MAX


def test_unknown_kind_of_malformed_line_is_a_syntax_error() -> None:
    assert replies.malformed("something new") == replies.malformed("syntax")
