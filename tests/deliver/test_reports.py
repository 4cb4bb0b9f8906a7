from __future__ import annotations

import email
from typing import Any

import pytest

from penstock.deliver.reports import AGAIN_MS, WAITING_MAX
from tests.deliver.rig import DAY_MS, HEADER, NOW_MS, PARAMS, RELAY, Rig

NO = "550 5.1.1 no such user"


def fail(rig: Rig, number: int = 1, *, sender: str = "me@ours.example") -> None:
    """Have messages refused for good, one after the other on one connection."""
    for queue_id in range(1, number + 1):
        rig.accept("gone@b.example", queue_id=queue_id, sender=sender)
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.greet(conn)
    for index in range(number):
        # A transaction that came to nothing is reset before the next.
        reset = ["250 ok"] if index else []
        rig.say(conn, *reset, "250 ok", NO, "554 no valid recipients")
    rig.turn()


def commit(rig: Rig, *, queue_id: int | None = None) -> tuple[Any, ...]:
    """Have the only commit become durable; return what was committed."""
    ((ticket, made),) = rig.core.commits.items()
    rig.core.commits.clear()
    rig.core.lsn += 1
    assert rig.deliverer.committed(("committed", ticket, queue_id or made[0], rig.core.lsn))
    return made


def test_failure_and_its_report_are_one() -> None:
    rig = Rig()
    fail(rig)
    assert rig.core.facts == []
    assert rig.deliverer.is_active(1, RELAY)
    assert rig.answer("header", HEADER)[0] == 1
    assert rig.turn() == []
    assert not rig.deliverer.is_idle
    draft, envelope, content, (cause,) = commit(rig)
    assert cause[:5] == ("settled", 1, RELAY, 1, None)
    assert [outcome[2] for outcome in cause[5]] == ["failed"]
    assert envelope[:6] == (NOW_MS, "", PARAMS, ("", "", "", ""), len(content), 0)
    assert envelope[8:] == (
        [("me@ours.example", 0, None)],
        [(2, [0], 1, NOW_MS, NOW_MS + 4 * DAY_MS)],
    )
    dsn = email.message_from_bytes(content)
    assert dsn.get_content_type() == "multipart/report"
    assert dsn["Message-ID"] == envelope[6]
    assert dsn["Subject"] == envelope[7] == "Undeliverable: hello"
    assert b"Status: 5.1.1\r\n" in content
    assert b"Remote-MTA: dns; [192.0.2.1]:25\r\n" in content
    assert rig.core.facts == []
    # The report is delivered like any other message.
    ((kind, _, queue_id, hop, *_),) = rig.turn()
    assert (kind, queue_id, hop) == ("drop", draft, 2)
    assert ("dsn_total", "failed") in rig.counts
    assert rig.lines == [("DSN", {"queue_id": f"Q{draft}", "reference": "Q1", "kind": "failed"})]
    assert not rig.deliverer.is_active(1, RELAY)


def test_others_of_the_message_are_recorded_with_it() -> None:
    rig = Rig()
    rig.accept("gone@b.example", "later@b.example", "you@b.example")
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.greet(conn)
    rig.say(conn, "250 ok", NO, "450 4.2.0 later", "250 ok", "354 go")
    rig.say(conn, "250 ok")
    rig.turn()
    rig.answer("header", HEADER)
    _, _, content, (cause,) = commit(rig)
    assert sorted(outcome[2] for outcome in cause[5]) == ["deferred", "delivered", "failed"]
    assert cause[4] == NOW_MS + 900_000
    assert content.count(b"Final-Recipient") == 1
    rig.pass_time(900_000)
    assert rig.core.asked("refill")


def test_null_sender_is_told_nothing() -> None:
    rig = Rig()
    fail(rig, sender="")
    assert rig.settled() == [(1, 1, None, ("failed",))]
    assert not rig.core.asked("header")
    assert ("dsn_total", "suppressed") in rig.counts
    assert rig.lines == [("DSN", {"reference": "Q1", "kind": "suppressed"})]


def test_message_that_cannot_be_read_any_more_is_reported_without_its_header() -> None:
    rig = Rig()
    fail(rig)
    rig.answer("header", None)
    assert b"Subject: Undeliverable message" in commit(rig)[2]


@pytest.mark.parametrize("how", ["refused", "budget", "commit"])
def test_outcome_is_kept_until_its_report_can_be_stored(how: str) -> None:
    rig = Rig()
    fail(rig)
    if how == "refused":
        rig.core.refusal = "disk_full"
    elif how == "budget":
        rig.core.room = 100
    rig.answer("header", HEADER)
    if how == "commit":
        ((ticket, _),) = rig.core.commits.items()
        rig.core.commits.clear()
        assert rig.deliverer.commit_failed(("commit_failed", ticket, 1, "full"))
    rig.turn()
    assert rig.deadline == rig.now_ms + AGAIN_MS
    assert rig.core.drafts == {}
    assert not rig.core.asked("header")
    assert rig.deliverer.is_active(1, RELAY)
    rig.core.refusal, rig.core.room = "", 1 << 30
    rig.pass_time(AGAIN_MS)
    rig.answer("header", HEADER)
    assert commit(rig)[3][0][1] == 1
    assert rig.core.facts == []


def test_nothing_new_is_begun_while_too_many_outcomes_wait() -> None:
    rig = Rig(smtp_max_messages_per_connection=None, max_outbound_connections_per_domain=1)
    rig.core.refusal = "disk_full"
    fail(rig, WAITING_MAX)
    rig.accept("you@b.example", queue_id=WAITING_MAX + 1)
    rig.turn()
    assert not rig.deliverer.is_active(WAITING_MAX + 1, RELAY)
    rig.core.refusal = ""
    stored = 0
    while stored < WAITING_MAX:
        assert rig.deliverer.is_active(WAITING_MAX + 1, RELAY) == (stored > WAITING_MAX // 2)
        for number in rig.core.asked("header"):
            rig.answer_number(number, HEADER)
        for ticket in list(rig.core.commits):
            queue_id = rig.core.commits.pop(ticket)[0]
            rig.deliverer.committed(("committed", ticket, queue_id, 5_000))
            stored += 1
        rig.turn()


def test_ticket_of_somebody_else_is_left_alone() -> None:
    rig = Rig()
    assert not rig.deliverer.committed(("committed", 99, 1, 1))
    assert not rig.deliverer.commit_failed(("commit_failed", 99, 1, "full"))
