from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.smtp import replies
from penstock.smtp.extensions import DELIVER_BY_MIN_S, FUTURE_RELEASE_MAX_S, Extensions, unix_s, utc
from penstock.smtp.parameters import (
    CHANGED_BCC,
    CHANGED_FIXUPS,
    CHANGED_LINE_FEEDS,
    changed,
    decode_xtext,
    mail_parameters,
    recipient_parameters,
    spoken,
    with_changes,
)

NOW_MS = 1_763_951_400_000
"""2025-11-24T02:30:00Z."""
ALL = Extensions(
    binary_mime=True,
    delivery_status_notification=True,
    smtp_utf8=True,
    mt_priority=True,
    deliver_by=True,
    future_release=True,
    require_tls_extension=True,
    auth=True,
)
NONE = Extensions(eight_bit_mime=False, size="disabled")
BAD = replies.PARAMETER_VALUE


def mail(*params: tuple[str, str | None], extensions: Extensions = ALL, is_secure: bool = True) -> Any:
    return mail_parameters(params, extensions, is_secure=is_secure, now_ms=NOW_MS)


def asked(key: str, value: str | None) -> Any:
    _, _, found, refusal = mail((key, value))
    assert refusal is None
    return found


def rcpt(key: str, value: str | None, *, is_utf8: bool = False) -> Any:
    return recipient_parameters(((key, value),), ALL, is_utf8=is_utf8)


@pytest.mark.parametrize(
    ("key", "value", "attribute", "expected"),
    [
        ("RET", "FULL", "ret", 0),
        ("RET", "hdrs", "ret", 1),
        ("ENVID", "QQ314159", "envid", "QQ314159"),
        ("ENVID", "a+2B+3D+20", "envid", "a+= "),
        ("ENVID", "x" * 100, "envid", "x" * 100),
        ("SMTPUTF8", None, "smtp_utf8", True),
        ("REQUIRETLS", None, "require_tls", True),
        ("BODY", "binarymime", "is_binary", True),
        ("BY", "120;R", "deliver_by", "120;R"),
        ("BY", "+060;rt", "deliver_by", "60;RT"),
        ("BY", f"{DELIVER_BY_MIN_S};R", "deliver_by", f"{DELIVER_BY_MIN_S};R"),
        ("BY", "0;N", "deliver_by", "0;N"),
        ("BY", "-999999999;nT", "deliver_by", "-999999999;NT"),
        ("HOLDFOR", "1", "release_ms", NOW_MS + 1_000),
        ("HOLDFOR", str(FUTURE_RELEASE_MAX_S), "release_ms", NOW_MS + FUTURE_RELEASE_MAX_S * 1_000),
        ("HOLDUNTIL", "2025-11-24T02:30:01Z", "release_ms", NOW_MS + 1_000),
        ("HOLDUNTIL", "2025-12-01T02:30:00Z", "release_ms", NOW_MS + FUTURE_RELEASE_MAX_S * 1_000),
        ("MT-PRIORITY", "0", "mt_priority", 0),
        ("MT-PRIORITY", "9", "mt_priority", 9),
        ("MT-PRIORITY", "-9", "mt_priority", -9),
        ("AUTH", "<>", "auth_sender", "<>"),
        ("AUTH", "e+3Dmc2@example.com", "auth_sender", "e=mc2@example.com"),
        ("AUTH", "x" * 500, "auth_sender", "x" * 500),
    ],
)
def test_value_that_mail_may_have(key: str, value: str | None, attribute: str, expected: Any) -> None:
    assert getattr(asked(key, value), attribute) == expected


