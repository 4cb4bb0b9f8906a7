from __future__ import annotations

from typing import Any

import pytest

from penstock.deliver.smart_hosts import RESENDS_MAX
from penstock.queue.scheduler import PAUSE_MS
from tests.deliver.rig import NOW_MS, RELAY, SCHEDULE, Rig, row

GLITCH_MS = SCHEDULE.queue_glitch_retry_interval_ms
MESSAGE_MS = SCHEDULE.message_retry_interval_ms
PEER = "[192.0.2.1]:25"
ENVELOPE = b"MAIL FROM:<me@a.example> SIZE=100\r\nRCPT TO:<you@b.example>\r\nDATA\r\n"


def connected(rig: Rig, *, messages: int = 1) -> int:
    """Have the first messages on their way over one connection; return it."""
    for queue_id in range(1, messages + 1):
        rig.accept("you@b.example", queue_id=queue_id)
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.greet(conn)
    return conn


def flights(actions: list[tuple[Any, ...]]) -> list[bytes]:
    return [part[0] for action in actions if action[0] == "flight" for part in action[2]]


def flights_by_conn(actions: list[tuple[Any, ...]]) -> list[int]:
    return [action[1] for action in actions if action[0] == "flight"]


def kinds(actions: list[tuple[Any, ...]]) -> list[str]:
    return [action[0] for action in actions]


def test_message_goes_out_over_a_new_connection() -> None:
    rig = Rig()
    rig.accept("you@b.example")
    assert rig.turn() == []
    ((conn, ip, port, source),) = rig.core.dials
    assert (ip, port, source) == ("192.0.2.1", 25, None)
    assert rig.core.limits == [
        {"connect_ms": 30_000, "banner_ms": 300_000, "block_ms": 180_000, "dot_ms": 600_000}
    ]
    rig.greet(conn)
    assert flights(rig.turn()) == [b"", b"EHLO relay1.ours.example\r\n", ENVELOPE]
    assert rig.deliverer.is_active(1, RELAY)
    rig.say(conn, "250 ok", "250 ok", "354 go")
    assert rig.turn() == [("content", conn, 1, RELAY, 1, PEER, [])]
    rig.say(conn, "250 2.6.0 queued")
    assert rig.turn() == [("park", conn, 2_000)]
    ((kind, queue_id, hop, attempt, due_ms, outcomes, peer, session),) = rig.core.facts
    assert (kind, queue_id, hop, attempt, due_ms, peer) == ("settled", 1, RELAY, 1, None, PEER)
    assert outcomes == [(0, "you@b.example", "delivered", "dot", 250, "2.6.0", "queued")]
    assert len(session) == 16
    assert not rig.deliverer.is_active(1, RELAY)
    assert rig.counts == [("delivery_connections_total", "relay", "ok")]


def test_next_message_follows_at_once_and_facts_of_a_turn_go_together() -> None:
    rig = Rig()
    conn = connected(rig, messages=3)
    rig.turn()
    for _ in range(2):
        rig.take(conn)
    assert kinds(rig.turn()) == ["content", "flight", "content", "flight"]
    assert rig.core.appends == 1
    assert [fact[1] for fact in rig.core.facts] == [1, 2]


def test_idle_connection_is_used_before_a_new_one_is_made() -> None:
    rig = Rig()
    conn = connected(rig)
    rig.take(conn)
    rig.turn()
    rig.accept("you@b.example", queue_id=2)
    assert flights(rig.turn()) == [ENVELOPE]
    assert len(rig.core.dials) == 1


def test_connections_are_opened_as_there_is_work_for_them() -> None:
    rig = Rig(max_outbound_connections_per_domain=5)
    for queue_id in range(1, 21):
        rig.accept("you@b.example", queue_id=queue_id)
    made = []
    while len(rig.core.dials) < 5:
        rig.turn()
        new = rig.core.dials[sum(made) :]
        made.append(len(new))
        for conn, *_ in new:
            rig.greet(conn)
    assert made == [1, 2, 2]
    rig.turn()
    assert len(rig.core.dials) == 5
    view = rig.deliverer.view(RELAY)
    assert view is not None
    assert (view.status, view.connections, view.is_at_limit) == ("Active", 5, True)


