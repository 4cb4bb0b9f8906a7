"""What net is told of a receive connector, beside its limits."""

from __future__ import annotations

from typing import Final

from penstock.receive.settings import MESSAGE_BYTES_MAX, ReceiveConnectorSettings
from penstock.route.permissions import Right
from penstock.smtp import replies
from penstock.smtp.extensions import Extensions
from penstock.smtp.parameters import CHANGED_BCC, CHANGED_LINE_FEEDS

__all__ = ["largest", "limits_of", "standard_replies", "switches"]

REPLY_LINE_MAX: Final = 512
"""Octets of a reply of one line (RFC 5321 4.5.3.1.5)."""
OUTPUT_BYTES: Final = 64 * 1024
"""Octets that may wait for a peer, where one reply is one."""


def largest(settings: ReceiveConnectorSettings) -> int:
    """Return how large a message may be; without the connector's limit there is still that of the engine."""
    is_limited = Right.BYPASS_MESSAGE_SIZE_LIMIT not in settings.rights
    return settings.max_message_bytes if is_limited else MESSAGE_BYTES_MAX


def standard_replies(settings: ReceiveConnectorSettings) -> tuple[bytes, bytes, int]:
    """Return the replies that net may give by itself."""
    sender = replies.SENDER_OK
    if not settings.extensions.enhanced_status_codes:
        sender = replies.without_codes(sender)
    return sender, replies.START_CONTENT, largest(settings)


def limits_of(settings: ReceiveConnectorSettings) -> dict[str, int]:
    """Return what net holds a connection to, and what it changes of content."""
    limits = {
        "idle_ms": settings.connection_inactivity_timeout_ms,
        "total_ms": settings.connection_timeout_ms,
        # One more than allowed, so that a section that is too large is seen to be.
        "header_bytes": settings.max_header_bytes + 1,
        "handshake_ms": settings.tls_handshake_timeout_ms,
        "is_lenient": int(settings.lenient_syntax),
        "changes": CHANGED_BCC * settings.submission_fixups
        | CHANGED_LINE_FEEDS * (settings.bare_linefeed == "normalise"),
        **switches(settings.extensions),
    }
    if settings.min_throughput_bytes_s is not None:
        limits["min_rate_bytes_s"] = settings.min_throughput_bytes_s
        limits["rate_window_ms"] = limits["command_ms"] = settings.min_throughput_grace_ms
    if settings.is_lmtp:
        # The reply to a content is one for each recipient.
        limits["output_bytes"] = OUTPUT_BYTES + settings.max_recipients_per_message * REPLY_LINE_MAX
    return limits


def switches(extensions: Extensions) -> dict[str, int]:
    """Return what net has to know of the extensions."""
    return {
        "takes_utf8": int(extensions.smtp_utf8),
        "takes_size": int(extensions.takes_size),
        "takes_body": int(extensions.eight_bit_mime),
        "takes_codes": int(extensions.enhanced_status_codes),
    }
