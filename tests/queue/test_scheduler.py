from __future__ import annotations

from typing import Any

import pytest

from penstock.queue.delivery_queue import PROBE_ENTRIES, SHARE_MS, DeliveryQueue
from penstock.queue.entry import Entry, StoredMessage, entry_of
from penstock.queue.retry import RetrySchedule
from penstock.queue.scheduler import ASK_AGAIN_MS, PAUSE_MS, Question, Scheduler

HOP, OTHER = 1, 2
NOW_MS = 1_700_000_000_000
FAR_MS = NOW_MS + 10**9
PARAMS = (None, None, False)
SCHEDULE = RetrySchedule()


def scheduler(*, connections_max: int = 100, entries_max: int = 8) -> Scheduler:
    return Scheduler(SCHEDULE, connections_max=connections_max, jitter=lambda: 0.0, entries_max=entries_max)


def fresh(queue_id: int, hop: int = HOP) -> Entry:
    """Return an entry that has just become durable; its number in the log is its queue id."""
    message = StoredMessage(queue_id, queue_id, "me@a.example", NOW_MS, 100, 0, PARAMS)
    return Entry(message, hop, [(0, "you@b.example", 0, None)], FAR_MS)


def row(queue_id: int, hop: int = HOP, due_ms: int = NOW_MS) -> tuple[Any, ...]:
    recipients = [(0, "you@b.example", 0, None)]
    return (
        *(queue_id, hop, 1, 77, due_ms, 3, FAR_MS, NOW_MS - 5, "me@a.example", recipients),
        *(100, 16, "wire", "<1@a.example>", PARAMS, False, 1, None),
    )


def fill(made: Scheduler, *queue_ids: int, hop: int = HOP) -> DeliveryQueue:
    queue = made.add(hop, slots_max=20)
    for queue_id in queue_ids:
        made.accept(fresh(queue_id, hop))
    return queue


def begun(made: Scheduler, queue: DeliveryQueue) -> list[int]:
    """Begin all that can be begun."""
    ids = []
    while (entry := made.begin(queue, NOW_MS)) is not None:
        ids.append(entry.queue_id)
    return ids


def connect(made: Scheduler, queue: DeliveryQueue, number: int = 1) -> None:
    for _ in range(number):
        made.opening(queue)
        made.opened(queue)


def drop(made: Scheduler, queue: DeliveryQueue, *, was_up: bool = True) -> None:
    made.leaving(queue, was_up=was_up)
    made.gone(queue)


def retry(made: Scheduler, queue: DeliveryQueue, now_ms: int = NOW_MS) -> int:
    """Fail the only connection; return when the hop is tried again."""
    made.openings(queue, now_ms)
    made.opening(queue)
    drop(made, queue, was_up=False)
    fact = made.failed(queue, "refused", is_exhausted=True, now_ms=now_ms)
    assert fact is not None
    return fact[4]


def test_row_of_the_index_is_read() -> None:
    entry = entry_of(row(9))
    assert (entry.queue_id, entry.hop, entry.attempts, entry.expires_ms) == (9, HOP, 3, FAR_MS)
    assert entry.recipients == [(0, "you@b.example", 0, None)]
    message = entry.message
    assert (message.lsn, message.sender, message.received_ms) == (0, "me@a.example", NOW_MS - 5)
    assert (message.size, message.flags, message.params) == (100, 16, PARAMS)


def test_fresh_entries_run_in_order_of_arrival() -> None:
    made = scheduler()
    queue = fill(made, 3, 1, 2)
    assert made.active() == [queue]
    assert made.active() == []
    assert begun(made, queue) == [3, 1, 2]
    assert queue.under_way == 3


def test_full_queue_lets_fresh_entries_go_and_asks_before_it_runs_dry() -> None:
    made = scheduler()
    queue = fill(made, *range(1, 11))
    assert len(queue.ready) == 8
    assert made.questions(NOW_MS) == []
    for _ in range(6):
        made.begin(queue, NOW_MS)
    # Six to fill up with, and as many more as are in memory or under way: they are in the index, too.
    assert made.questions(NOW_MS) == [Question(HOP, 6 + 8, NOW_MS)]
    assert made.questions(NOW_MS) == []
    made.page(HOP, 10, True, None, [row(queue_id) for queue_id in range(1, 11)], NOW_MS)
    assert [entry.queue_id for entry in queue.ready] == [7, 8, 9, 10]
    assert not queue.has_more


