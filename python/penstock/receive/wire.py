"""What net is told of a receive connector, beside its limits."""

from __future__ import annotations

from typing import Final

from penstock.receive.settings import MESSAGE_BYTES_MAX, ReceiveConnectorSettings
from penstock.route.permissions import Right, rights_of
from penstock.smtp import replies
from penstock.smtp.extensions import Extensions

__all__ = ["largest", "output_limit", "standard_replies", "switches"]

REPLY_LINE_MAX: Final = 512
"""Octets of a reply of one line (RFC 5321 4.5.3.1.5)."""
OUTPUT_BYTES: Final = 64 * 1024
"""Octets that may wait for a peer, where one reply is one."""


def largest(settings: ReceiveConnectorSettings) -> int:
    """Return how large a message may be; without the connector's limit there is still that of the engine."""
    is_limited = Right.BYPASS_MESSAGE_SIZE_LIMIT not in rights_of(settings.groups)
    return settings.max_message_bytes if is_limited else MESSAGE_BYTES_MAX


def standard_replies(settings: ReceiveConnectorSettings) -> tuple[bytes, bytes, int]:
    """Return the replies that net may give by itself."""
    sender = replies.SENDER_OK
    if not settings.extensions.enhanced_status_codes:
        sender = replies.without_codes(sender)
    return sender, replies.START_CONTENT, largest(settings)


def output_limit(settings: ReceiveConnectorSettings) -> dict[str, int]:
    """Return how much may wait for a peer, where the reply to a content is one for each recipient."""
    if not settings.is_lmtp:
        return {}
    return {"output_bytes": OUTPUT_BYTES + settings.max_recipients_per_message * REPLY_LINE_MAX}


def switches(extensions: Extensions) -> dict[str, int]:
    """Return what net has to know of the extensions."""
    return {
        "takes_utf8": int(extensions.smtp_utf8),
        "takes_size": int(extensions.takes_size),
        "takes_body": int(extensions.eight_bit_mime),
        "takes_codes": int(extensions.enhanced_status_codes),
    }
