"""What each command of a client comes to: handlers of (session, item), each of which answers with a reply.

A handler that answers with nothing says that the owner of the session has to act first; `commands` then
returns the verb. Which commands a state allows, and where they lead, is in `tables.SERVER`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from penstock.smtp import replies
from penstock.smtp.parameters import mail_parameters
from penstock.smtp.tables import SERVER, ServerState

if TYPE_CHECKING:
    from penstock.smtp.server_session import ServerSession

__all__ = ["OUT_OF_ORDER", "ROWS", "Item", "wrong"]

Item: TypeAlias = tuple[Any, ...]
"""A command as it crosses the boundary: its verb, then its arguments."""

OTHER_PROTOCOLS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE")
)
"""What a client of HTTP says first. What it sends can be somebody else's, with commands in it."""
NO_TEXT: Final = frozenset(("nul", "not_ascii"))
"""Malformed lines as other protocols begin with, TLS among them."""


def _ehlo(session: ServerSession, item: Item) -> bytes:
    session.greeting = item[1]
    session.is_extended = True
    session.recipients = {}
    return session.terms.ehlo


def _helo(session: ServerSession, item: Item) -> bytes:
    session.greeting = item[1]
    session.is_extended = False
    session.recipients = {}
    return session.terms.helo


def _mail(session: ServerSession, item: Item) -> bytes:
    if session.terms.requires_tls:
        return replies.TLS_REQUIRED
    _, address, domain, params = item
    session.size_declared, session.is_eight_bit, refusal = mail_parameters(params)
    if refusal is not None:
        return wrong(session, refusal)
    if session.size_declared > session.terms.max_message_bytes:
        return replies.MESSAGE_TOO_LARGE
    refusal = session.policy.sender(address, domain)
    if refusal is not None:
        return refusal
    session.sender = address
    return replies.SENDER_OK


def _rcpt(session: ServerSession, item: Item) -> bytes:
    _, address, domain, params = item
    if params:
        return wrong(session, replies.PARAMETER_UNKNOWN)
    if len(session.recipients) >= session.terms.max_recipients:
        return replies.TOO_MANY_RECIPIENTS
    if not domain:
        address, domain = session.terms.postmaster
    else:
        refusal = session.policy.recipient(address, domain)
        if refusal is not None:
            return refusal
    session.recipients[address] = domain
    return replies.RECIPIENT_OK


def _data(session: ServerSession, _item: Item) -> bytes:
    return b""


def _data_without_recipients(session: ServerSession, _item: Item) -> bytes:
    return replies.NO_VALID_RECIPIENTS


def _behind_refused_mail(session: ServerSession, _item: Item) -> bytes:
    return replies.NEED_MAIL


def _rset(session: ServerSession, _item: Item) -> bytes:
    session.recipients = {}
    return replies.RESET_OK


def _quit(session: ServerSession, _item: Item) -> bytes:
    return session.terms.goodbye


def _noop(session: ServerSession, _item: Item) -> bytes:
    return replies.NOOP_OK


def _vrfy(session: ServerSession, _item: Item) -> bytes:
    return replies.CANNOT_VERIFY


def _help(session: ServerSession, _item: Item) -> bytes:
    return replies.HELP


def _not_implemented(session: ServerSession, _item: Item) -> bytes:
    return wrong(session, replies.NOT_IMPLEMENTED)


def _starttls(session: ServerSession, item: Item) -> bytes:
    if session.terms.is_tls:
        return wrong(session, replies.TLS_ACTIVE)
    return b"" if session.terms.offers_tls else _not_implemented(session, item)


def _unknown(session: ServerSession, item: Item) -> bytes:
    if item[1] in OTHER_PROTOCOLS:
        _spend_errors(session)
    return wrong(session, replies.UNRECOGNIZED)


def _malformed(session: ServerSession, item: Item) -> bytes:
    _, kind, _, verb = item
    if kind in NO_TEXT and verb is None:
        _spend_errors(session)
    return wrong(session, replies.MALFORMED_PATH.get((verb, kind)) or replies.malformed(kind))


def _out_of_order(session: ServerSession, item: Item) -> bytes:
    if session.state is ServerState.START:
        return wrong(session, replies.GREET_FIRST)
    if item[0] == "MAIL":
        return wrong(session, replies.BAD_SEQUENCE)
    needs_mail = session.state is ServerState.GREETED
    return wrong(session, replies.NEED_MAIL if needs_mail else replies.NEED_RECIPIENT)


def _spend_errors(session: ServerSession) -> None:
    """Forgive no further error to a peer that does not begin in SMTP."""
    if session.state is ServerState.START:
        session.errors = max(session.errors, session.terms.max_protocol_errors)


def wrong(session: ServerSession, reply: bytes) -> bytes:
    """Count a protocol error."""
    session.errors += 1
    return reply


_Handler: TypeAlias = Callable[["ServerSession", Item], bytes]

_HANDLERS: Final[dict[str, _Handler]] = {
    "EHLO": _ehlo,
    "HELO": _helo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _data,
    "RSET": _rset,
    "NOOP": _noop,
    "VRFY": _vrfy,
    "EXPN": _not_implemented,
    "HELP": _help,
    "QUIT": _quit,
    "STARTTLS": _starttls,
    "AUTH": _not_implemented,
    "BDAT": _not_implemented,
    "XCLIENT": _not_implemented,
    "unknown": _unknown,
    "malformed": _malformed,
}

_SPECIAL: Final[dict[tuple[ServerState, str], _Handler]] = {
    (ServerState.UNACCEPTED, "DATA"): _data_without_recipients,
    (ServerState.REFUSED, "RCPT"): _behind_refused_mail,
    (ServerState.REFUSED, "DATA"): _behind_refused_mail,
}
"""Commands that a state has in its row only to refuse them in its own words."""

ROWS: Final = {
    state: {
        verb: (_SPECIAL.get((state, verb), _HANDLERS[verb]), accepted, refused)
        for verb, (accepted, refused) in row.items()
        if verb in _HANDLERS
    }
    for state, row in SERVER.items()
}
OUT_OF_ORDER: Final[tuple[_Handler, None, None]] = (_out_of_order, None, None)