def test_fresh_entries_leave_half_of_the_room_to_what_waits_longer() -> None:
    made = scheduler()
    queue = fill(made, *range(1, 10))
    for _ in range(4):
        made.begin(queue, NOW_MS)
    fill(made, 20, 21)
    assert len(queue.ready) == 4
    assert [question.hop for question in made.questions(NOW_MS)] == [HOP], "half full, never asked"
    made.page(HOP, 30, False, None, [row(9)], NOW_MS)
    made.begin(queue, NOW_MS)
    assert made.questions(NOW_MS) == []
    made.begin(queue, NOW_MS + SHARE_MS)
    assert len(made.questions(NOW_MS + SHARE_MS)) == 1


def test_page_that_is_older_than_what_was_let_go_is_not_the_last_one() -> None:
    made = scheduler(entries_max=4)
    queue = fill(made, *range(1, 6))
    begun(made, queue)
    assert len(made.questions(NOW_MS)) == 1
    made.page(HOP, 4, True, None, [], NOW_MS)
    assert queue.has_more
    assert len(made.questions(NOW_MS)) == 1
    made.page(HOP, 5, True, None, [row(5)], NOW_MS)
    assert not queue.has_more


def test_what_was_settled_is_not_taken_from_an_older_page() -> None:
    made = scheduler(entries_max=4)
    queue = fill(made, *range(1, 6))
    entries = [made.begin(queue, NOW_MS) for _ in range(4)]
    made.questions(NOW_MS)
    for entry in entries:
        assert entry is not None
        made.settle(entry, None, now_ms=NOW_MS)
    made.recorded(9)
    # The checkpoint is told of before the page that was read earlier.
    made.caught_up(9)
    assert queue.done == {1, 2, 3, 4}
    made.page(HOP, 8, True, None, [row(queue_id) for queue_id in range(1, 6)], NOW_MS)
    assert begun(made, queue) == [5]
    made.caught_up(9)
    assert not queue.done


def test_settled_entries_are_forgotten_when_the_index_has_caught_up() -> None:
    made = scheduler()
    queue = fill(made, 1, 2, 3)
    for lsn in (5, None, None):
        entry = made.begin(queue, NOW_MS)
        assert entry is not None
        made.settle(entry, None, now_ms=NOW_MS, lsn=lsn)
    assert queue.done == {1, 2, 3}
    made.caught_up(5)
    assert queue.done == {2, 3}
    made.recorded(8)
    made.caught_up(7)
    assert queue.done == {2, 3}
    made.caught_up(8)
    assert not queue.done


def test_entry_that_is_put_off_comes_back_from_the_index_when_it_is_due() -> None:
    made = scheduler()
    queue = fill(made, 1)
    entry = made.begin(queue, NOW_MS)
    assert entry is not None
    made.settle(entry, NOW_MS + 500, now_ms=NOW_MS)
    made.recorded(2)
    assert made.next_ms() == NOW_MS + 500
    made.wake(NOW_MS + 499)
    assert made.questions(NOW_MS + 499) == []
    made.wake(NOW_MS + 500)
    assert made.questions(NOW_MS + 500) == [Question(HOP, 8 + 1, NOW_MS + 500)]
    made.page(HOP, 2, True, NOW_MS + 9_000, [row(1)], NOW_MS + 500)
    assert made.active() == [queue]
    assert begun(made, queue) == [1]
    assert made.next_ms() == NOW_MS + 9_000


