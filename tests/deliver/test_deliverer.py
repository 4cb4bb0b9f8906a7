from __future__ import annotations

from typing import Any

from penstock.deliver.deliverer import RECOUNT_MS
from tests.deliver.rig import DROP, NOW_MS, OLD, RELAY, UNREACHABLE, Rig, hop_row, row


def message(queue_id: int, hop: int, *addresses: str) -> dict[str, Any]:
    """Return a message as the index tells it, as far as it is looked at."""
    return {
        "queue_id": queue_id,
        "recipients": [{"index": index, "address": address} for index, address in enumerate(addresses)],
        "entries": [{"hop": hop, "recipients": list(range(len(addresses)))}],
    }


def samples(rig: Rig) -> dict[tuple[str, ...], float]:
    return {(name, *labels): value for name, labels, value in rig.deliverer.samples()}


def test_start_takes_up_what_is_due_and_waits_for_what_is_not() -> None:
    rig = Rig(rows=(hop_row(RELAY, count=2), hop_row(DROP, due_ms=NOW_MS + 5_000)))
    hop, limit, now_ms = rig.refill(row(1), row(2), next_due_ms=NOW_MS + 9_000)
    assert (hop, now_ms) == (RELAY, NOW_MS)
    assert limit >= 2
    assert not rig.core.asked("refill")
    rig.turn()
    assert len(rig.core.dials) == 1
    assert rig.deadline == NOW_MS + 5_000


def test_hop_in_retry_is_probed_at_start() -> None:
    rig = Rig(rows=(hop_row(RELAY, state="retry", failures=6, due_ms=NOW_MS + 60_000),))
    view = rig.deliverer.view(RELAY)
    assert view is not None
    assert (view.failures, view.last_error) == (6, "refused")
    rig.refill(row(1), row(2))
    rig.turn()
    assert len(rig.core.dials) == 1
    rig.tell("dial_failed", rig.core.dials[0][0], "connect", 111, "refused")
    rig.turn()
    assert rig.hop_facts()[0][5] == 7


def test_mail_without_a_route_is_routed_again_at_start_page_by_page() -> None:
    rig = Rig(rows=(hop_row(UNREACHABLE, count=3), hop_row(OLD)))
    assert rig.answer(
        "messages",
        (
            5,
            77,
            [
                message(1, UNREACHABLE, "a@nowhere.example", "b@b.example", "c@ours.example"),
                message(2, UNREACHABLE, "a@nowhere.example"),
            ],
        ),
    ) == (None, 256, UNREACHABLE)
    rig.turn()
    assert rig.core.facts == [("routed", 1, UNREACHABLE, [(RELAY, [1], NOW_MS), (DROP, [2], NOW_MS)])]
    assert sorted(rig.core.requests[number][1] for number in rig.core.asked("refill")) == [RELAY, DROP]
    assert rig.answer("messages", (6, None, [message(3, UNREACHABLE, "b@b.example")]))[0] == 77
    rig.turn()
    assert rig.answer("messages", (7, None, [message(4, OLD, "b@b.example")])) == (None, 256, OLD)
    rig.turn()
    assert rig.core.facts[2] == ("routed", 4, OLD, [(RELAY, [0], NOW_MS)])
    assert not rig.core.asked("messages")


def test_message_without_a_route_waits_in_the_index() -> None:
    rig = Rig()
    rig.accept("a@nowhere.example", hop=UNREACHABLE)
    assert rig.turn() == []
    assert not rig.core.asked("refill")
    view = rig.deliverer.view(UNREACHABLE)
    assert view is not None
    assert view.status == "Ready"
    assert samples(rig)["queue_messages", "unreachable", "retry"] == 1


def test_answers_of_others_are_left_alone() -> None:
    rig = Rig()
    assert not rig.deliverer.answer(("answer", 4_711, None), [], NOW_MS)


def test_index_that_cannot_answer_is_asked_again() -> None:
    rig = Rig(started=False)
    rig.deliverer.start(NOW_MS)
    rig.answer("hops", None)
    rig.turn()
    rig.pass_time(RECOUNT_MS)
    rig.answer("hops", (1, [hop_row(RELAY)]))
    rig.turn()
    rig.answer("refill", None)
    rig.turn()
    rig.pass_time(1_000)
    rig.refill(row(1))
    rig.turn()
    assert len(rig.core.dials) == 1


def test_gauges_say_what_waits_and_what_runs() -> None:
    rig = Rig(rows=(hop_row(RELAY, count=10),))
    rig.refill(row(1), row(2))
    rig.accept("you@b.example", queue_id=3)
    rig.accept("you@ours.example", queue_id=4, hop=DROP)
    rig.turn()
    rig.greet(rig.core.dials[0][0])
    rig.turn()
    found = samples(rig)
    assert found["queue_messages", "delivery", "active"] == 2
    # Of eleven for the relay one is being sent, two are here, and the page had no more that are due.
    assert found["queue_messages", "delivery", "ready"] == 2
    assert found["queue_messages", "delivery", "retry"] == 8
    assert found["queues", "active"] == 2
    assert found["queues", "retry"] == 0
    assert found["delivery_connections", "relay", "busy"] == 1
    assert found["delivery_connections", "relay", "connecting"] == 2
    rig.take(rig.core.dials[0][0])
    rig.tell("dropped", 1, True, "")
    rig.turn()
    found = samples(rig)
    assert found["queue_messages", "delivery", "ready"] == 1
    assert found["queue_messages", "delivery", "retry"] == 8


def test_what_waits_is_counted_anew_every_minute() -> None:
    rig = Rig(rows=(hop_row(RELAY, count=10),))
    rig.refill()
    rig.pass_time(RECOUNT_MS)
    rig.answer("hops", (1, [hop_row(RELAY, count=4), hop_row(UNREACHABLE, count=2)]))
    found = samples(rig)
    assert found["queue_messages", "delivery", "ready"] == 0
    assert found["queue_messages", "delivery", "retry"] == 4
    assert found["queue_messages", "unreachable", "retry"] == 2
    rig.turn()
    assert not rig.core.asked("messages"), "routes are looked at at start"


def test_queue_that_nobody_knows_has_no_view() -> None:
    assert Rig().deliverer.view(99) is None
    assert not Rig().deliverer.is_active(1, 99)


def test_dead_hop_keeps_memory_flat() -> None:
    rig = Rig()
    rig.accept("you@b.example")
    rig.turn()
    rig.tell("dial_failed", rig.core.dials[0][0], "connect", 111, "refused")
    for queue_id in range(2, 5_000):
        rig.accept("you@b.example", queue_id=queue_id)
    rig.turn()
    queue = rig.deliverer._scheduler.queue(RELAY)
    assert queue is not None
    assert not queue.held
    assert not queue.done
    assert queue.count == 4_999
    assert len(rig.core.facts) == 1
