"""What may follow what: the transition tables of the server's and the client's session.

All transitions live here; the sessions look them up and do what goes with them. A pair that is not in a
table is out of order: the server answers 503 and stays where it is, the client takes the peer for broken and
leaves.

Server (RFC 5321 4.1.4). A command that is answered 2yz or 3yz leads to the first state of its pair, one that
is refused to the second::

            EHLO HELO            MAIL             RCPT            DATA, last BDAT
    START ───────────► GREETED ───────► SENDER ───────► RECIPIENTS ────► CONTENT ──► GREETED
                          │                │ refused        ▲
                          │ refused        ▼                │ accepted
                          ▼           UNACCEPTED ───────────┘
                       REFUSED

BDAT (RFC 3030) leads from RECIPIENTS to CHUNKS, and stays there until the last one leads to CONTENT. A BDAT
that is refused ends the transaction and leads to REFUSED.

REFUSED and UNACCEPTED tell a peer that pipelines (RFC 2920), whose RCPT and DATA were on their way when we
refused what was before them, from one that does not know the order of commands.

Client. The first digit of the reply decides (RFC 5321 4.2.1), save 421, which ends every state. What a
refusal means for the recipients is the session's business: MAIL, RCPT and DATA go on through the states when
they were sent in one flight, whatever was said to them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

__all__ = [
    "BETWEEN_TRANSACTIONS",
    "CLIENT",
    "GRANTS",
    "GRANTS_WITHOUT_MAIL",
    "SERVER",
    "ClientState",
    "Next",
    "ServerState",
]


class ServerState(StrEnum):
    """Where the server's session stands."""

    START = "start"
    """The banner is out; EHLO or HELO has not come."""
    GREETED = "greeted"
    """No mail transaction."""
    REFUSED = "refused"
    """No mail transaction either: MAIL or BDAT was refused, and RCPT, DATA or BDAT may be behind it."""
    SENDER = "sender"
    """MAIL was accepted."""
    UNACCEPTED = "unaccepted"
    """There were recipients; all were refused."""
    RECIPIENTS = "recipients"
    """At least one recipient was accepted."""
    CHUNKS = "chunks"
    """A BDAT was accepted that was not the last."""
    CONTENT = "content"
    """DATA was answered 354, or the last BDAT was accepted; the content comes."""
    CLOSED = "closed"
    """Our last reply is given."""


Next: TypeAlias = tuple[ServerState, ServerState]
"""The state after the command was accepted, and after it was refused."""

_S: TypeAlias = ServerState


def _stay(state: ServerState, *verbs: str) -> dict[str, Next]:
    return dict.fromkeys(verbs, (state, state))


def _row(state: ServerState, reset: ServerState, more: dict[str, Next]) -> dict[str, Next]:
    """Return the row of a state: what is allowed in every state, and `more`.

    Args:
        state: The state.
        reset: Where RSET leads.
        more: Commands of this state.
    """
    return {
        **_stay(state, "NOOP", "VRFY", "EXPN", "HELP", "STARTTLS", "AUTH", "unknown", "malformed"),
        **_stay(state, "XCLIENT", "XFORWARD"),
        "EHLO": (_S.GREETED, state),
        "LHLO": (_S.GREETED, state),
        "HELO": (_S.GREETED, state),
        "RSET": (reset, state),
        "QUIT": (_S.CLOSED, _S.CLOSED),
        "BDAT": (state, state),
        **more,
    }


SERVER: Final[dict[ServerState, dict[str, Next]]] = {
    _S.START: _row(_S.START, _S.START, {}),
    _S.GREETED: _row(_S.GREETED, _S.GREETED, {"MAIL": (_S.SENDER, _S.REFUSED)}),
    _S.REFUSED: _row(
        _S.REFUSED, _S.GREETED, {"MAIL": (_S.SENDER, _S.REFUSED), **_stay(_S.REFUSED, "RCPT", "DATA")}
    ),
    _S.SENDER: _row(_S.SENDER, _S.GREETED, {"RCPT": (_S.RECIPIENTS, _S.UNACCEPTED)}),
    _S.UNACCEPTED: _row(
        _S.UNACCEPTED,
        _S.GREETED,
        {
            "RCPT": (_S.RECIPIENTS, _S.UNACCEPTED),
            "DATA": (_S.GREETED, _S.GREETED),
            "BDAT": (_S.REFUSED, _S.REFUSED),
        },
    ),
    _S.RECIPIENTS: _row(
        _S.RECIPIENTS,
        _S.GREETED,
        {
            "RCPT": (_S.RECIPIENTS, _S.RECIPIENTS),
            "DATA": (_S.CONTENT, _S.GREETED),
            "BDAT": (_S.CHUNKS, _S.REFUSED),
        },
    ),
    _S.CHUNKS: _row(_S.CHUNKS, _S.GREETED, {"BDAT": (_S.CHUNKS, _S.REFUSED)}),
    _S.CONTENT: {"content": (_S.GREETED, _S.GREETED)},
    _S.CLOSED: {},
}


GRANTS: Final[dict[ServerState, str]] = {_S.GREETED: "MAIL", _S.RECIPIENTS: "DATA"}
"""The command whose reply can be given ahead in a state: it hardly ever depends on what the command says."""
GRANTS_WITHOUT_MAIL: Final = {state: verb for state, verb in GRANTS.items() if verb != "MAIL"}
"""The same where somebody looks at the sender."""


BETWEEN_TRANSACTIONS: Final = frozenset(
    (ServerState.START, ServerState.GREETED, ServerState.REFUSED, ServerState.CLOSED)
)
"""States in which a peer can be told goodbye without taking anything from it."""


class ClientState(StrEnum):
    """What the client's session waits for."""

    BANNER = "banner"
    EHLO = "ehlo"
    HELO = "helo"
    READY = "ready"
    """Nothing: the next mail transaction may begin."""
    RSET = "rset"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"
    """The reply to the content."""
    EMPTY = "empty"
    """The reply to a content of nothing: 354 came although no recipient was accepted."""
    CLOSED = "closed"


_C: TypeAlias = ClientState

CLIENT: Final[dict[ClientState, dict[int, ClientState]]] = {
    _C.BANNER: {2: _C.EHLO, 4: _C.CLOSED, 5: _C.CLOSED},
    # A server that does not know EHLO says 5yz; then HELO is tried (RFC 5321 3.2).
    _C.EHLO: {2: _C.READY, 4: _C.CLOSED, 5: _C.HELO},
    _C.HELO: {2: _C.READY, 4: _C.CLOSED, 5: _C.CLOSED},
    _C.READY: {},
    _C.RSET: {2: _C.MAIL},
    _C.MAIL: {2: _C.RCPT, 4: _C.RCPT, 5: _C.RCPT},
    # Until the last recipient has its reply the session stays in RCPT.
    _C.RCPT: {2: _C.DATA, 4: _C.DATA, 5: _C.DATA},
    _C.DATA: {3: _C.DOT, 4: _C.READY, 5: _C.READY},
    _C.DOT: {2: _C.READY, 4: _C.READY, 5: _C.READY},
    _C.EMPTY: {2: _C.READY, 4: _C.READY, 5: _C.READY},
    _C.CLOSED: {},
}
"""The next state by the first digit of the reply; a digit that is missing is not understood."""