def test_due_time_that_comes_while_a_page_is_on_its_way_is_not_forgotten() -> None:
    made = scheduler(entries_max=4)
    queue = fill(made, *range(1, 6))
    entries = [made.begin(queue, NOW_MS) for _ in range(4)]
    made.questions(NOW_MS)
    assert entries[0] is not None
    made.settle(entries[0], NOW_MS + 10, now_ms=NOW_MS)
    made.recorded(9)
    made.wake(NOW_MS + 10)
    made.page(HOP, 8, True, None, [row(1), row(5)], NOW_MS + 20)
    assert [entry.queue_id for entry in queue.ready] == [5]
    assert len(made.questions(NOW_MS + 20)) == 1


def test_index_that_cannot_answer_is_asked_again() -> None:
    made = scheduler(entries_max=4)
    queue = fill(made, *range(1, 6))
    begun(made, queue)
    made.questions(NOW_MS)
    made.no_page(HOP, NOW_MS)
    assert made.questions(NOW_MS) == []
    made.wake(NOW_MS + ASK_AGAIN_MS)
    assert len(made.questions(NOW_MS + ASK_AGAIN_MS)) == 1


def test_joined_recipients_are_fetched_when_the_attempt_ends_that_knows_nothing_of_them() -> None:
    made = scheduler()
    queue = fill(made, 1)
    entry = made.begin(queue, NOW_MS)
    assert entry is not None
    made.joined(HOP, 1, 5, NOW_MS)
    made.questions(NOW_MS)
    made.page(HOP, 5, True, None, [row(1)], NOW_MS)
    assert not queue.ready
    made.settle(entry, None, now_ms=NOW_MS)
    made.recorded(6)
    assert len(made.questions(NOW_MS)) == 1
    made.page(HOP, 6, True, None, [row(1)], NOW_MS)
    assert begun(made, queue) == [1]


def test_connections_are_few_at_first_and_double_with_each_success() -> None:
    made = scheduler(entries_max=200)
    queue = fill(made, *range(1, 101))
    up = 0
    for expected in (1, 2, 8, 9, 0):
        assert made.openings(queue, NOW_MS) == expected
        for _ in range(expected):
            made.opening(queue)
        assert made.openings(queue, NOW_MS) == 0
        for _ in range(expected):
            made.opened(queue)
        up += expected
    assert up == queue.slots_max == queue.connections


def test_no_more_connections_than_entries() -> None:
    made = scheduler()
    queue = fill(made, 1)
    connect(made, queue, 3)
    assert made.openings(queue, NOW_MS) == 1
    made.opening(queue)
    assert made.openings(queue, NOW_MS) == 0
    begun(made, queue)
    assert made.openings(queue, NOW_MS) == 0


def test_total_of_connections_holds_a_queue_up_until_one_is_gone() -> None:
    made = scheduler(connections_max=1)
    first, second = fill(made, 1), fill(made, 2, hop=OTHER)
    assert made.openings(first, NOW_MS) == 1
    connect(made, first)
    assert made.openings(second, NOW_MS) == 0
    made.active()
    made.leaving(first, was_up=True)
    assert made.openings(second, NOW_MS) == 0, "to its peer it is still there"
    made.gone(first)
    assert second in made.active()
    assert made.openings(second, NOW_MS) == 1


def test_hop_that_cannot_be_reached_costs_one_change_of_its_queue() -> None:
    made = scheduler()
    queue = fill(made, *range(1, 6))
    next_ms = retry(made, queue)
    assert next_ms == NOW_MS + SCHEDULE.queue_glitch_retry_interval_ms == made.next_ms()
    assert not queue.held
    fill(made, 6, 7)
    assert not queue.held
    assert made.openings(queue, NOW_MS) == 0
    assert made.questions(NOW_MS) == []
    made.wake(next_ms)
    assert made.questions(next_ms) == [Question(HOP, 8, next_ms)]
    made.page(HOP, 7, True, None, [row(queue_id) for queue_id in range(1, 8)], next_ms)
    assert made.openings(queue, next_ms) == 1


