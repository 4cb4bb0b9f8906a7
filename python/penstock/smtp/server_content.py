"""What is said to content: why it is refused, and how often that, or that it is kept, is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.smtp import replies
from penstock.smtp.terms import ServerTerms

if TYPE_CHECKING:
    from penstock.smtp.server_session import ServerSession

__all__ = ["refusal_of", "to_each"]


def refusal_of(terms: ServerTerms, status: str, received: int) -> bytes:
    """Return the reply to content that is refused.

    Args:
        terms: What holds for the session.
        status: What net says of it.
        received: How many Received fields it has; if they are not too many, its header section is too large.
    """
    if status != "complete":
        return _REFUSALS[status]
    too_many = received > terms.max_hops
    return replies.CONTENT_TOO_MANY_HOPS if too_many else replies.CONTENT_HEADER_TOO_LARGE


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
