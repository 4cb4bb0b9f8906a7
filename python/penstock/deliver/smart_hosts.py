"""Delivery to smart hosts: connections, sessions, what their end means.

One `SmartHosts` has all outgoing connections. A connection belongs to one hop; whose turn it is, its session
says. When it is ours it gets the next entry at once, or it is parked, and net says QUIT for it after a while.

Order: the mailbox hands out closures before other events of the same poll. A closure says how many replies
were read, so one that comes too early is kept until they have come; other events of connections that are gone
are dropped.

Who is at fault when a connection ends in the middle of a transaction:

- A connection that had served before tells nothing of the entry if nothing was said of it: it is sent again.
- A new one that breaks before the entry was judged is its hop's trouble: the next address is tried with the
  same entry, and when there is none the hop goes into Retry and the entry with it.
- Everything else is the entry's. What was refused, deferred or left in doubt is so for this entry alone.
"""

from __future__ import annotations

from typing import Final

from penstock.deliver.addresses import AddressBook
from penstock.deliver.connection import Connection, SmartHostHop
from penstock.deliver.records import Records
from penstock.deliver.seams import Action, Core, Count, Event
from penstock.queue.classify import Fault, fault
from penstock.queue.entry import Entry
from penstock.queue.scheduler import Scheduler
from penstock.smtp.client_session import Step
from penstock.smtp.tables import ClientState

__all__ = ["SmartHosts"]

ETIMEDOUT: Final = 110
RESENDS_MAX: Final = 4
"""How often an entry is sent again because a connection ended before anything was said of it."""