def test_connection_is_left_after_its_number_of_messages() -> None:
    rig = Rig(smtp_max_messages_per_connection=2)
    conn = connected(rig, messages=3)
    rig.take(conn)
    rig.take(conn)
    assert rig.turn()[-1] == ("close", conn, True)
    assert len(rig.core.dials) == 2, "what is left goes over another one"
    rig.close(conn, "local")


@pytest.mark.parametrize(
    ("text", "state", "due_ms"),
    [("550 5.1.1 no", "failed", None), ("450 4.2.0 later", "deferred", NOW_MS + MESSAGE_MS)],
)
def test_refused_recipient_concerns_its_entry_alone(text: str, state: str, due_ms: int | None) -> None:
    rig = Rig()
    rig.accept("you@b.example", "she@b.example", queue_id=1, sender="")
    rig.accept("you@b.example", queue_id=2)
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.greet(conn)
    rig.say(conn, "250 ok", "250 ok", text, "354 go")
    rig.say(conn, "250 ok")
    rig.turn()
    assert [(q, a, d, sorted(s)) for q, a, d, s in rig.settled()] == [
        (1, 1, due_ms, sorted(["delivered", state]))
    ]
    assert rig.deliverer.is_active(2, RELAY)
    assert rig.hop_facts() == []


def test_entry_that_was_put_off_is_tried_again_when_it_is_due() -> None:
    rig = Rig()
    conn = connected(rig)
    rig.say(conn, "450 4.7.0 later", "503 x", "503 x")
    rig.turn()
    assert rig.settled() == [(1, 1, NOW_MS + MESSAGE_MS, ("deferred",))]
    assert rig.deadline is not None
    rig.close(conn, "idle")
    rig.pass_time(MESSAGE_MS)
    hop, _, now_ms = rig.refill(row(1, attempts=1))
    assert (hop, now_ms) == (RELAY, rig.now_ms)
    rig.turn()
    conn = rig.core.dials[1][0]
    rig.greet(conn)
    rig.take(conn)
    assert rig.turn()[-2][:5] == ("content", conn, 1, RELAY, 2)


def test_message_that_the_peer_cannot_take_does_not_keep_the_connection() -> None:
    rig = Rig()
    rig.accept("you@b.example", queue_id=1, sender="")
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.greet(conn, "mx.example", "PIPELINING", "SIZE 50")
    assert rig.turn()[-1] == ("park", conn, 2_000)
    assert rig.settled() == [(1, 1, None, ("failed",))]
    # One that rests already is not told to rest again.
    rig.accept("you@b.example", queue_id=2, sender="")
    assert rig.turn() == []
    assert rig.settled()[1] == (2, 1, None, ("failed",))


def test_hop_that_refuses_goes_into_retry_with_one_fact() -> None:
    rig = Rig()
    for queue_id in range(1, 6):
        rig.accept("you@b.example", queue_id=queue_id)
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.tell("dial_failed", conn, "connect", 111, "Connection refused")
    rig.turn()
    error = f"{PEER}: Connection refused"
    assert rig.core.facts == [("hop", RELAY, "retry", error, NOW_MS + GLITCH_MS, 1)]
    assert rig.lines == [
        (
            "QUEUE",
            {
                "connector": "relay",
                "destination": "relay",
                "status": "Retry",
                "last_error": error,
                "next_retry_ms": NOW_MS + GLITCH_MS,
            },
        )
    ]
    view = rig.deliverer.view(RELAY)
    assert view is not None
    assert (view.status, view.next_retry_ms, view.failures, view.last_error) == (
        "Retry",
        NOW_MS + GLITCH_MS,
        1,
        error,
    )
    assert rig.counts == [("delivery_connections_total", "relay", "refused")]
    assert rig.deadline == NOW_MS + GLITCH_MS
    rig.turn()
    assert len(rig.core.dials) == 1


