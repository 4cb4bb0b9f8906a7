"""Delivery as a whole: hands events to those they concern, and gives every queue that can act its turn.

A message comes in when it has become durable, and goes through memory to a connection; what memory has no
room for, and what waits, comes from the index when it is due. Each attempt leaves one outcome per recipient
in the log. A turn decides, and waits for nothing: the only task is the one that looks up addresses.

Within a turn facts go to the log before the index is asked, so that what it answers has them; and before the
actions of the turn are carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from penstock.deliver.addresses import AddressBook, Resolve
from penstock.deliver.connection import SmartHostHop
from penstock.deliver.edits import HopEdits
from penstock.deliver.expiry import Expiry
from penstock.deliver.maildirs import Maildir, Maildirs
from penstock.deliver.records import Records
from penstock.deliver.reports import Reports
from penstock.deliver.routing import Routing
from penstock.deliver.seams import Action, Core, Count, Event, Fresh, Journal, Means, Router
from penstock.deliver.settings import DeliverSettings, MaildirSettings, SendConnectorSettings
from penstock.deliver.smart_hosts import SmartHosts
from penstock.deliver.views import HopView, samples, view
from penstock.queue.delivery_queue import DeliveryQueue
from penstock.queue.entry import Entry
from penstock.queue.scheduler import Scheduler

__all__ = ["Deliverer"]

Sample: TypeAlias = tuple[str, tuple[str, ...], float]

PASSES_MAX: Final = 8
"""How often in a turn queues are looked at that can act again; then the next turn is due at once."""
RECOUNT_MS: Final = 60_000
"""How often entries are counted in the index."""


class Deliverer:
    """All delivery queues, connections and outcomes.

    Attributes:
        edits: What is done about edits.
    """

    def __init__(
        self,
        core: Core,
        settings: DeliverSettings,
        router: Router,
        resolve: Resolve,
        *,
        wake: Callable[[], None],
        count: Count,
        journal: Journal,
        format_queue_id: Callable[[int], str],
        content_flags: Callable[[bytes], int],
        jitter: Callable[[], float],
    ) -> None:
        """Prepare; nothing is begun before `start`.

        Args:
            core: Connections, log, index.
            settings: Where to deliver, and how.
            router: Gives each recipient its next hop.
            resolve: Looks up addresses of hosts.
            wake: Called when there is something for `turn` to do that no event brings.
            count: Counts under names of the metrics' catalogue.
            journal: Writes a line of the journal.
            format_queue_id: Writes a queue id as operators see it.
            content_flags: Says what is unusual about content.
            jitter: Gives numbers in [0, 1) by which retries are spread.
        """
        means = Means(
            count=count,
            journal=journal,
            format_queue_id=format_queue_id,
            content_flags=content_flags,
            jitter=jitter,
        )
        schedule = settings.schedule
        self._core = core
        self._scheduler = scheduler = Scheduler(
            schedule, connections_max=settings.max_outbound_connections, jitter=jitter
        )
        # Hops that are served, and their connectors and destinations.
        self._hops: dict[DeliveryQueue, SmartHostHop | Maildir] = {}
        self._names: dict[int, tuple[str, str]] = {}
        for connector in settings.connectors:
            self._add_connector(connector, settings.fqdn)
        for maildir in settings.maildirs:
            self._add_maildir(maildir)
        self._reports = Reports(core, scheduler, settings, router, means)
        self._records = Records(core, scheduler, schedule, self._reports, self._names, means)
        self._addresses = AddressBook(resolve, wake)
        self._smart_hosts = SmartHosts(core, scheduler, self._records, self._addresses, count)
        self._maildirs = Maildirs(scheduler, self._records)
        self._routing = Routing(core, scheduler, self._records, router)
        self._expiry = Expiry(core, scheduler, self._records, self._reports, self._routing)
        self.edits = HopEdits(
            scheduler, self._reports, self._names, longest_ms=schedule.longest_ms, wake=wake
        )
        # Pages that were asked for, by request; the listing of hops that was.
        self._pages: dict[int, int] = {}
        self._listing: int | None = None
        self._next_listing_ms = 0
        # Of the last turn or answer: commits come close behind.
        self._now_ms = 0
        self._is_started = False
        self._is_restored = False
        self._is_drained = False

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is under way and every outcome has been handed to the log."""
        return self._smart_hosts.is_idle and self._maildirs.is_idle and not self._reports.pending

    async def run(self) -> None:
        """Look up addresses, for ever."""
        await self._addresses.run()

    def start(self, now_ms: int) -> None:
        """Ask the index what waits, and begin with the answer."""
        self._is_started = True
        for hop, *_ in self._core.suspended_queues():
            self.edits.restore(hop)
        self._list(now_ms)

    def drain(self) -> None:
        """Begin no new attempts; those whose content is on its way wait for their reply."""
        self._scheduler.is_stopped = True

    def accepted(self, fresh: Fresh) -> None:
        """Take a message that has just become durable."""
        for hop, recipients, _, _, expires_ms in fresh.entries:
            self._scheduler.accept(Entry(fresh, hop, recipients, expires_ms))

    # Events of connections.

    def connected(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Take note that a connection is up."""
        del now_ms
        self._smart_hosts.connected(event, actions)

    def dial_failed(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Take note that a connection was not made."""
        del actions
        self._smart_hosts.dial_failed(event, now_ms)

    def replies(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Let a session go on."""
        self._smart_hosts.replies(event, actions, now_ms)

    def client_closed(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Take note that a connection has ended."""
        del actions
        self._smart_hosts.client_closed(event, now_ms)

    # Events of the spool and of Maildirs.

    def dropped(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Take note that a delivery into a Maildir has ended."""
        del actions
        self._maildirs.dropped(event, now_ms)

    def damaged(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Take note that a message's stored content is damaged; what was reading it ends behind this."""
        del actions, now_ms
        self._records.damaged(event[1])

    def checkpoint(self, event: Event, actions: list[Action], now_ms: int) -> None:
        """Take note that the index has caught up with the log."""
        del actions, now_ms
        self._scheduler.caught_up(event[1])

    def answer(self, event: Event, actions: list[Action], now_ms: int) -> bool:
        """Take an answer of the index; return whether the request was one of ours."""
        del actions
        self._now_ms = now_ms
        _, number, answer = event
        hop = self._pages.pop(number, None)
        if hop is not None:
            if answer is None:
                self._scheduler.no_page(hop, now_ms)
            else:
                watermark, complete, next_due_ms, rows = answer
                self._scheduler.page(hop, watermark, complete, next_due_ms, rows, now_ms)
            return True
        if number == self._listing:
            self._listing = None
            if answer is not None:
                self._listed(answer[1], now_ms)
            return True
        return (
            self._reports.answer(event, now_ms)
            or self._expiry.answer(event, now_ms)
            or self._routing.answer(event, now_ms)
        )

    def committed(self, event: Event) -> bool:
        """Take note that a report is durable; return whether the ticket was one of ours."""
        return self._reports.committed(event, self._now_ms)

    def commit_failed(self, event: Event) -> bool:
        """Take note that a report was not stored; return whether the ticket was one of ours."""
        return self._reports.commit_failed(event, self._now_ms)

    def turn(self, actions: list[Action], now_ms: int) -> int | None:
        """Begin what can be begun, and write what has been decided.

        Args:
            actions: Where actions go.
            now_ms: Current Unix time, milliseconds.

        Returns:
            When the next turn is due if no event comes before, Unix milliseconds; None if never.
        """
        self._now_ms = now_ms
        scheduler = self._scheduler
        if scheduler.is_stopped and not self._is_drained:
            self._is_drained = True
            self._smart_hosts.drain(actions)
        if self._addresses.news(now_ms):
            self._smart_hosts.found()
        scheduler.wake(now_ms)
        is_busy = self._act(actions, now_ms)
        deadlines = [self._reports.turn(now_ms)]
        lsn = self._records.write()
        if lsn is not None:
            self._routing.recorded(lsn, now_ms)
        for question in scheduler.questions(now_ms):
            self._pages[self._core.request("refill", *question)] = question.hop
        if self._is_restored:
            self._routing.turn()
            deadlines.append(self._expiry.turn(now_ms))
        if self._is_started:
            deadlines.append(self._list(now_ms))
        deadlines.append(now_ms if is_busy else scheduler.next_ms())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # What operators ask.

    def view(self, hop: int) -> HopView | None:
        """Return what is being done about a next hop; None if nothing is."""
        queue = self._scheduler.queue(hop)
        return None if queue is None else view(queue)

    def is_active(self, queue_id: int, hop: int) -> bool:
        """Return whether an attempt is under way."""
        queue = self._scheduler.queue(hop)
        entry = None if queue is None else queue.held.get(queue_id)
        return entry is not None and entry.began_ms > 0

    def standing(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Return the attempts under way, as queue id and hop, and hops being connected to."""
        active: list[tuple[int, int]] = []
        connecting: list[int] = []
        for queue in self._scheduler.queues():
            if queue.under_way:
                active.extend(
                    (queue_id, queue.hop) for queue_id, entry in queue.held.items() if entry.began_ms
                )
            elif queue.opening and not queue.up:
                connecting.append(queue.hop)
        return active, connecting

    def samples(self) -> Iterator[Sample]:
        """Yield the gauges of queues and connections."""
        return samples(self._scheduler.queues(), self._smart_hosts.states())

    def _add_connector(self, connector: SendConnectorSettings, fqdn: str) -> None:
        name = connector.name
        number = self._core.hop(name, "smart_host", name)
        queue = self._scheduler.add(number, slots_max=connector.max_outbound_connections_per_domain)
        limits = self._core.client_limits(
            {
                "connect_ms": connector.connect_ms,
                "banner_ms": connector.banner_ms,
                "block_ms": connector.block_ms,
                "dot_ms": connector.dot_ms,
            }
        )
        self._hops[queue] = SmartHostHop(connector, queue, fqdn=fqdn, limits=limits)
        self._names[number] = name, name

    def _add_maildir(self, maildir: MaildirSettings) -> None:
        name = maildir.domain
        number = self._core.hop(name, "maildir", name)
        queue = self._scheduler.add(number, slots_max=maildir.deliveries_max)
        self._hops[queue] = Maildir(maildir, queue)
        self._names[number] = name, name

    def _act(self, actions: list[Action], now_ms: int) -> bool:
        """Give queues that can act their turn; return whether some can act again."""
        for _ in range(PASSES_MAX):
            queues = self._scheduler.active()
            if not queues:
                return False
            for queue in queues:
                hop = self._hops.get(queue)
                if isinstance(hop, SmartHostHop):
                    self._smart_hosts.act(hop, actions, now_ms)
                elif hop is not None:
                    self._maildirs.act(hop, actions, now_ms)
        return True

    def _list(self, now_ms: int) -> int | None:
        """Ask for all hops, if it is time; return when the next time is."""
        if self._listing is not None or self._scheduler.is_stopped:
            return None
        if now_ms < self._next_listing_ms <= now_ms + RECOUNT_MS:
            return self._next_listing_ms
        self._next_listing_ms = now_ms + RECOUNT_MS
        self._listing = self._core.request("hops")
        return None

    def _listed(self, rows: list[tuple[Any, ...]], now_ms: int) -> None:
        """Count what waits; the first time, take up what the process before has left."""
        counts: dict[DeliveryQueue, int] = {}
        for hop, _, kind, _, count, _, _, earliest_due_ms, _, last_error, _, failures, suspended in rows:
            queue = self._scheduler.add(hop, slots_max=0, is_served=False)
            counts[queue] = count
            queue.suspended = suspended
            if self._is_restored:
                continue
            if not queue.is_served:
                if count and kind != "poison":
                    self._routing.add(hop)
                continue
            self._scheduler.restore(
                queue,
                earliest_due_ms=earliest_due_ms,
                last_error=last_error,
                failures=failures,
                now_ms=now_ms,
            )
        for queue in self._scheduler.queues():
            queue.count = counts.get(queue, 0)
        self._is_restored = True
