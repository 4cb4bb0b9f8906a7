"""What memory does while operators edit what the index has, and when they stop a queue."""

from __future__ import annotations

from penstock.queue.scheduler import Question
from tests.queue.test_scheduler import FAR_MS, HOP, NOW_MS, begun, connect, fill, retry, row, scheduler


def test_entry_that_is_edited_leaves_memory_and_is_in_no_page_before_the_index_has_the_edit() -> None:
    made = scheduler()
    queue = fill(made, 1, 2)
    assert not queue.edit_begins(1)
    assert begun(made, queue) == [2]
    made.edited(queue, NOW_MS)
    made.questions(NOW_MS)
    made.page(HOP, 5, True, None, [row(1)], NOW_MS)
    assert begun(made, queue) == []
    queue.edit_ends(1, 9)
    made.edited(queue, NOW_MS)
    made.questions(NOW_MS)
    made.page(HOP, 8, True, None, [row(1)], NOW_MS)
    assert begun(made, queue) == []
    # That page was too old, so that another one is asked for.
    assert [question.hop for question in made.questions(NOW_MS)] == [HOP]
    made.page(HOP, 9, True, None, [row(1)], NOW_MS)
    assert begun(made, queue) == [1]
    assert not queue.edited


def test_entry_under_way_goes_on_and_does_not_come_back_as_it_was() -> None:
    made = scheduler()
    queue = fill(made, 1)
    entry = made.begin(queue, NOW_MS)
    assert entry is not None
    assert queue.edit_begins(1)
    queue.edit_ends(1, 7)
    made.settle(entry, NOW_MS, now_ms=NOW_MS, lsn=6)
    made.questions(NOW_MS)
    made.page(HOP, 6, True, None, [row(1)], NOW_MS)
    assert not queue.held


def test_entry_under_way_that_is_given_back_is_not_begun_again_as_it_was() -> None:
    made = scheduler()
    queue = fill(made, 1, 2)
    edited, being_edited = made.begin(queue, NOW_MS), made.begin(queue, NOW_MS)
    assert edited is not None
    assert being_edited is not None
    queue.edit_begins(1)
    queue.edit_ends(1, 7)
    queue.edit_begins(2)
    made.caught_up(7)
    made.give_back(edited)
    made.give_back(being_edited)
    assert begun(made, queue) == []
    assert not queue.held
    assert [question.hop for question in made.questions(NOW_MS)] == [HOP], "what is left is asked for"


def test_edit_that_changed_nothing_lets_the_entry_come_back_at_once() -> None:
    made = scheduler()
    queue = fill(made, 1)
    queue.edit_begins(1)
    queue.edit_ends(1, None)
    made.edited(queue, NOW_MS)
    made.questions(NOW_MS)
    made.page(HOP, 1, True, None, [row(1)], NOW_MS)
    assert begun(made, queue) == [1]


def test_entry_that_is_edited_twice_at_a_time_waits_for_both() -> None:
    made = scheduler()
    queue = fill(made, 1)
    queue.edit_begins(1)
    queue.edit_begins(1)
    queue.edit_ends(1, 4)
    assert queue.is_edited(1, 100)
    queue.edit_ends(1, 3)
    assert queue.is_edited(1, 3)
    assert not queue.is_edited(1, 4)


def test_edits_are_forgotten_when_the_index_has_caught_up() -> None:
    made = scheduler()
    queue = fill(made, 1)
    queue.edit_begins(1)
    queue.edit_ends(1, 4)
    made.edited(queue, NOW_MS)
    made.questions(NOW_MS)
    made.no_page(HOP, NOW_MS)
    made.caught_up(3)
    assert queue.edited
    made.caught_up(4)
    assert not queue.edited


def test_queue_that_is_suspended_begins_nothing_more_and_resumes_from_the_index() -> None:
    made = scheduler()
    queue = fill(made, 1, 2, 3)
    connect(made, queue)
    entry = made.begin(queue, NOW_MS)
    assert entry is not None
    queue.suspend()
    made.edited(queue, NOW_MS)
    assert begun(made, queue) == []
    assert set(queue.held) == {1}
    assert made.questions(NOW_MS) == []
    assert made.openings(queue, NOW_MS) == 0
    made.settle(entry, None, now_ms=NOW_MS, lsn=4)
    fill(made, 4)
    queue.resume()
    made.edited(queue, NOW_MS)
    assert [question.hop for question in made.questions(NOW_MS)] == [HOP]
    made.page(HOP, 4, True, None, [row(2), row(3), row(4)], NOW_MS)
    assert begun(made, queue) == [2, 3, 4]


def test_retry_ignores_what_was_to_be_waited_for() -> None:
    made = scheduler()
    queue = fill(made, 1)
    next_ms = retry(made, queue)
    assert next_ms > NOW_MS
    queue.retry(FAR_MS)
    made.edited(queue, NOW_MS)
    assert made.questions(NOW_MS) == [Question(HOP, 8, FAR_MS)]
    made.page(HOP, 1, True, None, [row(1, due_ms=NOW_MS + 600_000)], NOW_MS)
    assert made.openings(queue, NOW_MS) == 1


def test_retry_of_a_suspended_queue_leaves_it_suspended() -> None:
    made = scheduler()
    queue = fill(made, 1)
    queue.suspend()
    queue.retry(FAR_MS)
    made.edited(queue, NOW_MS)
    assert made.questions(NOW_MS) == []
    assert made.openings(queue, NOW_MS) == 0