@pytest.mark.parametrize(
    ("key", "value", "refusal"),
    [
        ("RET", None, BAD),
        ("RET", "HDR", BAD),
        ("ENVID", None, BAD),
        ("ENVID", "x" * 101, BAD),
        ("ENVID", "a+b", BAD),
        ("ENVID", "a+2b", BAD),
        ("ENVID", "a+2", BAD),
        ("ENVID", "+0D+0A", BAD),
        ("ENVID", "+00", BAD),
        ("ENVID", "+FF", BAD),
        ("ENVID", "a\xe4", BAD),
        ("SMTPUTF8", "1", BAD),
        ("REQUIRETLS", "1", BAD),
        ("BODY", "BINARY", replies.PARAMETER_BODY),
        ("BODY", None, replies.PARAMETER_BODY),
        ("SIZE", "1" * 21, replies.PARAMETER_SIZE),
        ("SIZE", "\u0663", replies.PARAMETER_SIZE),
        ("SIZE", "\xb2", replies.PARAMETER_SIZE),
        ("BY", None, BAD),
        ("BY", "120", BAD),
        ("BY", "120;X", BAD),
        ("BY", "120;RR", BAD),
        ("BY", "120;RTT", BAD),
        ("BY", "120;T", BAD),
        ("BY", "1234567890;R", BAD),
        ("BY", "0;R", BAD),
        ("BY", "-1;R", BAD),
        ("BY", f"{DELIVER_BY_MIN_S - 1};R", replies.DELIVER_BY_TOO_SOON),
        ("HOLDFOR", None, BAD),
        ("HOLDFOR", "0", BAD),
        ("HOLDFOR", "-1", BAD),
        ("HOLDFOR", "1234567890", BAD),
        ("HOLDFOR", str(FUTURE_RELEASE_MAX_S + 1), replies.RELEASE_TOO_LATE),
        ("HOLDUNTIL", "2025-11-24T02:30:00Z", BAD),
        ("HOLDUNTIL", "2025-12-01T02:30:01Z", replies.RELEASE_TOO_LATE),
        ("HOLDUNTIL", "2025-11-25T02:30:00", BAD),
        ("HOLDUNTIL", "2025-11-25T02:30:00z", BAD),
        ("HOLDUNTIL", "2025-11-25t02:30:00Z", BAD),
        ("HOLDUNTIL", "2025-11-25 02:30:00Z", BAD),
        ("HOLDUNTIL", "2025-11-25T02:30:00.5Z", BAD),
        ("HOLDUNTIL", "2025-11-25T02:30:00+00:00", BAD),
        ("HOLDUNTIL", "2025-11-31T02:30:00Z", BAD),
        ("HOLDUNTIL", "2025-11-25T24:00:00Z", BAD),
        ("HOLDUNTIL", "2025-11-25T23:59:60Z", BAD),
        ("HOLDUNTIL", "1764037800", BAD),
        ("MT-PRIORITY", None, replies.PARAMETER_PRIORITY),
        ("MT-PRIORITY", "10", replies.PARAMETER_PRIORITY),
        ("MT-PRIORITY", "-10", replies.PARAMETER_PRIORITY),
        ("MT-PRIORITY", "+1", replies.PARAMETER_PRIORITY),
        ("MT-PRIORITY", "-0", replies.PARAMETER_PRIORITY),
        ("AUTH", None, BAD),
        ("AUTH", "x" * 501, BAD),
        ("AUTH", "a b", BAD),
        ("X-OTHER", "1", replies.PARAMETER_UNKNOWN),
        ("NOTIFY", "NEVER", replies.PARAMETER_UNKNOWN),
    ],
)
def test_value_that_mail_may_not_have(key: str, value: str | None, refusal: bytes) -> None:
    assert mail((key, value)) == (0, False, None, refusal)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SIZE", "1"),
        ("BODY", "8BITMIME"),
        ("BODY", "7BIT"),
        ("RET", "FULL"),
        ("ENVID", "x"),
        ("SMTPUTF8", None),
        ("REQUIRETLS", None),
        ("BY", "120;R"),
        ("HOLDFOR", "1"),
        ("HOLDUNTIL", "2025-11-25T02:30:00Z"),
        ("MT-PRIORITY", "1"),
        ("AUTH", "<>"),
    ],
)
def test_parameter_is_refused_where_its_extension_is_not_offered(key: str, value: str | None) -> None:
    assert mail((key, value), extensions=NONE)[3] == replies.PARAMETER_UNKNOWN
    assert mail((key, value))[3] is None


def test_require_tls_is_refused_without_tls() -> None:
    assert mail(("REQUIRETLS", None), is_secure=False)[3] == replies.PARAMETER_UNKNOWN


def test_message_cannot_be_held_twice() -> None:
    both = ("HOLDFOR", "60"), ("HOLDUNTIL", "2025-11-25T02:30:00Z")
    assert mail(*both)[3] == BAD
    assert mail(*reversed(both))[3] == BAD


def test_parameters_that_nobody_else_has_cost_nothing() -> None:
    assert mail(("SIZE", "1" * 20), ("BODY", "8bitmime")) == (11_111_111_111_111_111_111, True, None, None)
    assert mail() == (0, False, None, None)


def test_all_together_are_stored() -> None:
    size, is_eight_bit, found, refusal = mail(
        ("SIZE", "7"), ("RET", "HDRS"), ("ENVID", "e"), ("SMTPUTF8", None), ("REQUIRETLS", None),
        ("BODY", "BINARYMIME"), ("BY", "90;N"), ("HOLDFOR", "9"), ("MT-PRIORITY", "-3"), ("AUTH", "a@b"),
    )  # fmt: skip
    assert (size, is_eight_bit, refusal) == (7, False, None)
    more = (True, True, True, "90;N", NOW_MS + 9_000, -3, "a@b", 0)
    assert found.envelope_params(is_eight_bit) == (1, "e", False, more)


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        ("NEVER", 1),
        ("success", 2),
        ("FAILURE", 4),
        ("DELAY", 8),
        ("SUCCESS,FAILURE,DELAY", 14),
        ("DELAY,FAILURE", 12),
    ],
)
def test_notify(value: str, bits: int) -> None:
    assert rcpt("NOTIFY", value) == (bits, None, None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "NEVER,NEVER",
        "NEVER,DELAY",
        "DELAY,NEVER",
        "DELAY,DELAY",
        "DELAY,",
        ",DELAY",
        "DELAY FAILURE",
        "ALWAYS",
    ],
)
def test_notify_that_cannot_be(value: str | None) -> None:
    assert rcpt("NOTIFY", value) == (0, None, BAD)


