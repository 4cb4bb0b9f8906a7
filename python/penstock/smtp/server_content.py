"""What is said to content: whether it may be kept, and how often that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.smtp import replies
from penstock.smtp.terms import ServerTerms

if TYPE_CHECKING:
    from penstock.smtp.server_session import ServerSession

__all__ = ["refusal_of", "to_each"]


def refusal_of(terms: ServerTerms, status: str, received: int, header_bytes: int) -> bytes | None:
    """Return the reply that refuses content; None if it may be committed.

    Args:
        terms: What holds for the session.
        status: What net says of it.
        received: How many Received fields it has.
        header_bytes: Octets of its header section.
    """
    if status != "complete":
        return _REFUSALS[status]
    if received > terms.max_hops:
        return replies.CONTENT_TOO_MANY_HOPS
    if header_bytes > terms.max_header_bytes:
        return replies.CONTENT_HEADER_TOO_LARGE
    return None


def to_each(session: ServerSession, reply: bytes) -> bytes:
    """Return the reply to the end of content as often as it is due.

    RFC 2033 4.2: in LMTP once for each RCPT that was accepted, in their order, also for one that named the
    same address again. They are alike: a message is kept for all of its recipients or for none.
    """
    return reply * session.accepted_rcpts if session.terms.is_lmtp else reply


_REFUSALS: Final = {
    "too_large": replies.CONTENT_TOO_LARGE,
    "bad_line_ending": replies.CONTENT_BAD_LINE_ENDING,
    "nul": replies.CONTENT_NUL,
    "starved": replies.INSUFFICIENT_STORAGE,
}
