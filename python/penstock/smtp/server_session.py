"""The server's side of an SMTP session (RFC 5321), without sockets, clocks or storage.

The session is told what came over its connection and says what is to be answered, as boundary actions. It
decides on the order of commands, parameters, sizes and counts; whether a sender or recipient is wanted is
asked of a `Policy`. It does not know drafts, commits, routes or certificates. When DATA is in order
`commands` returns its verb, and its owner hands over a draft with `take` or refuses with `refuse_data`. When
content is in order `content` returns True, and its owner commits it and says so with `accepted`, or refuses
with `refuse_content`. When STARTTLS is in order the owner answers it with `start_tls`, and says with
`secured` that the handshake is finished.

Where `terms` allows it an answer ends with a grant (`tables.GRANTS`): net may give the standard reply to the
next command by itself. A MAIL that was answered so comes first in the next event; a DATA is known by its
content, which then comes in state RECIPIENTS.

Invariants: every command of an event is answered once and in order, or the last answer closes the
connection; `state` changes only as `tables.SERVER` says.

This runs for every command of every message, so replies are constants, and a command costs two look-ups and
a call.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeAlias

from penstock.smtp import replies
from penstock.smtp.parameters import mail_parameters
from penstock.smtp.server_commands import OUT_OF_ORDER, ROWS, Item
from penstock.smtp.tables import ServerState
from penstock.smtp.terms import ServerTerms

__all__ = ["Action", "Item", "Policy", "ServerSession"]

Action: TypeAlias = tuple[Any, ...]
"""A boundary action; `_core.pyi` says which there are."""
TARPIT_MAX_MS: Final = 30_000
"""The longest that one batch of replies is delayed, however many of them are refusals."""

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
        "greeting",
        "is_eight_bit",
        "is_extended",
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
            `take` or `refuse_data`, STARTTLS for `start_tls`. All others are answered; without such a one,
            nothing.
        """
        if answered:
            self._catch_up(items[:answered])
            items = items[answered:]
        if early and (self.state is ServerState.START or (items and self._must_be_last(items[-1][0]))):
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
        grant = self.terms.grants.get(self.state)
        actions.append(action if grant is None else (*action, grant))
        return ""

    def _must_be_last(self, verb: str) -> bool:
        """Whether what follows a command before its reply can only be an error or an attack."""
        return verb == "EHLO" or (verb == "STARTTLS" and self.terms.offers_tls)

    def _catch_up(self, items: list[Item]) -> None:
        """Take note of each MAIL that was answered under a grant."""
        for _, address, _, params in items:
            # Such as net has answered are never refused.
            self.size_declared, self.is_eight_bit, _ = mail_parameters(params)
            self.sender = address
            self.state = ServerState.SENDER

    def _delay_ms(self, refusals: int) -> int:
        return min(refusals * self.terms.tarpit_ms, TARPIT_MAX_MS)

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

    def start_tls(self, turn: int, tls: int, actions: list[Action]) -> None:
        """Answer STARTTLS with 220 and have the handshake made; nothing of before is known any more.

        Args:
            turn: The event's turn.
            tls: The number under which core knows what is shown.
            actions: Where the answer goes.
        """
        self._forget()
        actions.append(("start_tls", self.conn, turn, tls, replies.START_TLS))

    def secured(self, turn: int, terms: ServerTerms, banner: bytes, actions: list[Action]) -> None:
        """Go on in TLS: after STARTTLS the client greets us again (RFC 3207 4.2).

        Args:
            turn: The event's turn.
            terms: What holds in TLS.
            banner: What is said first where the connection began with TLS; nothing after STARTTLS.
            actions: Where it goes.
        """
        self.terms = terms
        actions.append(("reply", self.conn, turn, banner, 1, 0, False))

    def _forget(self) -> None:
        self.state = ServerState.START
        self.greeting = ""
        self.is_extended = False
        self.sender = ""
        self.is_eight_bit = False
        self.size_declared = 0
        self.recipients = {}

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
        grant = self.terms.grants.get(self.state)
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
