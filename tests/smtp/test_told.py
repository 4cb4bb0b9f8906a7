from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.smtp.told import XCLIENT, XFORWARD, read_xclient, read_xforward, spelled


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("NAME", "spike.porcupine.org", "spike.porcupine.org"),
        ("NAME", "[UNAVAILABLE]", ""),
        ("NAME", "[tempunavail]", ""),
        ("NAME", "a" * 255, "a" * 255),
        ("NAME", "a" * 256, None),
        ("NAME", "a+20b", None),
        ("NAME", "-a", None),
        ("NAME", "a;b", None),
        ("ADDR", "168.100.189.2", "168.100.189.2"),
        ("ADDR", "168.100.189.02", None),
        ("ADDR", "IPV6:2001:DB8::1", "2001:db8::1"),
        ("ADDR", "ipv6:::ffff:192.0.2.1", "192.0.2.1"),
        ("ADDR", "2001:db8::1", None),
        ("ADDR", "IPV6:192.0.2.1", None),
        ("ADDR", "IPV6:fe80::1%eth0", None),
        ("ADDR", "[192.0.2.1]", None),
        ("ADDR", "unknown", None),
        ("PORT", "0", "0"),
        ("PORT", "65535", "65535"),
        ("PORT", "65536", None),
        ("PORT", "-1", None),
        ("PORT", "999999", None),
        ("PROTO", "smtp", "SMTP"),
        ("PROTO", "ESMTP", "ESMTP"),
        ("PROTO", "LMTP", None),
        ("HELO", "[192.0.2.1]", "[192.0.2.1]"),
        ("HELO", "[IPv6:::1]", "[IPv6:::1]"),
        ("HELO", "MY_PC", "MY_PC"),
        ("HELO", "a+2Bb", "a+b"),
        ("HELO", "a+28comment+29", None),
        ("HELO", "a+0D+0Ab", None),
        ("HELO", "a+ZZ", None),
        ("LOGIN", "erp@contoso.example", "erp@contoso.example"),
        ("DESTADDR", "192.0.2.1", "192.0.2.1"),
        ("DESTPORT", "25", "25"),
        ("IDENT", "3CF6B2AAE8", None),
        ("X", "y", None),
    ],
)
def test_xclient_attributes_are_taken_in_their_own_form_only(name: str, value: str, told: str | None) -> None:
    assert read_xclient(((name, value),)) == (None if told is None else {name: told})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PROTO", "QMQP", "QMQP"),
        ("PROTO", "x" * 64, "x" * 64),
        ("PROTO", "x" * 65, None),
        ("IDENT", "3CF6B2AAE8", "3CF6B2AAE8"),
        ("SOURCE", "local", "LOCAL"),
        ("SOURCE", "REMOTE", "REMOTE"),
        ("SOURCE", "elsewhere", None),
        ("LOGIN", "erp", None),
    ],
)
def test_xforward_attributes_are_taken_in_their_own_form_only(
    name: str, value: str, told: str | None
) -> None:
    assert read_xforward(((name, value),)) == (None if told is None else {name: told})


def test_one_attribute_that_is_wrong_is_enough() -> None:
    assert read_xclient((("ADDR", "192.0.2.1"), ("PORT", "x"))) is None
    told = read_xclient((("ADDR", "192.0.2.1"), ("NAME", "[UNAVAILABLE]")))
    assert told is not None
    assert spelled(told) == "ADDR=192.0.2.1 NAME=[UNAVAILABLE]"


@given(st.sampled_from([*XCLIENT, *XFORWARD, "X"]), st.text(max_size=300))
def test_what_is_taken_can_stand_in_a_comment_of_a_header_field(name: str, value: str) -> None:
    for read in (read_xclient, read_xforward):
        told = read(((name, value),)) or {}
        for text in told.values():
            assert text.isascii()
            assert len(text) <= 255
            assert not set(text) & set(' \t\r\n()\\"<>,;')
            assert text.isprintable()
