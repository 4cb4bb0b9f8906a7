"""What delivery does about edits: an entry that is being edited is left to the index meanwhile.

An edit is made of what the index has, so memory must not begin an attempt of what is about to change, and
must not take the entry from a page that is older than the change. An attempt that is under way goes on; its
outcome wins over a removal or a redirection, which are not made then. A suspended entry is in no page of the
index, so it comes back when it is resumed, and not before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from penstock.deliver.reports import Reports, Unreported
from penstock.queue.classify import Outcome
from penstock.queue.delivery_queue import DeliveryQueue
from penstock.queue.dsn import is_owed
from penstock.queue.entry import Entry, entry_of
from penstock.queue.scheduler import Scheduler

__all__ = ["Change", "Drafted", "HopEdits", "owes_report"]

STATUS: Final = "4.3.2"
WORDS: Final = "message removed by an administrator"


class Change(NamedTuple):
    """What an edit that was made means for memory.

    Attributes:
        lsn: The record that says so.
        leaves: Whether the entry is no longer in its queue.
        to: The hop to which its recipients go; None if they do not.
        report_to: The hop of the report that was stored with it, and its queue id; None if there is none.
        suspended: How many more entries of the queue are suspended: 1, 0 or -1.
        expires_ms: Its new expiry time, Unix milliseconds; None if it has none.
    """

    lsn: int
    leaves: bool = False
    to: int | None = None
    report_to: tuple[int, int] | None = None
    suspended: int = 0
    expires_ms: int | None = None


class Drafted(NamedTuple):
    """A report that is stored if a removal is made.

    Attributes:
        draft: Its content, and its queue id.
        hop: Where it goes.
        envelope: As `_core.Engine.remove` takes it.
    """

    draft: int
    hop: int
    envelope: tuple[Any, ...]


class HopEdits:
    """Edits as far as memory is concerned."""

    def __init__(
        self,
        scheduler: Scheduler,
        reports: Reports,
        names: dict[int, tuple[str, str]],
        *,
        longest_ms: int,
        wake: Callable[[], None],
    ) -> None:
        """Begin with none.

        Args:
            scheduler: Has what is in memory.
            reports: Writes reports.
            names: Connector and destination of each hop that is served.
            longest_ms: The longest retry interval.
            wake: Called when there is something to do.
        """
        self._scheduler = scheduler
        self._reports = reports
        self._names = names
        self._longest_ms = longest_ms
        self._wake = wake

    def served(self) -> dict[str, int]:
        """Return the hops that are served by the names of their queues."""
        return {name: hop for hop, (name, _) in self._names.items()}

    def name(self, hop: int) -> tuple[str, str]:
        """Return connector and destination of a hop, as far as it is served."""
        return self._names.get(hop, ("", ""))

    # Entries.

    def begin(self, queue_id: int, hop: int) -> bool:
        """Begin an edit of an entry; return whether an attempt of it is under way. `end` must follow."""
        return self._queue(hop).edit_begins(queue_id)

    def end(self, queue_id: int, hop: int, change: Change | None, now_ms: int) -> None:
        """End an edit that `begin` began; `change` is what it changed, None if nothing."""
        queue = self._queue(hop)
        queue.edit_ends(queue_id, None if change is None else change.lsn)
        if change is not None:
            self._changed(queue, queue_id, change, now_ms)
        self._scheduler.edited(queue, now_ms)
        self._wake()

    def is_under_way(self, queue_id: int, hop: int) -> bool:
        """Return whether an attempt of an entry is under way, or its outcome is not recorded."""
        return self._queue(hop).is_under_way(queue_id)

    def drafted(self, row: tuple[Any, ...], header: bytes, now_ms: int) -> Drafted | None:
        """Write the report on the removal of an entry; return None if there is no room for it now.

        Args:
            row: The entry, as the index tells it; one whose sender `owes_report` says is to be told.
            header: The beginning of the message's content.
            now_ms: Current Unix time, milliseconds.
        """
        entry = entry_of(row)
        outcomes: list[Outcome] = [
            (recipient[0], recipient[1], "removed", "queue", 0, STATUS, WORDS)
            for recipient in entry.recipients
        ]
        fact = ("settled", entry.queue_id, entry.hop, 0, None, outcomes, "", "")
        made = self._reports.report(Unreported(entry, fact, outcomes, now_ms), header, now_ms)
        drafted = self._reports.draft(made, now_ms)
        if drafted is None:
            return None
        own, _, envelope = drafted
        return Drafted(own.queue_id, own.hop, envelope)

    # Queues.

    def restore(self, hop: int) -> None:
        """Have a queue suspended, as it was before this process began."""
        self._queue(hop).suspend()

    def suspend(self, hop: int, now_ms: int) -> None:
        """Begin no attempts for a hop any more; those under way finish."""
        queue = self._queue(hop)
        queue.suspend()
        self._scheduler.edited(queue, now_ms)

    def resume(self, hop: int, now_ms: int) -> None:
        """Begin attempts for a hop again."""
        queue = self._queue(hop)
        queue.resume()
        self._scheduler.edited(queue, now_ms)
        self._wake()

    def retry(self, hop: int, now_ms: int) -> None:
        """Try a hop now, whatever was to be waited for; a queue that is suspended stays so."""
        queue = self._queue(hop)
        queue.retry(now_ms + self._longest_ms)
        self._scheduler.edited(queue, now_ms)
        self._wake()

    def is_suspended(self, hop: int) -> bool:
        """Return whether an operator has suspended a queue."""
        return self._queue(hop).is_suspended

    def _queue(self, hop: int) -> DeliveryQueue:
        return self._scheduler.queue(hop) or self._scheduler.add(hop, slots_max=0, is_served=False)

    def _changed(self, queue: DeliveryQueue, queue_id: int, change: Change, now_ms: int) -> None:
        held: Entry | None = queue.held.get(queue_id)
        if held is not None and change.expires_ms is not None:
            # The attempt that is under way must not be the last one if it need not be.
            held.expires_ms = change.expires_ms
        queue.suspended = max(0, queue.suspended + change.suspended)
        if change.leaves:
            queue.count = max(0, queue.count - 1)
        if change.to is not None:
            self._joined(change.to, queue_id, change.lsn, now_ms)
        if change.report_to is not None:
            self._joined(*change.report_to, change.lsn, now_ms)

    def _joined(self, hop: int, queue_id: int, lsn: int, now_ms: int) -> None:
        self._queue(hop).count += 1
        self._scheduler.joined(hop, queue_id, lsn, now_ms)


def owes_report(row: tuple[Any, ...]) -> bool:
    """Return whether the sender of an entry is to be told when it is removed."""
    return any(is_owed(row[8], recipient[2]) for recipient in row[9])