def test_hop_that_is_well_again_takes_one_message_then_all() -> None:
    rig = Rig()
    for queue_id in range(1, 6):
        rig.accept("you@b.example", queue_id=queue_id)
    rig.turn()
    rig.tell("dial_failed", rig.core.dials[0][0], "connect", 110, "timed out")
    assert rig.counts == [("delivery_connections_total", "relay", "timeout")]
    rig.turn()
    rig.pass_time(GLITCH_MS)
    rig.refill(*(row(queue_id) for queue_id in range(1, 6)))
    rig.turn()
    conn = rig.core.dials[1][0]
    rig.greet(conn)
    rig.turn()
    assert len(rig.core.dials) == 2
    rig.take(conn)
    rig.turn()
    assert rig.hop_facts()[-1] == ("hop", RELAY, "ready", "", 0, 0)
    assert rig.lines[-1] == (
        "QUEUE",
        {
            **dict.fromkeys(("connector", "destination"), "relay"),
            "status": "Ready",
            "last_error": None,
            "next_retry_ms": None,
        },
    )
    assert len(rig.core.dials) == 4


@pytest.mark.parametrize("how", ["banner", "421", "closed", "ehlo"])
def test_peer_that_would_not_have_us_is_the_hops_trouble(how: str) -> None:
    rig = Rig()
    rig.accept("you@b.example")
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.tell("connected", conn, 1, "192.0.2.9")
    if how == "closed":
        rig.close(conn)
    elif how == "ehlo":
        rig.say(conn, "220 mx")
        rig.say(conn, "451 4.3.0 busy")
    else:
        rig.say(conn, "554 5.7.1 go away" if how == "banner" else "421 4.3.2 busy")
    rig.turn()
    assert [fact[2] for fact in rig.core.facts] == ["retry"]
    assert rig.counts == [("delivery_connections_total", "relay", "banner")]
    if how != "closed":
        rig.close(conn)
    view = rig.deliverer.view(RELAY)
    assert view is not None
    assert view.connections == 0


def test_every_address_of_every_smart_host_is_tried_first() -> None:
    rig = Rig(hosts=("192.0.2.1", "192.0.2.2", "2001:db8::1"))
    rig.accept("you@b.example")
    for expected in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        rig.turn()
        conn, ip, *_ = rig.core.dials[-1]
        assert ip == expected
        assert rig.core.facts == []
        rig.tell("dial_failed", conn, "connect", 111, "refused")
    rig.turn()
    assert [fact[:4] for fact in rig.core.facts] == [("hop", RELAY, "retry", "[2001:db8::1]:25: refused")]
    assert len(rig.core.dials) == 3


def test_address_that_works_is_kept_to() -> None:
    rig = Rig(hosts=("192.0.2.1", "192.0.2.2"))
    rig.accept("you@b.example")
    rig.turn()
    rig.tell("dial_failed", rig.core.dials[0][0], "connect", 111, "refused")
    rig.turn()
    conn = rig.core.dials[1][0]
    rig.greet(conn)
    rig.take(conn)
    rig.turn()
    rig.close(conn, "idle")
    rig.accept("you@b.example", queue_id=2)
    rig.turn()
    assert [ip for _, ip, *_ in rig.core.dials] == ["192.0.2.1", "192.0.2.2", "192.0.2.2"]


def test_only_addresses_of_the_source_addresss_family_are_tried() -> None:
    rig = Rig(hosts=("192.0.2.1", "2001:db8::1"), source_ip_address="2001:db8::9")
    rig.accept("you@b.example")
    rig.turn()
    assert rig.core.dials == [(100, "2001:db8::1", 25, "2001:db8::9")]


