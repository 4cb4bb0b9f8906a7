"""Server events to actions: the way of a message from a connection to its 250.

One `Receiver` has all incoming connections. For each event it finds the connection's session, lets it
decide, and adds what is not the session's business: the connector of the peer, the draft, the route, the
commit.

Order: the mailbox hands out closures before other events of the same poll, so an event can come after its
connection's end; it is dropped, with the draft it carries. A message whose commit has begun is kept whatever
becomes of its connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from penstock.receive.actions import held_back, hold_back
from penstock.receive.asking import Hooks
from penstock.receive.authentication import Authentication
from penstock.receive.certificates import Certificates
from penstock.receive.connections import Connection, Connector, SessionIds, connectors_of
from penstock.receive.connectors import ReceiveConnectors
from penstock.receive.core import Core
from penstock.receive.counts import MESSAGE_CAUSES, Sample, samples
from penstock.receive.door import Door
from penstock.receive.entries import Entries, HopKey, Router, records
from penstock.receive.fresh import FreshMessage, Recipient
from penstock.receive.owner import Owner
from penstock.receive.pressure import Pressure
from penstock.receive.received import ReceivedField
from penstock.receive.relay import AcceptedDomains, RelayPolicy
from penstock.receive.self_test import open_to
from penstock.receive.settings import ReceiveSettings
from penstock.receive.speakers import Speakers
from penstock.receive.storage import Storage
from penstock.receive.verdicts import Verdicts
from penstock.smtp import replies
from penstock.smtp.parameters import EnvelopeParams, with_changes
from penstock.smtp.tables import BETWEEN_TRANSACTIONS, GRANTS, ServerState
from penstock.smtp.told import spelled

__all__ = ["Core", "Receiver"]

Event: TypeAlias = tuple[Any, ...]
Action: TypeAlias = tuple[Any, ...]

LOOK_EVERY_MS: Final = 1_000
"""How often files of recipients, users and certificates are looked at, and full storage is tried again."""


def _nowhere(_event: str, _now_ms: int, /, **_fields: object) -> None:
    """Keep no journal."""


class Receiver:
    """All incoming connections, and the messages whose commit is under way."""

    def __init__(
        self,
        core: Core,
        settings: ReceiveSettings,
        router: Router,
        on_accepted: Callable[[FreshMessage], None],
        format_queue_id: Callable[[int], str],
        pressure: Pressure | None = None,
        journal: Callable[..., None] = _nowhere,
        hooks: Hooks | None = None,
    ) -> None:
        """Prepare the connectors.

        Args:
            core: Drafts, commits, hops, limits.
            settings: What to receive, from whom.
            router: Gives each recipient its next hop.
            on_accepted: Takes each message when it has become durable.
            format_queue_id: Writes a queue id as operators see it.
            pressure: What is short; whoever changes it calls `press`.
            journal: Takes the name of an event, its time and its fields.
            hooks: Those of an embedding program, if it has any.

        Raises:
            OSError: A file of recipients or users cannot be read.
            CertificateFailed: A certificate cannot be used.
            ValueError: A range of addresses cannot be read, or would make an open relay; or the users' file
                cannot be used.
        """
        self._core = core
        self._settings = settings
        self._entries = Entries(core, router, settings.message_expiration_ms)
        self._on_accepted = on_accepted
        self._format_queue_id = format_queue_id
        self._domains = AcceptedDomains(settings.accepted_domains)
        self._pressure = pressure or Pressure({})
        self._storage = Storage(self._pressure)
        # Shared by all connectors on which nobody looks at the sender.
        self._grants = dict(GRANTS)
        self._verdicts = Verdicts(core.apply)
        self._authentication = Authentication(settings.users_file, self._verdicts)
        self._hooks = hooks
        ranges = ReceiveConnectors(settings.connectors)
        self._certificates = Certificates(core, settings.connectors)
        self._connectors = connectors_of(
            core, settings, self._domains, self._storage, self._certificates, self._grants, hooks
        )
        self._implicit = {number for connector in self._connectors.values() for number in connector.implicit}
        self._door = Door(ranges, self._connectors, self._pressure)
        speakers = Speakers(self._door, self._authentication, journal)
        self._owner = Owner(core, self._storage, self._authentication, speakers, hooks, self._pressure)
        self._journal = journal
        self._connections: dict[int, Connection] = {}
        # Connections that were refused and have not closed, and such as closed before they were seen to open.
        self._refused: set[int] = set()
        self._closed_unseen: set[int] = set()
        self._committing: dict[int, tuple[FreshMessage, Connector]] = {}
        self._received = ReceivedField()
        self._next_look_ms = 0
        self._session_ids = SessionIds()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find the answers that take time, for ever."""
        async with trio.open_nursery() as nursery:
            if self._hooks is not None:
                await nursery.start(self._hooks.run)
            await self._verdicts.run(task_status)

    @property
    def connections(self) -> int:
        """How many connections are in."""
        return self._door.connections

    @property
    def is_idle(self) -> bool:
        """Whether no mail transaction is running and no commit is under way."""
        return not self._committing and all(
            connection.session.state in BETWEEN_TRANSACTIONS for connection in self._connections.values()
        )

    def alarms(self, now_ms: int) -> Iterator[tuple[str, str]]:
        """Yield what an operator should know: a short stable name and a sentence each."""
        # Without connections nobody else has looked.
        if now_ms >= self._next_look_ms:
            self._look(now_ms)
        for name, problems in (
            ("recipients_unreadable", self._domains.problems()),
            ("certificate_unusable", self._certificates.problems()),
            ("users_unreadable", self._authentication.problems()),
            ("verdicts_failed", self._verdicts.problems()),
            ("hook_failing", [] if self._hooks is None else self._hooks.problems()),
        ):
            yield from ((name, problem) for problem in problems)

    def open_to(self) -> list[tuple[str, str]]:
        """Return which strangers could relay, as (address, recipient); see `self_test`."""
        listeners = {listener for settings in self._settings.connectors for listener in settings.listeners}
        home = self._settings.default_domain or self._settings.fqdn

        def policy_of(listener: int, peer_ip: str) -> RelayPolicy | None:
            found = self._door.find(listener, peer_ip)
            return None if found is None else found.policy

        return open_to(sorted(listeners), policy_of, self._domains, home)

    def samples(self) -> Iterator[Sample]:
        """Yield what was counted, for metrics."""
        yield from samples(self._door.counts())
        if self._hooks is not None:
            yield from self._hooks.samples()

    def press(self) -> None:
        """Act on what is short now."""
        self._storage.look()
        # While MAIL has to wait nobody else may answer it.
        if self._pressure.delay_ms:
            self._grants.pop(ServerState.GREETED, None)
        else:
            self._grants.update(GRANTS)

    def drain(self) -> None:
        """Take no new connections and no new transactions: each is told 421 4.3.2 when it next speaks."""
        self._door.is_draining = True

    def dismiss_idle(self, actions: list[Action]) -> None:
        """Tell the peers that are between transactions 421 now, without waiting for them to speak.

        Whoever has spoken meanwhile has another turn; this farewell passes it by, and it is told so in answer
        to what it said.
        """
        for connection in self._connections.values():
            if connection.session.state in BETWEEN_TRANSACTIONS:
                connection.dismiss(actions)

    def opened(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Let a connection in, or refuse it."""
        _, conn, turn, listener, peer_ip, _, _, _, proxy_ip = event
        if conn in self._closed_unseen:
            self._closed_unseen.remove(conn)
            return
        if now_ms >= self._next_look_ms:
            self._look(now_ms)
        connector = self._door.admit(listener, peer_ip)
        if isinstance(connector, bytes):
            self._refused.add(conn)
            # Who waits for a handshake cannot be told.
            refusal = b"" if listener in self._implicit else connector
            actions.append(("reply", conn, turn, refusal, 0, 0, True))
            return
        connection = Connection(conn, connector, peer_ip, self._session_ids.next(now_ms), listener)
        connection.turn = turn
        if proxy_ip is not None:
            connection.came_through(proxy_ip)
        self._connections[conn] = connection
        if listener in self._implicit:
            connection.banner = connector.terms.banner
            begin: Action = ("begin", conn, turn, connector.limits, b"", 0, connector.tls)
        else:
            begin = ("begin", conn, turn, connector.limits, connector.terms.banner, 0)
        if self._hooks is None:
            actions.append(begin)
        else:
            self._hooks.connected(connection, begin, actions)

    def proxy_refused(self, event: Event, _actions: list[Action], now_ms: int) -> None:
        """Take note of a proxy that has not said whom it speaks for, and is gone."""
        _, _, peer_ip, _, reason = event
        self._door.refuse_proxy()
        self._journal("PROXY", now_ms, peer=peer_ip, cause=reason)

    def commands(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Answer commands; open a draft for a DATA that is in order."""
        _, conn, turn, items, early, _, answered = event
        connection = self._connections.get(conn)
        if connection is None:
            return
        if now_ms >= self._next_look_ms:
            self._look(now_ms)
        connection.turn = turn
        session = connection.session
        before = len(actions)
        session.now_ms = now_ms
        if connection.connector.rates is not None:
            connection.connector.rates.now_ms = now_ms
        if self._door.is_draining and session.state in BETWEEN_TRANSACTIONS:
            session.shut_down(turn, len(items) - answered, actions)
            return
        waiting = session.commands(turn, items, early, actions, answered)
        if self._pressure.delay_ms:
            said = items[answered : -1 - session.behind] if waiting else items[answered:]
            if any(item[0] == "MAIL" for item in said):
                hold_back(actions, before, self._pressure.delay_ms)
        if waiting:
            spent_ms = held_back(actions, before)
            self._owner.act(waiting, connection, items, early, actions, now_ms, spent_ms)

    def tls_up(self, event: Event, actions: list[Action], _now_ms: int) -> None:
        """Go on with a connection whose handshake is finished."""
        _, conn, turn, version, cipher, _, certificate, _ = event
        connection = self._connections.get(conn)
        if connection is None:
            return
        connection.turn = turn
        connection.secured(version, cipher, certificate, actions)

    def _look(self, now_ms: int) -> None:
        """Look at what changes from outside."""
        self._next_look_ms = now_ms + LOOK_EVERY_MS
        self._domains.refresh()
        self._certificates.refresh()
        self._authentication.refresh()
        self._storage.try_again()
        for connector in self._connectors.values():
            if connector.rates is not None:
                connector.rates.now_ms = now_ms
                connector.rates.forget_full()

    def auth_line(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Go on with an authentication exchange."""
        connection = self._connections.get(event[1])
        if connection is None:
            return
        connection.turn = event[2]
        if self._door.is_draining:
            connection.session.shut_down(event[2], 1, actions)
        else:
            self._authentication.line(connection, event, actions, now_ms)

    def content(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Commit content that is in order; its completion answers the peer."""
        _, conn, turn, draft, status, _, _, received, *_, (header_bytes, *_) = event
        connection = self._connections.get(conn)
        if connection is None or not connection.session.content(
            turn, status, received, header_bytes, actions
        ):
            self._core.drop_draft(draft)
            if connection is not None:
                connection.connector.counts.messages[MESSAGE_CAUSES.get(status, "content")] += 1
            return
        connection.turn = turn
        if self._hooks is None:
            self._store(event, connection, now_ms, b"", None, actions)
        else:
            self._hooks.content(connection, event, actions, partial(self._store, event, connection, now_ms))

    def _store(
        self,
        event: Event,
        connection: Connection,
        now_ms: int,
        fields: bytes,
        redirected: Mapping[str, HopKey] | None,
        actions: list[Action],
    ) -> None:
        """Commit content, with fields that hooks add, and next hops that they have chosen."""
        _, _, turn, draft, _, flags, size, _, message_id, subject, _, header = event
        session = connection.session
        connector = connection.connector
        queue_id = self._format_queue_id(draft)
        recipients: list[Recipient] = [
            (index, address, 0, None) for index, address in enumerate(session.recipients)
        ]
        params: EnvelopeParams = (None, None, session.is_eight_bit)
        if session.asked is not None:
            params = session.asked.envelope_params(session.is_eight_bit)
        if session.reports:
            recipients = [
                (index, address, *session.reports.get(address, (0, None)))
                for index, address, *_ in recipients
            ]
        only = recipients[0][1] if len(recipients) == 1 else ""
        prepend, message_id, changes = connection.prepended(
            self._received, (message_id, *header[1:]), queue_id, only, fields, now_ms
        )
        if changes:
            params = with_changes(params, changes)
        notes = connection.notes
        if session.forwarded:
            notes += (("xforward", spelled(session.forwarded)),)
        size += len(prepend)
        form = "plain" if session.is_chunked else "wire"
        entries = self._entries.of(session.recipients, recipients, now_ms, redirected)
        envelope = (
            now_ms,
            session.sender,
            params,
            (connector.settings.name, connection.peer_ip, session.greeting, connection.session_id),
            size,
            flags,
            message_id,
            subject,
            [recipient[1:] for recipient in recipients],
            records(entries),
        )
        ticket = self._core.commit(draft, envelope, prepend, form, [], notes)
        fresh = FreshMessage(draft, session.sender, now_ms, size, flags, form, message_id, params, entries)
        self._committing[ticket] = fresh, connector
        queued = replies.queued(message_id, queue_id, connector.fqdn)
        session.accepted(turn, ticket, queued, replies.INSUFFICIENT_STORAGE, actions)

    def closed(self, event: Event) -> None:
        """Forget a connection; a half-received draft is gone already."""
        conn = event[1]
        self._verdicts.forget(conn)
        connection = self._connections.pop(conn, None)
        if connection is not None:
            if self._hooks is not None:
                self._hooks.forget(connection)
            if connection.is_in:
                self._door.leave(connection.connector, connection.peer_ip)
        elif conn in self._refused:
            self._refused.remove(conn)
        else:
            self._closed_unseen.add(conn)

    def committed(self, event: Event) -> bool:
        """Hand on a message that has become durable; return whether the ticket was one of ours."""
        _, ticket, _, lsn = event
        committing = self._committing.pop(ticket, None)
        if committing is None:
            return False
        fresh, _ = committing
        fresh.lsn = lsn
        self._on_accepted(fresh)
        return True

    def commit_failed(self, event: Event) -> bool:
        """Note that the spool could not store a message; return whether the ticket was one of ours."""
        _, ticket, _, reason = event
        self._storage.refused(reason)
        committing = self._committing.pop(ticket, None)
        if committing is None:
            return False
        committing[1].counts.messages["spool"] += 1
        return True

    def poisoned(self) -> None:
        """Refuse all mail from now on: the spool has failed."""
        self._storage.refused("poisoned")
