"""The server's side of an SMTP session (RFC 5321), without sockets, clocks or storage.

The session is told what came over its connection and says what is to be answered, as boundary actions. It
decides on the order of commands, parameters, sizes and counts; whether a sender or recipient is wanted is
asked of a `Policy`. It does not know drafts, commits or routes: when DATA is in order `commands` returns
its verb, and its owner hands over a draft with `take` or refuses with `refuse_data`; when content is in order
`content` returns True, and its owner commits it and says so with `accepted`, or refuses with
`refuse_content`.

Where `terms` allows it an answer ends with a grant (`tables.GRANTS`): net may give the standard reply to the
next command by itself. A MAIL that was answered so comes first in the next event; a DATA is known by its
content, which then comes in state RECIPIENTS.

Invariants: every command of an event is answered once and in order, or the last answer closes the
connection; `state` changes only as `tables.SERVER` says.

This runs for every command of every message, so replies are constants, and a command costs two look-ups and
a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from penstock.smtp import replies
from penstock.smtp.parameters import mail_parameters
from penstock.smtp.server_commands import OUT_OF_ORDER, ROWS, Item
from penstock.smtp.tables import ServerState
from penstock.smtp.terms import ServerTerms

if TYPE_CHECKING:
    from penstock.smtp.sasl import Mechanism

__all__ = ["Action", "Item", "Policy", "ServerSession"]

Action: TypeAlias = tuple[Any, ...]
"""A boundary action; `_core.pyi` says which there are."""
TARPIT_MAX_MS: Final = 30_000
"""The longest that one batch of replies is delayed, however many of them are refusals."""

NO_GRANTS: Final[Mapping[ServerState, str]] = {}

_CLASS_4: Final = ord("4")
_CLASS_5: Final = ord("5")


class Policy(Protocol):
    """Who may send what to whom; answers None, or the reply that refuses."""

    def sender(self, address: str, domain: str, /) -> bytes | None:
        """Judge a reverse-path; both are empty for the null reverse-path."""

    def recipient(self, address: str, domain: str, /) -> bytes | None:
        """Judge a forward-path."""


class ServerSession:
    """One connection's session.

    Attributes:
        state: Where it stands.
        login: The name under which the peer has authenticated itself, or empty.
        is_secure: Whether the connection is encrypted.
        exchange: The authentication exchange under way, if any.
        logon_failures: Exchanges that have failed.
        grants: What net may answer ahead: `terms.grants` at first, nothing if the peer has to authenticate
            itself.
        greeting: What the peer called itself, or empty.
        is_extended: Whether it said EHLO rather than HELO.
        errors: Commands that were wrong so far.
        sender: The reverse-path of the running mail transaction.
        is_eight_bit: Whether MAIL had BODY=8BITMIME.
        size_declared: The SIZE that MAIL had, or 0.
        recipients: Address to domain, in the order accepted; the same address counts once.
        refusals: Where refused commands are counted.
    """

    __slots__ = (
        "conn",
        "errors",
        "exchange",
        "grants",
        "greeting",
        "is_eight_bit",
        "is_extended",
        "is_secure",
        "login",
        "logon_failures",
        "policy",
        "recipients",
        "refusals",
        "sender",
        "size_declared",
        "state",
        "terms",
    )

    def __init__(
        self, conn: int, terms: ServerTerms, policy: Policy, refusals: dict[tuple[str, int], int]
    ) -> None:
        """Begin a session, before its banner.

        Args:
            conn: The connection.
            terms: What is offered and asked.
            policy: Who may send what to whom.
            refusals: Counts refused commands by the item's name and the reply's first octet; knows a count
                for every key.
        """
        self.conn = conn
        self.terms = terms
        self.policy = policy
        self.refusals = refusals
        self.state = ServerState.START
        self.greeting = ""
        self.is_extended = False
        self.errors = 0
        self.sender = ""
        self.is_eight_bit = False
        self.size_declared = 0
        self.recipients: dict[str, str] = {}
        self.login = ""
        self.is_secure = False
        self.exchange: Mechanism | None = None
        self.logon_failures = 0
        self.grants = NO_GRANTS if terms.requires_authentication else terms.grants

    @property
    def protocol(self) -> str:
        """What a Received field calls the way a message came (RFC 3848)."""
        return _PROTOCOLS[self.is_extended, self.is_secure, self.login != ""]

    def commands(
        self, turn: int, items: list[Item], early: bool, actions: list[Action], answered: int = 0
    ) -> str:
        """Answer the commands of one event.

        Args:
            turn: The event's turn.
            items: The commands in order.
            early: Octets followed that had to wait for a reply (RFC 2920 3.1), or came before the banner.
            actions: Where the answers go.
            answered: How many of the commands were answered under a grant; the answer cannot be taken back.

        Returns:
            The verb of the last command if that is in order and waits for the session's owner: DATA for
            `take` or `refuse_data`, AUTH for `server_auth.respond`. All others are answered; without such a
            one, nothing.
        """
        if answered:
            self._catch_up(items[:answered])
            items = items[answered:]
        if early and (self.state is ServerState.START or (items and items[-1][0] == "EHLO")):
            self.state = ServerState.CLOSED
            actions.append(("reply", self.conn, turn, replies.EARLY_TALKER, len(items), 0, True))
            return ""
        answer = b""
        refusals = 0
        for item in items:
            handle, accepted, refused = ROWS[self.state].get(item[0], OUT_OF_ORDER)
            reply = handle(self, item)
            if not reply:
                if answer:
                    delay_ms = self._delay_ms(refusals) if refusals else 0
                    actions.append(("reply", self.conn, turn, answer, len(items) - 1, delay_ms, False))
                waiting: str = item[0]
                return waiting
            answer += reply
            if reply[0] < _CLASS_4:
                self.state = accepted or self.state
            else:
                refusals += reply[0] == _CLASS_5
                self.refusals[item[0], reply[0]] += 1
                self.state = refused or self.state
                if self.errors > self.terms.max_protocol_errors:
                    self.state = ServerState.CLOSED
                    answer = answer[: -len(reply)] + replies.TOO_MANY_ERRORS
            if self.state is ServerState.CLOSED:
                break
        if not items or (early and items[-1][0] == "DATA"):
            # A refused DATA whose content is already here: what follows is content, not commands.
            self.state = ServerState.CLOSED
        delay_ms = self._delay_ms(refusals) if refusals else 0
        is_over = self.state is ServerState.CLOSED
        action = ("reply", self.conn, turn, answer, len(items), delay_ms, is_over)
        grant = self.grants.get(self.state)
        actions.append(action if grant is None else (*action, grant))
        return ""

    def _catch_up(self, items: list[Item]) -> None:
        """Take note of each MAIL that was answered under a grant."""
        for _, address, _, params in items:
            # Such as net has answered are never refused.
            self.size_declared, self.is_eight_bit, _ = mail_parameters(params)
            self.sender = address
            self.state = ServerState.SENDER

    def _delay_ms(self, refusals: int) -> int:
        return 0 if self.login else min(refusals * self.terms.tarpit_ms, TARPIT_MAX_MS)

    def take(self, turn: int, draft: int, actions: list[Action]) -> None:
        """Answer DATA with 354 and have the content put into a draft."""
        self.state = ServerState.CONTENT
        actions.append(
            ("take", self.conn, turn, draft, self.terms.max_message_bytes, replies.START_CONTENT),
        )

    def refuse_data(self, turn: int, reply: bytes, early: bool, actions: list[Action]) -> None:
        """Refuse DATA; the connection is closed when the content came with it."""
        self._end_transaction()
        if early:
            self.state = ServerState.CLOSED
        actions.append(("reply", self.conn, turn, reply, 1, 0, early))

    def content(
        self, turn: int, status: str, received: int, header_bytes: int, actions: list[Action]
    ) -> bool:
        """Judge content that is complete in its draft.

        Args:
            turn: The event's turn.
            status: What net says of it.
            received: How many Received fields it has.
            header_bytes: Octets of its header section.
            actions: Where a refusal goes.

        Returns:
            True if it may be committed; False if it was refused.
        """
        terms = self.terms
        if status == "complete" and received <= terms.max_hops and header_bytes <= terms.max_header_bytes:
            return True
        if status == "complete":
            reply = (
                replies.CONTENT_TOO_MANY_HOPS
                if received > terms.max_hops
                else replies.CONTENT_HEADER_TOO_LARGE
            )
        else:
            reply = _CONTENT_REFUSALS[status]
        self.refuse_content(turn, reply, actions)
        return False

    def refuse_content(self, turn: int, reply: bytes, actions: list[Action]) -> None:
        """Refuse content; the session goes on, unless its framing cannot be trusted (RFC 5321 2.3.8)."""
        self._end_transaction()
        is_over = reply is replies.CONTENT_BAD_LINE_ENDING
        if is_over:
            self.state = ServerState.CLOSED
        actions.append(("reply", self.conn, turn, reply, 1, 0, is_over))

    def accepted(self, turn: int, ticket: int, queued: bytes, failed: bytes, actions: list[Action]) -> None:
        """Have the commit's completion answer the content, with one of two replies."""
        self._end_transaction()
        action = ("await_durable", self.conn, turn, ticket, queued, failed)
        grant = self.grants.get(self.state)
        actions.append(action if grant is None else (*action, grant))

    def shut_down(self, turn: int, answers: int, actions: list[Action]) -> None:
        """End the session because the service stops (RFC 5321 3.8)."""
        self.state = ServerState.CLOSED
        actions.append(("reply", self.conn, turn, replies.SHUTTING_DOWN, answers, 0, True))

    def _end_transaction(self) -> None:
        self.state = ServerState.GREETED
        # The old mapping may belong to a message by now, so it is replaced, not cleared.
        self.recipients = {}


_CONTENT_REFUSALS: Final = {
    "too_large": replies.CONTENT_TOO_LARGE,
    "bad_line_ending": replies.CONTENT_BAD_LINE_ENDING,
    "starved": replies.INSUFFICIENT_STORAGE,
}
_PROTOCOLS: Final = {
    (is_extended, is_secure, is_authenticated): "ESMTP" + "S" * is_secure + "A" * is_authenticated
    if is_extended
    else "SMTP"
    for is_extended in (False, True)
    for is_secure in (False, True)
    for is_authenticated in (False, True)
}
