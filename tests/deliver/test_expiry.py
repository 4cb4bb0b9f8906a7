from __future__ import annotations

from typing import Any

import pytest

from penstock.deliver.edits import Change
from penstock.deliver.expiry import EVERY_MS, MORE_MS, PAGE
from tests.deliver.rig import DAY_MS, HEADER, NOW_MS, OLD, RELAY, SCHEDULE, UNREACHABLE, Rig, hop_row, row

GLITCH_MS = SCHEDULE.queue_glitch_retry_interval_ms
LATE_MS = NOW_MS - 1


def expired(rig: Rig, *rows: tuple[Any, ...], complete: bool = True) -> tuple[Any, ...]:
    """Have the index be asked for what has expired, and answer."""
    if not rig.core.asked("expired"):
        rig.pass_time(EVERY_MS)
    arguments = rig.answer("expired", (rig.core.lsn, complete, None, list(rows)))
    rig.turn()
    return arguments


def test_index_is_asked_at_start_and_every_minute() -> None:
    rig = Rig()
    assert rig.deadline is not None
    assert rig.deadline <= NOW_MS + EVERY_MS
    now_ms, limit = expired(rig)
    assert (now_ms, limit) == (NOW_MS + EVERY_MS, PAGE)


def test_unreachable_mail_that_has_expired_is_given_up_after_a_look_at_its_route() -> None:
    rig = Rig()
    expired(rig, row(1, "a@nowhere.example", hop=UNREACHABLE, expires_ms=LATE_MS, sender=""))
    ((_, queue_id, hop, attempt, due_ms, outcomes, *_),) = rig.core.facts
    assert (queue_id, hop, attempt, due_ms) == (1, UNREACHABLE, 0, None)
    assert outcomes == [
        (
            *(0, "a@nowhere.example", "expired", "route", 0, "4.4.7"),
            "no send connector takes mail for the address",
        )
    ]


def test_expired_mail_that_has_a_route_now_goes_there() -> None:
    rig = Rig()
    expired(rig, row(1, "a@b.example", "b@nowhere.example", hop=UNREACHABLE, expires_ms=LATE_MS, sender=""))
    routed, settled = rig.core.facts
    assert routed == ("routed", 1, UNREACHABLE, [(RELAY, [0], rig.now_ms)])
    assert [outcome[0] for outcome in settled[5]] == [1]
    assert rig.core.asked("refill")


def test_sender_is_told_and_the_entry_is_not_given_up_twice_meanwhile() -> None:
    rig = Rig()
    late = row(1, "a@nowhere.example", hop=UNREACHABLE, expires_ms=LATE_MS)
    expired(rig, late)
    assert rig.core.facts == []
    rig.answer("header", HEADER)
    expired(rig, late)
    assert len(rig.core.commits) == 1
    ((ticket, (draft, _, content, cause)),) = rig.core.commits.items()
    assert b"Status: 4.4.7\r\n" in content
    assert cause[0][3] == 0
    rig.deliverer.committed(("committed", ticket, draft, 5_000))
    expired(rig, late)
    assert not rig.core.asked("header"), "a page may be older than what was said of its entries"


def test_mail_for_a_hop_that_works_has_its_attempt_first() -> None:
    rig = Rig()
    expired(rig, row(1, expires_ms=LATE_MS, sender=""))
    assert rig.core.facts == []
    rig.accept("you@b.example", queue_id=2, sender="")
    rig.turn()
    rig.now_ms += 2 * DAY_MS
    conn = rig.core.dials[0][0]
    rig.greet(conn)
    rig.say(conn, "250 ok", "450 4.2.2 full", "554 no")
    rig.turn()
    assert rig.settled() == [(2, 1, None, ("expired",))]


def test_hop_in_retry_has_to_fail_once_more_after_the_expiry_time() -> None:
    rig = Rig(rows=(hop_row(RELAY, state="retry", failures=9),))
    expired(rig, row(1, expires_ms=LATE_MS, sender=""))
    assert rig.core.facts == [], "not tried since the start"
    rig.refill(row(1, expires_ms=LATE_MS, sender=""), row(2, expires_ms=rig.now_ms + 1, sender=""))
    rig.turn()
    rig.tell("dial_failed", rig.core.dials[0][0], "connect", 111, "refused")
    rig.turn()
    expired(rig, row(1, expires_ms=LATE_MS, sender=""), row(2, expires_ms=rig.now_ms + 1, sender=""))
    ((queue_id, attempt, due_ms, states),) = rig.settled()
    assert (queue_id, attempt, due_ms, states) == (1, 0, None, ("expired",))
    assert rig.core.facts[-1][5][0][3:] == ("queue", 0, "4.4.7", "[192.0.2.1]:25: refused")


def test_suspended_mail_expires_too() -> None:
    rig = Rig(started=False)
    rig.core.suspended = [(RELAY, "operator1", "line is down", NOW_MS)]
    rig.start(hop_row(RELAY))
    expired(rig, row(1, expires_ms=LATE_MS, sender=""))
    assert rig.settled() == [(1, 0, None, ("expired",))]


def test_mail_that_is_suspended_itself_expires_although_its_hop_works() -> None:
    rig = Rig()
    expired(
        rig, (*row(1, expires_ms=LATE_MS, sender="")[:-1], "operator"), row(2, expires_ms=LATE_MS, sender="")
    )
    assert rig.settled() == [(1, 0, None, ("expired",))]
    assert rig.core.facts[-1][5][0][3:] == ("queue", 0, "4.4.7", "the message is suspended")


def test_mail_that_was_edited_since_is_not_given_up_as_it_was() -> None:
    rig = Rig()
    rig.deliverer.edits.begin(1, UNREACHABLE)
    (late,) = (row(1, "a@nowhere.example", hop=UNREACHABLE, expires_ms=LATE_MS, sender=""),)
    expired(rig, late)
    rig.deliverer.edits.end(1, UNREACHABLE, Change(rig.core.lsn + 1, expires_ms=LATE_MS * 2), rig.now_ms)
    expired(rig, late)
    assert rig.settled() == []
    rig.core.lsn += 1
    expired(rig, late)
    assert rig.settled() == [(1, 0, None, ("expired",))]


def test_mail_for_a_hop_that_the_configuration_does_not_know_expires_too() -> None:
    rig = Rig()
    rig.router.unreachable.add("b.example")
    expired(rig, row(1, "a@b.example", hop=OLD, expires_ms=LATE_MS, sender=""))
    # Its route is another now, Unreachable: that is where it goes, and expires next time.
    assert rig.core.facts == [("routed", 1, OLD, [(UNREACHABLE, [0], rig.now_ms)])]


@pytest.mark.parametrize("hop", [RELAY, UNREACHABLE])
def test_page_that_was_not_the_last_is_followed_soon(hop: int) -> None:
    rig = Rig()
    rows = [row(number, "a@nowhere.example", hop=hop, expires_ms=LATE_MS, sender="") for number in (1, 2)]
    expired(rig, *rows, complete=False)
    rig.pass_time(MORE_MS)
    _, limit = rig.answer("expired", (rig.core.lsn, True, None, []))
    # What has its last attempt before it stays in the index: the next page has to reach beyond it.
    assert limit == (2 * PAGE if hop == RELAY else PAGE)


def test_index_that_cannot_answer_is_asked_again() -> None:
    rig = Rig()
    rig.pass_time(EVERY_MS)
    rig.answer("expired", None)
    rig.turn()
    expired(rig)
