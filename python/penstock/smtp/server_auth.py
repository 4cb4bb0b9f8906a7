"""AUTH on the server's side (RFC 4954): when it may be said, how the exchange goes, what its end is told.

Net and the session's owner take turns: AUTH begins an exchange (`begin`), the mechanism's challenges and the
client's responses follow (`respond`, `line`), until there is a password to be verified or the exchange has
failed by itself. The owner verifies, and says `accept`, `refuse` or `put_off`. What is a secret here is held
by nobody longer than the call that hands it on.

A client that sends anything behind AUTH or a response does not wait for the reply that says how that would be
read, so the connection ends, whatever it has sent.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from penstock.smtp import replies
from penstock.smtp.sasl import MECHANISMS, Challenge, Password
from penstock.smtp.tables import ServerState

if TYPE_CHECKING:
    from penstock.smtp.policy import Policy
    from penstock.smtp.server_session import ServerSession

__all__ = ["accept", "begin", "line", "put_off", "refuse", "refuse_login", "respond"]

Action: TypeAlias = tuple[Any, ...]


def begin(session: ServerSession, mechanism: str) -> bytes:
    """Begin an exchange if AUTH may be said now; return nothing, or the reply that refuses it."""
    terms = session.terms
    if not terms.mechanisms:
        return replies.NOT_IMPLEMENTED
    if session.state is ServerState.START or not session.is_extended:
        return replies.GREET_WITH_LHLO if terms.is_lmtp else replies.GREET_WITH_EHLO
    if session.login:
        return replies.ALREADY_AUTHENTICATED
    if session.state not in _MAY_BEGIN:
        return replies.NOT_IN_TRANSACTION
    if terms.auth_requires_tls and not session.is_secure:
        return replies.ENCRYPTION_REQUIRED
    if mechanism not in terms.mechanisms:
        return replies.MECHANISM_UNKNOWN
    session.exchange = MECHANISMS[mechanism]()
    return b""


def respond(
    session: ServerSession, turn: int, response: bytes | None, early: bool, actions: list[Action]
) -> Password | None:
    """Tell the mechanism what the client has said, and the client what the mechanism says.

    Args:
        session: One whose exchange has begun.
        turn: The event's turn.
        response: What the client says, decoded; None for an AUTH without an initial response.
        early: Something came behind it.
        actions: Where the answer goes.

    Returns:
        A password to be verified, if the client has given one; the answer is then owed. Otherwise None, and
        the client has its answer.
    """
    if early:
        _end(session, turn, replies.EARLY_TALKER, actions)
        return None
    if session.exchange is None:
        raise AssertionError("invariant: a response belongs to an exchange")
    step = session.exchange.respond(response)
    if isinstance(step, Challenge):
        actions.append(("challenge", session.conn, turn, b"334 " + b64encode(step.octets) + b"\r\n"))
        return None
    session.exchange = None
    if isinstance(step, Password):
        return step
    refuse(session, turn, actions)
    return None


def line(
    session: ServerSession, turn: int, what: str, response: bytes, early: bool, actions: list[Action]
) -> Password | None:
    """Take the line that answers a challenge, well-formed or not; see `respond`.

    Args:
        session: One whose exchange has begun.
        turn: The event's turn.
        what: `response`, `cancel`, or what is wrong with the line.
        response: What the client says, decoded.
        early: Something came behind it.
        actions: Where the answer goes.
    """
    if what == "response" or early:
        return respond(session, turn, response, early, actions)
    session.exchange = None
    session.errors += 1
    reply = replies.AUTH_CANCELLED if what == "cancel" else replies.malformed_response(what)
    _answer(session, turn, reply, 0, actions)
    return None


def accept(
    session: ServerSession,
    turn: int,
    login: str,
    actions: list[Action],
    *,
    policy: Policy,
    grants: Mapping[ServerState, str],
) -> None:
    """Let the client be who it says it is, for the rest of the session.

    Args:
        session: One whose exchange has ended in a password that is right.
        turn: The event's turn.
        login: Who it is.
        actions: Where the answer goes.
        policy: What it may do.
        grants: What net may answer ahead under that.
    """
    session.login = login
    session.policy = policy
    session.grants = grants
    grant = session.grants.get(session.state)
    action = ("reply", session.conn, turn, session.told(replies.AUTHENTICATED), 1, 0, False)
    actions.append(action if grant is None else (*action, grant))


def refuse(session: ServerSession, turn: int, actions: list[Action]) -> None:
    """Say that it is not, in the same words whatever the reason; after some failures the session ends."""
    terms = session.terms
    session.logon_failures += 1
    if 0 < terms.max_logon_failures <= session.logon_failures:
        _end(session, turn, replies.TOO_MANY_LOGON_FAILURES, actions, terms.auth_tarpit_ms)
    else:
        _answer(session, turn, replies.AUTHENTICATION_FAILED, terms.auth_tarpit_ms, actions)


def refuse_login(
    session: ServerSession, turn: int, reply: bytes, actions: list[Action], *, delay_ms: int
) -> None:
    """Refuse a client who is who it says it is; a 5yz counts as a failure, and 421 ends the session.

    Args:
        session: One whose exchange has ended in a password that is right.
        turn: The event's turn.
        reply: What is said.
        actions: Where it goes.
        delay_ms: How long it is held back at least.
    """
    terms = session.terms
    is_final = reply.startswith(b"5")
    session.logon_failures += is_final
    delay_ms = max(delay_ms, terms.auth_tarpit_ms * is_final)
    if reply.startswith(b"421"):
        _end(session, turn, reply, actions, delay_ms)
    elif is_final and 0 < terms.max_logon_failures <= session.logon_failures:
        _end(session, turn, replies.TOO_MANY_LOGON_FAILURES, actions, delay_ms)
    else:
        _answer(session, turn, reply, delay_ms, actions)


def put_off(session: ServerSession, turn: int, actions: list[Action]) -> None:
    """Say that it cannot be told now."""
    _answer(session, turn, replies.AUTHENTICATION_UNAVAILABLE, 0, actions)


def _answer(session: ServerSession, turn: int, reply: bytes, delay_ms: int, actions: list[Action]) -> None:
    """Give an answer that refuses; too many errors end the session here as they do elsewhere."""
    if session.errors > session.terms.max_protocol_errors:
        _end(session, turn, replies.TOO_MANY_ERRORS, actions)
        return
    session.refusals["AUTH", reply[0]] += 1
    actions.append(("reply", session.conn, turn, session.told(reply), 1, delay_ms, False))


def _end(session: ServerSession, turn: int, reply: bytes, actions: list[Action], delay_ms: int = 0) -> None:
    session.exchange = None
    session.state = ServerState.CLOSED
    session.refusals["AUTH", reply[0]] += 1
    actions.append(("reply", session.conn, turn, session.told(reply), 1, delay_ms, True))


_MAY_BEGIN: Final = frozenset((ServerState.GREETED, ServerState.REFUSED))
"""States without a mail transaction (RFC 4954 4)."""
