"""What the control API can be asked, and the shape of what it answers.

The engine offers `Views`; the typed dictionaries say what the JSON objects hold. Times are RFC 3339 UTC with
milliseconds, durations `_ms`, sizes `_bytes`. A key is never left out: what is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

__all__ = [
    "Alarm",
    "BadCursor",
    "Entry",
    "Listener",
    "Message",
    "MessageDetail",
    "MessageItem",
    "MessagePage",
    "QueueItem",
    "QueuePage",
    "QueueType",
    "Reason",
    "Recipient",
    "RecipientState",
    "Snapshot",
    "Spool",
    "State",
    "Status",
    "Views",
    "Waiting",
]

QueueType: TypeAlias = Literal["SmartHost", "Maildir", "Unreachable", "Poison"]
QueueStatus: TypeAlias = Literal["Active", "Connecting", "Ready", "Retry", "Suspended"]
State: TypeAlias = Literal["starting", "ready", "draining", "failed"]
EntryStatus: TypeAlias = Literal["Ready", "Active", "Retry", "Suspended"]
RecipientState: TypeAlias = Literal["pending", "delivered", "relayed", "failed", "expired", "removed"]
Reason: TypeAlias = Literal[
    "active",
    "ready",
    "limit_connections",
    "limit_rate",
    "limit_quota",
    "queue_retry",
    "message_retry",
    "connector_held",
    "queue_suspended",
    "message_suspended",
    "unreachable",
    "release_time",
    "in_doubt",
    "poison",
    "back_pressure",
]


class BadCursor(Exception):
    """A cursor is not one that this daemon has given out."""


class Snapshot(TypedDict):
    """When a page was true."""

    watermark: int
    """Position in the log that the page reflects."""
    at: str
    """The daemon's time."""


class QueueItem(TypedDict):
    """One delivery queue: everything that waits for one next hop."""

    id: int
    """Number of the queue; valid until the daemon ends."""
    identity: str
    """`SERVER\\NAME`."""
    name: str
    """The next hop as operators know it: a connector, a domain, `Unreachable` or `Poison`."""
    connector: str | None
    """The send connector; null for Maildirs, Unreachable and Poison."""
    type: QueueType
    """`SmartHost`, `Maildir`, `Unreachable`, or `Poison` for what was set aside."""
    status: QueueStatus
    """`Active`, `Connecting`, `Ready`, `Retry` or `Suspended`."""
    count: int
    """Messages in it."""
    size_bytes: int
    """Their content."""
    oldest_at: str | None
    """When the oldest was accepted."""
    next_retry_at: str | None
    """When the next hop is tried again; null unless the status is Retry."""
    retry_count: int
    """Failures in a row of the next hop as a whole."""
    last_error: str | None
    """What the last failure was."""


class QueuePage(TypedDict):
    """Answer of GET /v1/queues, in no particular order."""

    items: list[QueueItem]
    """All queues that hold something."""
    complete: bool
    """False when the deadline of the query came first."""
    snapshot: Snapshot
    """When this was so."""


class Recipient(TypedDict):
    """One recipient of a message, as far as its queue knows."""

    address: str
    """Forward-path without brackets."""
    state: RecipientState
    """`pending`, `delivered`, `relayed`, `failed`, `expired` or `removed`."""
    reply: str | None
    """The last reply for it, such as `451 4.2.1 mailbox busy`."""


_Sender = TypedDict("_Sender", {"from": str})
"""Reverse-path without brackets; empty for the null reverse-path."""


class Message(_Sender):
    """What is the same for all queues that a message waits in."""

    queue_id: str
    """13 base-32 characters."""
    subject: str | None
    """As received, encoded words and all."""
    message_id: str | None
    """Message-ID with its brackets."""
    size_bytes: int
    """Content with our trace header."""
    received_at: str
    """When it was accepted."""
    connector: str | None
    """The receive connector; null for what the engine made itself, such as a DSN."""
    peer: str | None
    """The address it came from."""
    parameters: list[str]
    """What its MAIL asked for, such as `RET=HDRS`, decoded."""
    changed: list[str]
    """What was changed of its content on its way in: `fixups`, `linefeed`, `bcc`."""


