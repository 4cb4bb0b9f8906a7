from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import CertificateUnusable, DraftRefused
from penstock.receive.fresh import FreshMessage
from penstock.receive.pressure import Marks, Pressure
from penstock.receive.rates import MessageRate
from penstock.receive.receiver import Receiver
from penstock.receive.settings import AcceptedDomainSettings, ReceiveConnectorSettings, ReceiveSettings
from penstock.smtp import replies
from tests.support.groups import ANONYMOUS, RELAY

NOW_MS = 1_763_951_400_000
HELLO = [("EHLO", "client.example")]
MAIL = ("MAIL", "me@contoso.example", "contoso.example", (("SIZE", "50"), ("BODY", "8BITMIME")))


def rcpt(address: str) -> tuple[Any, ...]:
    return ("RCPT", address, address.rpartition("@")[2], ())


NOTHING_ELSE: tuple[Any, ...] = (False, False, False, None, None, None, None)
ENVELOPE = [MAIL, rcpt("you@contoso.example"), ("DATA",)]


class Core:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.limits: list[dict[str, int]] = []
        self.standard: list[tuple[bytes, bytes, int] | None] = []
        self.hops: list[tuple[str, str, str]] = []
        self.dropped: list[int] = []
        self.hints: list[int] = []
        self.commits: list[tuple[Any, ...]] = []
        self.refusal = ""
        self.journalled: list[dict[str, str]] = []
        self.tls: list[tuple[Any, ...]] = []
        self.unusable: CertificateUnusable | None = None
        self.applied: list[list[tuple[Any, ...]]] = []
        self._drafts = itertools.count(500)

    def apply(self, actions: list[tuple[Any, ...]]) -> None:
        self.applied.append(actions)

    def draft(self, size_hint: int) -> int:
        if self.refusal:
            raise DraftRefused(self.refusal)
        self.hints.append(size_hint)
        return next(self._drafts)

    def drop_draft(self, draft: int) -> None:
        self.dropped.append(draft)

    def commit(
        self,
        draft: int,
        envelope: tuple[Any, ...],
        prepend: bytes,
        form: str,
        cause: list[tuple[Any, ...]],
        notes: tuple[tuple[str, str], ...],
    ) -> int:
        self.journalled.append(dict(notes))
        self.commits.append((draft, envelope, prepend, form, cause))
        return len(self.commits)

    def hop(self, connector: str, kind: str, destination: str) -> int:
        self.hops.append((connector, kind, destination))
        return len(self.hops)

    def server_limits(self, limits: dict[str, int], standard: tuple[bytes, bytes, int] | None = None) -> int:
        self.limits.append(limits)
        self.standard.append(standard)
        return len(self.limits) - 1

    def server_tls(
        self,
        certificates: list[tuple[bytes, bytes]],
        *,
        minimum: str,
        client_certificates: str,
        number: int | None = None,
    ) -> int:
        if self.unusable is not None:
            raise self.unusable
        self.tls.append((certificates, minimum, client_certificates, number))
        return 40 if number is None else number


class Route:
    def __init__(self, *hop: str) -> None:
        self.hop = hop[0], hop[1], hop[2]


class Router:
    """Own mail into a folder, all other to a smart host."""

    def route(self, address: str, domain: str, /) -> Route:
        if domain == "contoso.example":
            return Route("", "maildir", "contoso.example")
        return Route("m365", "smart_host", "mx.example")


