"""What each command of a client comes to: handlers of (session, item), each of which answers with a reply.

A handler that answers with nothing says that the owner of the session has to act first; `commands` then
returns the verb. Which commands a state allows, and where they lead, is in `tables.SERVER`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from penstock.smtp import replies, server_auth
from penstock.smtp.parameters import mail_parameters, recipient_parameters
from penstock.smtp.tables import SERVER, ServerState
from penstock.smtp.told import read_xclient, read_xforward

if TYPE_CHECKING:
    from penstock.smtp.server_session import ServerSession
    from penstock.smtp.terms import ServerTerms

__all__ = ["OUT_OF_ORDER", "ROWS", "Item", "must_be_last", "wrong"]

Item: TypeAlias = tuple[Any, ...]
"""A command as it crosses the boundary: its verb, then its arguments."""

OTHER_PROTOCOLS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE")
)
"""What a client of HTTP says first. What it sends can be somebody else's, with commands in it."""
_BETWEEN: Final = frozenset((ServerState.START, ServerState.GREETED, ServerState.REFUSED))
"""States without a mail transaction."""
NO_TEXT: Final = frozenset(("nul", "not_ascii"))
"""Malformed lines as other protocols begin with, TLS among them."""


def _reset(session: ServerSession) -> None:
    session.recipients = {}
    session.accepted_rcpts = 0
    session.reports = {}
    session.asked = None
    session.forwarded = {}


def _ehlo(session: ServerSession, item: Item) -> bytes:
    if session.terms.is_lmtp:
        # RFC 2033 4.1: never a positive reply, so that nobody takes us for a server of SMTP.
        return wrong(session, replies.UNRECOGNIZED)
    return _greeted(session, item)


def _lhlo(session: ServerSession, item: Item) -> bytes:
    return _greeted(session, item) if session.terms.is_lmtp else wrong(session, replies.UNRECOGNIZED)


def _greeted(session: ServerSession, item: Item) -> bytes:
    session.greeting = item[1]
    session.is_extended = True
    _reset(session)
    terms = session.terms
    if terms.extensions.is_constant:
        return terms.ehlo
    return terms.ehlo_at(is_secure=session.is_secure, now_ms=session.now_ms)


def _helo(session: ServerSession, item: Item) -> bytes:
    if session.terms.is_lmtp:
        return wrong(session, replies.UNRECOGNIZED)
    session.greeting = item[1]
    session.is_extended = False
    _reset(session)
    return session.terms.helo


def _mail(session: ServerSession, item: Item) -> bytes:
    if session.terms.requires_tls:
        return replies.TLS_REQUIRED
    _, address, domain, params = item
    if session.terms.requires_authentication and not session.login:
        return replies.AUTHENTICATION_REQUIRED
    if params:
        session.size_declared, session.is_eight_bit, session.asked, refusal = mail_parameters(
            params, session.terms.extensions, is_secure=session.is_secure, now_ms=session.now_ms
        )
        if refusal is not None:
            return wrong(session, refusal)
    else:
        session.size_declared, session.is_eight_bit, session.asked = 0, False, None
    if not address.isascii() and not session.is_utf8:
        return wrong(session, replies.UTF8_NOT_ASKED)
    if session.size_declared > session.terms.max_message_bytes:
        return replies.MESSAGE_TOO_LARGE
    refusal = session.policy.sender(address, domain)
    if refusal is not None:
        return refusal
    session.sender = address
    session.accepted_rcpts = 0
    return replies.SENDER_OK


def _rcpt(session: ServerSession, item: Item) -> bytes:
    _, address, domain, params = item
    notify, original = 0, None
    if params:
        notify, original, refusal = recipient_parameters(
            params, session.terms.extensions, is_utf8=session.is_utf8
        )
        if refusal is not None:
            return wrong(session, refusal)
    if not address.isascii() and not session.is_utf8:
        return wrong(session, replies.UTF8_NOT_ASKED)
    terms = session.terms
    # In LMTP each of them will be answered, so one that comes again counts again.
    counted = session.accepted_rcpts if terms.is_lmtp else len(session.recipients)
    if counted >= terms.max_recipients:
        return replies.TOO_MANY_RECIPIENTS
    if not domain:
        address, domain = terms.postmaster
        refusal = session.policy.postmaster(address, domain)
    else:
        refusal = session.policy.recipient(address, domain)
    if refusal is not None:
        return refusal
    session.recipients[address] = domain
    session.accepted_rcpts += 1
    if params or session.reports:
        session.reports[address] = (notify, original)
    return replies.RECIPIENT_OK


def _data(session: ServerSession, _item: Item) -> bytes:
    if session.is_binary:
        # RFC 3030 3: only BDAT can bring what is not lines.
        _reset(session)
        return wrong(session, replies.BAD_SEQUENCE)
    return b""


def _bdat(session: ServerSession, item: Item) -> bytes:
    """Take a chunk, as long as all chunks together are within the limit (RFC 3030 2, RFC 1870 6.3)."""
    terms = session.terms
    if not (terms.extensions.chunking and session.is_extended):
        return wrong(session, replies.NOT_IMPLEMENTED)
    announced = item[1] + (session.announced if session.state is ServerState.CHUNKS else 0)
    if announced > terms.max_message_bytes:
        return replies.MESSAGE_TOO_LARGE
    session.announced = announced
    return b""


def _bdat_out_of_order(session: ServerSession, item: Item) -> bytes:
    if not (session.terms.extensions.chunking and session.is_extended):
        return wrong(session, replies.NOT_IMPLEMENTED)
    if session.state is ServerState.UNACCEPTED:
        return _data_without_recipients(session, item)
    if session.state is ServerState.REFUSED:
        return replies.NEED_MAIL
    return _out_of_order(session, item)