class SmartHosts:
    """All outgoing connections."""

    def __init__(
        self, core: Core, scheduler: Scheduler, records: Records, addresses: AddressBook, count: Count
    ) -> None:
        """Begin without connections.

        Args:
            core: Makes connections.
            scheduler: Chooses entries, and how many connections there are.
            records: Takes outcomes.
            addresses: Knows where hosts are.
            count: Counts.
        """
        self._core = core
        self._scheduler = scheduler
        self._records = records
        self._addresses = addresses
        self._count = count
        self._connections: dict[int, Connection] = {}
        self._looking_up: dict[SmartHostHop, None] = {}
        self._sessions = 0

    @property
    def is_idle(self) -> bool:
        """Whether no entry is on its way to a peer."""
        return all(connection.entry is None for connection in self._connections.values())

    def act(self, hop: SmartHostHop, actions: list[Action], now_ms: int) -> None:
        """Give idle connections work, and make new ones if there is more."""
        idle = hop.idle
        while idle:
            entry = self._scheduler.begin(hop.queue, now_ms)
            if entry is None:
                return
            connection = idle.pop()
            if not self._send(connection, entry, actions, now_ms):
                self._next(connection, actions, now_ms)
        wanted = self._scheduler.openings(hop.queue, now_ms)
        if wanted:
            self._dial(hop, wanted, now_ms)

    def found(self) -> None:
        """Have those hops looked at whose hosts were being looked up."""
        for hop in self._looking_up:
            self._scheduler.activate(hop.queue)
        self._looking_up.clear()

    def connected(self, event: Event, actions: list[Action]) -> None:
        """Wait for the banner."""
        connection = self._connections.get(event[1])
        if connection is not None and not connection.is_leaving:
            connection.session.connected(event[2], actions)

    def dial_failed(self, event: Event, now_ms: int) -> None:
        """Forget a connection that was not made; try another address, or the hop later."""
        _, conn, _, errno, text = event
        connection = self._connections.pop(conn, None)
        if connection is None:
            return
        is_leaving = connection.is_leaving
        self._gone(connection)
        if not is_leaving:
            result = "timeout" if errno == ETIMEDOUT else "refused"
            self._missed(connection, result, f"{connection.peer}: {text}", now_ms)

    def replies(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Let a session go on."""
        _, conn, turn, first, replies = event
        connection = self._connections.get(conn)
        if connection is None:
            return
        connection.turn = turn
        connection.replies_seen = first + len(replies)
        if not connection.is_leaving:
            step = connection.session.replies(turn, replies, actions)
            if step is Step.DONE:
                self._done(connection, actions, now_ms)
            elif step is not Step.WAIT:
                self._greeted(connection, step, actions, now_ms)
        closure = connection.closure
        if closure is not None and connection.replies_seen >= closure[3]:
            self.client_closed(closure, now_ms)

    def client_closed(self, event: Event, now_ms: int) -> None:
        """Forget a connection that has ended; settle what it had."""
        _, conn, reason, replies_seen, content = event
        connection = self._connections.get(conn)
        if connection is None:
            return
        is_idle = connection.is_up and connection.entry is None
        if replies_seen > connection.replies_seen and not is_idle and not connection.is_leaving:
            connection.closure = event
            return
        del self._connections[conn]
        if connection in connection.hop.idle:
            connection.hop.idle.remove(connection)
        is_leaving = connection.is_leaving
        self._gone(connection)
        if is_leaving:
            return
        step = connection.session.closed(reason, content)
        if step is Step.FAILED:
            self._refused(connection, now_ms)
        elif connection.entry is not None:
            self._broken(connection, now_ms)

    def drain(self, actions: list[Action]) -> None:
        """End all connections but those whose content is on its way: their reply is waited for."""
        for connection in self._connections.values():
            session, entry = connection.session, connection.entry
            if connection.is_leaving or session.state is ClientState.DOT:
                continue
            is_idle = connection.is_up and entry is None
            self._leaving(connection)
            if is_idle:
                connection.hop.idle.remove(connection)
                session.quit(connection.turn, actions)
                continue
            actions.append(("abort", connection.conn))
            if entry is not None:
                connection.entry = None
                self._scheduler.give_back(entry)

    def states(self) -> dict[tuple[str, str], int]:
        """Return how many connections there are, by connector and `connecting`, `busy` or `idle`."""
        states: dict[tuple[str, str], int] = {}
        for connection in self._connections.values():
            if connection.is_leaving:
                continue
            state = "connecting" if not connection.is_up else "busy" if connection.entry else "idle"
            key = connection.hop.connector.name, state
            states[key] = states.get(key, 0) + 1
        return states

    def _dial(self, hop: SmartHostHop, wanted: int, now_ms: int) -> None:
        """Make connections to the present target."""
        targets = hop.targets
        if not targets.refresh(self._addresses, now_ms):
            self._looking_up[hop] = None
            return
        target = targets.next()
        if target is None:
            self._count("delivery_connections_total", hop.connector.name, "dns")
            fact = self._scheduler.failed(hop.queue, targets.error, is_exhausted=True, now_ms=now_ms)
            self._records.hop(fact, now_ms)
            return
        for _ in range(wanted):
            conn = self._core.dial(target.ip, target.port, hop.connector.source_ip_address, hop.limits)
            self._sessions = (self._sessions + 1) & 0xFFFF
            session_id = f"{now_ms << 16 | self._sessions:016X}"
            self._connections[conn] = Connection(conn, hop, target, session_id)
            self._scheduler.opening(hop.queue)

    def _greeted(self, connection: Connection, step: Step, actions: list[Action], now_ms: int) -> None:
        """Begin to use a connection, or note why it cannot be."""
        if step is Step.FAILED:
            self._leaving(connection)
            self._refused(connection, now_ms)
            return
        hop = connection.hop
        connection.is_up = True
        self._count("delivery_connections_total", hop.connector.name, "ok")
        self._scheduler.opened(hop.queue)
        self._next(connection, actions, now_ms)

    def _done(self, connection: Connection, actions: list[Action], now_ms: int) -> None:
        """Settle a transaction, and begin the next if the peer stays."""
        entry = connection.entry
        if not connection.session.is_open:
            self._leaving(connection)
            if entry is not None:
                self._broken(connection, now_ms)
            else:
                # It was parked, and leaves with a word.
                connection.hop.idle.remove(connection)
            return
        if entry is None:
            raise AssertionError("invariant: a transaction that ends in order has an entry")
        self._settle(connection, entry, now_ms)
        self._next(connection, actions, now_ms)

    def _settle(self, connection: Connection, entry: Entry, now_ms: int) -> None:
        """Record what a peer that does its work has said."""
        connection.entry = None
        hop = connection.hop
        if hop.queue.failures:
            self._records.hop(self._scheduler.succeeded(hop.queue), now_ms)
        if connection.is_new:
            connection.is_new = False
            hop.targets.begin()
        self._records.settle(
            entry,
            connection.session.outcomes,
            peer=connection.peer,
            session=connection.session_id,
            now_ms=now_ms,
        )

    def _next(self, connection: Connection, actions: list[Action], now_ms: int) -> None:
        """Give a connection whose turn is ours the next entry, or let it rest, or go."""
        hop, session = connection.hop, connection.session
        while session.transactions < hop.transactions_max:
            entry = self._scheduler.begin(hop.queue, now_ms)
            if entry is None:
                if self._scheduler.is_stopped:
                    break
                if not connection.is_parked:
                    connection.is_parked = True
                    session.park(connection.turn, hop.connector.connection_idle_ms, actions)
                hop.idle.append(connection)
                return
            if self._send(connection, entry, actions, now_ms):
                return
        self._leaving(connection)
        session.quit(connection.turn, actions)
        self._scheduler.activate(hop.queue)

    def _send(self, connection: Connection, entry: Entry, actions: list[Action], now_ms: int) -> bool:
        """Begin a transaction; return False if the entry was settled at once and the turn is still ours."""
        connection.entry = entry
        message = entry.message
        step = connection.session.send(
            connection.turn,
            (entry.queue_id, entry.hop, entry.attempts + 1),
            message.sender,
            entry.recipients,
            message.size,
            message.flags,
            actions,
        )
        if step is Step.WAIT:
            connection.is_parked = False
            return True
        self._settle(connection, entry, now_ms)
        return False

    def _refused(self, connection: Connection, now_ms: int) -> None:
        """Note that a peer would not have us."""
        failure = connection.session.failure
        if failure is None:
            raise AssertionError("invariant: a session that failed says why")
        _, code, status, text = failure
        words = f"{code} {status} {text}" if code else text
        self._missed(connection, "banner", f"{connection.peer}: {words}", now_ms)

    def _missed(self, connection: Connection, result: str, error: str, now_ms: int) -> None:
        """Go on to the next address, after a connection that came to nothing."""
        self._count("delivery_connections_total", connection.hop.connector.name, result)
        self._fail(connection, error, now_ms)

    def _fail(self, connection: Connection, error: str, now_ms: int) -> None:
        """Note that an address does not work now."""
        hop = connection.hop
        hop.targets.failed(connection.target)
        is_exhausted = hop.targets.are_exhausted
        fact = self._scheduler.failed(hop.queue, error, is_exhausted=is_exhausted, now_ms=now_ms)
        if fact is not None or (is_exhausted and not hop.queue.opening):
            hop.targets.begin()
        self._records.hop(fact, now_ms)

    def _broken(self, connection: Connection, now_ms: int) -> None:
        """Judge an entry whose connection has ended, and whose outcomes its session has."""
        entry, session = connection.entry, connection.session
        if entry is None:
            raise AssertionError("invariant: called for a transaction that was under way")
        connection.entry = None
        if self._records.set_aside(entry, now_ms, session.outcomes):
            # We have ended the connection, and it tells nothing of the hop.
            return
        hop = connection.hop
        outcomes = session.outcomes
        probe_ms = None
        # As if nobody knew the connection: what its past excuses is decided here, and how often.
        if fault(outcomes, is_reused=False) is Fault.HOP:
            if connection.is_new:
                self._fail(connection, f"{connection.peer}: {outcomes[0][6]}", now_ms)
                probe_ms = hop.queue.next_retry_ms
            if probe_ms is None and entry.resends < RESENDS_MAX:
                entry.resends += 1
                self._scheduler.give_back(entry)
                return
        self._records.settle(
            entry,
            outcomes,
            peer=connection.peer,
            session=connection.session_id,
            now_ms=now_ms,
            probe_ms=probe_ms,
        )

    def _leaving(self, connection: Connection) -> None:
        """Count a connection as one on its way out."""
        connection.is_leaving = True
        self._scheduler.leaving(connection.hop.queue, was_up=connection.is_up)

    def _gone(self, connection: Connection) -> None:
        """Count a connection as gone."""
        if not connection.is_leaving:
            self._leaving(connection)
        self._scheduler.gone(connection.hop.queue)
