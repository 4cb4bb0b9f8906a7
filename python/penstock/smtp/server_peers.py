"""XCLIENT and XFORWARD on the server's side: peers that speak for others, from listed ones alone.

XCLIENT changes who speaks: the session begins anew, as behind a banner, with the rights of whoever it is now.
XFORWARD says where the next message was before, and changes nothing but what is written down of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.smtp import replies
from penstock.smtp.server_tls import begin_anew
from penstock.smtp.tables import ServerState
from penstock.smtp.terms import ServerTerms

if TYPE_CHECKING:
    from penstock.smtp.policy import Policy
    from penstock.smtp.server_session import ServerSession

__all__ = ["become", "refuse", "turn_away"]

Action: TypeAlias = tuple[Any, ...]


def become(
    session: ServerSession,
    turn: int,
    limits: int,
    actions: list[Action],
    *,
    terms: ServerTerms,
    policy: Policy,
    grants: Mapping[ServerState, str],
    refusals: dict[tuple[str, int], int],
    login: str,
    greeting: str,
    is_extended: bool,
) -> None:
    """Answer XCLIENT with a banner; whoever speaks now has said nothing yet.

    Args:
        session: One whose XCLIENT is in order.
        turn: The event's turn.
        limits: The number under which core has the limits that hold now.
        actions: Where the answer goes.
        terms: What holds now.
        policy: What may be done now.
        grants: What net may answer ahead, from the next answer on.
        refusals: Where refused commands are counted now.
        login: Under which name it has authenticated itself, or empty.
        greeting: What it has called itself, which stands for EHLO or HELO; empty if that is still to come.
        is_extended: Whether that was EHLO.
    """
    begin_anew(session)
    session.terms = terms
    session.policy = policy
    session.grants = {} if terms.requires_authentication and not login else grants
    session.refusals = refusals
    session.errors = session.logon_failures = 0
    session.login = login
    if greeting:
        session.greeting = greeting
        session.is_extended = is_extended
        session.state = ServerState.GREETED
    actions.append(("restart", session.conn, turn, limits, terms.banner))


def turn_away(session: ServerSession, turn: int, refusal: bytes, actions: list[Action]) -> None:
    """Answer XCLIENT as the one would be answered for whom it speaks: not by a banner."""
    session.state = ServerState.CLOSED
    session.refusals["XCLIENT", refusal[0]] += 1
    actions.append(("reply", session.conn, turn, session.told(refusal), 1, 0, True))


def refuse(session: ServerSession, turn: int, actions: list[Action]) -> None:
    """Say that the peer may not speak for this one."""
    session.refusals["XCLIENT", replies.NOT_AUTHORIZED[0]] += 1
    actions.append(("reply", session.conn, turn, session.told(replies.NOT_AUTHORIZED), 1, 0, False))
