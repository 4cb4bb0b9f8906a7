"""Asking the index at length: a query goes on in bounded steps until it is complete or its time is up.

The thread of queries takes each step on a snapshot of its own; between steps the query is held here, so that
one whose task is cancelled is over. Questions of delivery are never behind more than one step of a query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import trio

from penstock.errors import Unavailable
from penstock.queries import (
    EVERYTHING,
    Filter,
    Group,
    Groups,
    MessageProperty,
    Page,
    Property,
    QueueProperty,
    Row,
    Sort,
    Total,
    decode_cursor,
    encode_cursor,
)

__all__ = ["Queries", "Queryable", "Standing"]

STEP_ROWS: Final = 200_000
STEP_MS: Final = 50
"""How long a snapshot is held: an old one keeps pages of the index from being used again."""
BUSY_S: Final = 0.05
DEADLINE_S: Final = 60.0
LIMIT: Final = 1_000
TOP: Final = 100

Standing: TypeAlias = tuple[int, list[tuple[int, int]], list[int]]
"""The time, attempts under way as (queue id, hop), and hops to which connections are being opened."""


class Execution(Protocol):
    """A query on its way; see `_core.Execution`."""

    @property
    def is_complete(self) -> bool:
        """Whether another step would find nothing new."""

    @property
    def is_busy(self) -> bool:
        """Whether the step was not taken because too many queries wait."""

    @property
    def examined(self) -> int:
        """Rows that were looked at."""

    @property
    def watermarks(self) -> tuple[int, int] | None:
        """What the first and the last snapshot reflect."""

    def result(self, core: Any) -> Any:
        """Return what was found, in the terms of this process."""


class Queries:
    """Asks queries."""

    def __init__(
        self,
        ask: Callable[..., Awaitable[Any]],
        core: object,
        standing: Callable[[], Standing],
    ) -> None:
        """Join what is needed.

        Args:
            ask: Asks the index; see `questions`.
            core: `_core.Engine`, which knows the hops by number.
            standing: Tells what the index does not know.
        """
        self._ask = ask
        self._core = core
        self._standing = standing

    async def page(
        self,
        kind: str,
        where: Filter,
        select: Sequence[Property],
        sort: Iterable[Sort],
        cursor: str | None,
        limit: int,
        deadline_s: float,
    ) -> Page:
        """Return a page; `kind` is `query_messages` or `query_queues`."""
        names = [str(prop) for prop in select]
        order = [(str(one.prop), one.is_descending) for one in sort]
        after = decode_cursor(cursor)
        ended = await self._run(deadline_s, kind, where.tree, self._standing(), names, order, after, limit)
        found, following = ended.result(self._core)
        rows: tuple[Row, ...] = tuple(dict(zip(names, values, strict=True)) for values in found)
        return Page(rows=rows, next=encode_cursor(following), **_about(ended))

    async def count(self, table: str, where: Filter, deadline_s: float) -> Total:
        """Return how many rows there are."""
        ended = await self._run(deadline_s, "count", table, where.tree, self._standing())
        count, size_bytes = ended.result(self._core)
        return Total(count=count, size_bytes=size_bytes, **_about(ended))

    async def group(self, table: str, by: Property, where: Filter, top: int, deadline_s: float) -> Groups:
        """Return how many rows have which value."""
        ended = await self._run(deadline_s, "group", table, where.tree, self._standing(), str(by), top)
        groups, others, is_exact, (count, size_bytes) = ended.result(self._core)
        return Groups(
            groups=tuple(Group(*group) for group in groups),
            others=Group(None, *others),
            is_exact=is_exact,
            count=count,
            size_bytes=size_bytes,
            **_about(ended),
        )

    async def _run(self, deadline_s: float, kind: str, *arguments: Any) -> Execution:
        """Go on until the query is complete or its time is up; at least one step is taken."""
        deadline = trio.current_time() + deadline_s
        execution: Execution = await self._ask(kind, *arguments, STEP_ROWS, STEP_MS)
        while not execution.is_complete:
            is_late = trio.current_time() >= deadline
            if execution.is_busy:
                if is_late and execution.watermarks is None:
                    raise Unavailable(BUSY_S, "too many queries at once")
                await trio.sleep(BUSY_S)
            if is_late:
                break
            execution = await self._ask("go_on", execution, STEP_ROWS, STEP_MS)
        return execution


class Queryable:
    """What can be asked of an engine, and of a spool without one.

    Raises, of every method: `QueryRefused` if the question cannot be asked, before anything is looked at;
    `Unavailable` if the index cannot be read now; `EngineStopping`.
    """

    _queries: Queries

    async def query_messages(
        self,
        where: Filter = EVERYTHING,
        *,
        select: Sequence[MessageProperty] = tuple(MessageProperty),
        sort: Iterable[Sort] = (),
        cursor: str | None = None,
        limit: int = LIMIT,
        deadline_s: float = DEADLINE_S,
    ) -> Page:
        """Return a page of messages, one row per message and next hop; oldest first unless sorted.

        It reflects everything that was submitted or recorded before. A page that is not sorted costs the rows
        up to its last; a sorted one all that the filter might mean.

        Args:
            where: Which.
            select: What is told of each; the fewer the cheaper.
            sort: At most four.
            cursor: `Page.next` of the page before, with the same sort.
            limit: Rows at most, up to 10,000.
            deadline_s: After which the page is returned as it is.
        """
        return await self._queries.page("query_messages", where, select, sort, cursor, limit, deadline_s)

    async def query_queues(
        self,
        where: Filter = EVERYTHING,
        *,
        select: Sequence[QueueProperty] = tuple(QueueProperty),
        sort: Iterable[Sort] = (),
        cursor: str | None = None,
        limit: int = LIMIT,
        deadline_s: float = DEADLINE_S,
    ) -> Page:
        """Return a page of queues that have messages or a state of their own; see `query_messages`."""
        return await self._queries.page("query_queues", where, select, sort, cursor, limit, deadline_s)

    async def count(self, where: Filter = EVERYTHING, *, deadline_s: float = DEADLINE_S) -> Total:
        """Return how many messages there are, once per next hop, and their octets.

        The count goes over successive snapshots. By queue alone it is answered from counters, at once.
        """
        return await self._queries.count("messages", where, deadline_s)

    async def group(
        self,
        by: Property,
        where: Filter = EVERYTHING,
        *,
        top: int = TOP,
        deadline_s: float = DEADLINE_S,
    ) -> Groups:
        """Return how many messages, or queues if `by` is of queues, have which value; the `top` largest.

        A message with recipients in several domains counts once in each. Like `count` for the rest.
        """
        table = "queues" if isinstance(by, QueueProperty) else "messages"
        return await self._queries.group(table, by, where, top, deadline_s)


def _about(execution: Execution) -> dict[str, Any]:
    return {
        "is_complete": execution.is_complete,
        "examined": execution.examined,
        "watermarks": execution.watermarks or (0, 0),
    }
