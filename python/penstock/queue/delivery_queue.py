"""What waits for one next hop: the part of it that is in memory, and what is known of the rest.

All entries of a delivery queue are in the index, or will be after the next checkpoint; memory holds the few
that come next. An entry that memory has no room for is let go: the index has it, and a refill brings it back.
So there are two ways by which an entry gets here, and it must not come by both:

- `held` has every entry that is in memory, waiting or under way.
- `done` has those that were settled and that a page may still show, because the page may be older than what
  was said of them. They are forgotten when the index is known to have caught up: no page that is still to
  come can be older than the last checkpoint, unless it was asked for before.
- `editing` has those that an operator's edit is being made of, and `edited` those that a page may show as
  they were before it: neither is taken from a page.

`has_more` says that the index may have an entry that is due and not held, beyond what a page that was asked
for will show. It is cleared when a page is asked for, because that will show all that was told to the log
before. It is set when an entry is let go, when the next due time comes, and when a page was not the last one,
was not taken whole, or is older than the last entry that was let go.

If you change when `has_more` or `done` changes, also check the model in tests/queue.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, TypeAlias

from penstock.queue.entry import Entry, entry_of

__all__ = ["PROBE_ENTRIES", "DeliveryQueue"]

Row: TypeAlias = tuple[Any, ...]

PROBE_ENTRIES: Final = 16
"""Entries that are read for the one connection by which a hop in Retry is tried."""
SHARE_MS: Final = 1_000
"""How often a page is asked for while fresh entries keep the queue half full."""
UNSEEN_MAX: Final = 512
"""Settled entries that a page is expected to show at most; if it shows more, the next one goes further."""


class DeliveryQueue:
    """The entries of one next hop, and how the hop does.

    Attributes:
        hop: The hop's number.
        is_served: Whether entries are tried at all; those of Unreachable and of hops that the configuration
            does not know are not.
        is_suspended: Whether an operator has stopped it.
        slots_max: Connections, or deliveries, at a time.
        count: Entries, those in the index included: as of the last look at it, and what happened since.
        ready: Entries that may be tried, in the order in which they are.
        held: Entries in memory by queue id, ready or under way.
        done: Queue ids that were settled and that a page may still show.
        editing: Queue ids of entries that are being edited, and how many edits there are.
        edited: Queue ids of entries that were edited, and the record that says so.
        suspended: Entries that an operator has suspended: as of the last look at the index, and since.
        has_more: Whether the index may have entries that are due, not held, and not asked for.
        is_asking: Whether a page was asked for and has not come.
        next_due_ms: When the next entry that only the index has is due; None if none is known.
        failures: Tries of the hop that failed since the last that did not.
        began_ms: When the present try of the hop began: the first connection while none was up.
        failed_ms: When the last try that failed began; None if none has in this process.
        next_retry_ms: When the hop is tried again; None if it may be now.
        last_error: Why it was not reached last.
        opening: Connections being made.
        up: Connections that can be used or are.
        closing: Connections that are on their way out.
        ramp: Connections that may be opening at a time.
        pause_until_ms: When to open more again, while some are up and another one failed.
        wake_ms: What the scheduler's timer is set to.
    """

    __slots__ = (
        "_asked_ms",
        "_batches",
        "_horizon_ms",
        "_let_go_lsn",
        "_unrecorded",
        "began_ms",
        "closing",
        "count",
        "done",
        "edited",
        "editing",
        "entries_max",
        "failed_ms",
        "failures",
        "has_more",
        "held",
        "hop",
        "is_asking",
        "is_served",
        "is_suspended",
        "last_error",
        "next_due_ms",
        "next_retry_ms",
        "opening",
        "pause_until_ms",
        "ramp",
        "ready",
        "slots_max",
        "suspended",
        "up",
        "wake_ms",
    )

    def __init__(self, hop: int, *, slots_max: int, entries_max: int, is_served: bool = True) -> None:
        """Begin with nothing, and a hop that nothing is known against."""
        self.hop = hop
        self.is_served = is_served
        self.is_suspended = False
        self.slots_max = slots_max
        self.entries_max = entries_max
        self.count = 0
        self.ready: deque[Entry] = deque()
        self.held: dict[int, Entry] = {}
        self.done: set[int] = set()
        self.editing: dict[int, int] = {}
        self.edited: dict[int, int] = {}
        self.suspended = 0
        self.has_more = False
        self.is_asking = False
        self.next_due_ms: int | None = None
        self.failures = 0
        self.failed_ms: int | None = None
        self.next_retry_ms: int | None = None
        self.last_error = ""
        self.opening = 0
        self.up = 0
        self.closing = 0
        self.ramp = 1
        self.pause_until_ms = 0
        self.began_ms = 0
        self.wake_ms: int | None = None
        # The last entry that was let go; settled entries by the record that says so, and those without one;
        # when a page was asked for; how far ahead of the clock the next one is to reach.
        self._let_go_lsn = 0
        self._batches: deque[tuple[int, list[int]]] = deque()
        self._unrecorded: list[int] = []
        self._asked_ms = 0
        self._horizon_ms = 0

    @property
    def is_open(self) -> bool:
        """Whether its entries may be tried now."""
        return self.is_served and not self.is_suspended and self.next_retry_ms is None

    @property
    def connections(self) -> int:
        """How many there are, whatever they do."""
        return self.opening + self.up + self.closing

    @property
    def under_way(self) -> int:
        """How many entries are being tried, or have an outcome that is not recorded."""
        return len(self.held) - len(self.ready)

    def accept(self, entry: Entry) -> bool:
        """Take a fresh entry; return whether it is held.

        While the index has some that wait longer, fresh ones leave half of the room to them.
        """
        self.count += 1
        is_behind = self.has_more or self.is_asking
        entries_max = self.entries_max // 2 if is_behind else self.entries_max
        if len(self.ready) >= entries_max or not self.is_open:
            self.let_go(entry)
            return False
        self.ready.append(entry)
        self.held[entry.queue_id] = entry
        return True

    def let_go(self, entry: Entry) -> None:
        """Leave an entry that is not held to the index."""
        self.has_more = True
        self._let_go_lsn = max(self._let_go_lsn, entry.message.lsn)

    def let_all_go(self) -> None:
        """Leave to the index all that is not under way."""
        for entry in self.ready:
            del self.held[entry.queue_id]
            self.let_go(entry)
        self.ready.clear()

    def give_back(self, entry: Entry) -> None:
        """Take back an entry that was under way and of which nothing was recorded; it comes next.

        One that was edited meanwhile comes from the index, as it is now, or not at all.
        """
        entry.began_ms = 0
        if self.is_open and not entry.is_edited and entry.queue_id not in self.editing:
            self.ready.appendleft(entry)
        else:
            del self.held[entry.queue_id]
            self.let_go(entry)

    def settle(self, entry: Entry, due_ms: int | None, lsn: int | None = None) -> None:
        """Let an entry out of memory whose outcome is told to the log.

        Args:
            entry: One that was under way.
            due_ms: When what is left of it is due; None if nothing is.
            lsn: The log sequence number of its outcome; None if `recorded` will tell.
        """
        queue_id = entry.queue_id
        del self.held[queue_id]
        self.done.add(queue_id)
        if lsn is None:
            self._unrecorded.append(queue_id)
        else:
            self._batches.append((lsn, [queue_id]))
        if entry.is_joined:
            self.has_more = True
        elif due_ms is None:
            self.count -= 1
        if due_ms is not None:
            self.due(due_ms)

    def recorded(self, lsn: int) -> None:
        """Note the log sequence number that all that was settled without one has got, or one after it."""
        self._batches.append((lsn, self._unrecorded))
        self._unrecorded = []

    def caught_up(self, watermark: int) -> bool:
        """Forget what no page can show any more: the index has everything up to this number.

        Returns:
            Whether there is something left that a page may show.
        """
        if not self.is_asking:
            self._forget(watermark)
        return bool(self.done or self.edited)

    def joined(self, queue_id: int, lsn: int) -> None:
        """Note that the index has got an entry for this hop, or recipients for one, from another hop."""
        entry = self.held.get(queue_id)
        if entry is not None:
            entry.is_joined = True
        self.has_more = True
        self._let_go_lsn = max(self._let_go_lsn, lsn)

    def is_wanting(self, now_ms: int) -> bool:
        """Whether a page is to be asked for now.

        That is when the queue is about to run dry; and now and then when fresh entries keep it half full, or
        what waits in the index would never have its turn.
        """
        if not self.has_more or self.is_asking or not self.is_open:
            return False
        waiting = len(self.ready)
        if waiting <= self.entries_max // 4:
            return True
        return waiting <= self.entries_max // 2 and now_ms >= self._asked_ms + SHARE_MS

    def question(self, now_ms: int) -> tuple[int, int]:
        """Return what to ask the index for: how many entries, due until when."""
        self._asked_ms = now_ms
        room = self.entries_max - len(self.ready)
        if self.failures and not self.up:
            room = min(room, PROBE_ENTRIES)
        self.is_asking = True
        self.has_more = False
        return room + len(self.held) + min(len(self.done), UNSEEN_MAX), max(now_ms, self._horizon_ms)

    def page(self, watermark: int, complete: bool, next_due_ms: int | None, rows: list[Row]) -> int:
        """Take a page from the index, as far as there is room; return how many entries came.

        Args:
            watermark: Up to where the page reflects the log.
            complete: Whether there are no more that are due.
            next_due_ms: When the next one is due.
            rows: What is due, in order.
        """
        self.is_asking = False
        self._horizon_ms = 0
        self._forget(watermark)
        came = 0
        room = self.entries_max - len(self.ready) if self.is_open else 0
        for row in rows:
            queue_id = row[0]
            if queue_id in self.held or queue_id in self.done or self.is_edited(queue_id, watermark):
                continue
            if came == room:
                complete = False
                break
            entry = entry_of(row)
            self.held[queue_id] = entry
            self.ready.append(entry)
            came += 1
        if not complete or watermark < self._let_go_lsn:
            self.has_more = True
        if next_due_ms is not None:
            self.due(next_due_ms)
        return came

    def is_under_way(self, queue_id: int) -> bool:
        """Whether an attempt of an entry is under way, or its outcome is not recorded."""
        entry = self.held.get(queue_id)
        return entry is not None and entry not in self.ready

    def edit_begins(self, queue_id: int) -> bool:
        """Leave an entry that is to be edited to the index, until `edit_ends`.

        Returns:
            Whether it is under way: then it goes on, whatever the edit says.
        """
        self.editing[queue_id] = self.editing.get(queue_id, 0) + 1
        if self.is_under_way(queue_id):
            return True
        entry = self.held.pop(queue_id, None)
        if entry is not None:
            self.ready.remove(entry)
            self.let_go(entry)
        return False

    def edit_ends(self, queue_id: int, lsn: int | None) -> None:
        """Take an entry that was edited from the index again; `lsn` is the record that says so, if any."""
        self.editing[queue_id] -= 1
        if not self.editing[queue_id]:
            del self.editing[queue_id]
        if lsn is not None:
            self.edited[queue_id] = max(lsn, self.edited.get(queue_id, 0))
            self._let_go_lsn = max(self._let_go_lsn, lsn)
            entry = self.held.get(queue_id)
            if entry is not None:
                entry.is_edited = True
        self.has_more = True

    def is_edited(self, queue_id: int, watermark: int) -> bool:
        """Whether an entry is being edited, or has been since the index was as a page shows it."""
        return queue_id in self.editing or self.edited.get(queue_id, 0) > watermark

    def suspend(self) -> None:
        """Begin nothing until `resume`; what is under way goes on."""
        self.is_suspended = True
        self.let_all_go()

    def resume(self) -> None:
        """Go on after `suspend`."""
        self.is_suspended = False
        self.has_more = True

    def retry(self, until_ms: int) -> None:
        """Have the hop tried now, with a page of what is due until then, whatever was to be waited for."""
        self.next_retry_ms = None
        self.pause_until_ms = 0
        self.probe(until_ms)

    def no_page(self, again_ms: int) -> None:
        """Note that the page that was asked for will not come, and when to ask again."""
        self.is_asking = False
        self.due(again_ms)

    def reached(self, now_ms: int) -> None:
        """Let the times that have come take effect."""
        if self.next_retry_ms is not None and now_ms >= self.next_retry_ms:
            self.next_retry_ms = None
        if self.next_due_ms is not None and now_ms >= self.next_due_ms:
            self.next_due_ms = None
            self.has_more = True

    def due(self, due_ms: int) -> None:
        """Note when something is due that only the index has."""
        if self.next_due_ms is None or due_ms < self.next_due_ms:
            self.next_due_ms = due_ms

    def next_ms(self, now_ms: int) -> int | None:
        """Return when the next of its times comes that it can do something about; None if there is none."""
        if not self.is_served or self.is_suspended:
            return None
        if self.next_retry_ms is not None:
            return self.next_retry_ms
        if self.up and now_ms < self.pause_until_ms:
            return min(self.pause_until_ms, self.next_due_ms or self.pause_until_ms)
        return self.next_due_ms

    def probe(self, earliest_due_ms: int) -> None:
        """Have the hop tried with what is due first, whenever that is."""
        self._horizon_ms = earliest_due_ms
        self.has_more = True

    def believe(self, now_ms: int, longest_ms: int) -> None:
        """Bring times that a clock set right has moved too far away back to the longest interval.

        What the index has is due when it says, so it is asked as if the time had come.
        """
        latest_ms = now_ms + longest_ms
        if self.next_retry_ms is not None:
            self.next_retry_ms = min(self.next_retry_ms, latest_ms)
        self.pause_until_ms = min(self.pause_until_ms, latest_ms)
        if self.next_due_ms is not None and self.next_due_ms > latest_ms:
            self._horizon_ms = max(self._horizon_ms, self.next_due_ms)
            self.next_due_ms = latest_ms

    def _forget(self, watermark: int) -> None:
        batches = self._batches
        while batches and batches[0][0] <= watermark:
            self.done.difference_update(batches.popleft()[1])
        if self.edited:
            self.edited = {queue_id: lsn for queue_id, lsn in self.edited.items() if lsn > watermark}