def test_failed_connection_beside_one_that_works_is_a_pause() -> None:
    rig = Rig()
    conn = connected(rig, messages=4)
    rig.turn()
    for second, *_ in rig.core.dials[1:]:
        rig.tell("connected", second, 1, "192.0.2.9")
        rig.say(second, "421 4.7.0 too many connections")
    rig.turn()
    dials = len(rig.core.dials)
    assert rig.hop_facts() == []
    rig.take(conn)
    rig.turn()
    assert rig.settled() == [(1, 1, None, ("delivered",))]
    assert len(rig.core.dials) == dials
    rig.pass_time(PAUSE_MS)
    assert len(rig.core.dials) == dials + 1


@pytest.mark.parametrize("how", ["closed", "421"])
def test_idle_connection_that_is_dead_costs_no_attempt(how: str) -> None:
    rig = Rig()
    conn = connected(rig)
    rig.take(conn)
    rig.turn()
    rig.accept("you@b.example", queue_id=2)
    rig.turn()
    if how == "421":
        rig.say(conn, "421 4.4.2 bye")
    rig.close(conn)
    rig.turn()
    assert [settled[0] for settled in rig.settled()] == [1]
    assert rig.hop_facts() == []
    other = rig.core.dials[1][0]
    rig.greet(other)
    rig.take(other)
    assert rig.turn()[-2][:5] == ("content", other, 2, RELAY, 1)


def test_connection_that_closes_while_it_rests_is_forgotten() -> None:
    rig = Rig()
    conn = connected(rig)
    rig.take(conn)
    rig.turn()
    rig.close(conn, "idle")
    rig.accept("you@b.example", queue_id=2)
    assert rig.turn() == []
    assert len(rig.core.dials) == 2


@pytest.mark.parametrize("is_late", [False, True])
def test_farewell_of_a_connection_that_rests_loses_nothing(is_late: bool) -> None:
    rig = Rig()
    conn = connected(rig)
    rig.take(conn)
    rig.turn()
    if is_late:
        rig.close(conn, seen=rig.seen[conn] + 1)
        rig.say(conn, "421 4.4.2 idle")
    else:
        rig.say(conn, "421 4.4.2 idle")
        rig.close(conn)
    rig.turn()
    assert rig.settled() == [(1, 1, None, ("delivered",))]
    assert rig.hop_facts() == []
    view = rig.deliverer.view(RELAY)
    assert view is not None
    assert (view.status, view.connections) == ("Ready", 0)


def test_new_connection_that_breaks_before_the_message_is_judged_is_the_hops_trouble() -> None:
    rig = Rig()
    conn = connected(rig)
    rig.close(conn)
    rig.turn()
    assert [fact[2] for fact in rig.hop_facts()] == ["retry"]
    # The entry goes with its hop, and is counted: it may be what the peer hangs up on.
    assert rig.settled() == [(1, 1, NOW_MS + GLITCH_MS, ("deferred",))]


def test_new_connection_that_breaks_leaves_the_message_to_the_next_address() -> None:
    rig = Rig(hosts=("192.0.2.1", "192.0.2.2"))
    conn = connected(rig)
    rig.close(conn)
    rig.turn()
    assert rig.core.facts == []
    other, ip, *_ = rig.core.dials[1]
    assert ip == "192.0.2.2"
    rig.greet(other)
    rig.take(other)
    rig.turn()
    assert rig.settled() == [(1, 1, None, ("delivered",))]


def test_message_on_which_peers_hang_up_is_put_off_in_the_end() -> None:
    rig = Rig()
    for queue_id in range(1, 21):
        rig.accept("you@b.example", queue_id=queue_id)
    while len(rig.seen) < RESENDS_MAX + 1:
        rig.turn()
        for conn, *_ in rig.core.dials[len(rig.seen) :]:
            rig.greet(conn)
    while len(rig.settled()) < 20:
        for conn in rig.seen:
            rig.take(conn)
        rig.turn()
    rig.accept("you@b.example", queue_id=99)
    hung_up = 0
    while (actions := flights_by_conn(rig.turn())) and len(rig.settled()) == 20:
        hung_up += 1
        rig.close(actions[0])
    assert hung_up == RESENDS_MAX + 1
    assert rig.settled()[20:] == [(99, 1, NOW_MS + MESSAGE_MS, ("deferred",))]
    assert rig.hop_facts() == []


