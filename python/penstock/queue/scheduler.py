"""Which entry runs next, how many connections there are for it, when a next hop is tried again.

Facts go in, decisions come out, and the time is told: no clock, no chance, no I/O. Whoever has the
connections asks: `begin` for the next entry of a queue, `openings` for how many connections to make,
`questions` for the pages to get from the index. What a queue could do is written down when it becomes
possible, so that a turn looks at the queues that can act and at no other.

Queue-level and message-level retry are two things. A next hop that cannot be reached costs one change of its
queue, however much waits there: every address that was tried since the last success has failed and no
connection is up, so the queue's next try moves, and memory lets go of what waits. One entry that was put off
has a due time of its own, in the index.

Fresh entries are due when they come. What the index gives is taken in the order in which it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from penstock.queue.delivery_queue import DeliveryQueue
from penstock.queue.entry import Entry
from penstock.queue.retry import RetrySchedule

__all__ = ["ENTRIES_MAX", "HopFact", "Question", "Scheduler"]

HopFact: TypeAlias = tuple[str, int, str, str, int, int]
"""A queue's new state for the log: "hop", hop, state, last error, next retry (0: none), failures."""
Row: TypeAlias = tuple[Any, ...]

ENTRIES_MAX: Final = 2_048
"""Entries of a queue in memory. A quarter has to last while a page comes: 9,000 a second x 50 ms."""
PAUSE_MS: Final = 10_000
"""How long no more connections are tried when one fails while others work."""
ASK_AGAIN_MS: Final = 1_000
"""How long to wait when the index could not answer."""
STEP_BACK_MS: Final = 60_000
"""A clock that goes back by more than this was set; times kept in memory are looked at then."""


class Question(NamedTuple):
    """A page to be asked of the index: at most `limit` entries of `hop` that are due until `now_ms`."""

    hop: int
    limit: int
    now_ms: int


