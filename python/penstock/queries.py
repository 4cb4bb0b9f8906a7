"""What can be asked about messages and queues, and what comes back.

A filter is built from comparisons with `&`, `|` and `~`:

    compare(MessageProperty.STATUS, "eq", "retry") & compare(MessageProperty.SENDER, "like", "*@a.example")

Texts compare without regard to case. A message has one row per next hop for which it waits. Of several values
(recipients) one is enough for a comparison; `ne` means that none is equal. What a row does not have is
neither equal to anything nor less nor greater. Types are checked when the question is asked, before anything
is looked at.

Nothing here does anything: an engine (`Engine.query_messages` and its neighbours) and a spool without one
(`open_spool`) answer.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from penstock.errors import QueryRefused

__all__ = [
    "EVERYTHING",
    "Filter",
    "Group",
    "Groups",
    "MessageProperty",
    "Operator",
    "Page",
    "Property",
    "QueueProperty",
    "Row",
    "Sort",
    "Total",
    "Value",
    "among",
    "compare",
    "decode_cursor",
    "encode_cursor",
    "is_null",
]


class MessageProperty(StrEnum):
    """Properties of messages; times are Unix milliseconds."""

    QUEUE_ID = "queue_id"
    HOP = "hop"
    """The number of the next hop in this process."""
    QUEUE = "queue"
    """The queue's name: its connector if that has smart hosts, else its destination, or `Unreachable`."""
    SEND_CONNECTOR = "send_connector"
    DELIVERY_TYPE = "delivery_type"
    """`smart_host`, `domain`, `maildir`, `unreachable` or `poison`."""
    DESTINATION = "destination"
    STATUS = "status"
    """`active`, `ready`, `retry` or `suspended`."""
    REASON = "reason"
    """`active`, `in_doubt`, `message_retry`, `message_suspended`, `poison`, `queue_retry`, `queue_suspended`,
    `ready` or `unreachable`."""
    SIZE_BYTES = "size_bytes"
    LAST_ERROR = "last_error"
    """The last reply to one of its recipients, or why its queue is in retry."""
    LAST_CODE = "last_code"
    LAST_ENHANCED = "last_enhanced"
    DUE_MS = "due_ms"
    RECEIVED_MS = "received_ms"
    LATENCY_MS = "latency_ms"
    """How long ago it was taken, milliseconds."""
    EXPIRES_MS = "expires_ms"
    ATTEMPTS = "attempts"
    PRIORITY = "priority"
    """`high`, `normal` or `low`; sorted in this order."""
    IN_DOUBT = "in_doubt"
    SENDER = "sender"
    """The reverse-path; an empty text for the null one."""
    SENDER_DOMAIN = "sender_domain"
    SUBJECT = "subject"
    MESSAGE_ID = "message_id"
    SOURCE_IP = "source_ip"
    HELO = "helo"
    SESSION = "session"
    RECEIVE_CONNECTOR = "receive_connector"
    ENVID = "envid"
    RECIPIENT = "recipient"
    """Those that are left to do; a row tells the first 100."""
    RECIPIENT_DOMAIN = "recipient_domain"
    RECIPIENT_COUNT = "recipient_count"


class QueueProperty(StrEnum):
    """Properties of queues; times are Unix milliseconds."""

    HOP = "hop"
    QUEUE = "queue"
    SEND_CONNECTOR = "send_connector"
    DELIVERY_TYPE = "delivery_type"
    DESTINATION = "destination"
    STATUS = "status"
    """`active`, `connecting`, `ready`, `retry` or `suspended`."""
    COUNT = "count"
    """Messages in it."""
    SIZE_BYTES = "size_bytes"
    LAST_ERROR = "last_error"
    FAILURES = "failures"
    """Tries that have failed since the last success."""
    NEXT_RETRY_MS = "next_retry_ms"
    DUE_MS = "due_ms"
    """When the first of its messages is due."""
    OLDEST_MS = "oldest_ms"
    """When the oldest of its messages was taken."""


Property: TypeAlias = MessageProperty | QueueProperty
Value: TypeAlias = str | int | bool
Row: TypeAlias = Mapping[str, Any]
"""What was asked for, by property: a text, a number, a flag or None; where there may be several, a tuple."""
Operator: TypeAlias = Literal["eq", "ne", "lt", "le", "gt", "ge", "like"]
"""How a property compares; `like` takes a text in which `*` stands for anything."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are meant.

    Attributes:
        tree: As `_core` has it; see `_core.pyi`.
    """

    tree: tuple[Any, ...]

    def __and__(self, other: Filter) -> Filter:
        """Both."""
        return Filter(("and", *_parts(self, "and"), *_parts(other, "and")))

    def __or__(self, other: Filter) -> Filter:
        """At least one of them."""
        return Filter(("or", *_parts(self, "or"), *_parts(other, "or")))

    def __invert__(self) -> Filter:
        """Not this."""
        return Filter(("not", self.tree))


EVERYTHING: Final = Filter(("and",))
"""All rows."""


def compare(prop: Property, operator: Operator, value: Value) -> Filter:
    """Return the rows whose property compares so with the value."""
    return Filter((operator, str(prop), value))


def among(prop: Property, values: Iterable[Value]) -> Filter:
    """Return the rows whose property is one of these."""
    return Filter(("in", str(prop), tuple(values)))


def is_null(prop: Property) -> Filter:
    """Return the rows that do not have the property."""
    return Filter(("null", str(prop)))


def _parts(part: Filter, word: str) -> tuple[Any, ...]:
    """Return what is joined by the same word: so a long chain is wide and not deep."""
    return part.tree[1:] if part.tree[0] == word else (part.tree,)


@dataclass(frozen=True, slots=True)
class Sort:
    """By what rows are sorted.

    Attributes:
        prop: Of several values the least counts, of a text its first 128 octets; what is not there comes
            first.
        is_descending: Whether the greatest comes first.
    """

    prop: Property
    is_descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What each answer tells of itself.

    Attributes:
        is_complete: Whether it says all; if not, the time was up.
        examined: Rows that were looked at.
        watermarks: What the first and the last snapshot reflect, as log sequence numbers. Between them
            rows may
            have come and gone.
    """

    is_complete: bool
    examined: int
    watermarks: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(_Found):
    """Rows, in order.

    Attributes:
        rows: They may be fewer than asked for although more follow. A sorted page that is not complete
            has none.
        next: Where to go on; None behind the last row. It stays good while rows come and go.
    """

    rows: tuple[Row, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total(_Found):
    """How many rows there are.

    Attributes:
        count: Rows.
        size_bytes: Octets of their messages.
    """

    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that have the same value.

    Attributes:
        value: The value; texts are in lower case, and cut after 128 octets. None for rows that do not
            have it.
        count: Rows.
        size_bytes: Octets of their messages.
    """

    value: Value | None
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups(Total):
    """How many rows have which value; `count` and `size_bytes` are of all rows, each once.

    Attributes:
        groups: Those with most rows, most first.
        others: All others together.
        is_exact: Whether `groups` are the largest for sure: not if there were more than 65,536.
    """

    groups: tuple[Group, ...]
    others: Group
    is_exact: bool


def encode_cursor(octets: bytes | None) -> str | None:
    """Return a cursor as text, fit for URLs."""
    return None if octets is None else base64.urlsafe_b64encode(octets).decode().rstrip("=")


def decode_cursor(text: str | None) -> bytes | None:
    """Return what is behind such a text.

    Raises:
        QueryRefused: It is no cursor.
    """
    if text is None:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise QueryRefused("cursor", "it is none") from None
