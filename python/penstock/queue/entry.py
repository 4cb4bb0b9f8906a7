"""An entry: one message on its way to one next hop, as far as it is held in memory."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

__all__ = ["Entry", "Message", "Params", "Recipient", "StoredMessage", "entry_of"]

Recipient: TypeAlias = tuple[int, str, int, "str | None"]
"""Index in the message, address, notify bits, original recipient."""
Params: TypeAlias = (
    "tuple[int | None, str | None, bool] | tuple[int | None, str | None, bool, tuple[Any, ...]]"
)
"""RET, ENVID, whether BODY=8BITMIME was given, and what else MAIL asked for, if anything."""
Row: TypeAlias = tuple[Any, ...]
"""An entry as the index tells it."""


class Message(Protocol):
    """What delivery knows of a message; all its entries share one."""

    @property
    def queue_id(self) -> int:
        """Its queue id."""

    @property
    def lsn(self) -> int:
        """Where the log has it; 0 for what came from the index."""

    @property
    def sender(self) -> str:
        """The reverse-path, empty for the null one."""

    @property
    def received_ms(self) -> int:
        """When it was accepted."""

    @property
    def size(self) -> int:
        """Octets."""

    @property
    def flags(self) -> int:
        """What is known of its content."""

    @property
    def params(self) -> Params:
        """Parameters of MAIL."""


class StoredMessage:
    """A message whose facts came from the index, or that was made here."""

    __slots__ = ("flags", "lsn", "params", "queue_id", "received_ms", "sender", "size")

    def __init__(
        self, queue_id: int, lsn: int, sender: str, received_ms: int, size: int, flags: int, params: Params
    ) -> None:
        """Note what is known."""
        self.queue_id = queue_id
        self.lsn = lsn
        self.sender = sender
        self.received_ms = received_ms
        self.size = size
        self.flags = flags
        self.params = params


class Entry:
    """One message x one next hop.

    Attributes:
        queue_id: The message's queue id.
        hop: Number of the next hop.
        message: What is known of the message.
        recipients: Those that are left.
        expires_ms: When it is to be given up, Unix milliseconds.
        attempts: Attempts begun before this one.
        began_ms: When the present attempt began; 0 if none did.
        resends: How often a connection that ended before it said anything of it took it along.
        is_edited: Whether an operator has changed it in the index after it was read.
        is_joined: Whether recipients were added in the index after it was read, so that there is more to do
            for it than is known here.
    """

    __slots__ = (
        "attempts",
        "began_ms",
        "expires_ms",
        "hop",
        "is_edited",
        "is_joined",
        "message",
        "queue_id",
        "recipients",
        "resends",
    )

    def __init__(
        self, message: Message, hop: int, recipients: list[Recipient], expires_ms: int, attempts: int = 0
    ) -> None:
        """Describe an entry that is not under way."""
        self.queue_id = message.queue_id
        self.hop = hop
        self.message = message
        self.recipients = recipients
        self.expires_ms = expires_ms
        self.attempts = attempts
        self.began_ms = 0
        self.resends = 0
        self.is_edited = False
        self.is_joined = False


def entry_of(row: Row) -> Entry:
    """Read an entry from a row of the index."""
    queue_id, hop, _, _, _, attempts, expires_ms, received_ms, sender, recipients, size, flags, *rest = row
    message = StoredMessage(queue_id, 0, sender, received_ms, size, flags, rest[2])
    return Entry(message, hop, recipients, expires_ms, attempts)
