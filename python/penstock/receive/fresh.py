"""A message that has just become durable, as it is handed on to delivery."""

from __future__ import annotations

from typing import TypeAlias

from penstock.smtp.parameters import EnvelopeParams

__all__ = ["Entry", "FreshMessage", "Recipient"]

Recipient: TypeAlias = tuple[int, str, int, "str | None"]
"""Index in the message, address, notify bits, original recipient."""
Entry: TypeAlias = tuple[int, list[Recipient], int, int, int]
"""Hop, recipients, priority, due and expiry in Unix milliseconds."""


class FreshMessage:
    """What delivery needs to know of a message, so that it need not ask the index.

    Attributes:
        queue_id: Its queue id.
        lsn: Where the log has it; 0 until it is durable.
        sender: The reverse-path, empty for the null one.
        received_ms: When it was accepted.
        size: Octets, our trace header included.
        flags: What is known of its content.
        form: `wire` or `plain`.
        message_id: Its Message-ID field, or empty.
        params: RET, ENVID, whether BODY=8BITMIME was given, and what else MAIL asked for, if anything.
        entries: One per next hop.
    """

    __slots__ = (
        "entries",
        "flags",
        "form",
        "lsn",
        "message_id",
        "params",
        "queue_id",
        "received_ms",
        "sender",
        "size",
    )

    def __init__(
        self,
        queue_id: int,
        sender: str,
        received_ms: int,
        size: int,
        flags: int,
        form: str,
        message_id: str,
        params: EnvelopeParams,
        entries: list[Entry],
    ) -> None:
        """Describe a message that is being committed."""
        self.queue_id = queue_id
        self.lsn = 0
        self.sender = sender
        self.received_ms = received_ms
        self.size = size
        self.flags = flags
        self.form = form
        self.message_id = message_id
        self.params = params
        self.entries = entries