class Entry(TypedDict):
    """A message in one queue."""

    identity: str
    """`SERVER\\QUEUE\\ID`."""
    queue: str
    """The queue's name."""
    status: EntryStatus
    """`Ready`, `Active`, `Retry` or `Suspended`."""
    reason: Reason
    """Why it waits; one of the closed set below."""
    attempts: int
    """Deliveries tried."""
    next_try_at: str | None
    """When it is tried next; null while it is active or nothing is planned."""
    expires_at: str
    """When it is given up."""
    in_doubt: bool
    """Whether the peer may have it already."""
    last_error: str | None
    """The last reply or failure."""
    recipients: list[Recipient]
    """Those that go to this queue; in a list the first 10."""
    recipient_count: int
    """How many there are."""


class MessageItem(Message, Entry):
    """One row of GET /v1/messages: a message in one queue."""


class MessagePage(TypedDict):
    """Answer of GET /v1/messages, oldest first."""

    items: list[MessageItem]
    """One per message and queue."""
    next: str | None
    """Cursor of the next page; null at the end."""
    complete: bool
    """False when the deadline of the query came first."""
    snapshot: Snapshot
    """When this was so."""


class MessageDetail(Message):
    """Answer of GET /v1/messages/{identity}."""

    entries: list[Entry]
    """One per queue it waits in, with all recipients."""
    snapshot: Snapshot
    """When this was so."""


class Listener(TypedDict):
    """An address on which mail is taken."""

    address: str
    """`127.0.0.1:25`, `[::1]:25`."""
    connectors: list[str]
    """The receive connectors behind it."""


class Waiting(TypedDict):
    """What is queued."""

    messages: int
    """Messages x next hop."""
    queues: int
    """Queues that hold something."""
    oldest_at: str | None
    """When the oldest was accepted."""
    ready: int
    """Entries that may be sent now."""
    active: int
    """Entries being sent."""
    retry: int
    """Entries that wait for another try."""
    suspended: int
    """Entries that wait for an operator."""
    unreachable: int
    """Those of all that have no next hop."""


class Spool(TypedDict):
    """The disk under it."""

    path: str
    """Directory of the spool."""
    free_bytes: int
    """Free space of its file system."""
    refuse_mail_below_bytes: int
    """New mail is refused below this."""
    is_failed: bool
    """Whether a sync has failed, so that nothing is accepted any more."""


class Alarm(TypedDict):
    """Something that an operator should do something about."""

    name: str
    """Short and stable, such as `spool_failed`."""
    message: str
    """One sentence."""


class Status(TypedDict):
    """Answer of GET /v1/status."""

    server: str
    """First part of identities."""
    version: str
    """Version of Penstock."""
    pid: int
    """Process of the daemon."""
    profile: str
    """Profile of its configuration."""
    generation: int
    """Configuration generation in force."""
    state: State
    """`starting`, `ready`, `draining` or `failed`."""
    at: str
    """The daemon's time."""
    started_at: str
    """When it started."""
    listeners: list[Listener]
    """Where mail is taken."""
    send_connectors: list[str]
    """Enabled send connectors."""
    sessions: int
    """Incoming connections now."""
    accepted: int
    """Messages accepted since the start."""
    delivered: int
    """Recipients delivered since the start."""
    failed: int
    """Recipients failed or expired since the start."""
    in_doubt: int
    """Entries that became in doubt since the start, those found at the start included."""
    waiting: Waiting
    """What is queued."""
    spool: Spool
    """The disk under it."""
    alarms: list[Alarm]
    """What needs an operator; usually empty."""


class Views(Protocol):
    """What the engine offers. Called in the engine's Trio thread; must not block."""

    async def status(self) -> Mapping[str, Any]:
        """Return a `Status`."""

    async def queues(self) -> Mapping[str, Any]:
        """Return a `QueuePage`."""

    async def messages(self, *, queue: str | None, limit: int, cursor: str | None) -> Mapping[str, Any]:
        """Return a `MessagePage`.

        Args:
            queue: Identity of a queue, see `identity.find_queue`; None or `*` for all.
            limit: Rows at most, 1 to 10,000; the rows of one message are never split.
            cursor: `next` of an earlier page, or None.

        Raises:
            NotFound: There is no such queue.
            Ambiguous: The queue's name fits several.
            BadCursor: The cursor is none of ours.
        """

    async def message(self, identity: str) -> Mapping[str, Any]:
        """Return a `MessageDetail`; with a queue in the identity, that entry alone.

        Raises:
            NotFound: There is no such message, or not in that queue.
            Ambiguous: The queue's name fits several.
        """

    def is_ready(self) -> bool:
        """Return whether mail is taken: not before recovery, not while draining, not after a failed sync."""

    def metrics(self) -> bytes:
        """Return Prometheus' text format, version 0.0.4."""
