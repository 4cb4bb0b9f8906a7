"""The client's side of an SMTP session (RFC 5321), without sockets, clocks or storage.

The session is told which replies came and says what is to be sent next, as boundary actions; at the end of
a mail transaction it has one outcome per recipient. It does not know which message goes where, nor when to
try again.

How its owner uses it: `connected` when the connection is up, then `replies` for every event of that name.
The step that comes back says whose turn it is:

- WAIT: net's; nothing to do.
- READY: the owner's; it calls `send`, `park` or `quit`.
- DONE: `outcomes` has an outcome for every recipient. While `is_open` the turn is the owner's, which calls
  `send`, `park` or `quit`; otherwise the connection is being closed.
- FAILED: the peer would not have us; `failure` says why, and the connection is being closed.

`send` returns DONE when this peer cannot take such a message at all; nothing was sent and the turn is still
the owner's. `closed` settles what is left when the connection ended by itself.

With PIPELINING the whole envelope and DATA go in one flight (RFC 2920), otherwise command by command; the
replies go through the same states either way. If you change one, also check the dialogues of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeAlias

from penstock.smtp.outcome import Failure, Outcome, Recipient, Reply, Verdict, closing_text, judge
from penstock.smtp.tables import CLIENT, ClientState
from penstock.smtp.terms import ClientTerms

__all__ = ["ClientSession", "Step"]

Action: TypeAlias = tuple[Any, ...]

EIGHT_BIT: Final = 16
"""The content flag for octets above 127."""
SERVICE_CLOSING: Final = 421

# An address with a line end in it could smuggle in a command.
_UNSAFE: Final[Verdict] = ("failed", "mail", 0, "5.6.7", "an address has characters that cannot be sent")


class Step(Enum):
    """What the owner of a session does next; the module's text says what each asks for."""

    WAIT = "wait"
    READY = "ready"
    DONE = "done"
    FAILED = "failed"


