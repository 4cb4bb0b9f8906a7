"""What net is told of a receive connector, beside its limits."""

from __future__ import annotations

from penstock.receive.settings import MESSAGE_BYTES_MAX, ReceiveConnectorSettings
from penstock.route.permissions import Right, rights_of
from penstock.smtp import replies
from penstock.smtp.extensions import Extensions

__all__ = ["largest", "standard_replies", "switches"]


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


def switches(extensions: Extensions) -> dict[str, int]:
    """Return what net has to know of the extensions."""
    return {
        "takes_utf8": int(extensions.smtp_utf8),
        "takes_size": int(extensions.takes_size),
        "takes_body": int(extensions.eight_bit_mime),
        "takes_codes": int(extensions.enhanced_status_codes),
    }
