from __future__ import annotations

from typing import Any

from tests.deliver.rig import DROP, NOW_MS, SCHEDULE, Rig, row

GLITCH_MS = SCHEDULE.queue_glitch_retry_interval_ms
FULL = "/drop: No space left on device"


def begin(rig: Rig, *queue_ids: int, sender: str = "me@a.example") -> list[tuple[Any, ...]]:
    for queue_id in queue_ids:
        rig.accept("you@ours.example", queue_id=queue_id, hop=DROP, sender=sender)
    return rig.turn()


def end(rig: Rig, request: int, detail: str = "") -> None:
    rig.tell("dropped", request, not detail, detail)


def test_message_is_written_with_its_reverse_path() -> None:
    rig = Rig()
    assert begin(rig, 7) == [("drop", 1, 7, DROP, 1, "/drop", b"Return-Path: <me@a.example>\r\n")]
    assert not rig.deliverer.is_idle
    assert rig.deliverer.is_active(7, DROP)
    end(rig, 1)
    rig.turn()
    ((_, queue_id, hop, attempt, due_ms, outcomes, peer, _),) = rig.core.facts
    assert (queue_id, hop, attempt, due_ms, peer) == (7, DROP, 1, None, "")
    assert outcomes == [(0, "you@ours.example", "delivered", "file", 0, "2.0.0", "")]
    assert rig.deliverer.is_idle


def test_null_reverse_path_is_written_as_such() -> None:
    assert begin(Rig(), 7, sender="")[0][6] == b"Return-Path: <>\r\n"


def test_as_many_are_under_way_as_share_a_sync() -> None:
    rig = Rig()
    assert [action[1] for action in begin(rig, 1, 2, 3, 4, 5)] == [1, 2, 3]
    end(rig, 2)
    assert [action[2] for action in rig.turn()] == [4]


def test_maildir_that_cannot_be_written_is_tried_again_with_one_message() -> None:
    rig = Rig()
    begin(rig, 1, 2, 3, 4)
    for request in (1, 2, 3):
        end(rig, request, FULL)
    assert rig.turn() == []
    assert rig.hop_facts() == [("hop", DROP, "retry", FULL, NOW_MS + GLITCH_MS, 1)]
    due_ms = NOW_MS + GLITCH_MS
    assert rig.settled() == [(number, 1, due_ms, ("deferred",)) for number in (1, 2, 3)]
    rig.pass_time(GLITCH_MS)
    rig.refill(*(row(number, "you@ours.example", hop=DROP, attempts=1) for number in (1, 2, 3, 4)))
    assert [action[1:5] for action in rig.turn()] == [(4, 1, DROP, 2)]
    end(rig, 4)
    assert len(rig.turn()) == 3
    assert rig.hop_facts()[-1] == ("hop", DROP, "ready", "", 0, 0)


def test_message_that_cannot_be_read_does_not_stop_the_others() -> None:
    rig = Rig()
    begin(rig, 1, 2)
    end(rig, 2)
    end(rig, 1, "/drop: the stored content could not be read")
    rig.turn()
    assert rig.hop_facts() == []
    assert rig.settled()[1] == (1, 1, NOW_MS + SCHEDULE.message_retry_interval_ms, ("deferred",))