class ClientSession:
    """One connection's session.

    Attributes:
        state: What it waits for.
        extensions: What EHLO offered: keyword in upper case to its parameters.
        transactions: Mail transactions begun.
        outcomes: One per recipient, in no order, once a step was DONE.
        failure: Why there is no session, once a step was FAILED.
    """

    __slots__ = (
        "_accepted",
        "_content",
        "_is_pipelined",
        "_mail",
        "_next_recipient",
        "_offers_eight_bit",
        "_offers_size",
        "_recipients",
        "_refusal",
        "_reset_first",
        "_size_max",
        "conn",
        "extensions",
        "failure",
        "outcomes",
        "peer",
        "state",
        "terms",
        "transactions",
    )

    def __init__(self, conn: int, terms: ClientTerms, peer: str) -> None:
        """Begin a session on a connection that is being made.

        Args:
            conn: The connection.
            terms: How to speak.
            peer: The far end, as it is written to records and logs.
        """
        self.conn = conn
        self.terms = terms
        self.peer = peer
        self.state = ClientState.BANNER
        self.extensions: dict[str, str] = {}
        self.transactions = 0
        self.outcomes: list[Outcome] = []
        self.failure: Failure | None = None
        self._is_pipelined = False
        self._offers_eight_bit = False
        self._offers_size = False
        self._size_max = 0
        # Of the running transaction: the message, its recipients, those accepted, the refusal of MAIL.
        self._content: tuple[int, int, int] = (0, 0, 0)
        self._mail = ""
        self._recipients: list[Recipient] = []
        self._next_recipient = 0
        self._accepted: list[Recipient] = []
        self._refusal: Verdict | None = None
        self._reset_first = False

    @property
    def is_open(self) -> bool:
        """Whether the connection can still be used."""
        return self.state is not ClientState.CLOSED

    def connected(self, turn: int, actions: list[Action]) -> None:
        """Wait for the banner."""
        self._flight(turn, "", 1, self.terms.banner_ms, actions)

    def replies(self, turn: int, replies: list[Reply], actions: list[Action]) -> Step:
        """Take the replies of one event, in order."""
        step = Step.WAIT
        for reply in replies:
            state = self.state
            target = CLIENT[state].get(reply[0] // 100)
            if target is None or reply[0] == SERVICE_CLOSING:
                return self._leave(turn, reply, actions)
            step = _ON_REPLY[state](self, turn, reply, target, actions)
        return step

    def send(
        self,
        turn: int,
        content: tuple[int, int, int],
        sender: str,
        recipients: list[Recipient],
        size: int,
        flags: int,
        actions: list[Action],
    ) -> Step:
        """Begin a mail transaction.

        Args:
            turn: The turn in which READY or DONE came.
            content: Queue id, hop, attempt: the content to send, and what its Started record names.
            sender: The reverse-path; empty for the null one.
            recipients: Whom this transaction is for; at least one.
            size: Octets of the message (RFC 1870).
            flags: What is known of the content.
            actions: Where the commands go.

        Returns:
            WAIT, or DONE if the peer cannot take such a message.
        """
        self.outcomes = []
        self._content = content
        self._recipients = recipients
        self._next_recipient = 0
        self._accepted = []
        self._refusal = None
        mail = f"MAIL FROM:<{sender}>"
        if self._offers_size:
            mail += f" SIZE={size}"
            if self._size_max and size > self._size_max:
                text = f"the message has {size} octets, the server takes {self._size_max}"
                return self._settle(("failed", "mail", 0, "5.3.4", text))
        if flags & EIGHT_BIT:
            if not self._offers_eight_bit:
                # RFC 6152 3: to be converted or to be refused; we do not change content.
                text = "the content is eight-bit and the server takes seven bits only"
                return self._settle(("failed", "mail", 0, "5.6.3", text))
            mail += " BODY=8BITMIME"
        envelope = mail
        is_safe = sender.isprintable()
        for _, address, _, _ in recipients:
            envelope += f"\r\nRCPT TO:<{address}>"
            is_safe = is_safe and address.isprintable()
        if not is_safe or not envelope.isascii():
            return self._settle(_UNSAFE)
        self.transactions += 1
        self._begin(turn, mail, envelope, actions)
        return Step.WAIT

    def park(self, turn: int, idle_ms: int, actions: list[Action]) -> None:
        """Keep the connection for a later message."""
        actions.append(("park", self.conn, turn, idle_ms))

    def quit(self, turn: int, actions: list[Action]) -> None:
        """Say QUIT and close."""
        self.state = ClientState.CLOSED
        actions.append(("close", self.conn, turn, True))

    def closed(self, reason: str, content: str) -> Step:
        """Settle what is open: the connection has ended.

        Args:
            reason: Why, in net's words.
            content: How much of the content the peer can have: "none", "partial" or "terminated".

        Returns:
            DONE with outcomes if a transaction was running, FAILED if there was no session yet, else READY.
        """
        state = self.state
        self.state = ClientState.CLOSED
        if state is ClientState.READY or state is ClientState.CLOSED:
            return Step.READY
        text = closing_text(reason)
        stage = _STAGES[state]
        if state in _GREETING:
            self.failure = (stage, 0, "4.4.2", text)
            return Step.FAILED
        if state is ClientState.DOT and content == "terminated":
            return self._settle(("in_doubt", stage, 0, "4.4.2", f"{text} before the reply to the content"))
        return self._settle(self._refusal or ("deferred", stage, 0, "4.4.2", text))

    def _begin(self, turn: int, mail: str, envelope: str, actions: list[Action]) -> None:
        """Send the envelope, or as much of it as may go in one flight."""
        if self._is_pipelined:
            commands, count = envelope + "\r\nDATA\r\n", len(self._recipients) + 2
        else:
            commands, count = mail + "\r\n", 1
        self.state = ClientState.RSET if self._reset_first else ClientState.MAIL
        if self._reset_first:
            # What the peer refused may have left a transaction open there.
            self._reset_first = False
            if self._is_pipelined:
                commands, count = "RSET\r\n" + commands, count + 1
            else:
                self._mail, commands = commands, "RSET\r\n"
        self._flight(turn, commands, count, self.terms.reply_ms, actions)

    def _flight(
        self, turn: int, commands: str, replies: int, deadline_ms: int, actions: list[Action]
    ) -> None:
        actions.append(("flight", self.conn, turn, [(commands.encode("ascii"), replies, deadline_ms)]))

    def _on_banner(self, turn: int, reply: Reply, target: ClientState, actions: list[Action]) -> Step:
        if target is ClientState.CLOSED:
            return self._fail(turn, reply, actions)
        self.state = target
        actions.append(("flight", self.conn, turn, [(self.terms.ehlo, 1, self.terms.reply_ms)]))
        return Step.WAIT

    def _on_greeting(self, turn: int, reply: Reply, target: ClientState, actions: list[Action]) -> Step:
        if target is ClientState.CLOSED:
            return self._fail(turn, reply, actions)
        if target is ClientState.HELO:
            self.state = target
            actions.append(("flight", self.conn, turn, [(self.terms.helo, 1, self.terms.reply_ms)]))
            return Step.WAIT
        if self.state is ClientState.EHLO:
            self._read_extensions(reply[2][1:])
        self.state = target
        return Step.READY

    def _read_extensions(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            keyword, _, parameters = line.partition(" ")
            self.extensions[keyword.upper()] = parameters.strip()
        self._is_pipelined = "PIPELINING" in self.extensions
        self._offers_eight_bit = "8BITMIME" in self.extensions
        self._offers_size = "SIZE" in self.extensions
        # RFC 1870 4: no value, or 0, means that there is no fixed maximum.
        size_max = self.extensions.get("SIZE", "")
        self._size_max = int(size_max) if size_max.isascii() and size_max.isdigit() else 0

    def _on_rset(self, turn: int, _reply: Reply, target: ClientState, actions: list[Action]) -> Step:
        self.state = target
        if not self._is_pipelined:
            self._flight(turn, self._mail, 1, self.terms.reply_ms, actions)
        return Step.WAIT

    def _on_mail(self, turn: int, reply: Reply, target: ClientState, actions: list[Action]) -> Step:
        if reply[0] >= 400:
            self._refusal = judge("mail", reply)
            if not self._is_pipelined:
                return self._finish(self._refusal)
        self.state = target
        if not self._is_pipelined:
            self._send_recipient(turn, actions)
        return Step.WAIT

    def _on_rcpt(self, turn: int, reply: Reply, target: ClientState, actions: list[Action]) -> Step:
        recipient = self._recipients[self._next_recipient]
        self._next_recipient += 1
        if self._refusal is None:
            if reply[0] < 400:
                self._accepted.append(recipient)
            else:
                self.outcomes.append((recipient[0], recipient[1], *judge("rcpt", reply)))
        if self._next_recipient < len(self._recipients):
            if not self._is_pipelined:
                self._send_recipient(turn, actions)
            return Step.WAIT
        self.state = target
        if not self._is_pipelined:
            if not self._accepted:
                return self._finish(None)
            self._flight(turn, "DATA\r\n", 1, self.terms.data_ms, actions)
        return Step.WAIT

    def _send_recipient(self, turn: int, actions: list[Action]) -> None:
        address = self._recipients[self._next_recipient][1]
        self._flight(turn, f"RCPT TO:<{address}>\r\n", 1, self.terms.reply_ms, actions)

    def _on_data(self, turn: int, reply: Reply, target: ClientState, actions: list[Action]) -> Step:
        if target is not ClientState.DOT:
            return self._finish(self._refusal or judge("data", reply))
        if self._accepted:
            self.state = target
            actions.append(("content", self.conn, turn, *self._content, self.peer, []))
        else:
            # RFC 2920 3.1: 354 although no recipient is valid. A content of nothing ends it.
            self.state = ClientState.EMPTY
            self._flight(turn, ".\r\n", 1, self.terms.reply_ms, actions)
        return Step.WAIT

    def _on_dot(self, _turn: int, reply: Reply, target: ClientState, _actions: list[Action]) -> Step:
        verdict = judge("dot", reply)
        self.outcomes += [(index, address, *verdict) for index, address, _, _ in self._accepted]
        self._reset_first = reply[0] >= 400
        self.state = target
        return Step.DONE

    def _on_empty(self, _turn: int, _reply: Reply, _target: ClientState, _actions: list[Action]) -> Step:
        return self._finish(self._refusal)

    def _fail(self, turn: int, reply: Reply, actions: list[Action]) -> Step:
        """Leave a peer that would not have us."""
        _, stage, code, status, text = judge(_STAGES[self.state], reply)
        self.failure = (stage, code, status, text)
        self.quit(turn, actions)
        return Step.FAILED

    def _leave(self, turn: int, reply: Reply, actions: list[Action]) -> Step:
        """Leave a peer that closes, or whose reply makes no sense here: nothing behind it can be trusted."""
        state = self.state
        _, stage, code, status, text = judge(_STAGES[state], reply)
        is_closing = code == SERVICE_CLOSING
        if not is_closing:
            status, text = "4.5.0", f"unexpected reply {code} {text}"
        self.state = ClientState.CLOSED
        actions.append(("close", self.conn, turn, not is_closing))
        if state in _GREETING:
            self.failure = (stage, code, status, text)
            return Step.FAILED
        # Before content has ended net lets only refusals by: the peer has it, and we do not understand it.
        outcome = "in_doubt" if state is ClientState.DOT and not is_closing else "deferred"
        return self._settle(self._refusal or (outcome, stage, code, status, text))

    def _finish(self, verdict: Verdict | None) -> Step:
        """End a transaction that came to nothing; RSET comes before the next."""
        self._reset_first = True
        self.state = ClientState.READY
        return Step.DONE if verdict is None else self._settle(verdict)

    def _settle(self, verdict: Verdict) -> Step:
        """Give every recipient that has no outcome this one."""
        settled = {outcome[0] for outcome in self.outcomes}
        for index, address, _, _ in self._recipients:
            if index not in settled:
                self.outcomes.append((index, address, *verdict))
        return Step.DONE


_GREETING: Final = frozenset((ClientState.BANNER, ClientState.EHLO, ClientState.HELO))

_STAGES: Final = {
    ClientState.BANNER: "banner",
    ClientState.EHLO: "ehlo",
    ClientState.HELO: "ehlo",
    ClientState.READY: "mail",
    ClientState.RSET: "mail",
    ClientState.MAIL: "mail",
    ClientState.RCPT: "rcpt",
    ClientState.DATA: "data",
    ClientState.DOT: "dot",
    ClientState.EMPTY: "data",
    ClientState.CLOSED: "mail",
}
"""What an outcome calls the place where it was decided."""

_OnReply: TypeAlias = Callable[[ClientSession, int, Reply, ClientState, "list[Action]"], Step]

_ON_REPLY: Final[dict[ClientState, _OnReply]] = {
    ClientState.BANNER: ClientSession._on_banner,
    ClientState.EHLO: ClientSession._on_greeting,
    ClientState.HELO: ClientSession._on_greeting,
    ClientState.RSET: ClientSession._on_rset,
    ClientState.MAIL: ClientSession._on_mail,
    ClientState.RCPT: ClientSession._on_rcpt,
    ClientState.DATA: ClientSession._on_data,
    ClientState.DOT: ClientSession._on_dot,
    ClientState.EMPTY: ClientSession._on_empty,
}
