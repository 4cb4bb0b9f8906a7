from __future__ import annotations

from penstock.alarms import spool_alarms
from tests.deliver.rig import DROP, NOW_MS, POISON, RELAY, Rig, hop_row

ASIDE = ("routed", 7, RELAY, [(POISON, [0, 1], NOW_MS)])


def test_message_whose_content_is_damaged_is_set_aside_while_the_rest_is_delivered() -> None:
    rig = Rig()
    rig.accept("you@b.example", "they@b.example", queue_id=7)
    rig.accept("you@b.example", queue_id=8)
    rig.turn()
    ((conn, *_),) = rig.core.dials
    rig.greet(conn)
    rig.turn()
    rig.tell("damaged", 7)
    rig.close(conn, reason="content", content="partial")
    rig.turn()
    assert rig.core.facts == [ASIDE]
    where = {"connector": "relay", "destination": "relay"}
    assert ("POISON", {"queue_id": "Q7", **where, "cause": "damaged"}) in rig.lines
    assert rig.hop_facts() == [], "the next hop is not at fault"
    # The other one goes on another connection, and nobody tries the first again.
    conn = rig.core.dials[-1][0]
    rig.greet(conn)
    rig.turn()
    rig.take(conn)
    rig.turn()
    assert rig.settled() == [(8, 1, None, ("delivered",))]
    assert not rig.core.commits, "no report says that it has failed"


def test_message_that_is_damaged_on_its_way_to_a_maildir_is_set_aside() -> None:
    rig = Rig()
    rig.accept("you@ours.example", queue_id=7, hop=DROP)
    rig.turn()
    rig.tell("damaged", 7)
    rig.tell("dropped", 1, False, "the stored content could not be read")
    rig.turn()
    assert rig.core.facts == [("routed", 7, DROP, [(POISON, [0], NOW_MS)])]
    assert rig.deliverer.is_idle


def test_what_was_set_aside_is_not_routed_again_at_start() -> None:
    row = hop_row(POISON)
    rig = Rig(rows=((*row[:1], "", "poison", "damaged", *row[4:]),))
    assert not rig.core.asked("messages")


def test_damage_is_an_alarm() -> None:
    calm = {"damaged": 0, "salvaged": None, "is_restored": False}
    assert list(spool_alarms({}, calm)) == []
    samples: dict[tuple[str, tuple[str, ...]], float] = {
        ("spool_damaged_total", ("0", what)): 2.0 for what in ("content", "index_row")
    }
    salvaged = {"reason": "it is missing", "messages": 5, "may_repeat": 1}
    recovery = {"damaged": 1, "salvaged": salvaged, "is_restored": True}
    names = [name for name, _ in spool_alarms(samples, recovery)]
    assert names == ["index_salvaged", "restored", "log_damaged", "content_damaged", "index_damaged"]


def test_recipient_who_has_a_message_is_not_set_aside_with_those_who_have_it_not() -> None:
    rig = Rig()
    rig.accept("you@b.example", "they@b.example", queue_id=7)
    rig.turn()
    ((conn, *_),) = rig.core.dials
    rig.greet(conn)
    rig.turn()
    # Somebody else's reading has failed, for once; this one's has not.
    rig.tell("damaged", 7)
    rig.say(conn, "250 sender", "250 you", "451 they", "354 go")
    rig.take(conn)
    rig.turn()
    states = [state for _, _, _, states in rig.settled() for state in states]
    assert "delivered" in states
    assert all(
        0 not in indexes for fact in rig.core.facts if fact[0] == "routed" for _, indexes, _ in fact[3]
    )
