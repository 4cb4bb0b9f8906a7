from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.receive.received import ReceivedField, address_literal, date_time

NOW_MS = 1_763_951_400_000


def make(**changed: str) -> bytes:
    parts = {
        "greeting": "client.example",
        "peer": "[192.0.2.1]",
        "fqdn": "relay1.contoso.example",
        "protocol": "ESMTP",
        "queue_id": "0saj3v6580402",
        "recipient": "you@contoso.example",
    } | changed
    return ReceivedField().make(**parts, now_ms=NOW_MS)


def test_field_of_a_message_with_one_recipient() -> None:
    assert make() == (
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\tby relay1.contoso.example with ESMTP id 0saj3v6580402 for <you@contoso.example>;\r\n"
        b"\tMon, 24 Nov 2025 02:30:00 +0000\r\n"
    )


def test_fields_that_a_submission_lacks_have_the_date_and_the_name_of_its_receipt() -> None:
    field = ReceivedField()
    parts = {"greeting": "a", "peer": "b", "fqdn": "c", "protocol": "SMTP", "queue_id": "d", "recipient": ""}
    field.make(**parts, now_ms=NOW_MS)
    date, name = b"Date: Mon, 24 Nov 2025 02:30:00 +0000\r\n", "<0saj3v6580402@relay1.contoso.example>"
    for has_date, has_message_id, expected in [
        (True, True, (b"", "<m>")),
        (False, True, (date, "<m>")),
        (True, False, (f"Message-ID: {name}\r\n".encode(), name)),
        (False, False, (date + f"Message-ID: {name}\r\n".encode(), name)),
    ]:
        assert expected == field.missing(
            "<m>",
            has_date=has_date,
            has_message_id=has_message_id,
            queue_id="0saj3v6580402",
            fqdn="relay1.contoso.example",
        )


def test_recipients_do_not_learn_of_each_other() -> None:
    assert b" for " not in make(recipient="")


@pytest.mark.parametrize(
    ("ip", "literal"), [("192.0.2.1", "[192.0.2.1]"), ("2001:db8::1", "[IPv6:2001:db8::1]")]
)
def test_address_literal(ip: str, literal: str) -> None:
    assert address_literal(ip) == literal


def test_longest_parts_keep_lines_within_bounds() -> None:
    field = make(greeting="g" * 255, fqdn="f" * 255, recipient="r" * 254)
    assert max(len(line) for line in field.split(b"\r\n")) <= 998
    assert field.endswith(b"\r\n")
    assert all(line.startswith((b"Received:", b"\t")) for line in field.removesuffix(b"\r\n").split(b"\r\n"))


@given(st.integers(0, 2**33))
def test_date_is_what_others_read(second: int) -> None:
    assert parsedate_to_datetime(date_time(second)).timestamp() == second


def test_date_follows_the_clock() -> None:
    field = ReceivedField()
    parts = {"greeting": "a", "peer": "b", "fqdn": "c", "protocol": "SMTP", "queue_id": "d", "recipient": ""}
    first = field.make(**parts, now_ms=NOW_MS)
    assert field.make(**parts, now_ms=NOW_MS + 999) == first
    assert b"02:30:01" in field.make(**parts, now_ms=NOW_MS + 1000)