def test_retries_go_through_three_stages() -> None:
    made = scheduler()
    queue = fill(made, 1)
    now_ms = NOW_MS
    waits = []
    for _ in range(12):
        next_ms = retry(made, queue, now_ms)
        waits.append((next_ms - now_ms) // 60_000)
        made.wake(next_ms)
        now_ms = next_ms
    assert waits == [1] * 4 + [5] * 6 + [10] * 2


def test_next_address_is_tried_before_the_hop_goes_into_retry() -> None:
    made = scheduler()
    queue = fill(made, 1)
    made.opening(queue)
    made.active()
    drop(made, queue, was_up=False)
    assert made.failed(queue, "refused", is_exhausted=False, now_ms=NOW_MS) is None
    assert made.active() == [queue]
    assert made.openings(queue, NOW_MS) == 1


def test_one_failed_connection_among_working_ones_is_a_pause_and_no_retry() -> None:
    made = scheduler()
    queue = fill(made, 1, 2, 3)
    connect(made, queue)
    made.opening(queue)
    drop(made, queue, was_up=False)
    assert made.failed(queue, "421 too many", is_exhausted=True, now_ms=NOW_MS) is None
    assert queue.next_retry_ms is None
    assert made.openings(queue, NOW_MS + PAUSE_MS - 1) == 0
    made.active()
    assert made.next_ms() == NOW_MS + PAUSE_MS
    made.wake(NOW_MS + PAUSE_MS)
    assert made.active() == [queue]
    assert made.openings(queue, NOW_MS + PAUSE_MS) == 1


def test_pause_ends_with_the_last_connection_that_works() -> None:
    made = scheduler()
    queue = fill(made, 1)
    connect(made, queue)
    made.failed(queue, "421 too many", is_exhausted=True, now_ms=NOW_MS)
    drop(made, queue)
    assert made.openings(queue, NOW_MS) == 1


def test_failure_waits_for_the_others_of_the_same_try() -> None:
    made = scheduler()
    queue = fill(made, 1, 2)
    made.opening(queue)
    made.opening(queue)
    drop(made, queue, was_up=False)
    assert made.failed(queue, "refused", is_exhausted=True, now_ms=NOW_MS) is None
    drop(made, queue, was_up=False)
    assert made.failed(queue, "refused", is_exhausted=True, now_ms=NOW_MS) is not None
    assert made.failed(queue, "refused", is_exhausted=True, now_ms=NOW_MS) is None, "a hop fails once"
    assert queue.failures == 1


def test_hop_is_probed_with_one_connection_and_few_entries_until_it_has_done_its_work() -> None:
    made = scheduler(entries_max=400)
    queue = fill(made, *range(1, 101))
    next_ms = retry(made, queue)
    made.wake(next_ms)
    assert made.questions(next_ms) == [Question(HOP, PROBE_ENTRIES, next_ms)]
    made.page(HOP, 100, False, None, [row(queue_id) for queue_id in range(1, 17)], next_ms)
    assert made.openings(queue, next_ms) == 1
    connect(made, queue)
    assert made.openings(queue, next_ms) == 0
    made.begin(queue, next_ms)
    assert made.succeeded(queue) == ("hop", HOP, "ready", "", 0, 0)
    assert made.succeeded(queue) is None
    assert made.openings(queue, next_ms) == 2
    assert made.questions(next_ms)[0].limit > PROBE_ENTRIES


def test_hop_that_was_in_retry_is_probed_at_start_whatever_is_due_when() -> None:
    made = scheduler()
    queue = made.add(HOP, slots_max=20)
    made.restore(
        queue,
        earliest_due_ms=NOW_MS + 600_000,
        last_error="refused",
        failures=7,
        now_ms=NOW_MS,
    )
    assert (queue.failures, queue.last_error) == (7, "refused")
    assert made.questions(NOW_MS) == [Question(HOP, 8, NOW_MS + 600_000)]
    made.page(HOP, 1, True, None, [row(1, due_ms=NOW_MS + 600_000)], NOW_MS)
    assert made.openings(queue, NOW_MS) == 1
    made.opening(queue)
    drop(made, queue, was_up=False)
    fact = made.failed(queue, "refused", is_exhausted=True, now_ms=NOW_MS)
    assert fact is not None
    assert fact[5] == 8


def test_hop_that_is_well_begins_with_what_is_due() -> None:
    made = scheduler()
    queue, other = made.add(HOP, slots_max=20), made.add(OTHER, slots_max=20)
    for restored, due_ms in ((queue, NOW_MS - 1), (other, NOW_MS + 5)):
        made.restore(restored, earliest_due_ms=due_ms, last_error="", failures=0, now_ms=NOW_MS)
    assert [question.hop for question in made.questions(NOW_MS)] == [HOP]
    assert made.next_ms() == NOW_MS + 5


def test_suspended_queue_begins_nothing() -> None:
    made = scheduler()
    queue = made.add(HOP, slots_max=20)
    queue.suspend()
    made.restore(queue, earliest_due_ms=NOW_MS, last_error="", failures=0, now_ms=NOW_MS)
    fill(made, 1)
    assert not queue.held
    assert made.questions(NOW_MS) == []
    assert made.openings(queue, NOW_MS) == 0
    assert made.next_ms() is None


def test_entries_of_a_hop_that_is_not_served_stay_in_the_index() -> None:
    made = scheduler()
    made.accept(fresh(1, hop=99))
    queue = made.queue(99)
    assert queue is not None
    assert not queue.is_served
    assert queue.count == 1
    assert not queue.held
    assert made.questions(NOW_MS) == []


def test_entry_that_is_given_back_is_the_next() -> None:
    made = scheduler()
    queue = fill(made, 1, 2)
    entry = made.begin(queue, NOW_MS)
    assert entry is not None
    assert entry.began_ms == NOW_MS
    made.active()
    made.give_back(entry)
    assert entry.began_ms == 0
    assert made.active() == [queue]
    assert begun(made, queue) == [1, 2]


def test_entry_that_is_given_back_to_a_hop_in_retry_is_left_to_the_index() -> None:
    made = scheduler()
    queue = fill(made, 1)
    entry = made.begin(queue, NOW_MS)
    retry(made, queue)
    assert entry is not None
    made.give_back(entry)
    assert not queue.held
    assert queue.has_more


def test_entry_that_is_held_is_not_adopted() -> None:
    made = scheduler()
    fill(made, 1)
    with pytest.raises(ValueError, match="held already"):
        made.adopt(fresh(1), NOW_MS)


@pytest.mark.parametrize("how", ["is_held", "is_stopped"])
def test_nothing_new_is_begun_while_outcomes_cannot_be_stored_or_at_the_end(how: str) -> None:
    made = scheduler()
    queue = fill(made, 1)
    setattr(made, how, True)
    assert made.begin(queue, NOW_MS) is None
    assert made.openings(queue, NOW_MS) == 0
    made.active()
    made.hold(False)
    assert made.active() == ([queue] if how == "is_held" else [])


def test_clock_that_was_set_back_stalls_nothing() -> None:
    made = scheduler()
    queue, other = fill(made, 1), fill(made, 2, hop=OTHER)
    retry(made, queue)
    entry = made.begin(other, NOW_MS)
    assert entry is not None
    made.settle(entry, NOW_MS + 900_000, now_ms=NOW_MS)
    made.recorded(3)
    made.wake(NOW_MS)
    week_ms = 7 * 86_400_000
    now_ms = NOW_MS - week_ms
    made.wake(now_ms)
    assert queue.next_retry_ms == now_ms + SCHEDULE.longest_ms
    now_ms += SCHEDULE.longest_ms
    made.wake(now_ms)
    questions = {question.hop: question for question in made.questions(now_ms)}
    # What the index has is due a week from now, and asked for all the same.
    assert questions[OTHER].now_ms == NOW_MS + 900_000
    made.page(OTHER, 3, True, NOW_MS + 950_000, [row(2, hop=OTHER)], now_ms)
    assert begun(made, other) == [2]
    assert other.next_due_ms == now_ms + SCHEDULE.longest_ms


def test_count_follows_what_comes_and_goes() -> None:
    made = scheduler(entries_max=4)
    queue = fill(made, *range(1, 7))
    assert queue.count == 6
    for due_ms in (None, NOW_MS + 5):
        entry = made.begin(queue, NOW_MS)
        assert entry is not None
        made.settle(entry, due_ms, now_ms=NOW_MS)
    assert queue.count == 5
