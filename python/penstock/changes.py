"""What operators can ask to be changed, and what they are told: plain values.

`edits` makes the changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "Edit",
    "EntryRef",
    "Expire",
    "Prioritise",
    "Progress",
    "QueueAction",
    "QueueState",
    "Redirect",
    "Remove",
    "Result",
    "Resume",
    "Retry",
    "Suspend",
    "Targets",
    "Waiting",
    "check_text",
    "is_so",
    "progress",
]

VERSION: Final = 16
"""Where in a row of the index an entry's version is."""
SUSPENDED: Final = 17
"""Where what keeps it from being tried is."""

QueueAction: TypeAlias = Literal["suspend", "resume", "retry"]
Result: TypeAlias = Literal["done", "unchanged", "conflict", "gone", "active", "busy"]


@dataclass(frozen=True, slots=True)
class Suspend:
    """Begin no attempt until it is resumed. An attempt that is under way goes on; its expiry clock too."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Try again when it is due."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Deliver no copy.

    Attributes:
        with_dsn: Whether the sender is told, if it is to be told of failures at all.
    """

    with_dsn: bool = True


@dataclass(frozen=True, slots=True)
class Redirect:
    """Deliver by way of another queue.

    Attributes:
        queue: Name of a send connector, or of a domain with a Maildir.
    """

    queue: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Give it up at another time.

    Attributes:
        expires_ms: When, Unix milliseconds.
    """

    expires_ms: int


@dataclass(frozen=True, slots=True)
class Prioritise:
    """Give it another place among others.

    Attributes:
        priority: The priority.
    """

    priority: Literal["high", "normal", "low"]


@dataclass(frozen=True, slots=True)
class Retry:
    """Try it now, whatever it was to wait for; what is suspended stays so."""


Edit: TypeAlias = Suspend | Resume | Remove | Redirect | Expire | Prioritise | Retry


class EntryRef(NamedTuple):
    """An entry.

    Attributes:
        queue_id: Its message.
        hop: Number of its next hop.
        version: The version that was seen, as the index tells it: the edit is refused if the entry has
            moved on. None edits it as it is.
    """

    queue_id: int
    hop: int
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Everything that waits in a queue, page by page, in the order of queue ids.

    Attributes:
        hop: Number of the next hop.
        after: Queue id behind which to begin; None for the first.
    """

    hop: int
    after: int | None = None


Targets: TypeAlias = "Waiting | Iterable[EntryRef] | AsyncIterable[EntryRef]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an edit of messages has come.

    Attributes:
        looked: Entries that were looked at.
        done: Entries that were changed, or in a dry run would be.
        unchanged: Entries that were so already.
        conflicts: Entries that have moved on since their version was seen.
        gone: Entries that are not there any more.
        active: Entries with an attempt under way, whose outcome wins.
        busy: Entries that could not be changed now; nothing has happened to them.
        last: The last entry that was looked at, to go on behind; None if there was none.
    """

    looked: int
    done: int
    unchanged: int
    conflicts: int
    gone: int
    active: int
    busy: int
    last: EntryRef | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A delivery queue after an action.

    Attributes:
        queue: Its name.
        is_suspended: Whether it is suspended.
        changed: Whether the action has changed something.
    """

    queue: str
    is_suspended: bool
    changed: bool


def is_so(given: tuple[Any, ...], row: tuple[Any, ...]) -> bool:
    """Whether an entry is already as an edit wants it; the row is one of the index."""
    match given:
        case ("suspend", _):
            return row[SUSPENDED] is not None
        case ("resume",):
            return row[SUSPENDED] is None
        case ("redirect", hop, _):
            return bool(row[1] == hop)
        case ("expire", expires_ms):
            return bool(row[6] == expires_ms)
        case ("prioritise", priority):
            return bool(row[2] == priority)
        case ("due", due_ms):
            return bool(row[4] == due_ms)
        case _:
            return False


def progress(counts: Counter[Result], last: EntryRef | None) -> Progress:
    """Return how far an edit has come."""
    return Progress(
        looked=counts.total(),
        done=counts["done"],
        unchanged=counts["unchanged"],
        conflicts=counts["conflict"],
        gone=counts["gone"],
        active=counts["active"],
        busy=counts["busy"],
        last=last,
    )


def check_text(field: str, text: str) -> None:
    """Refuse text that could not be shown on one line.

    Raises:
        ValueError: It has control characters.
    """
    if not text.isprintable():
        raise ValueError(f"{field} has control characters")
