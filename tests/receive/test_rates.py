from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.receive import rates
from penstock.receive.rates import MessageRate, MessageRates

NOW_MS = 1_763_951_400_000


def buckets(messages: int, window_ms: int) -> MessageRates:
    found = MessageRates(MessageRate(messages, window_ms))
    found.now_ms = NOW_MS
    return found


def test_the_sixth_message_in_a_minute_waits_and_another_source_does_not() -> None:
    limited = buckets(5, 60_000)
    assert [limited.take("a") for _ in range(6)] == [True] * 5 + [False]
    assert limited.left("a") == 0
    assert limited.take("b")
    assert limited.left("b") == 4
    limited.now_ms += 11_999
    assert not limited.take("a")
    limited.now_ms += 1
    assert limited.take("a")
    assert not limited.take("a")


def test_after_the_whole_time_there_is_all_of_it_again_and_nothing_is_remembered() -> None:
    limited = buckets(3, 1_000)
    assert [limited.take("a") for _ in range(4)] == [True, True, True, False]
    limited.now_ms += 1_000
    limited.forget_full()
    assert len(limited) == 0
    assert limited.left("a") == 3
    assert [limited.take("a") for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_is_set_back_holds_nobody_longer_than_the_window() -> None:
    limited = buckets(2, 60_000)
    assert limited.take("a")
    assert limited.take("a")
    limited.now_ms -= 86_400_000
    assert not limited.take("a")
    limited.now_ms += 30_000
    assert limited.take("a")


def test_the_sources_remembered_are_bounded_and_the_longest_silent_goes() -> None:
    limited = buckets(1, 60_000)
    assert limited.take("first")
    for number in range(rates.SOURCES_MAX - 1):
        assert limited.take(str(number))
    assert not limited.take("first")
    assert limited.take("one more")
    assert len(limited) == rates.SOURCES_MAX
    assert not limited.take("first"), "it was heard of last but one"
    assert limited.take("0"), "forgiven"


@given(
    messages=st.integers(1, 50),
    window_ms=st.sampled_from([1_000, 60_000, 3_600_000]),
    steps=st.lists(st.integers(0, 20_000), max_size=200),
)
def test_in_no_window_there_are_more_than_twice_the_messages(
    messages: int, window_ms: int, steps: list[int]
) -> None:
    limited = buckets(messages, window_ms)
    taken: list[int] = []
    for step_ms in steps:
        limited.now_ms += step_ms
        if limited.take("a"):
            taken.append(limited.now_ms)
    for begin in taken:
        within = sum(begin <= at_ms < begin + window_ms for at_ms in taken)
        # What was saved up, and what comes in within the window.
        assert within <= 2 * messages
