"""What delivery needs of others, as narrow as it uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from penstock.queue.entry import Message, Recipient

__all__ = [
    "Action",
    "Core",
    "Count",
    "Event",
    "Fact",
    "Fresh",
    "HopKey",
    "Journal",
    "Means",
    "Route",
    "Router",
]

Event: TypeAlias = tuple[Any, ...]
Action: TypeAlias = tuple[Any, ...]
Fact: TypeAlias = tuple[Any, ...]
HopKey: TypeAlias = tuple[str, str, str]
"""Connector, kind, destination."""


class Core(Protocol):
    """What is needed of `_core.Engine`; its stub says what each does."""

    def dial(self, ip: str, port: int, source: str | None, limits: int) -> int: ...  # noqa: D102
    def client_limits(self, limits: dict[str, int]) -> int: ...  # noqa: D102
    def hop(self, connector: str, kind: str, destination: str) -> int: ...  # noqa: D102
    def draft(self, size_hint: int) -> int: ...  # noqa: D102
    def write_draft(self, draft: int, chunk: bytes) -> bool: ...  # noqa: D102
    def drop_draft(self, draft: int) -> None: ...  # noqa: D102
    def commit(  # noqa: D102
        self,
        draft: int,
        envelope: tuple[Any, ...],
        prepend: bytes,
        form: Literal["wire", "plain"],
        cause: list[Fact],
        notes: tuple[tuple[str, str], ...],
    ) -> int: ...
    def append(self, facts: list[Fact]) -> int: ...  # noqa: D102
    def suspended_queues(self) -> list[tuple[int, str, str, int]]: ...  # noqa: D102
    def request(self, kind: str, *arguments: Any) -> int: ...  # noqa: D102


class Route(Protocol):
    """Where a recipient's mail goes."""

    @property
    def hop(self) -> HopKey:
        """The next hop."""


class Router(Protocol):
    """What is needed of `route.Router`."""

    def route(self, address: str, domain: str, /) -> Route:
        """Return the next hop of a recipient; there always is one, if only Unreachable."""


class Fresh(Message, Protocol):
    """A message that has just become durable."""

    @property
    def entries(self) -> list[tuple[int, list[Recipient], int, int, int]]:
        """Hop, recipients, priority, due and expiry, one for each next hop."""


class Count(Protocol):
    """Counts something under a name of the metrics' catalogue."""

    def __call__(self, name: str, /, *labels: str) -> None: ...  # noqa: D102


class Journal(Protocol):
    """Writes a line of the journal."""

    def __call__(self, event: str, now_ms: int, /, **fields: str | int | None) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What recording takes besides the core.

    Attributes:
        count: Counts under names of the metrics' catalogue.
        journal: Writes a line of the journal.
        format_queue_id: Writes a queue id as operators see it.
        content_flags: Says what is unusual about content.
        jitter: Gives numbers in [0, 1) by which retries are spread.
    """

    count: Count
    journal: Journal
    format_queue_id: Callable[[int], str]
    content_flags: Callable[[bytes], int]
    jitter: Callable[[], float]