@pytest.mark.parametrize(
    ("value", "original"),
    [
        ("rfc822;a+2Bb@c.example", "rfc822;a+b@c.example"),
        ("x400;C+3DUS", "x400;C=US"),
        ("rfc822;" + "x" * 493, "rfc822;" + "x" * 493),
        ("rfc822;" + "x" * 494, None),
        ("a@b", None),
        (";a@b", None),
        ("rfc822;", None),
        ("rfc 822;a@b", None),
        ("rfc822;a@b\x7f", None),
        ("rfc822;+0Aa@b", None),
        ("utf-8;\xe4@b", None),
        (None, None),
    ],
)
def test_original_recipient(value: str | None, original: str | None) -> None:
    assert rcpt("ORCPT", value) == (0, original, None if original else BAD)


def test_original_recipient_may_be_utf8_where_the_message_is() -> None:
    assert rcpt("ORCPT", "utf-8;\xe4@b", is_utf8=True) == (0, "utf-8;\xe4@b", None)
    assert rcpt("ORCPT", "utf-8;a\u2028@b", is_utf8=True)[2] == BAD


@pytest.mark.parametrize("key", ["NOTIFY", "ORCPT"])
def test_recipient_has_no_parameters_where_dsn_is_not_offered(key: str) -> None:
    assert recipient_parameters(((key, "NEVER"),), NONE, is_utf8=False)[2] == replies.PARAMETER_UNKNOWN
    assert rcpt("RET", "FULL")[2] == replies.PARAMETER_UNKNOWN


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_xtext_comes_back(text: str) -> None:
    encoded = "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
    assert decode_xtext(encoded) == text


@given(st.text())
def test_no_text_decodes_to_what_cannot_be_printed(text: str) -> None:
    decoded = decode_xtext(text)
    assert decoded is None or (decoded.isascii() and decoded.isprintable())


@given(
    st.sampled_from(["SIZE", "BODY", "RET", "ENVID", "SMTPUTF8", "REQUIRETLS", "BY", "HOLDFOR", "HOLDUNTIL",
                     "MT-PRIORITY", "AUTH"]),
    st.none() | st.text(max_size=40) | st.from_regex(r"[0-9+;NRTZ:-]{0,24}", fullmatch=True),
)  # fmt: skip
def test_any_value_is_read_or_refused(key: str, value: str | None) -> None:
    size, _, _, refusal = mail((key, value))
    assert size >= 0
    assert refusal is None or refusal[:1] == b"5"


@pytest.mark.parametrize(
    ("now_ms", "date"),
    [
        (0, "1970-01-08T00:00:00Z"),
        (NOW_MS, "2025-12-01T02:30:00Z"),
        (1_708_819_199_999, "2024-03-02T23:59:59Z"),
        (1_708_646_400_000, "2024-03-01T00:00:00Z"),
        (1_708_559_999_000, "2024-02-28T23:59:59Z"),
        (4_106_937_600_000, "2100-03-01T00:00:00Z"),
    ],
)
def test_latest_release_is_announced(now_ms: int, date: str) -> None:
    lines = Extensions(future_release=True).lines(max_message_bytes=1, max_recipients=1, now_ms=now_ms)
    assert f"FUTURERELEASE {FUTURE_RELEASE_MAX_S} {date}" in lines


def test_require_tls_is_announced_under_tls_alone() -> None:
    for is_secure in (False, True):
        lines = ALL.lines(max_message_bytes=1, max_recipients=1, is_secure=is_secure)
        assert ("REQUIRETLS" in lines) is is_secure


def test_what_is_stored_is_told_in_words() -> None:
    assert spoken((None, None, False)) == []
    assert spoken((0, None, True)) == ["RET=FULL", "BODY=8BITMIME"]
    more = (True, True, True, "90;N", NOW_MS + 1_999, -3, "<>", 7)
    assert spoken((None, "e", False, more)) == [
        *("ENVID=e", "BODY=BINARYMIME", "SMTPUTF8", "REQUIRETLS", "BY=90;N"),
        *("HOLDUNTIL=2025-11-24T02:30:01Z", "MT-PRIORITY=-3", "AUTH=<>"),
    ]


def test_what_was_changed_is_stored_beside_what_was_asked_for() -> None:
    more = (True, False, False, None, None, 3, None, 0)
    usual = with_changes((None, "e", True), CHANGED_FIXUPS | CHANGED_BCC)
    assert (changed(usual), spoken(usual)) == (["fixups", "bcc"], ["ENVID=e", "BODY=8BITMIME"])
    asked = with_changes((0, None, False, more), CHANGED_LINE_FEEDS)
    assert (changed(asked), spoken(asked)) == (["linefeed"], ["RET=FULL", "SMTPUTF8", "MT-PRIORITY=3"])
    assert changed((None, None, False)) == changed((None, None, False, more)) == []


@given(st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31)))
def test_times_are_those_of_the_calendar(moment: datetime) -> None:
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    assert utc(seconds) == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert unix_s(moment.year, moment.month, moment.day) == seconds // 86_400 * 86_400