def _data_without_recipients(session: ServerSession, _item: Item) -> bytes:
    # The transaction ends here, and with it what was said of its message.
    _reset(session)
    return replies.NO_RECIPIENTS_LMTP if session.terms.is_lmtp else replies.NO_VALID_RECIPIENTS


def _behind_refused_mail(session: ServerSession, _item: Item) -> bytes:
    return replies.NEED_MAIL


def _rset(session: ServerSession, _item: Item) -> bytes:
    _reset(session)
    return replies.RESET_OK


def _quit(session: ServerSession, _item: Item) -> bytes:
    return session.terms.goodbye


def _noop(session: ServerSession, _item: Item) -> bytes:
    return replies.NOOP_OK


def _vrfy(session: ServerSession, _item: Item) -> bytes:
    return replies.CANNOT_VERIFY


def _help(session: ServerSession, _item: Item) -> bytes:
    return replies.HELP


def _auth(session: ServerSession, item: Item) -> bytes:
    refusal = server_auth.begin(session, item[1])
    return wrong(session, refusal) if refusal else b""


def _not_implemented(session: ServerSession, _item: Item) -> bytes:
    return wrong(session, replies.NOT_IMPLEMENTED)


def _starttls(session: ServerSession, item: Item) -> bytes:
    if session.terms.is_tls:
        return wrong(session, replies.TLS_ACTIVE)
    return b"" if session.terms.offers_tls else _not_implemented(session, item)


def _xclient(session: ServerSession, item: Item) -> bytes:
    if not session.terms.extensions.xclient:
        return _not_implemented(session, item)
    if session.state not in _BETWEEN:
        return wrong(session, replies.NOT_IN_TRANSACTION)
    return b"" if read_xclient(item[1]) is not None else wrong(session, replies.ATTRIBUTE)


def _xforward(session: ServerSession, item: Item) -> bytes:
    if not session.terms.extensions.xforward:
        return _not_implemented(session, item)
    if session.state not in _BETWEEN:
        return wrong(session, replies.NOT_IN_TRANSACTION)
    told = read_xforward(item[1])
    if told is None:
        return wrong(session, replies.ATTRIBUTE)
    session.forwarded = {**session.forwarded, **told}
    return replies.NOOP_OK


def _unknown(session: ServerSession, item: Item) -> bytes:
    if item[1] in OTHER_PROTOCOLS:
        _spend_errors(session)
    return wrong(session, replies.UNRECOGNIZED)


def _malformed(session: ServerSession, item: Item) -> bytes:
    _, kind, _, verb = item
    if verb == "LHLO" and not session.terms.is_lmtp:
        return wrong(session, replies.UNRECOGNIZED)
    offered = session.terms.extensions
    if (verb == "XCLIENT" and not offered.xclient) or (verb == "XFORWARD" and not offered.xforward):
        return _not_implemented(session, item)
    if kind in NO_TEXT and verb is None:
        _spend_errors(session)
    return wrong(session, replies.MALFORMED_OF_VERB.get((verb, kind)) or replies.malformed(kind))


def _out_of_order(session: ServerSession, item: Item) -> bytes:
    if session.state is ServerState.START:
        return wrong(session, replies.GREET_WITH_LHLO if session.terms.is_lmtp else replies.GREET_FIRST)
    if item[0] == "MAIL":
        return wrong(session, replies.BAD_SEQUENCE)
    needs_mail = session.state is ServerState.GREETED
    return wrong(session, replies.NEED_MAIL if needs_mail else replies.NEED_RECIPIENT)


def _spend_errors(session: ServerSession) -> None:
    """Forgive no further error to a peer that does not begin in SMTP."""
    if session.state is ServerState.START:
        session.errors = max(session.errors, session.terms.max_protocol_errors)


def must_be_last(terms: ServerTerms, verb: str) -> bool:
    """Whether what follows a command before its reply can only be an error or an attack."""
    if verb == "XCLIENT":
        return terms.extensions.xclient != ()
    if verb == "STARTTLS":
        return terms.offers_tls
    return verb == ("LHLO" if terms.is_lmtp else "EHLO")


def wrong(session: ServerSession, reply: bytes) -> bytes:
    """Count a protocol error."""
    session.errors += 1
    return reply


_Handler: TypeAlias = Callable[["ServerSession", Item], bytes]

_HANDLERS: Final[dict[str, _Handler]] = {
    "EHLO": _ehlo,
    "LHLO": _lhlo,
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
    "AUTH": _auth,
    "BDAT": _bdat_out_of_order,
    "XCLIENT": _xclient,
    "XFORWARD": _xforward,
    "unknown": _unknown,
    "malformed": _malformed,
}

_SPECIAL: Final[dict[tuple[ServerState, str], _Handler]] = {
    (ServerState.RECIPIENTS, "BDAT"): _bdat,
    (ServerState.CHUNKS, "BDAT"): _bdat,
    (ServerState.UNACCEPTED, "DATA"): _data_without_recipients,
    (ServerState.REFUSED, "RCPT"): _behind_refused_mail,
    (ServerState.REFUSED, "DATA"): _behind_refused_mail,
}
"""Commands that mean something of their own in a state, if only to be refused in its own words."""

ROWS: Final = {
    state: {
        verb: (_SPECIAL.get((state, verb), _HANDLERS[verb]), accepted, refused)
        for verb, (accepted, refused) in row.items()
        if verb in _HANDLERS
    }
    for state, row in SERVER.items()
}
OUT_OF_ORDER: Final[tuple[_Handler, None, None]] = (_out_of_order, None, None)