def test_421_in_the_middle_concerns_what_was_under_way_and_nothing_else() -> None:
    rig = Rig()
    conn = connected(rig, messages=2)
    rig.say(conn, "250 ok", "250 ok", "354 go")
    rig.say(conn, "421 4.3.2 going down")
    rig.close(conn)
    rig.turn()
    assert rig.settled() == [(1, 1, NOW_MS + MESSAGE_MS, ("deferred",))]
    assert len(rig.core.dials) == 2


def test_lost_reply_after_the_final_dot_is_in_doubt() -> None:
    rig = Rig()
    conn = connected(rig)
    rig.say(conn, "250 ok", "250 ok", "354 go")
    rig.close(conn, "reset", "terminated")
    rig.turn()
    assert rig.settled() == [(1, 1, NOW_MS + MESSAGE_MS, ("in_doubt",))]
    assert ("queue_in_doubt_total", "relay") in rig.counts
    assert rig.hop_facts() == []


def test_replies_that_were_read_before_the_end_count_although_the_end_is_told_first() -> None:
    rig = Rig()
    rig.accept("you@b.example", "she@b.example", sender="")
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.greet(conn)
    rig.close(conn, seen=rig.seen[conn] + 2)
    assert rig.settled() == []
    rig.say(conn, "250 ok", "550 5.1.1 no")
    rig.turn()
    assert rig.settled() == [(1, 1, NOW_MS + MESSAGE_MS, ("failed", "deferred"))]


def test_words_of_a_peer_that_hangs_up_at_once_are_kept() -> None:
    rig = Rig()
    rig.accept("you@b.example")
    rig.turn()
    conn = rig.core.dials[0][0]
    rig.close(conn, seen=1)
    rig.tell("connected", conn, 1, "192.0.2.9")
    rig.say(conn, "421 4.7.1 blocked")
    rig.turn()
    assert rig.hop_facts()[0][3] == f"{PEER}: 421 4.7.1 blocked"
    view = rig.deliverer.view(RELAY)
    assert view is not None
    assert view.connections == 0


def test_events_of_connections_that_are_gone_are_dropped() -> None:
    rig = Rig()
    conn = connected(rig)
    rig.take(conn)
    rig.turn()
    rig.close(conn)
    for kind, rest in (
        ("connected", (1, "x")),
        ("replies", (9, 0, [])),
        ("client_closed", ("peer", 0, "none")),
        ("dial_failed", ("connect", 1, "x")),
    ):
        rig.tell(kind, conn, *rest)
    assert rig.turn() == []


def test_drain_ends_what_has_not_begun_to_send_content_and_waits_for_the_rest() -> None:
    rig = Rig()
    conn = connected(rig, messages=5)
    rig.turn()
    second, third = (dialled[0] for dialled in rig.core.dials[1:3])
    rig.greet(second)
    rig.turn()
    rig.say(conn, "250 ok", "250 ok", "354 go")
    rig.turn()
    assert not rig.deliverer.is_idle
    rig.deliverer.drain()
    actions = rig.turn()
    assert ("abort", second) in actions
    assert ("abort", third) in actions
    assert all(action[1] != conn for action in actions)
    assert not rig.deliverer.is_idle
    rig.close(second, "local")
    rig.tell("dial_failed", third, "connect", 125, "cancelled")
    rig.say(conn, "250 ok")
    assert rig.turn() == [("close", conn, True)]
    assert rig.deliverer.is_idle
    assert rig.settled() == [(1, 1, None, ("delivered",))]
    assert rig.hop_facts() == []
    rig.accept("you@b.example", queue_id=9)
    assert rig.turn() == []


def test_drain_says_goodbye_on_connections_that_rest() -> None:
    rig = Rig()
    conn = connected(rig)
    rig.take(conn)
    rig.turn()
    rig.deliverer.drain()
    assert rig.turn() == [("close", conn, True)]
    rig.close(conn, "local")
    assert rig.turn() == []