class Scheduler:
    """All delivery queues.

    Attributes:
        is_stopped: Whether nothing new is begun any more.
        is_held: Whether nothing new is begun for the time being: outcomes could not be stored.
    """

    def __init__(
        self,
        schedule: RetrySchedule,
        *,
        connections_max: int,
        jitter: Callable[[], float],
        entries_max: int = ENTRIES_MAX,
    ) -> None:
        """Begin without queues.

        Args:
            schedule: The retry intervals.
            connections_max: Connections of all queues at a time.
            jitter: Gives numbers in [0, 1) by which retries are spread.
            entries_max: Entries of a queue in memory, those under way not counted; 4 or more.
        """
        self.is_stopped = False
        self.is_held = False
        self._schedule = schedule
        self._connections_max = connections_max
        self._jitter = jitter
        self._entries_max = entries_max
        self._connections = 0
        self._queues: dict[int, DeliveryQueue] = {}
        # In order of arrival: queues that can act; that may want a page; that the total of connections holds
        # up; that settled something since the last `recorded`; with settled entries that a page may show.
        self._active: dict[DeliveryQueue, None] = {}
        self._hungry: dict[DeliveryQueue, None] = {}
        self._crowded: dict[DeliveryQueue, None] = {}
        self._settling: dict[DeliveryQueue, None] = {}
        self._behind: dict[DeliveryQueue, None] = {}
        self._timers: list[tuple[int, int, DeliveryQueue]] = []
        self._order = count()
        self._now_ms = 0

    # Queues.

    def add(self, hop: int, *, slots_max: int, is_served: bool = True) -> DeliveryQueue:
        """Return the queue of a hop, a new one if there is none yet."""
        queue = self._queues.get(hop)
        if queue is None:
            queue = self._queues[hop] = DeliveryQueue(
                hop, slots_max=slots_max, entries_max=self._entries_max, is_served=is_served
            )
        return queue

    def queue(self, hop: int) -> DeliveryQueue | None:
        """Return the queue of a hop, if there is one."""
        return self._queues.get(hop)

    def queues(self) -> Iterator[DeliveryQueue]:
        """Yield all queues."""
        yield from self._queues.values()

    def restore(
        self,
        queue: DeliveryQueue,
        *,
        earliest_due_ms: int | None,
        last_error: str,
        failures: int,
        now_ms: int,
    ) -> None:
        """Take a queue up as the index knows it from the process before; a hop in Retry is tried at once.

        Args:
            queue: The queue.
            earliest_due_ms: When its first entry is due; None if it has none.
            last_error: Why the hop was not reached last.
            failures: Tries that failed since the last that did not.
            now_ms: Current Unix time, milliseconds.
        """
        if queue.failed_ms is None and not queue.up:
            queue.failures, queue.last_error = failures, last_error
        if earliest_due_ms is None:
            return
        if queue.failures:
            queue.probe(earliest_due_ms)
        else:
            queue.due(earliest_due_ms)
            queue.believe(now_ms, self._schedule.longest_ms)
        self._look(queue, now_ms)

    def active(self) -> list[DeliveryQueue]:
        """Return the queues that can act, each once; what they do not do now they are not asked again for."""
        queues = list(self._active)
        self._active.clear()
        return queues

    def activate(self, queue: DeliveryQueue) -> None:
        """Have a queue looked at in the next turn."""
        self._active[queue] = None

    # Entries.

    def accept(self, entry: Entry) -> None:
        """Take an entry that has just become durable."""
        queue = self._queues.get(entry.hop)
        if queue is None:
            # A hop that the configuration does not know: its entries wait in the index for a route.
            queue = self.add(entry.hop, slots_max=0, is_served=False)
        if queue.accept(entry):
            self._active[queue] = None
        elif queue.is_open:
            self._hungry[queue] = None

    def begin(self, queue: DeliveryQueue, now_ms: int) -> Entry | None:
        """Return the next entry of a queue, which is under way from now on; None if there is none."""
        ready = queue.ready
        if not ready or self.is_stopped or self.is_held or not queue.is_open:
            return None
        entry = ready.popleft()
        entry.began_ms = now_ms
        if queue.has_more:
            self._hungry[queue] = None
        return entry

    def adopt(self, entry: Entry, now_ms: int) -> None:
        """Take an entry as under way that was not chosen by `begin`.

        Raises:
            ValueError: It is held already (caller bug).
        """
        queue = self.add(entry.hop, slots_max=0, is_served=False)
        if entry.queue_id in queue.held:
            raise ValueError(f"held already: {entry.queue_id}")
        entry.began_ms = now_ms
        queue.held[entry.queue_id] = entry

    def give_back(self, entry: Entry) -> None:
        """Take back an entry that was under way; nothing is recorded of it, and it is the next."""
        queue = self._queues[entry.hop]
        queue.give_back(entry)
        self._active[queue] = self._hungry[queue] = None

    def settle(self, entry: Entry, due_ms: int | None, *, now_ms: int, lsn: int | None = None) -> None:
        """Let go of an entry whose outcome is told to the log.

        Args:
            entry: One that is under way.
            due_ms: When what is left of it is due, Unix milliseconds; None if nothing is.
            now_ms: Current Unix time, milliseconds.
            lsn: The log sequence number of the outcome; None if `recorded` will tell.
        """
        queue = self._queues[entry.hop]
        queue.settle(entry, due_ms, lsn)
        if lsn is None:
            self._settling[queue] = None
        else:
            self._behind[queue] = None
        if due_ms is not None or entry.is_joined:
            self._look(queue, now_ms)

    def recorded(self, lsn: int) -> None:
        """Note that everything settled so far without a number has one, up to this."""
        for queue in self._settling:
            queue.recorded(lsn)
            self._behind[queue] = None
        self._settling.clear()

    # The index.

    def questions(self, now_ms: int) -> list[Question]:
        """Return the pages to be asked for now; each is answered by `page` or `no_page`."""
        if not self._hungry or self.is_stopped:
            return []
        wanting = [queue for queue in self._hungry if queue.is_wanting(now_ms)]
        self._hungry.clear()
        return [Question(queue.hop, *queue.question(now_ms)) for queue in wanting]

    def page(
        self, hop: int, watermark: int, complete: bool, next_due_ms: int | None, rows: list[Row], now_ms: int
    ) -> None:
        """Take the page of a question; what it says is described at `DeliveryQueue.page`."""
        queue = self._queues[hop]
        queue.page(watermark, complete, next_due_ms, rows)
        queue.believe(now_ms, self._schedule.longest_ms)
        self._look(queue, now_ms)

    def no_page(self, hop: int, now_ms: int) -> None:
        """Note that the index could not answer a question; it is asked again after a while."""
        queue = self._queues[hop]
        queue.no_page(now_ms + ASK_AGAIN_MS)
        self._look(queue, now_ms)

    def caught_up(self, watermark: int) -> None:
        """Note that the index has everything up to this number: a checkpoint is done."""
        behind = self._behind
        self._behind = {}
        for queue in behind:
            if queue.caught_up(watermark):
                self._behind[queue] = None

    def joined(self, hop: int, queue_id: int, lsn: int, now_ms: int) -> None:
        """Note that the index has got an entry for a hop, or recipients of one, from another hop."""
        queue = self._queues.get(hop)
        if queue is not None:
            queue.joined(queue_id, lsn)
            self._look(queue, now_ms)

    def edited(self, queue: DeliveryQueue, now_ms: int) -> None:
        """Go on after what an operator has changed in a queue, or of its entries."""
        self._behind[queue] = None
        self._look(queue, now_ms)

    # Connections and next hops.

    def openings(self, queue: DeliveryQueue, now_ms: int) -> int:
        """Return how many connections to make for a queue now: few at first, more with each success."""
        wanted = len(queue.ready) - queue.opening
        if wanted <= 0 or self.is_stopped or self.is_held or not queue.is_open:
            return 0
        if queue.up and (queue.failures or now_ms < queue.pause_until_ms):
            return 0
        wanted = min(wanted, queue.ramp - queue.opening, queue.slots_max - queue.connections)
        left = self._connections_max - self._connections
        if wanted > left:
            self._crowded[queue] = None
            wanted = left
        if wanted <= 0:
            return 0
        if not queue.up and not queue.opening:
            queue.began_ms = now_ms
        return wanted

    def opening(self, queue: DeliveryQueue) -> None:
        """Count a connection that is being made."""
        queue.opening += 1
        self._connections += 1

    def opened(self, queue: DeliveryQueue) -> None:
        """Count a connection that was being made as one that can be used."""
        queue.opening -= 1
        queue.up += 1
        if not queue.failures:
            queue.ramp = min(queue.ramp * 2, queue.slots_max)
        self._active[queue] = None

    def leaving(self, queue: DeliveryQueue, *, was_up: bool) -> None:
        """Count a connection as one on its way out: it is not used any more, and still counts to its peer."""
        if was_up:
            queue.up -= 1
        else:
            queue.opening -= 1
        queue.closing += 1

    def gone(self, queue: DeliveryQueue) -> None:
        """Forget a connection that was on its way out."""
        queue.closing -= 1
        self._connections -= 1
        self._active[queue] = None
        if self._crowded:
            self._active.update(self._crowded)
            self._crowded.clear()

    def failed(self, queue: DeliveryQueue, error: str, *, is_exhausted: bool, now_ms: int) -> HopFact | None:
        """Note that a connection failed before it did any work; it does not count as opening or up any more.

        Args:
            queue: Its queue.
            error: Why.
            is_exhausted: Whether every address was tried since the last success.
            now_ms: Current Unix time, milliseconds.

        Returns:
            The fact that the queue is in Retry now, if it is.
        """
        queue.last_error = error
        queue.ramp = 1
        if not is_exhausted:
            self._active[queue] = None
            return None
        if queue.opening or queue.next_retry_ms is not None:
            return None
        if queue.up:
            queue.pause_until_ms = now_ms + PAUSE_MS
            self._look(queue, now_ms)
            return None
        queue.failures += 1
        queue.failed_ms = queue.began_ms
        queue.next_retry_ms = self._schedule.next_probe_ms(
            failures=queue.failures, now_ms=now_ms, jitter=self._jitter()
        )
        queue.let_all_go()
        self._look(queue, now_ms)
        return ("hop", queue.hop, "retry", error, queue.next_retry_ms, queue.failures)

    def succeeded(self, queue: DeliveryQueue) -> HopFact | None:
        """Note that a connection has done its work.

        Returns:
            The fact that the queue is no longer in Retry, if it was.
        """
        if not queue.failures:
            return None
        queue.failures = 0
        queue.next_retry_ms = None
        queue.last_error = ""
        queue.ramp = 2
        self._active[queue] = None
        if queue.has_more:
            self._hungry[queue] = None
        return ("hop", queue.hop, "ready", "", 0, 0)

    # Time.

    def wake(self, now_ms: int) -> None:
        """Let the times that have come take effect."""
        if now_ms < self._now_ms - STEP_BACK_MS:
            for queue in self._queues.values():
                queue.believe(now_ms, self._schedule.longest_ms)
                self._look(queue, now_ms)
        self._now_ms = now_ms
        timers = self._timers
        while timers and timers[0][0] <= now_ms:
            at_ms, _, queue = heappop(timers)
            if queue.wake_ms == at_ms:
                queue.wake_ms = None
                self._look(queue, now_ms)

    def next_ms(self) -> int | None:
        """Return when `wake` has something to do, Unix milliseconds."""
        return self._timers[0][0] if self._timers else None

    def hold(self, is_held: bool) -> None:
        """Begin nothing new for the time being, or go on."""
        if self.is_held and not is_held:
            self._active.update((queue, None) for queue in self._queues.values() if queue.ready)
        self.is_held = is_held

    def _look(self, queue: DeliveryQueue, now_ms: int) -> None:
        """Do what a queue's times ask for, and set its timer."""
        queue.reached(now_ms)
        if queue.is_open:
            if queue.has_more:
                self._hungry[queue] = None
            if queue.ready:
                self._active[queue] = None
        at_ms = queue.next_ms(now_ms)
        if at_ms is not None and (queue.wake_ms is None or at_ms < queue.wake_ms):
            queue.wake_ms = at_ms
            heappush(self._timers, (at_ms, next(self._order), queue))
