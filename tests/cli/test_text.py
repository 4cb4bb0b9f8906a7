"""Values as people read them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.text import age, cut, plural, printable, size, span, stamp, until, width


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (11 * 1024, "11 KB"),
        (1024 * 1024 - 1, "1.0 MB"),
        (1_468_006, "1.4 MB"),
        (10 * 1024**2, "10 MB"),
        (2 * 1024**3, "2.0 GB"),
        (5000 * 1024**5, "5000 PB"),
    ],
)
def test_sizes_are_powers_of_1024(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (723, "12m03s"),
        (3600, "1h00m"),
        (7800, "2h10m"),
        (86_399, "23h59m"),
        (86_400, "1d00h"),
        (273_600, "3d04h"),
    ],
)
def test_spans_have_their_two_greatest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_ages_and_due_times_are_by_the_daemons_clock() -> None:
    now = "2026-11-24T09:24:11.000Z"
    assert age("2026-11-24T09:12:08.000Z", now) == "12m03s"
    assert until("2026-11-24T09:26:00.000Z", now) == "in 1m49s"
    assert until("2026-11-24T09:24:11.400Z", now) == "now"
    assert until("2026-11-23T09:24:11.000Z", now) == "now"


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_times_are_local_with_their_offset_or_utc() -> None:
    assert stamp("2026-11-24T09:24:11.123Z", is_utc=False) == "2026-11-24 10:24:11 +01:00"
    assert stamp("2026-07-24T09:24:11.123Z", is_utc=False) == "2026-07-24 11:24:11 +02:00"
    assert stamp("2026-11-24T09:24:11.123Z", is_utc=True) == "2026-11-24 09:24:11Z"


def test_one_is_not_many() -> None:
    assert [plural(count, "queue") for count in (0, 1, 2)] == ["0 queues", "1 queue", "2 queues"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße, 日本", "Grüße, 日本"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x7f\x9b2J", "\\x7f\\x9b2J"),
        ("in\u202evoice\u2066", "in\\u202evoice\\u2066"),
        ("\u2028\u200b\ufeff", "\\u2028\\u200b\\ufeff"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_steers_a_terminal_or_hides_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_no_text_gets_through_unprintable(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@given(st.text().map(printable), st.integers(-3, 40))
def test_cut_text_fits(text: str, columns: int) -> None:
    shown = cut(text, columns)
    assert width(shown) <= max(0, columns)
    assert shown == text or shown == "" or shown.endswith("…")


def test_wide_letters_take_two_columns() -> None:
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert cut("日本語", 4) == "日…"
