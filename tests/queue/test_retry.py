from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.queue.retry import RetrySchedule, has_expired

S = 1_000
MIN = 60 * S
HOUR = 60 * MIN
DAY = 24 * HOUR
NOW = 1_763_951_400_000
LAST_JITTER = 1 - 2**-53

SCHEDULE = RetrySchedule()
JITTER = st.floats(0, 1, exclude_max=True)
SCHEDULES = st.builds(
    RetrySchedule,
    queue_glitch_retry_count=st.integers(0, 15),
    queue_glitch_retry_interval_ms=st.integers(S, DAY),
    transient_failure_retry_count=st.integers(0, 15),
    transient_failure_retry_interval_ms=st.integers(S, DAY),
    outbound_connection_failure_retry_interval_ms=st.integers(S, 20 * DAY),
    message_retry_interval_ms=st.integers(S, DAY),
)


def probes(schedule: RetrySchedule, count: int, jitter: float = 0.0) -> list[int]:
    """Return when a hop that stays dead is tried, in seconds from the first try."""
    times = [NOW]
    for failures in range(1, count):
        times.append(schedule.next_probe_ms(failures=failures, now_ms=times[-1], jitter=jitter))
    return [(time - NOW) // S for time in times]


def attempt(
    *,
    attempts: int = 1,
    expires_ms: int = NOW + 4 * DAY,
    began_ms: int = NOW - S,
    jitter: float = 0.0,
    probe_ms: int | None = None,
) -> int | None:
    return SCHEDULE.next_attempt_ms(
        attempts=attempts,
        expires_ms=expires_ms,
        began_ms=began_ms,
        now_ms=NOW,
        jitter=jitter,
        probe_ms=probe_ms,
    )


def test_a_dead_hop_is_tried_in_three_stages() -> None:
    # Exchange's: 4 x 1 min, 6 x 5 min, then every 10 min.
    minutes = [0, 1, 2, 3, 4, 9, 14, 19, 24, 29, 34, 44, 54, 64]
    assert probes(SCHEDULE, len(minutes)) == [minute * 60 for minute in minutes]


def test_a_dead_hop_is_tried_every_ten_minutes_until_mail_expires() -> None:
    times = probes(SCHEDULE, 600)
    in_two_days = [time for time in times if time <= 2 * 86_400]
    assert len(in_two_days) == 11 + (2 * 24 * 60 - 34) // 10
    assert {after - before for before, after in pairwise(times[10:])} == {600}


@pytest.mark.parametrize(
    ("glitches", "transients", "seconds"),
    [
        (0, 0, [0, 600, 1200]),
        (0, 1, [0, 300, 900]),
        (1, 0, [0, 60, 660]),
        (15, 15, [0, *(60 * n for n in range(1, 16)), 900 + 300]),
    ],
)
def test_stages_may_be_left_out(glitches: int, transients: int, seconds: list[int]) -> None:
    schedule = RetrySchedule(queue_glitch_retry_count=glitches, transient_failure_retry_count=transients)
    assert probes(schedule, len(seconds)) == seconds


def test_jitter_adds_a_tenth_at_most_and_never_takes_away() -> None:
    assert SCHEDULE.next_probe_ms(failures=1, now_ms=NOW, jitter=0.5) == NOW + 63 * S
    assert SCHEDULE.next_probe_ms(failures=1, now_ms=NOW, jitter=LAST_JITTER) <= NOW + 66 * S
    assert attempt(jitter=0.5) == NOW + 15 * MIN + 45 * S


@given(SCHEDULES, st.integers(1, 1_000), JITTER)
def test_a_probe_comes_within_the_intervals(schedule: RetrySchedule, failures: int, jitter: float) -> None:
    due_ms = schedule.next_probe_ms(failures=failures, now_ms=NOW, jitter=jitter)
    assert NOW + S <= due_ms <= NOW + schedule.longest_ms


@pytest.mark.parametrize("failures", [0, -1])
def test_a_hop_that_has_not_failed_is_not_retried(failures: int) -> None:
    with pytest.raises(ValueError, match="failures"):
        SCHEDULE.next_probe_ms(failures=failures, now_ms=NOW, jitter=0.0)


@pytest.mark.parametrize("jitter", [-0.1, 1.0, float("nan")])
def test_jitter_outside_its_range_is_a_bug(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        SCHEDULE.next_probe_ms(failures=1, now_ms=NOW, jitter=jitter)
    with pytest.raises(ValueError, match="jitter"):
        attempt(jitter=jitter)


def test_a_message_that_is_put_off_waits_for_its_own_interval() -> None:
    assert attempt() == NOW + 15 * MIN
    assert attempt(attempts=100) == NOW + 15 * MIN


@pytest.mark.parametrize(
    ("expires_ms", "began_ms", "due_ms"),
    [
        (NOW + 15 * MIN + 1, NOW - S, NOW + 15 * MIN),
        # The last try is at the expiry time.
        (NOW + 15 * MIN - 1, NOW - S, NOW + 15 * MIN - 1),
        (NOW + 1, NOW - S, NOW + 1),
        # It ended after the expiry time, but did not begin after it: one more, at once.
        (NOW - 1, NOW - S, NOW),
        (NOW - DAY, NOW - DAY - 1, NOW),
        (NOW - S, NOW - S, None),
        (NOW - S - 1, NOW - S, None),
        (NOW - DAY, NOW, None),
    ],
)
def test_nothing_expires_without_an_attempt_after_its_time(
    expires_ms: int, began_ms: int, due_ms: int | None
) -> None:
    assert attempt(expires_ms=expires_ms, began_ms=began_ms) == due_ms
    assert has_expired(expires_ms=expires_ms, began_ms=began_ms) is (due_ms is None)


def test_a_message_goes_with_its_hop_as_long_as_that_may_be_a_glitch() -> None:
    probe_ms = NOW + 66 * S
    times = [attempt(attempts=attempts, probe_ms=probe_ms) for attempts in range(1, 7)]
    assert times == [probe_ms] * 4 + [NOW + 15 * MIN] * 2
    assert attempt(expires_ms=NOW + S, probe_ms=probe_ms) == NOW + S
    assert attempt(expires_ms=NOW - DAY, probe_ms=probe_ms) is None


@given(SCHEDULES, st.integers(1, 50), st.integers(-DAY, 5 * DAY), st.integers(0, HOUR), JITTER)
def test_an_attempt_is_due_soon_or_the_message_expires(
    schedule: RetrySchedule, attempts: int, left_ms: int, took_ms: int, jitter: float
) -> None:
    due_ms = schedule.next_attempt_ms(
        attempts=attempts,
        expires_ms=NOW + left_ms,
        began_ms=NOW - took_ms,
        now_ms=NOW,
        jitter=jitter,
    )
    if due_ms is None:
        assert left_ms <= -took_ms
    else:
        assert NOW <= due_ms <= NOW + min(schedule.longest_ms, max(left_ms, 0))


def test_the_longest_wait_has_room_for_chance() -> None:
    assert SCHEDULE.longest_ms == 15 * MIN + 90 * S
    assert RetrySchedule(outbound_connection_failure_retry_interval_ms=DAY).longest_ms == DAY * 11 // 10
