"""The server's side of an SMTP session (RFC 5321), without sockets, clocks or storage.

The session is told what came over its connection and says what is to be answered, as boundary actions. It
decides on the order of commands, parameters, sizes and counts; whether a sender or recipient is wanted is
asked of a `Policy`. It does not know drafts, commits, routes or certificates. When DATA is in order
`commands` returns its verb, and its owner hands over a draft with `take` or refuses with `refuse_data`; for
BDAT these are `take_chunk`, which needs a draft for the first chunk only, and `refuse_chunk`. When content is
in order `content` returns True, and its owner commits it and says so with `accepted`, or refuses with
`refuse_content`. How it goes on after STARTTLS and AUTH is in `server_tls` and `server_auth`.

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
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from penstock.smtp import replies
from penstock.smtp.parameters import Asked, mail_parameters
from penstock.smtp.policy import Policy
from penstock.smtp.server_commands import OUT_OF_ORDER, ROWS, Item, must_be_last
from penstock.smtp.server_content import refusal_of, to_each
from penstock.smtp.tables import ServerState
from penstock.smtp.terms import ServerTerms

if TYPE_CHECKING:
    from penstock.smtp.sasl import Mechanism
    from penstock.smtp.told import Told

__all__ = ["Action", "Item", "ServerSession"]

Action: TypeAlias = tuple[Any, ...]
"""A boundary action; `_core.pyi` says which there are."""
TARPIT_MAX_MS: Final = 30_000
"""The longest that one batch of replies is delayed, however many of them are refusals."""

NO_GRANTS: Final[Mapping[ServerState, str]] = {}

_CLASS_4: Final = ord("4")
_CLASS_5: Final = ord("5")


class ServerSession:
    """One connection's session.

    Attributes:
        state: Where it stands.
        login: The name under which the peer has authenticated itself, or empty.
        is_secure: Whether the connection is encrypted.
        exchange: The authentication exchange under way, if any.
        logon_failures: Exchanges that have failed.
        grants: What net may answer ahead: `terms.grants` at first, nothing before a login that is required.
        greeting: What the peer called itself, or empty.
        is_extended: Whether it said EHLO rather than HELO.
        errors: Commands that were wrong so far.
        sender: The reverse-path of the running mail transaction.
        now_ms: The time of the last event, as its owner has told; for what a peer wants done later.
        is_eight_bit: Whether MAIL had BODY=8BITMIME.
        asked: What else MAIL has asked for, if anything.
        reports: The NOTIFY bits and ORCPT of recipients whose RCPT had parameters.
        is_chunked: Whether the content comes by BDAT, not dot-stuffed.
        announced: Octets of all its chunks so far.
        has_chunks: Whether net has a content whose last chunk has not come.
        forwarded: What XFORWARD has said of the next message, if anything.
        size_declared: The SIZE that MAIL had, or 0.
        recipients: Address to domain, in the order accepted; the same address counts once.
        accepted_rcpts: RCPT commands that were accepted; of chunks that were refused, until the next MAIL.
        refusals: Where refused commands are counted.
        behind: Commands of the last event behind the one that waits for the owner.
    """

    __slots__ = (
        "accepted_rcpts",
        "announced",
        "asked",
        "behind",
        "conn",
        "errors",
        "exchange",
        "forwarded",
        "grants",
        "greeting",
        "has_chunks",
        "is_chunked",
        "is_eight_bit",
        "is_extended",
        "is_secure",
        "login",
        "logon_failures",
        "now_ms",
        "policy",
        "recipients",
        "refusals",
        "reports",
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
        self.is_secure = False
        self.now_ms = 0
        self.is_eight_bit = False
        self.asked: Asked | None = None
        self.size_declared = 0
        self.behind = 0
        self.recipients: dict[str, str] = {}
        self.accepted_rcpts = 0
        self.reports: dict[str, tuple[int, str | None]] = {}
        self.is_chunked = False
        self.announced = 0
        self.has_chunks = False
        self.forwarded: Told = {}
        self.login = ""
        self.exchange: Mechanism | None = None
        self.logon_failures = 0
        self.grants = NO_GRANTS if terms.requires_authentication else terms.grants

    @property
    def protocol(self) -> str:
        """What a Received field calls the way a message came (RFC 3848, RFC 6531 4.3)."""
        if not self.is_extended:
            return "SMTP"
        kind = "LMTP" if self.terms.is_lmtp else "ESMTP"
        how = "S" * self.is_secure + "A" * (self.login != "")
        return (f"UTF8{kind[-4:]}" if self.is_utf8 else kind) + how

    @property
    def is_utf8(self) -> bool:
        """Whether MAIL had SMTPUTF8."""
        return self.asked is not None and self.asked.smtp_utf8

    @property
    def is_binary(self) -> bool:
        """Whether MAIL had BODY=BINARYMIME."""
        return self.asked is not None and self.asked.is_binary

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
            `take` or `refuse_data`, BDAT for `take_chunk` or `refuse_chunk`, AUTH for `server_auth.respond`,
            STARTTLS for `server_tls.start`, XCLIENT for `server_peers`, MAIL or RCPT if the policy has not
            answered, to be said again with those `behind`. All others are answered; else nothing.
        """
        if answered:
            self._catch_up(items[:answered])
            items = items[answered:]
        if early and (self.state is ServerState.START or (items and must_be_last(self.terms, items[-1][0]))):
            self.state = ServerState.CLOSED
            self._say(turn, replies.EARLY_TALKER, len(items), True, actions)
            return ""
        answer = b""
        refusals = 0
        rest = iter(items)
        for item in rest:
            handle, accepted, refused = ROWS[self.state].get(item[0], OUT_OF_ORDER)
            reply = handle(self, item)
            if not reply:
                behind = self.behind = length_hint(rest)
                self._answer_before(turn, answer, len(items) - 1 - behind, refusals, actions)
                waiting: str = item[0]
                return waiting
            if reply[0] < _CLASS_4:
                self.state = accepted or self.state
            else:
                refusals += reply[0] == _CLASS_5
                reply = self._refused(item, reply, refused)
            answer += reply
            if self.state is ServerState.CLOSED:
                break
        if not items or (early and items[-1][0] == "DATA"):
            # A refused DATA whose content is already here: what follows is content, not commands.
            self.state = ServerState.CLOSED
        delay_ms = self._delay_ms(refusals) if refusals else 0
        if self.has_chunks or (refusals and items[-1][0] == "BDAT"):
            self._answer_among_chunks(turn, items, answer, reply, delay_ms, actions)
            return ""
        is_over = self.state is ServerState.CLOSED
        action = ("reply", self.conn, turn, self.told(answer), len(items), delay_ms, is_over)
        grant = self.grants.get(self.state)
        # A DATA is wrong where the content is not lines.
        is_bare = grant is None or (self.asked is not None and self.asked.is_binary)
        actions.append(action if is_bare else (*action, grant))
        return ""

    def _refused(self, item: Item, reply: bytes, refused: ServerState | None) -> bytes:
        """Count a refusal; return what is said, which is the last word if there were too many errors."""
        self.refusals[item[0], reply[0]] += 1
        self.state = refused or self.state
        if self.errors > self.terms.max_protocol_errors:
            self.state = ServerState.CLOSED
            return replies.TOO_MANY_ERRORS
        if reply.startswith(b"421"):
            self.state = ServerState.CLOSED
        return reply

    def _answer_before(
        self, turn: int, answer: bytes, answers: int, refusals: int, actions: list[Action]
    ) -> None:
        """Answer what came before a command that the owner has to act on."""
        if self.has_chunks and self.state is not ServerState.CHUNKS:
            self._forget(turn, actions)
        if answer:
            self._say(turn, answer, answers, False, actions, self._delay_ms(refusals) if refusals else 0)

    def _answer_among_chunks(
        self,
        turn: int,
        items: list[Item],
        answer: bytes,
        last_reply: bytes,
        delay_ms: int,
        actions: list[Action],
    ) -> None:
        """Answer commands while net has chunks, or commands that end with a BDAT that was refused."""
        is_over = self.state is ServerState.CLOSED
        if items[-1][0] == "BDAT" and not is_over:
            before = answer[: -len(last_reply)]
            if before:
                self._say(turn, before, len(items) - 1, False, actions)
            self.refuse_chunk(turn, last_reply, items[-1], actions, self.state, delay_ms)
            return
        if self.state is not ServerState.CHUNKS:
            self._forget(turn, actions)
        self._say(turn, answer, len(items), is_over, actions, delay_ms)

    def _say(
        self, turn: int, reply: bytes, answers: int, close: bool, actions: list[Action], delay_ms: int = 0
    ) -> None:
        actions.append(("reply", self.conn, turn, self.told(reply), answers, delay_ms, close))

    def told(self, reply: bytes) -> bytes:
        """Return replies as this peer is told them: with enhanced status codes if they are offered."""
        return reply if self.terms.extensions.enhanced_status_codes else replies.without_codes(reply)

    def _forget(self, turn: int, actions: list[Action]) -> None:
        """Have net forget the chunks of a transaction that has ended without its last one."""
        self.has_chunks = False
        actions.append(("forget", self.conn, turn))

    def _catch_up(self, items: list[Item]) -> None:
        """Take note of each MAIL that was answered under a grant."""
        for _, address, _, params in items:
            # Such as net has answered are never refused.
            self.size_declared, self.is_eight_bit, self.asked, _ = mail_parameters(
                params, self.terms.extensions
            )
            self.sender = address
            self.accepted_rcpts = 0
            self.state = ServerState.SENDER

    def _delay_ms(self, refusals: int) -> int:
        return 0 if self.login else min(refusals * self.terms.tarpit_ms, TARPIT_MAX_MS)

    def take(self, turn: int, draft: int, actions: list[Action]) -> None:
        """Answer DATA with 354 and have the content put into a draft."""
        self.state = ServerState.CONTENT
        self.is_chunked = False
        actions.append(
            ("take", self.conn, turn, draft, self.terms.max_message_bytes, replies.START_CONTENT),
        )

    def refuse_data(self, turn: int, reply: bytes, early: bool, actions: list[Action]) -> None:
        """Refuse DATA; the connection is closed when the content came with it."""
        self._end_transaction()
        if early:
            self.state = ServerState.CLOSED
        self._say(turn, reply, 1, early, actions)

    def take_chunk(self, turn: int, item: Item, draft: int | None, actions: list[Action]) -> None:
        """Have the chunk of a BDAT put into a draft: a new one, or with None that of the chunks before."""
        _, size, is_last = item
        self.state = ServerState.CONTENT if is_last else ServerState.CHUNKS
        self.is_chunked = True
        self.has_chunks = not is_last
        reply = b"" if is_last else self.told(replies.chunk_ok(size))
        limit = self.terms.max_message_bytes
        actions.append(("take_chunk", self.conn, turn, draft, limit, self.is_binary, reply))

    def refuse_chunk(
        self,
        turn: int,
        reply: bytes,
        item: Item,
        actions: list[Action],
        state: ServerState = ServerState.REFUSED,
        delay_ms: int = 0,
    ) -> None:
        """Refuse a BDAT: its chunk is passed over, and what came before is forgotten."""
        if item[2]:
            # RFC 2033 4.3: the last one is answered for each recipient, whatever became of those before.
            reply = to_each(self, reply) or reply
        if state is ServerState.REFUSED:
            owed = 0 if item[2] else self.accepted_rcpts
            self._end_transaction()
            self.accepted_rcpts = owed
        self.state = state
        self.has_chunks = False
        actions.append(("discard", self.conn, turn, self.told(reply), delay_ms))

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
        self.refuse_content(turn, refusal_of(terms, status, received), actions)
        return False

    def refuse_content(self, turn: int, reply: bytes, actions: list[Action]) -> None:
        """Refuse content; the session goes on, unless its framing cannot be trusted (RFC 5321 2.3.8)."""
        # How long a chunk is does not depend on what is in it.
        is_over = reply is replies.CONTENT_BAD_LINE_ENDING and not self.is_chunked
        is_over = is_over or reply.startswith(b"421")
        reply = to_each(self, reply)
        self._end_transaction()
        if is_over:
            self.state = ServerState.CLOSED
        self._say(turn, reply, 1, is_over, actions)

    def accepted(self, turn: int, ticket: int, queued: bytes, failed: bytes, actions: list[Action]) -> None:
        """Have the commit's completion answer the content, with one of two replies."""
        if self.terms.is_lmtp:
            queued, failed = to_each(self, queued), to_each(self, failed)
        self._end_transaction()
        if not self.terms.extensions.enhanced_status_codes:
            queued, failed = replies.without_codes(queued), replies.without_codes(failed)
        action = ("await_durable", self.conn, turn, ticket, queued, failed)
        grant = self.grants.get(self.state)
        actions.append(action if grant is None else (*action, grant))

    def shut_down(self, turn: int, answers: int, actions: list[Action]) -> None:
        """End the session because the service stops (RFC 5321 3.8)."""
        self.state = ServerState.CLOSED
        self._say(turn, replies.SHUTTING_DOWN, answers, True, actions)

    def _end_transaction(self) -> None:
        self.state = ServerState.GREETED
        # The old mapping may belong to a message by now, so it is replaced, not cleared.
        self.recipients = {}
        self.accepted_rcpts = 0
        if self.asked is not None or self.reports or self.forwarded:
            self.asked = None
            self.reports = {}
            self.forwarded = {}
        self.is_chunked = False
