"""The scheduler beside a naive model: a list of what waits, and an index that answers late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.queue.delivery_queue import DeliveryQueue
from penstock.queue.entry import Entry, StoredMessage
from penstock.queue.retry import RetrySchedule
from penstock.queue.scheduler import Question, Scheduler

HOPS = (1, 2)
SLOTS_MAX = 3
CONNECTIONS_MAX = 4
ENTRIES_MAX = 4
SCHEDULE = RetrySchedule(
    queue_glitch_retry_count=1,
    queue_glitch_retry_interval_ms=1_000,
    transient_failure_retry_count=1,
    transient_failure_retry_interval_ms=3_000,
    outbound_connection_failure_retry_interval_ms=9_000,
    message_retry_interval_ms=2_000,
)
FAR_MS = 10**12


@dataclass
class Page:
    """An answer that is on its way."""

    hop: int
    watermark: int
    complete: bool
    next_due_ms: int | None
    rows: list[tuple[Any, ...]]


@dataclass
class World:
    """What is true: all that waits, by hop, with its due time, in order of arrival."""

    waiting: dict[int, dict[int, int]] = field(default_factory=lambda: {hop: {} for hop in HOPS})
    suspended: set[int] = field(default_factory=set)
    lsn: int = 0

    def page(self, question: Question) -> Page:
        """Answer as the index does: from a state that has everything that was told to the log."""
        known = self.waiting[question.hop].items()
        waiting = sorted((item for item in known if item[0] not in self.suspended), key=lambda item: item[1])
        due = [item for item in waiting if item[1] <= question.now_ms]
        later = [due_ms for _, due_ms in waiting if due_ms > question.now_ms]
        rows = [row(queue_id, question.hop, due_ms) for queue_id, due_ms in due[: question.limit]]
        return Page(question.hop, self.lsn, len(due) <= question.limit, min(later, default=None), rows)


def row(queue_id: int, hop: int, due_ms: int) -> tuple[Any, ...]:
    recipients = [(0, "a@b.example", 0, None)]
    params = (None, None, False)
    return (
        *(queue_id, hop, 1, 0, due_ms, 0, FAR_MS, 0, "me@b.example", recipients),
        *(100, 0, "wire", "", params, False),
    )


class Machine(RuleBasedStateMachine):
    """Everything that can happen, in any order; connections are counted, not made."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.world = World()
        self.scheduler = Scheduler(
            SCHEDULE, connections_max=CONNECTIONS_MAX, jitter=lambda: 0.5, entries_max=ENTRIES_MAX
        )
        self.queues: dict[int, DeliveryQueue] = {}
        self.pages: list[Page] = []
        self.under_way: list[Entry] = []
        # Entries that are being edited, and whether they were under way when that began.
        self.edits: list[tuple[int, int, bool]] = []
        self.ids = 0
        # Connections of each hop: being made, up; and of these, those without an entry.
        self.opening = dict.fromkeys(HOPS, 0)
        self.idle = dict.fromkeys(HOPS, 0)
        self.closing = dict.fromkeys(HOPS, 0)

    @initialize(held=st.lists(st.sampled_from(HOPS), max_size=12), state=st.sampled_from(["ready", "retry"]))
    def start(self, held: list[int], state: str) -> None:
        for hop in HOPS:
            self.queues[hop] = self.scheduler.add(hop, slots_max=SLOTS_MAX)
        for offset, hop in enumerate(held):
            self.ids += 1
            self.world.waiting[hop][self.ids] = self.now_ms + offset * 700 - 3_000
        for hop, queue in self.queues.items():
            waiting = self.world.waiting[hop]
            self.scheduler.restore(
                queue,
                earliest_due_ms=min(waiting.values(), default=None),
                last_error="refused" if state == "retry" else "",
                failures=2 if state == "retry" else 0,
                now_ms=self.now_ms,
            )
        # A hop in Retry is tried once with what is due first, whenever that is.
        self.may_be_early = state == "retry"

    @rule(hop=st.sampled_from(HOPS), number=st.integers(1, 4))
    def accept(self, hop: int, number: int) -> None:
        for _ in range(number):
            self.ids += 1
            self.world.lsn += 1
            self.world.waiting[hop][self.ids] = self.now_ms
            message = StoredMessage(self.ids, self.world.lsn, "", 0, 100, 0, (None, None, False))
            self.scheduler.accept(Entry(message, hop, [], FAR_MS))

    @rule()
    def turn(self) -> None:
        self.scheduler.wake(self.now_ms)
        for queue in self.scheduler.active():
            hop = queue.hop
            while self.idle[hop] and self.begin(queue):
                self.idle[hop] -= 1
            for _ in range(self.scheduler.openings(queue, self.now_ms)):
                self.scheduler.opening(queue)
                self.opening[hop] += 1
        self.world.lsn += 1
        self.scheduler.recorded(self.world.lsn)
        questions = self.scheduler.questions(self.now_ms)
        assert len({question.hop for question in questions}) == len(questions)
        for question in questions:
            assert all(page.hop != question.hop for page in self.pages), "one page at a time"
            self.pages.append(self.world.page(question))

    def begin(self, queue: DeliveryQueue) -> bool:
        entry = self.scheduler.begin(queue, self.now_ms)
        if entry is None:
            return False
        due_ms = self.world.waiting[queue.hop][entry.queue_id]
        assert due_ms <= self.now_ms or self.may_be_early, "nothing is begun before it is due"
        assert all(other.queue_id != entry.queue_id for other in self.under_way), "nothing is begun twice"
        assert entry.queue_id not in self.world.suspended, "nothing that is suspended is begun"
        assert all(queue_id != entry.queue_id for _, queue_id, _ in self.edits), "nor what is being edited"
        assert not queue.is_suspended
        self.under_way.append(entry)
        return True

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def page(self, data: st.DataObject) -> None:
        page = self.pages.pop(data.draw(st.integers(0, len(self.pages) - 1)))
        self.scheduler.page(page.hop, page.watermark, page.complete, page.next_due_ms, page.rows, self.now_ms)

    @precondition(lambda self: self.pages)
    @rule()
    def no_page(self) -> None:
        self.scheduler.no_page(self.pages.pop(0).hop, self.now_ms)

    @rule(behind=st.integers(0, 3))
    def checkpoint(self, behind: int) -> None:
        self.scheduler.caught_up(max(self.world.lsn - behind, 0))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), due=st.sampled_from([None, None, 500, 2_000]))
    def settle(self, data: st.DataObject, due: int | None) -> None:
        entry = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.end(entry, None if due is None else self.now_ms + due, alone=data.draw(st.booleans()))
        self.idle[entry.hop] += 1
        self.scheduler.succeeded(self.queues[entry.hop])
        if self.begin(self.queues[entry.hop]):
            self.idle[entry.hop] -= 1

    def end(self, entry: Entry, due_ms: int | None, *, alone: bool = False) -> None:
        if due_ms is None and entry.is_joined:
            pass
        elif due_ms is None:
            del self.world.waiting[entry.hop][entry.queue_id]
        else:
            self.world.waiting[entry.hop][entry.queue_id] = due_ms
        lsn = None
        if alone:
            self.world.lsn += 1
            lsn = self.world.lsn
        self.scheduler.settle(entry, due_ms, now_ms=self.now_ms, lsn=lsn)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def break_connection(self, data: st.DataObject) -> None:
        entry = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        queue = self.queues[entry.hop]
        self.scheduler.leaving(queue, was_up=True)
        self.scheduler.gone(queue)
        if data.draw(st.booleans()):
            self.scheduler.failed(queue, "broken", is_exhausted=True, now_ms=self.now_ms)
        self.scheduler.give_back(entry)

    @rule(hop=st.sampled_from(HOPS))
    def open(self, hop: int) -> None:
        if self.opening[hop]:
            self.opening[hop] -= 1
            self.idle[hop] += 1
            self.scheduler.opened(self.queues[hop])

    @rule(hop=st.sampled_from(HOPS), is_exhausted=st.booleans())
    def refuse(self, hop: int, is_exhausted: bool) -> None:
        if not self.opening[hop]:
            return
        queue = self.queues[hop]
        self.opening[hop] -= 1
        self.scheduler.leaving(queue, was_up=False)
        self.scheduler.gone(queue)
        fact = self.scheduler.failed(queue, "refused", is_exhausted=is_exhausted, now_ms=self.now_ms)
        if fact is not None:
            assert not queue.up, "a hop that works is not put into Retry"
            assert not queue.opening
            assert fact[:4] == ("hop", hop, "retry", "refused")
            assert queue.next_retry_ms is not None
            assert self.now_ms < queue.next_retry_ms <= self.now_ms + SCHEDULE.longest_ms
            assert not queue.ready, "memory lets go of what waits for a hop in Retry"

    @rule(hop=st.sampled_from(HOPS), is_slow=st.booleans())
    def close_idle(self, hop: int, is_slow: bool) -> None:
        if self.idle[hop]:
            self.idle[hop] -= 1
            self.scheduler.leaving(self.queues[hop], was_up=True)
            self.closing[hop] += 1
        if self.closing[hop] and not is_slow:
            self.closing[hop] -= 1
            self.scheduler.gone(self.queues[hop])

    @rule(from_hop=st.sampled_from(HOPS), data=st.data())
    def join(self, from_hop: int, data: st.DataObject) -> None:
        """What waited elsewhere comes to a hop, or recipients come to what is there."""
        waiting = self.world.waiting[from_hop]
        queue_id = data.draw(st.sampled_from(sorted(waiting))) if waiting else 0
        if data.draw(st.booleans()) or not queue_id:
            self.ids += 1
            queue_id = self.ids
        self.world.lsn += 1
        held = self.queues[from_hop].held.get(queue_id)
        waiting[queue_id] = self.now_ms
        self.scheduler.joined(from_hop, queue_id, self.world.lsn, self.now_ms)
        # An attempt that knows nothing of it leaves it where it is.
        assert held is None or held.is_joined

    @rule(hop=st.sampled_from(HOPS), data=st.data())
    def begin_edit(self, hop: int, data: st.DataObject) -> None:
        waiting = sorted(self.world.waiting[hop])
        if waiting:
            queue_id = data.draw(st.sampled_from(waiting))
            is_under_way = self.queues[hop].edit_begins(queue_id)
            assert is_under_way == any(entry.queue_id == queue_id for entry in self.under_way)
            self.edits.append((hop, queue_id, is_under_way))

    @precondition(lambda self: self.edits)
    @rule(data=st.data(), what=st.sampled_from(["nothing", "suspend", "resume", "remove", "other"]))
    def end_edit(self, data: st.DataObject, what: str) -> None:
        hop, queue_id, was_under_way = self.edits.pop(data.draw(st.integers(0, len(self.edits) - 1)))
        is_made = what != "nothing" and queue_id in self.world.waiting[hop]
        if what == "remove" and (was_under_way or self.queues[hop].held.get(queue_id) is not None):
            is_made = False
        if is_made:
            self.world.lsn += 1
            if what == "suspend":
                self.world.suspended.add(queue_id)
            elif what == "resume":
                self.world.suspended.discard(queue_id)
            elif what == "remove":
                del self.world.waiting[hop][queue_id]
        self.queues[hop].edit_ends(queue_id, self.world.lsn if is_made else None)
        self.scheduler.edited(self.queues[hop], self.now_ms)

    @rule(hop=st.sampled_from(HOPS), what=st.sampled_from(["suspend", "resume", "resume", "retry"]))
    def edit_queue(self, hop: int, what: str) -> None:
        queue = self.queues[hop]
        if what == "suspend":
            queue.suspend()
            assert not queue.ready
        elif what == "resume":
            queue.resume()
        else:
            queue.retry(self.now_ms + SCHEDULE.longest_ms)
            self.may_be_early = True
        self.scheduler.edited(queue, self.now_ms)

    @rule(by_ms=st.sampled_from([1, 400, 1_100, 2_500, 10_000]))
    def pass_time(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule(is_held=st.booleans())
    def hold(self, is_held: bool) -> None:
        self.scheduler.hold(is_held)

    @invariant()
    def limits_hold(self) -> None:
        assert sum(queue.connections for queue in self.queues.values()) <= CONNECTIONS_MAX
        for queue in self.queues.values():
            assert queue.connections <= SLOTS_MAX
            assert queue.connections == self.total(queue.hop)
            # What came back from a broken connection has its place beside those that came meanwhile.
            assert len(queue.ready) <= ENTRIES_MAX + SLOTS_MAX
            assert len(queue.held) == len(queue.ready) + self.busy(queue.hop)

    def busy(self, hop: int) -> int:
        return sum(entry.hop == hop for entry in self.under_way)

    def total(self, hop: int) -> int:
        return self.opening[hop] + self.idle[hop] + self.closing[hop] + self.busy(hop)

    def resume_all(self) -> None:
        while self.edits:
            hop, queue_id, _ = self.edits.pop()
            self.queues[hop].edit_ends(queue_id, None)
        self.world.suspended.clear()
        for queue in self.queues.values():
            queue.resume()
            self.scheduler.edited(queue, self.now_ms)

    def teardown(self) -> None:
        """Whatever has happened, everything that waits has its attempt in the end."""
        if not self.queues:
            return
        self.scheduler.hold(False)
        self.resume_all()
        for _ in range(400):
            if not any(self.world.waiting.values()):
                break
            for hop in HOPS:
                while self.closing[hop]:
                    self.closing[hop] -= 1
                    self.scheduler.gone(self.queues[hop])
                while self.opening[hop]:
                    self.open(hop)
            while self.under_way:
                entry = self.under_way.pop()
                self.end(entry, None)
                self.idle[entry.hop] += 1
                self.scheduler.succeeded(self.queues[entry.hop])
                self.scheduler.activate(self.queues[entry.hop])
            while self.pages:
                page = self.pages.pop()
                self.scheduler.page(
                    page.hop, page.watermark, page.complete, page.next_due_ms, page.rows, self.now_ms
                )
            self.turn()
            self.now_ms = max(self.now_ms, self.scheduler.next_ms() or 0)
        assert not any(self.world.waiting.values()), "nothing is lost"


TestScheduler = Machine.TestCase
TestScheduler.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
