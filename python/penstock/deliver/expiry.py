"""Giving up: what was not delivered in time, wherever it waits.

An entry whose hop works is not given up here: it has an attempt when it is due, at its expiry time at the
latest, and that is its last. What waits for a hop that does not work has no attempts, so the index is asked
now and then for what has expired in every state. Such an entry is given up after a try of its hop that began
after its expiry time; in Unreachable, for a hop that the configuration does not know, or if an operator has
suspended it or its queue, after a look at its route. So the expiry clock runs on for what is suspended, as in
Exchange; what came back from a backup is not among what the index tells of.
"""

from __future__ import annotations

from typing import Any, Final

from penstock.deliver.records import Records
from penstock.deliver.reports import Reports
from penstock.deliver.routing import Routing
from penstock.deliver.seams import Core, Event
from penstock.queue.delivery_queue import DeliveryQueue
from penstock.queue.entry import Entry, entry_of
from penstock.queue.retry import has_expired
from penstock.queue.scheduler import Scheduler

__all__ = ["Expiry"]

EVERY_MS: Final = 60_000
"""How often the index is asked for what has expired."""
MORE_MS: Final = 1_000
"""When it is asked again, if there was more than a page."""
SUSPENDED: Final = 17
"""Where in a row the index says what keeps the entry from being tried."""
PAGE: Final = 256
PAGE_MAX: Final = 16_384
"""Entries that have their last attempt before them can fill a page; then a longer one is asked for."""


class Expiry:
    """Looks for entries that have expired."""

    def __init__(
        self, core: Core, scheduler: Scheduler, records: Records, reports: Reports, routing: Routing
    ) -> None:
        """Begin with a look.

        Args:
            core: Has the index.
            scheduler: Knows how hops do, and what is under way.
            records: Takes outcomes.
            reports: Says whether senders can be told.
            routing: Knows the routes.
        """
        self._core = core
        self._scheduler = scheduler
        self._records = records
        self._reports = reports
        self._routing = routing
        self._asked: int | None = None
        self._next_ms = 0
        self._page = PAGE

    def turn(self, now_ms: int) -> int | None:
        """Ask if it is time; return when the next time is, Unix milliseconds."""
        if self._asked is not None or self._scheduler.is_stopped:
            return None
        # A clock that was set back does not put it off.
        if now_ms < self._next_ms <= now_ms + EVERY_MS:
            return self._next_ms
        self._asked = self._core.request("expired", now_ms, self._page)
        return None

    def answer(self, event: Event, now_ms: int) -> bool:
        """Give up what has expired; return whether the request was one of ours."""
        _, number, answer = event
        if number != self._asked:
            return False
        self._asked = None
        self._next_ms = now_ms + EVERY_MS
        if answer is None:
            return True
        watermark, complete, _, rows = answer
        given_up = sum(self._look(row, watermark, now_ms) for row in rows)
        if complete or given_up:
            self._page = PAGE
        elif self._reports.have_room:
            self._page *= 2
        if not complete and self._page <= PAGE_MAX:
            self._next_ms = now_ms + MORE_MS
        self._page = min(self._page, PAGE_MAX)
        return True

    def _look(self, row: tuple[Any, ...], watermark: int, now_ms: int) -> bool:
        """Give one entry up if it is time for that; return whether it was."""
        queue_id, hop = row[0], row[1]
        queue = self._scheduler.queue(hop)
        if queue is None:
            queue = self._scheduler.add(hop, slots_max=0, is_served=False)
        if queue_id in queue.held or queue_id in queue.done or queue.is_edited(queue_id, watermark):
            return False
        entry, is_suspended = entry_of(row), row[SUSPENDED] is not None
        if not self._reports.have_room or not (is_suspended or _may_be_given_up(queue, entry)):
            return False
        stay = self._routing.move(entry, now_ms)
        if stay:
            entry.recipients = stay
            self._scheduler.adopt(entry, now_ms)
            stage, error = ("queue", "the message is suspended") if is_suspended else _why(queue)
            self._records.expire(entry, stage=stage, error=error, now_ms=now_ms)
        return True


def _may_be_given_up(queue: DeliveryQueue, entry: Entry) -> bool:
    """Whether an entry that has expired needs no attempt before it is given up."""
    if not queue.is_served or queue.is_suspended:
        return True
    return (
        queue.failures > 0
        and queue.failed_ms is not None
        and has_expired(expires_ms=entry.expires_ms, began_ms=queue.failed_ms)
    )


def _why(queue: DeliveryQueue) -> tuple[str, str]:
    """Return the stage at which delivery failed until the end, and why."""
    if not queue.is_served:
        return "route", "no send connector takes mail for the address"
    if queue.is_suspended:
        return "queue", "the delivery queue is suspended"
    return "queue", queue.last_error
