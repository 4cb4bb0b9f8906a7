"""The questions to hooks that sessions come to, and what becomes of the answers.

Commands that come behind a question wait in its closure, not in the session; see `hooked`. How hooks are
asked is in `consulting`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import trio

from penstock.envelope import Recipient
from penstock.errors import Misuse
from penstock.hook_views import ContentView, HeaderView, SessionView, unstuffed
from penstock.receive.actions import hold_back
from penstock.receive.consulting import Ask, Consulting, hooked_of
from penstock.receive.hooked import Decision, Hooked
from penstock.smtp import server_auth
from penstock.smtp.tables import ServerState

if TYPE_CHECKING:
    from penstock.receive.connections import Connection
    from penstock.receive.counts import Sample
    from penstock.receive.entries import HopKey

__all__ = ["Core", "Hooks", "Reader"]

Action: TypeAlias = tuple[Any, ...]
Event: TypeAlias = tuple[Any, ...]

READERS_MAX: Final = 8
"""Threads that read content for hooks."""
LINES_WITH_DOTS: Final = 8
"""Flag of a content."""


class Reader(Protocol):
    """What is needed of `_core.DraftReader`."""

    def read(self, draft: int, offset: int, length: int) -> bytes: ...  # noqa: D102


class Core(Protocol):
    """What is needed of `_core.Engine`."""

    def drop_draft(self, draft: int) -> None: ...  # noqa: D102
    def draft_reader(self) -> Reader: ...  # noqa: D102


class Hooks:
    """What sessions ask of hooks."""

    def __init__(self, consulting: Consulting, core: Core) -> None:
        """Join what is needed.

        Args:
            consulting: Asks hooks.
            core: Has the drafts.
        """
        self._consulting = consulting
        self._core = core
        self._reader = core.draft_reader()
        self._readers = trio.CapacityLimiter(READERS_MAX)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have a place for the questions, for ever."""
        await self._consulting.run(task_status)

    def asks(self, event: str) -> bool:
        """Whether any hook wants to be asked at an event."""
        return self._consulting.asks(event)

    def problems(self) -> list[str]:
        """Return what an operator should know."""
        return self._consulting.problems()

    def samples(self) -> Iterator[Sample]:
        """Yield what was counted, for metrics."""
        yield from self._consulting.samples()

    def forget(self, connection: Connection) -> None:
        """Cancel the question of a connection that has ended."""
        self._consulting.forget(connection.session.conn)
        self._drop(hooked_of(connection))

    # The events.

    def connected(self, connection: Connection, begin: Action, actions: list[Action]) -> None:
        """Greet a peer if the hooks let it in.

        Args:
            connection: Its connection.
            begin: The action that greets it, or that answers the XCLIENT by which it has become another.
            actions: Where it goes.
        """
        if not self.asks("on_connect"):
            actions.append(begin)
            return
        name, conn, turn, limits, banner, *timed = begin
        # A banner can be held back; a handshake, and the answer to XCLIENT, are given when it is time.
        tls = timed[1:]
        is_held = len(timed) == 1
        view, hooked = _view(connection), hooked_of(connection)
        hooked.is_before_handshake = bool(tls)

        def then(decision: Decision, actions: list[Action]) -> None:
            hooked.is_before_handshake = False
            if decision.refusal is None:
                hooked.connected(decision)
                held = (name, conn, turn, limits, banner, decision.delay_ms)
                actions.append(held if is_held else begin)
                return
            connection.session.state = ServerState.CLOSED
            # Who waits for a handshake cannot be told.
            refusal = b"" if tls else connection.session.told(decision.refusal)
            answers = int(name == "restart")
            actions.append(("reply", conn, turn, refusal, answers, decision.delay_ms, True))

        question = partial(
            self._consulting.consult,
            *("on_connect", connection, lambda hook: hook.on_connect(view)),
            sleeps=not is_held,
        )
        self._put(connection, question, then, actions)

    def authenticated(self, connection: Connection, turn: int, login: str, actions: list[Action]) -> None:
        """Let a peer be who it has proved to be if the hooks have nothing against it."""
        view = _view(connection)

        def then(decision: Decision, actions: list[Action]) -> None:
            if decision.refusal is None:
                hooked_of(connection).logged_in(decision)
                before = len(actions)
                connection.let_in(turn, login, actions)
                hold_back(actions, before, decision.delay_ms)
            else:
                server_auth.refuse_login(
                    connection.session, turn, decision.refusal, actions, delay_ms=decision.delay_ms
                )

        question = partial(
            self._consulting.consult, "on_auth", connection, lambda hook: hook.on_auth(view, login)
        )
        self._put(connection, question, then, actions)

    def command(
        self,
        connection: Connection,
        verb: str,
        actions: list[Action],
        go_on: Callable[[int, list[Action]], None],
    ) -> None:
        """Ask about a MAIL or RCPT that is in order otherwise.

        Args:
            connection: Its connection; the session has stopped at the command.
            verb: MAIL or RCPT.
            actions: Where the answer goes.
            go_on: Says the command to the session again, with those behind it; takes how long the answer is
                held back, and where actions go.
        """
        session, hooked = connection.session, hooked_of(connection)
        address, _ = hooked.question
        event: str
        ask: Ask
        if verb == "MAIL":
            view = _view(connection)
            event, ask = "on_mail", lambda hook: hook.on_mail(view, address or None)
        else:
            view = _view(connection, sender=session.sender)
            recipient = Recipient.received(address)
            event, ask = "on_rcpt_to", lambda hook: hook.on_rcpt_to(view, recipient)

        def then(decision: Decision, actions: list[Action]) -> None:
            if decision.refusal is None and verb == "MAIL":
                hooked.took_sender(decision)
            elif decision.refusal is None:
                hooked.took_recipient(address, decision, session.recipients)
            hooked.decision = decision
            go_on(decision.delay_ms, actions)

        self._put(connection, partial(self._consulting.consult, event, connection, ask), then, actions)

    def content(
        self,
        connection: Connection,
        event: Event,
        actions: list[Action],
        store: Callable[[bytes, Mapping[str, HopKey], list[Action]], None],
    ) -> None:
        """Ask about a content that is in order, and have it stored or refuse it.

        Args:
            connection: Its connection, in the event's turn.
            event: What net has said of the content.
            actions: Where the answer goes.
            store: Stores it; takes the fields that are added, next hops that are known, and where actions go.
        """
        session, hooked = connection.session, hooked_of(connection)
        hooked.draft = draft = event[3]

        def then(decision: Decision, actions: list[Action]) -> None:
            if decision.refusal is not None:
                self._drop(hooked)
                connection.connector.counts.messages["policy"] += 1
                before = len(actions)
                session.refuse_content(connection.turn, decision.refusal, actions)
                hold_back(actions, before, decision.delay_ms)
                return
            hooked.draft = None
            recipients = session.recipients
            fields = hooked.fields(recipients) + decision.fields
            store(fields, hooked.redirected(recipients), actions)

        if not (self.asks("on_end_of_headers") or self.asks("on_end_of_data")):
            then(Decision(), actions)
            return
        _, _, _, _, _, flags, size, *_, (header_size, *_) = event
        is_stuffed = bool(flags & LINES_WITH_DOTS) and not session.is_chunked
        content = ContentView(size, header_size, partial(self._read, draft), is_stuffed=is_stuffed)
        view = _view(
            connection,
            sender=session.sender,
            recipients=tuple(map(Recipient.received, session.recipients)),
        )
        self._put(
            connection, partial(self._judge, connection, view, draft, content, is_stuffed), then, actions
        )

    async def _judge(
        self, connection: Connection, view: SessionView, draft: int, content: ContentView, is_stuffed: bool
    ) -> Decision:
        """Ask about a content: at the end of its header section first."""
        decision = Decision()
        if self.asks("on_end_of_headers"):
            octets = await self._header_section(draft, content.header_size)
            headers = HeaderView(unstuffed(octets) if is_stuffed else octets)
            decision = await self._consulting.consult(
                *("on_end_of_headers", connection, lambda hook: hook.on_end_of_headers(view, headers)),
                sleeps=True,
            )
            if decision.refusal is not None:
                return decision
        return await self._consulting.consult(
            *("on_end_of_data", connection, lambda hook: hook.on_end_of_data(view, content)),
            fields=decision.fields,
            sleeps=True,
        )

    async def _header_section(self, draft: int, octets: int) -> bytes:
        found = b""
        while len(found) < octets and (more := await self._read(draft, len(found), octets - len(found))):
            found += more
        return found

    def _put(
        self,
        connection: Connection,
        question: Callable[[], Awaitable[Decision]],
        then: Callable[[Decision, list[Action]], None],
        actions: list[Action],
    ) -> None:
        """Have a question answered; `then` is told, unless the session has ended meanwhile."""

        def told(decision: Decision, actions: list[Action]) -> None:
            if connection.session.state is ServerState.CLOSED:
                # It was told that the service stops.
                self._drop(hooked_of(connection))
            else:
                then(decision, actions)

        self._consulting.put(connection, question, told, actions)

    async def _read(self, draft: int, offset: int, length: int) -> bytes:
        """Read octets of a draft that waits for a verdict, in a thread."""
        try:
            return await trio.to_thread.run_sync(
                self._reader.read, draft, offset, length, abandon_on_cancel=True, limiter=self._readers
            )
        except LookupError:
            raise Misuse(
                "the content has been decided on: it can be read only until the hook has answered"
            ) from None

    def _drop(self, hooked: Hooked) -> None:
        """Forget the content that waits for a verdict, if there is one."""
        if hooked.draft is not None:
            self._core.drop_draft(hooked.draft)
            hooked.draft = None


def _view(connection: Connection, *, sender: str = "", recipients: tuple[Recipient, ...] = ()) -> SessionView:
    """Return a session as hooks see it."""
    session = connection.session
    version, cipher = hooked_of(connection).tls
    return SessionView(
        session_id=connection.session_id,
        connector=connection.connector.settings.name,
        peer_ip=connection.peer_ip,
        greeting=session.greeting,
        protocol=session.protocol,
        tls_version=version,
        tls_cipher=cipher,
        client_certificate=hooked_of(connection).certificate,
        login=session.login or None,
        sender=sender or None,
        recipients=recipients,
    )
