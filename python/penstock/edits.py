"""What operators change: messages that wait, and delivery queues.

An edit of messages goes through entries (one message x one next hop) in bounded steps and says after each how
far it is, so that any number can be edited, and a caller that is cut off can go on: what is so already is
counted as unchanged. Each entry is edited by itself and durably; what has moved on since its version was seen
is left alone.

The spool makes an edit or refuses it; delivery keeps its hands off meanwhile (`penstock.deliver.edits`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import trio

from penstock.changes import (
    VERSION,
    Edit,
    EntryRef,
    Expire,
    Prioritise,
    Progress,
    QueueAction,
    QueueState,
    Redirect,
    Remove,
    Result,
    Resume,
    Retry,
    Suspend,
    Targets,
    Waiting,
    check_text,
    is_so,
    progress,
)
from penstock.deliver.edits import Change, HopEdits, owes_report
from penstock.deliver.seams import Count, Journal
from penstock.errors import NotFound, Unavailable

__all__ = ["Edits"]

STEP: Final = 256
"""Entries that are edited at a time."""
REMOVALS_AT_A_TIME: Final = 16
"""Removals with a report that are under way at a time: each has a draft."""
HEADER_OCTETS_MAX: Final = 64 * 1024
PRIORITIES: Final = {"high": 0, "normal": 1, "low": 2}
TIME_MAX_MS: Final = 1 << 53

Author: TypeAlias = tuple[str, str, int]


class Core(Protocol):
    """What is needed of `_core.Engine`."""

    def edit(self, edit: tuple[Any, ...], author: Author, entries: Sequence[EntryRef]) -> int: ...
    def remove(self, author: Author, entry: EntryRef, draft: int, envelope: tuple[Any, ...]) -> int: ...
    def suspend_queue(self, hop: int, author: Author | None) -> int: ...


class Edits:
    """Makes edits."""

    def __init__(
        self,
        core: Core,
        delivery: HopEdits,
        *,
        ask: Callable[..., Awaitable[Any]],
        wait: Callable[[int], Awaitable[Any]],
        count: Count,
        journal: Journal,
        now_ms: Callable[[], int],
        format_queue_id: Callable[[int], str],
    ) -> None:
        """Begin with none.

        Args:
            core: Has log and index.
            delivery: Has what is in memory.
            ask: Asks the index; see `questions`.
            wait: Waits for the answer to a number that `core` gave.
            count: Counts under names of the metrics' catalogue.
            journal: Writes a line of the journal.
            now_ms: Unix time in milliseconds.
            format_queue_id: Writes a queue id as operators see it.
        """
        self._core = core
        self._delivery = delivery
        self._ask = ask
        self._wait = wait
        self._count = count
        self._journal = journal
        self._now_ms = now_ms
        self._format = format_queue_id

    async def messages(
        self, edit: Edit, targets: Targets, *, who: str, why: str = "", dry_run: bool = False
    ) -> AsyncIterator[Progress]:
        """Edit entries, and say after each step how far that is; the last one has all.

        **Durability**: what is counted as done survives power loss. Cancelled in a step, what was begun of it
        is finished; the same call again counts what is so already as unchanged.

        Args:
            edit: What to do.
            targets: Of which entries.
            who: Who does it; kept up to 128 octets.
            why: Why; kept up to 512 octets.
            dry_run: Only count what would be done.

        Raises:
            NotFound: No queue has the name of a redirection.
            ValueError: A text has control characters, or a time or priority is none.
            Unavailable: The log has failed, or the engine stops; what was under way may be done or not.
        """
        given = self._given(edit)
        check_text("who", who)
        check_text("why", why)
        counts: Counter[Result] = Counter()
        last: EntryRef | None = None
        async for step in self._steps(targets):
            if dry_run:
                results = [await self._would(given, edit, entry) for entry in step]
            elif isinstance(edit, Remove) and edit.with_dsn:
                results = await self._removed(step, (who, why, self._now_ms()))
            else:
                results = await self._edited(edit, given, step, (who, why, self._now_ms()))
            counts.update(results)
            last = step[-1]
            yield progress(counts, last)
        if last is None:
            yield progress(counts, None)

    async def queue(self, name: str, action: QueueAction, *, who: str, why: str = "") -> QueueState:
        """Suspend or resume a delivery queue, or have its next hop tried now; return how it is then.

        A suspended queue begins no attempts; those under way finish. It stays suspended over restarts.

        **Durability**: on return the queue is suspended, or resumed, whatever happens.

        Args:
            name: A send connector, or a domain with a Maildir.
            action: What to do.
            who: Who does it.
            why: Why.

        Raises:
            NotFound: No queue has this name.
            ValueError: A text has control characters.
            Unavailable: It could not be stored; after a restart the queue may be as it was told to be.
        """
        check_text("who", who)
        check_text("why", why)
        hop, now_ms = self.hop(name), self._now_ms()
        before = self._delivery.is_suspended(hop)
        if action == "retry":
            self._delivery.retry(hop, now_ms)
        else:
            is_suspended = action == "suspend"
            if is_suspended:
                # Nothing begins while it is being written; if it cannot be, the queue goes on.
                self._delivery.suspend(hop, now_ms)
            try:
                with trio.CancelScope(shield=True):
                    author = (who, why, now_ms) if is_suspended else None
                    await self._wait(self._core.suspend_queue(hop, author))
            except Unavailable:
                if is_suspended and not before:
                    self._delivery.resume(hop, now_ms)
                raise
            if not is_suspended:
                self._delivery.resume(hop, now_ms)
        connector, destination = self._delivery.name(hop)
        line = {"connector": connector, "destination": destination, "who": who, "why": why or None}
        self._journal(action.upper(), now_ms, **line)
        state = self._delivery.is_suspended(hop)
        return QueueState(queue=name, is_suspended=state, changed=action == "retry" or state != before)

    def hop(self, name: str) -> int:
        """Return the number of the next hop behind a queue's name, for `Waiting` and `EntryRef`.

        Raises:
            NotFound: There is none.
        """
        hop = self._delivery.served().get(name)
        if hop is None:
            raise NotFound(name)
        return hop

    def _given(self, edit: Edit) -> tuple[Any, ...]:
        """Return an edit as the spool takes it."""
        match edit:
            case Suspend():
                return ("suspend", "operator")
            case Resume():
                return ("resume",)
            case Remove():
                return ("remove",)
            case Redirect(queue):
                return ("redirect", self.hop(queue), self._now_ms())
            case Expire(expires_ms):
                if not 0 <= expires_ms < TIME_MAX_MS:
                    raise ValueError(f"no time: {expires_ms}")
                return ("expire", expires_ms)
            case Prioritise(priority):
                if priority not in PRIORITIES:
                    raise ValueError(f"no priority: {priority}")
                return ("prioritise", PRIORITIES[priority])
            case Retry():
                return ("due", self._now_ms())

    async def _steps(self, targets: Targets) -> AsyncIterator[list[EntryRef]]:
        """Yield entries, a step at a time."""
        if isinstance(targets, Waiting):
            after = targets.after
            while True:
                _, following, rows = await self._ask("messages", after, STEP, targets.hop)
                step = [
                    EntryRef(row["queue_id"], targets.hop, entry["version"])
                    for row in rows
                    for entry in row["entries"]
                    if entry["hop"] == targets.hop
                ]
                if step:
                    yield step
                if following is None:
                    return
                after = following
        step = []
        async for entry in _entries(targets):
            step.append(entry)
            if len(step) == STEP:
                yield step
                step = []
        if step:
            yield step

    async def _would(self, given: tuple[Any, ...], edit: Edit, entry: EntryRef) -> Result:
        """Say what would become of an entry."""
        row = await self._row(entry)
        if row is None:
            return "gone"
        if is_so(given, row):
            return "unchanged"
        if entry.version not in (None, row[VERSION]):
            return "conflict"
        if isinstance(edit, Remove | Redirect) and self._delivery.is_under_way(entry.queue_id, entry.hop):
            return "active"
        return "done"

    async def _row(self, entry: EntryRef) -> tuple[Any, ...] | None:
        _, _, _, rows = await self._ask("entry", entry.queue_id, entry.hop)
        return rows[0] if rows else None

    async def _edited(
        self, edit: Edit, given: tuple[Any, ...], step: list[EntryRef], author: Author
    ) -> list[Result]:
        """Edit the entries of a step together."""
        results: list[Result] = ["active"] * len(step)
        asked: list[int] = []
        changes: dict[int, Change] = {}
        for place, (queue_id, hop, _) in enumerate(step):
            if self._delivery.begin(queue_id, hop) and isinstance(edit, Remove | Redirect):
                continue
            asked.append(place)
        try:
            if asked:
                # Memory must hear what has become of it, or it would try what is removed.
                with trio.CancelScope(shield=True):
                    number = self._core.edit(given, author, [step[place] for place in asked])
                    answer = await self._wait(number)
                for place, (result, lsn) in zip(asked, answer, strict=True):
                    results[place] = result
                    if result == "done":
                        changes[place] = _change(edit, given, lsn)
        finally:
            for place, (queue_id, hop, _) in enumerate(step):
                self._delivery.end(queue_id, hop, changes.get(place), self._now_ms())
        for place in changes:
            self._note(edit, step[place], author)
        return results

    async def _removed(self, step: list[EntryRef], author: Author) -> list[Result]:
        """Remove the entries of a step, each with a report if its sender is owed one."""
        results: list[Result] = ["busy"] * len(step)
        limit = trio.CapacityLimiter(REMOVALS_AT_A_TIME)

        async def remove(place: int) -> None:
            async with limit:
                results[place] = await self._remove(step[place], author)

        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                for place in range(len(step)):
                    nursery.start_soon(remove, place)
        except* Unavailable as group:
            failure = group.exceptions[0]
        if failure is not None:
            raise failure
        return results

    async def _remove(self, entry: EntryRef, author: Author) -> Result:
        row = await self._row(entry)
        if row is None:
            return "gone"
        version = row[VERSION]
        if entry.version not in (None, version):
            return "conflict"
        if not owes_report(row):
            (result,) = await self._edited(Remove(), ("remove",), [entry], author)
            if result == "done":
                self._count("dsn_total", "suppressed")
            return result
        header = await self._ask_header(entry.queue_id)
        if self._delivery.begin(entry.queue_id, entry.hop):
            self._delivery.end(entry.queue_id, entry.hop, None, self._now_ms())
            return "active"
        change: Change | None = None
        try:
            drafted = self._delivery.drafted(row, header, self._now_ms())
            if drafted is None:
                return "busy"
            with trio.CancelScope(shield=True):
                # The report names who was left when the row was read: of another version it would be wrong.
                seen = EntryRef(entry.queue_id, entry.hop, version)
                number = self._core.remove(author, seen, drafted.draft, drafted.envelope)
                answer: list[tuple[Result, int]] = await self._wait(number)
            ((result, lsn),) = answer
            if result == "done":
                change = Change(lsn, leaves=True, report_to=(drafted.hop, drafted.draft))
        finally:
            self._delivery.end(entry.queue_id, entry.hop, change, self._now_ms())
        if change is not None:
            self._note(Remove(), entry, author)
            self._count("dsn_total", "failed")
            reference, queue_id = self._format(entry.queue_id), self._format(drafted.draft)
            self._journal("DSN", self._now_ms(), queue_id=queue_id, reference=reference, kind="failed")
        return result

    async def _ask_header(self, queue_id: int) -> bytes:
        try:
            header: bytes = await self._ask("header", queue_id, HEADER_OCTETS_MAX)
        except Unavailable:
            # What cannot be read is reported without.
            return b""
        return header

    def _note(self, edit: Edit, entry: EntryRef, author: Author) -> None:
        """Write a line of the journal about an edit that was made."""
        who, why, at_ms = author
        connector, destination = self._delivery.name(entry.hop)
        fields: dict[str, Any] = {
            "queue_id": self._format(entry.queue_id),
            "connector": connector,
            "destination": destination,
            "who": who,
            "why": why or None,
        }
        match edit:
            case Redirect(queue):
                fields["to"] = queue
            case Expire(expires_ms):
                fields["expires_ms"] = expires_ms
            case Prioritise(priority):
                fields["priority"] = priority
            case _:
                pass
        self._journal(type(edit).__name__.upper(), at_ms, **fields)


async def _entries(targets: Iterable[EntryRef] | AsyncIterable[EntryRef]) -> AsyncIterator[EntryRef]:
    if isinstance(targets, AsyncIterable):
        async for entry in targets:
            yield entry
    else:
        for entry in targets:
            yield entry


def _change(edit: Edit, given: tuple[Any, ...], lsn: int) -> Change:
    """Return what an edit that was made means for memory."""
    match edit:
        case Suspend():
            return Change(lsn, suspended=1)
        case Resume():
            return Change(lsn, suspended=-1)
        case Remove():
            return Change(lsn, leaves=True)
        case Redirect():
            return Change(lsn, leaves=True, to=given[1])
        case Expire(expires_ms):
            return Change(lsn, expires_ms=expires_ms)
        case _:
            return Change(lsn)
