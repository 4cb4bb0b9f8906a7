"""STARTTLS on the server's side (RFC 3207): what is forgotten, and what holds afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.smtp import replies
from penstock.smtp.tables import ServerState
from penstock.smtp.terms import ServerTerms

if TYPE_CHECKING:
    from penstock.smtp.policy import Policy
    from penstock.smtp.server_session import ServerSession

__all__ = ["begin_anew", "secured", "start"]

Action: TypeAlias = tuple[Any, ...]


def start(session: ServerSession, turn: int, tls: int, actions: list[Action]) -> None:
    """Answer STARTTLS with 220 and have the handshake made; nothing of before is known any more.

    Args:
        session: One whose STARTTLS is in order.
        turn: The event's turn.
        tls: The number under which core knows what is shown.
        actions: Where the answer goes.
    """
    begin_anew(session)
    actions.append(("start_tls", session.conn, turn, tls, session.told(replies.START_TLS)))


def secured(
    session: ServerSession,
    turn: int,
    terms: ServerTerms,
    banner: bytes,
    actions: list[Action],
    *,
    policy: Policy,
) -> None:
    """Go on in TLS: after STARTTLS the client greets us again (RFC 3207 4.2).

    Args:
        session: One whose handshake is finished.
        turn: The event's turn.
        terms: What holds in TLS.
        banner: What is said first where the connection began with TLS; nothing after STARTTLS.
        actions: Where it goes.
        policy: What a peer may do that has not said who it is.
    """
    session.terms = terms
    session.policy = policy
    session.is_secure = True
    session.grants = {} if terms.requires_authentication else terms.grants
    actions.append(("reply", session.conn, turn, banner, 1, 0, False))


def begin_anew(session: ServerSession) -> None:
    """Forget all that was said; of a content in chunks net forgets what it has by itself."""
    session.state = ServerState.START
    session.greeting = ""
    session.is_extended = False
    session.sender = ""
    session.is_eight_bit = False
    session.asked = None
    session.size_declared = 0
    session.recipients = {}
    session.accepted_rcpts = 0
    session.reports = {}
    session.forwarded = {}
    session.is_chunked = session.has_chunks = False
    session.announced = 0
    session.login = ""
    session.exchange = None