class Rig:
    """A receiver and a client that tells it events."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        self.core = Core()
        self.pressure = Pressure(
            {"memory": Marks(medium=72, high=75), "queue_length": Marks(medium=10, high=20)}
        )
        self.accepted: list[FreshMessage] = []
        self.recipients = folder / "recipients"
        self.recipients.write_text("you@contoso.example\n", encoding="utf-8")
        connectors = (
            ReceiveConnectorSettings(
                name="lan",
                groups=(RELAY,),
                listeners=(1,),
                remote_ip_ranges=("10.0.0.0/8",),
                max_inbound_connection_per_source=2,
                **changed,
            ),
            ReceiveConnectorSettings(
                name="mx",
                groups=(ANONYMOUS,),
                listeners=(1,),
                remote_ip_ranges=("192.0.2.0/24",),
                fqdn="mx.contoso.example",
            ),
        )
        settings = ReceiveSettings(
            fqdn="relay1.contoso.example",
            default_domain="contoso.example",
            accepted_domains=(
                AcceptedDomainSettings(
                    name="contoso.example", type="authoritative", recipients=str(self.recipients)
                ),
            ),
            connectors=connectors,
            message_expiration_ms=1000,
        )
        self.receiver = Receiver(
            self.core,
            settings,
            Router(),
            self.accepted.append,
            lambda number: f"q{number}",
            self.pressure,
        )
        self.now_ms = NOW_MS
        self.turns = itertools.count(1)

    def tell(self, kind: str, conn: int, *rest: Any) -> list[tuple[Any, ...]]:
        actions: list[tuple[Any, ...]] = []
        turn = next(self.turns)
        getattr(self.receiver, kind)((kind, conn, turn, *rest), actions, self.now_ms)
        assert all(action[1:3] == (conn, turn) for action in actions)
        return [(action[0], *action[3:]) for action in actions]

    def press(self, **readings: float) -> None:
        self.pressure.poll(readings)
        self.receiver.press()

    def open(self, conn: int, peer: str = "10.0.0.1", proxy: str | None = None) -> list[tuple[Any, ...]]:
        return self.tell("opened", conn, 1, peer, 1025, "10.0.0.2", 25, proxy)

    def say(
        self, conn: int, items: list[tuple[Any, ...]], early: bool = False, answered: int = 0
    ) -> list[tuple[Any, ...]]:
        return self.tell("commands", conn, items, early, False, answered)

    def content(self, conn: int, draft: int = 500, status: str = "complete") -> list[tuple[Any, ...]]:
        return self.tell(
            "content", conn, draft, status, 8, 40, 0, "<1@client.example>", "hi", "me", (30, True, True, 0)
        )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_limits_of_each_connector_are_registered(rig: Rig) -> None:
    assert rig.core.limits[0] == {
        "idle_ms": 300_000,
        "total_ms": 600_000,
        "header_bytes": 262_145,
        "handshake_ms": 30_000,
        "is_lenient": 0,
        "changes": 0,
        "takes_utf8": 0,
        "takes_size": 1,
        "takes_body": 1,
        "takes_codes": 1,
    }
    assert rig.core.standard[0] == (replies.SENDER_OK, replies.START_CONTENT, 36 * 1024 * 1024)
    assert rig.open(1) == [("begin", 0, b"220 relay1.contoso.example ESMTP Penstock\r\n", 0)]
    assert rig.open(2, "192.0.2.1") == [("begin", 1, b"220 mx.contoso.example ESMTP Penstock\r\n", 0)]


def test_what_devices_are_allowed_is_told_to_net(tmp_path: Path) -> None:
    devices = {
        "submission_fixups": True,
        "lenient_syntax": True,
        "bare_linefeed": "normalise",
        "min_throughput_bytes_s": 64,
        "min_throughput_grace_ms": 60_000,
        "tls_handshake_timeout_ms": 5_000,
    }
    limits = Rig(tmp_path, **devices).core.limits[0]
    assert (limits["changes"], limits["is_lenient"], limits["handshake_ms"]) == (6, 1, 5_000)
    # A command line that has begun has as long as content has for its average.
    assert (limits["min_rate_bytes_s"], limits["rate_window_ms"], limits["command_ms"]) == (
        64,
        60_000,
        60_000,
    )
    assert Rig(tmp_path, submission_fixups=True).core.limits[0]["changes"] == 4
    assert Rig(tmp_path, bare_linefeed="normalise").core.limits[0]["changes"] == 2


@pytest.mark.parametrize(
    ("fixups", "header", "params", "fields"),
    [
        (True, (30, True, True, 0), (None, None, True), ()),
        (True, (30, False, True, 0), (None, None, True, (*NOTHING_ELSE, 1)), (b"Date: ",)),
        (True, (30, True, False, 4), (None, None, True, (*NOTHING_ELSE, 5)), (b"Message-ID: <q500@",)),
        (False, (30, False, False, 0), (None, None, True), ()),
        (False, (30, False, False, 2), (None, None, True, (*NOTHING_ELSE, 2)), ()),
    ],
)
def test_missing_fields_are_added_where_that_is_asked_for(
    tmp_path: Path,
    fixups: bool,
    header: tuple[Any, ...],
    params: tuple[Any, ...],
    fields: tuple[bytes, ...],
) -> None:
    rig = Rig(tmp_path, submission_fixups=fixups)
    rig.open(1)
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE)
    rig.tell("content", 1, 500, "complete", 8, 40, 0, "<1@client.example>", "hi", "me", header)
    ((_, envelope, prepend, _, _),) = rig.core.commits
    assert envelope[2] == params
    assert envelope[4] == 40 + len(prepend)
    lines = [line for line in prepend.split(b"\r\n") if line and not line.startswith(b"\t")]
    assert len(lines) == 1 + len(fields)
    assert all(line.startswith(field) for line, field in zip(lines[1:], fields, strict=True))


def test_message_from_data_to_hand_over(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    assert rig.say(1, ENVELOPE)[-1] == ("take", 500, 36 * 1024 * 1024, replies.START_CONTENT)
    assert rig.core.hints == [50]
    assert not rig.receiver.is_idle
    assert rig.content(1) == [
        (
            "await_durable",
            1,
            b"250 2.6.0 <1@client.example> [InternalId=q500, Hostname=relay1.contoso.example] "
            b"Queued mail for delivery\r\n",
            replies.INSUFFICIENT_STORAGE,
            "MAIL",
        )
    ]
    ((draft, envelope, prepend, form, cause),) = rig.core.commits
    assert (draft, form, cause) == (500, "wire", [])
    assert prepend.startswith(
        b"Received: from client.example ([10.0.0.1])\r\n"
        b"\tby relay1.contoso.example with ESMTP id q500 for <you@contoso.example>;\r\n"
    )
    size = 40 + len(prepend)
    (*head, session) = envelope[3]
    assert head == ["lan", "10.0.0.1", "client.example"]
    assert len(session) == 16
    assert envelope[:3] + envelope[4:] == (
        NOW_MS,
        "me@contoso.example",
        (None, None, True),
        size,
        8,
        "<1@client.example>",
        "hi",
        [("you@contoso.example", 0, None)],
        [(1, [0], 1, NOW_MS, NOW_MS + 1000)],
    )
    assert rig.core.hops == [("", "maildir", "contoso.example")]
    assert not rig.accepted
    assert not rig.receiver.is_idle
    assert rig.receiver.committed(("committed", 1, 500, 77))
    assert rig.receiver.is_idle
    (fresh,) = rig.accepted
    assert (fresh.queue_id, fresh.lsn, fresh.sender, fresh.received_ms, fresh.size) == (
        500,
        77,
        "me@contoso.example",
        NOW_MS,
        size,
    )
    assert (fresh.flags, fresh.form, fresh.message_id, fresh.params) == (
        8,
        "wire",
        "<1@client.example>",
        (None, None, True),
    )
    assert fresh.entries == [(1, [(0, "you@contoso.example", 0, None)], 1, NOW_MS, NOW_MS + 1000)]


def test_recipients_are_grouped_by_next_hop(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, [("HELO", "client.example")])
    addresses = ["a@one.example", "you@contoso.example", "b@two.example", "Postmaster"]
    items = [rcpt(address) if "@" in address else ("RCPT", address, "", ()) for address in addresses]
    rig.say(1, [MAIL, *items, ("DATA",)])
    rig.content(1)
    envelope, prepend = rig.core.commits[0][1:3]
    assert envelope[8] == [(a, 0, None) for a in (*addresses[:3], "postmaster@contoso.example")]
    assert [(hop, indexes) for hop, indexes, *_ in envelope[9]] == [(1, [0, 2]), (2, [1, 3])]
    assert b" for " not in prepend
    assert b" with SMTP id " in prepend
    rig.say(1, ENVELOPE)
    rig.content(1, 501)
    assert len(rig.core.hops) == 2, "a hop is asked for once"


def test_ticket_of_somebody_else_is_left_alone(rig: Rig) -> None:
    assert not rig.receiver.committed(("committed", 99, 1, 1))
    assert not rig.receiver.commit_failed(("commit_failed", 99, 1, "full"))


def test_message_is_kept_when_its_connection_ends_before_the_commit_does(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE)
    rig.content(1)
    rig.receiver.closed(("closed", 1, "reset", None))
    assert rig.receiver.connections == 0
    assert rig.receiver.committed(("committed", 1, 500, 5))
    assert len(rig.accepted) == 1


def test_events_of_a_connection_that_has_ended_are_dropped(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE)
    rig.receiver.closed(("closed", 1, "reset", None))
    assert rig.content(1) == []
    assert rig.core.dropped == [500]
    assert not rig.core.commits
    assert rig.say(1, [("NOOP",)]) == []


def test_end_may_be_seen_before_the_beginning(rig: Rig) -> None:
    rig.receiver.closed(("closed", 1, "peer", None))
    assert rig.open(1) == []
    assert rig.receiver.connections == 0
    assert not rig.receiver._closed_unseen


def test_refused_connections_leave_nothing_behind(rig: Rig) -> None:
    assert rig.open(1, "203.0.113.1") == [("reply", replies.NO_CONNECTOR, 0, 0, True)]
    rig.receiver.closed(("closed", 1, "local", None))
    assert not rig.receiver._refused
    assert not rig.receiver._closed_unseen
    rig.open(2)
    rig.open(3)
    assert rig.open(4) == [("reply", replies.TOO_MANY_CONNECTIONS_FROM_SOURCE, 0, 0, True)]
    rig.receiver.closed(("closed", 2, "peer", None))
    assert rig.open(5)[0][0] == "begin"


def test_connections_of_a_connector_are_limited(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_inbound_connection=1)
    rig.open(1)
    assert rig.open(2, "10.0.0.9") == [("reply", replies.TOO_MANY_CONNECTIONS, 0, 0, True)]


def test_refused_content_is_dropped(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE)
    assert rig.content(1, status="too_large") == [("reply", replies.CONTENT_TOO_LARGE, 1, 0, False)]
    assert rig.core.dropped == [500]


@pytest.mark.parametrize(
    ("reason", "reply", "then"),
    [
        ("budget", replies.INSUFFICIENT_STORAGE, replies.SENDER_OK),
        ("behind", replies.INSUFFICIENT_STORAGE, replies.SENDER_OK),
        ("disk_full", replies.INSUFFICIENT_STORAGE, replies.INSUFFICIENT_STORAGE),
        ("poisoned", replies.LOCAL_FAILURE, replies.LOCAL_FAILURE),
    ],
)
def test_refused_draft(rig: Rig, reason: str, reply: bytes, then: bytes) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.core.refusal = reason
    assert rig.say(1, ENVELOPE)[-1] == ("reply", reply, 1, 0, False)
    assert rig.say(1, [MAIL])[0][1] == then


def test_full_disk_is_tried_again_after_a_second(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.receiver.commit_failed(("commit_failed", 1, 1, "full"))
    assert rig.say(1, [MAIL])[0][1] == replies.INSUFFICIENT_STORAGE
    rig.now_ms += 1000
    assert rig.say(1, [MAIL])[0][1] == replies.SENDER_OK


def test_failed_spool_refuses_at_mail(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.receiver.poisoned()
    rig.now_ms += 100_000
    assert rig.say(1, [MAIL])[0][1] == replies.LOCAL_FAILURE


def test_full_disk_is_told_to_the_recipient_when_mail_was_answered_before_it_was_known(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.receiver.commit_failed(("commit_failed", 1, 1, "full"))
    assert rig.say(1, ENVELOPE[:2], answered=1) == [
        ("reply", replies.INSUFFICIENT_STORAGE, 1, 0, False),
    ]
    rig.now_ms += 1000
    assert rig.say(1, ENVELOPE[1:2]) == [("reply", replies.RECIPIENT_OK, 1, 0, False, "DATA")]
    rig.receiver.poisoned()
    assert rig.say(1, ENVELOPE[1:2]) == [("reply", replies.LOCAL_FAILURE, 1, 0, False, "DATA")]


def test_content_of_a_data_that_was_answered_is_committed(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE[:2], answered=1)
    assert not rig.receiver.is_idle
    (action,) = rig.content(1, draft=777)
    assert (action[0], action[4]) == ("await_durable", "MAIL")
    assert rig.core.hints == [], "net has opened the draft"
    ((draft, envelope, *_),) = rig.core.commits
    assert (draft, envelope[1], envelope[2]) == (777, "me@contoso.example", (None, None, True))
    rig.receiver.committed(("committed", 1, 777, 5))
    assert rig.accepted[0].queue_id == 777
    assert rig.receiver.is_idle


def test_content_of_a_data_that_was_answered_can_be_refused(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE[:2])
    assert rig.content(1, draft=777, status="too_large") == [
        ("reply", replies.CONTENT_TOO_LARGE, 1, 0, False)
    ]
    assert rig.core.dropped == [777]
    assert rig.say(1, [("DATA",)])[0][1] == replies.NEED_MAIL


def test_changed_recipients_are_seen_within_a_second(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, [*HELLO])
    rig.say(1, [MAIL])
    rig.recipients.write_text("new@contoso.example\n# changed\n", encoding="utf-8")
    rig.now_ms += 1000
    assert rig.say(1, [rcpt("new@contoso.example")])[0][1] == replies.RECIPIENT_OK
    rig.recipients.unlink()
    rig.now_ms += 1000
    assert rig.say(1, [rcpt("new@contoso.example")])[0][1] == replies.RECIPIENT_OK
    assert len(list(rig.receiver.alarms(rig.now_ms))) == 1


def test_alarms_are_of_now_without_connections(rig: Rig) -> None:
    rig.open(1)
    text = rig.recipients.read_text(encoding="utf-8")
    rig.recipients.unlink()
    assert list(rig.receiver.alarms(rig.now_ms)) == []
    rig.now_ms += 1000
    assert [name for name, _ in rig.receiver.alarms(rig.now_ms)] == ["recipients_unreadable"]
    rig.recipients.write_text(text, encoding="utf-8")
    rig.now_ms += 1000
    assert list(rig.receiver.alarms(rig.now_ms)) == []


def test_drain_lets_transactions_finish_and_none_begin(rig: Rig) -> None:
    rig.open(1)
    rig.open(2)
    rig.say(1, HELLO)
    rig.say(2, HELLO)
    rig.say(1, [MAIL])
    rig.receiver.drain()
    assert not rig.receiver.is_idle
    assert rig.open(3) == [("reply", replies.SHUTTING_DOWN, 0, 0, True)]
    assert rig.say(2, ENVELOPE) == [("reply", replies.SHUTTING_DOWN, 3, 0, True)]
    assert rig.say(1, ENVELOPE[1:])[-1][0] == "take"
    assert rig.content(1)[0][0] == "await_durable"
    rig.receiver.committed(("committed", 1, 500, 5))
    assert rig.receiver.is_idle
    assert rig.say(1, [("NOOP",)]) == [("reply", replies.SHUTTING_DOWN, 1, 0, True)]


def test_drain_is_told_to_whoever_has_only_an_answered_mail(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.receiver.drain()
    assert rig.receiver.is_idle
    assert rig.say(1, ENVELOPE, answered=1) == [("reply", replies.SHUTTING_DOWN, 2, 0, True)]


def test_farewell_that_an_answered_mail_has_crossed_is_repeated(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.receiver.drain()
    rig.receiver.dismiss_idle([])
    assert rig.say(1, ENVELOPE[:2], answered=1) == [("reply", replies.SHUTTING_DOWN, 1, 0, True)]


def test_idle_peers_are_dismissed_in_the_turn_they_last_had(rig: Rig) -> None:
    rig.open(1)
    rig.open(2)
    rig.open(3, "10.0.0.9")
    rig.say(1, HELLO)
    rig.say(2, HELLO)
    rig.say(2, [MAIL])
    rig.say(3, HELLO)
    rig.say(3, ENVELOPE)
    rig.content(3)
    rig.receiver.drain()
    actions: list[Any] = []
    rig.receiver.dismiss_idle(actions)
    farewells = {action[1]: action[2:] for action in actions}
    assert farewells.keys() == {1, 3}
    assert all(rest[1:] == (replies.SHUTTING_DOWN, 0, 0, True) for rest in farewells.values())
    assert farewells[3][0] == next(rig.turns) - 1


def test_sessions_have_names_of_their_own(rig: Rig) -> None:
    names = {rig.receiver._session_ids.next(NOW_MS) for _ in range(1000)}
    assert len(names) == 1000


def test_what_is_refused_is_counted_by_connector_and_cause(rig: Rig) -> None:
    rig.open(1)
    rig.open(2)
    rig.open(3)
    rig.open(4, "203.0.113.9")
    rig.say(1, [*HELLO, ("malformed", "path", 3, "MAIL"), ("unknown", "XYZZY"), ("RCPT", "x", "y", ())])
    rig.say(1, ENVELOPE)
    rig.content(1, status="too_large")
    rig.say(1, ENVELOPE)
    rig.content(1)
    rig.receiver.commit_failed(("commit_failed", 1, 500, "full"))
    rig.receiver.closed(("closed", 2, "peer", None))
    values = {(name, *labels): value for name, labels, value in rig.receiver.samples()}
    assert values == {
        ("receive_connections_total", "_none"): 0,
        ("receive_sessions", "_none"): 0,
        ("receive_refused_total", "_none", "no_connector"): 1,
        ("receive_connections_total", "lan"): 3,
        ("receive_sessions", "lan"): 1,
        ("receive_refused_total", "lan", "per_source"): 1,
        ("receive_replies_total", "lan", "other", "5"): 2,
        ("receive_replies_total", "lan", "RCPT", "5"): 1,
        ("messages_refused_total", "lan", "size"): 1,
        ("messages_refused_total", "lan", "spool"): 1,
        ("receive_connections_total", "mx"): 0,
        ("receive_sessions", "mx"): 0,
    }


def test_a_rate_is_kept_by_source_and_mail_is_not_granted_then(tmp_path: Path) -> None:
    rig = Rig(tmp_path, message_rate=MessageRate(2, 60_000))
    rig.open(1)
    assert rig.say(1, HELLO)[0][4:] == (False,), "without a grant"
    for _ in range(2):
        assert rig.say(1, [MAIL, ("RSET",)])[0][1].startswith(replies.SENDER_OK)
    assert rig.say(1, [MAIL])[0][1] == replies.TOO_MANY_MESSAGES
    rig.open(2, "10.0.0.9")
    rig.say(2, HELLO)
    assert rig.say(2, [MAIL])[0][1] == replies.SENDER_OK
    rig.open(3)
    rig.say(3, HELLO)
    assert rig.say(3, [MAIL])[0][1] == replies.TOO_MANY_MESSAGES, "another connection is no other source"
    rig.now_ms += 30_000
    assert rig.say(1, [MAIL])[0][1] == replies.SENDER_OK
    assert rig.say(3, [MAIL])[0][1] == replies.TOO_MANY_MESSAGES


def test_mail_waits_while_the_queue_is_long_and_nobody_answers_it_ahead(rig: Rig) -> None:
    rig.open(1)
    assert rig.say(1, HELLO)[0][5] == "MAIL"
    rig.press(queue_length=10)
    assert rig.say(1, [MAIL]) == [("reply", replies.SENDER_OK, 1, 10_000, False)]
    assert rig.say(1, [("RSET",)]) == [("reply", replies.RESET_OK, 1, 0, False)]
    rig.press(queue_length=10)
    actions = rig.say(1, ENVELOPE)
    assert [action[0] for action in actions] == ["reply", "take"]
    assert actions[0][3] == 15_000
    rig.press(queue_length=0)
    rig.open(2)
    assert rig.say(2, HELLO)[0][5] == "MAIL"
    assert rig.say(2, [MAIL]) == [("reply", replies.SENDER_OK, 1, 0, False)]


def test_mail_is_refused_while_memory_is_short_and_connections_when_there_is_hardly_any(rig: Rig) -> None:
    rig.open(1)
    rig.say(1, HELLO)
    rig.press(memory=72)
    assert rig.say(1, [MAIL])[0][1] == replies.INSUFFICIENT_STORAGE
    assert rig.open(2)[0][0] == "begin"
    rig.press(memory=75)
    assert rig.open(3) == [("reply", replies.SYSTEM_OVERLOADED, 0, 0, True)]
    # A MAIL that was answered ahead meets it at RCPT.
    assert rig.say(1, [MAIL, rcpt("you@contoso.example")], answered=1)[0][1] == replies.INSUFFICIENT_STORAGE
    rig.press(memory=1)
    assert rig.say(1, [("RSET",), *ENVELOPE])[-1][0] == "take"
    assert ("receive_refused_total", ("lan", "pressure"), 1) in list(rig.receiver.samples())


def test_servers_of_ours_are_heard_while_others_have_to_wait(tmp_path: Path) -> None:
    rig = Rig(tmp_path, trusts_peers=True)
    rig.open(1)
    rig.say(1, HELLO)
    rig.press(memory=72)
    assert rig.say(1, [MAIL])[0][1] == replies.SENDER_OK
    rig.open(2, "192.0.2.1")
    rig.say(2, HELLO)
    assert rig.say(2, [MAIL])[0][1] == replies.INSUFFICIENT_STORAGE
