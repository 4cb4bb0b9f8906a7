"""Asks hooks one question: one after the other, each for so long, until one does not accept.

A question is a task (`verdicts`), and the turn stays with us until it is answered. Net is told before each
hook that the answer will come, so that it neither loses patience with us nor keeps the end of a connection to
itself; such an end cancels the question.

A hook fails if it raises, takes longer than it may, or says what cannot be followed. That ends the question
with 451 4.3.0, is counted, and stands in the journal with the hook's name and nothing of what it has seen.
Three failures of a hook in a row are an alarm, until it answers again. What it has raised is logged with its
traceback: the log is the program's own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from penstock.hooks import EVENTS, Accept, ReceiveHooks, Redirect, Reject, Tarpit, Verdict
from penstock.receive.actions import pending
from penstock.receive.hook_counts import HookCounts, names_of
from penstock.receive.hooked import Decision, Hooked
from penstock.receive.verdicts import Verdicts
from penstock.smtp import replies

if TYPE_CHECKING:
    from penstock.receive.connections import Connection
    from penstock.receive.counts import Sample
    from penstock.receive.entries import Route

__all__ = ["Ask", "Consulting", "hooked_of"]

_log = logging.getLogger(__name__)

Action: TypeAlias = tuple[Any, ...]
Ask: TypeAlias = Callable[[ReceiveHooks], Awaitable[Verdict]]

QUESTIONS_MAX: Final = 1_024
"""Questions that are open at a time; who asks beyond that is told to come again."""
TIMEOUT_MAX_S: Final = 30.0
"""Net waits for us a minute."""

FAILED: Final = Decision(replies.LOCAL_FAILURE)
BUSY: Final = Decision(replies.TOO_MANY_QUESTIONS)


class Consulting:
    """The hooks, and the questions that are open."""

    def __init__(
        self,
        hooks: Sequence[ReceiveHooks],
        apply: Callable[[list[Action]], None],
        *,
        timeout_s: float,
        through: Callable[[str], Route | None],
        journal: Callable[..., None],
        now_ms: Callable[[], int],
        questions_max: int = QUESTIONS_MAX,
    ) -> None:
        """See what each hook wants to be asked.

        Args:
            hooks: In the order in which they are asked.
            apply: Carries out actions.
            timeout_s: How long each may take each time.
            through: Returns the way through a send connector.
            journal: Writes an event.
            now_ms: Unix time in milliseconds.
            questions_max: How many may be open at a time.

        Raises:
            TypeError: One is no hook, or has a method that is called like an event and is none.
            ValueError: Two have the same name, or one has none that can be a label; or no time is left.
        """
        if not 0 < timeout_s <= TIMEOUT_MAX_S:
            raise ValueError(f"hook_timeout_s: has to be more than 0 and at most {TIMEOUT_MAX_S:g}")
        names = names_of(hooks)
        self._asked = {
            event: [
                (name, hook)
                for name, hook in zip(names, hooks, strict=True)
                if getattr(type(hook), event) is not getattr(ReceiveHooks, event)
            ]
            for event in EVENTS
        }
        self._apply = apply
        self._timeout_s = timeout_s
        self._through = through
        self._journal = journal
        self._now_ms = now_ms
        self._verdicts = Verdicts(apply, open_max=questions_max)
        self._counts = HookCounts(names)
        self._busy = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have a place for the questions, for ever."""
        await self._verdicts.run(task_status)

    def asks(self, event: str) -> bool:
        """Whether any hook wants to be asked at an event."""
        return bool(self._asked[event])

    def problems(self) -> list[str]:
        """Return what an operator should know."""
        return [*self._counts.problems(), *self._verdicts.problems()]

    def samples(self) -> Iterator[Sample]:
        """Yield what was counted, for metrics."""
        yield from self._counts.samples()
        yield "hook_busy_total", (), float(self._busy)

    def forget(self, conn: int) -> None:
        """Cancel the question of a connection that has ended."""
        self._verdicts.forget(conn)

    def put(
        self,
        connection: Connection,
        question: Callable[[], Awaitable[Decision]],
        then: Callable[[Decision, list[Action]], None],
        actions: list[Action],
    ) -> None:
        """Have a question answered.

        Args:
            connection: Whom it is about.
            question: Finds the answer.
            then: Takes it, and where actions go.
            actions: Where those go that are to be done at once.
        """

        def told(decision: Decision | None, actions: list[Action]) -> None:
            then(decision or FAILED, actions)

        conn = connection.session.conn
        if self._verdicts.ask(conn, question, told, within_s=math.inf):
            actions.append(pending(conn, connection.turn))
        else:
            self._busy += 1
            then(BUSY, actions)

    async def consult(
        self, event: str, connection: Connection, ask: Ask, *, fields: bytes = b"", sleeps: bool = False
    ) -> Decision:
        """Ask the hooks of an event.

        Args:
            event: Its name.
            connection: Whom it is about.
            ask: Asks one of them.
            fields: What is added already.
            sleeps: Whether an acceptance that is held back waits here, since it cannot later.
        """
        room = hooked_of(connection).room(connection.session.recipients)
        for nth, (name, hook) in enumerate(self._asked[event]):
            if nth or sleeps:
                self._keep(connection)
            verdict = await self._ask_one(name, event, connection, partial(ask, hook), room - len(fields))
            if isinstance(verdict, Accept):
                fields += verdict.octets
                continue
            if verdict is None:
                return FAILED
            decision = self._last(verdict, fields)
            if sleeps and decision.refusal is None and decision.delay_ms:
                self._keep(connection)
                await trio.sleep(decision.delay_ms / 1000)
                return Decision(fields=decision.fields, hop=decision.hop)
            return decision
        return Decision(fields=fields)

    def _last(self, verdict: Reject | Redirect | Tarpit, fields: bytes) -> Decision:
        """Return what a verdict that ends a question comes to."""
        delay_ms = 0
        last: Accept | Reject | Redirect
        if isinstance(verdict, Tarpit):
            delay_ms, last = max(1, round(verdict.seconds * 1000)), verdict.then
        else:
            last = verdict
        if isinstance(last, Reject):
            return Decision(last.octets, delay_ms)
        if isinstance(last, Accept):
            return Decision(None, delay_ms, fields + last.octets)
        route = self._through(last.connector)
        return Decision(None, delay_ms, fields, None if route is None else route.hop)

    async def _ask_one(
        self, name: str, event: str, connection: Connection, ask: Callable[[], Awaitable[Verdict]], room: int
    ) -> Verdict | None:
        """Wait for a hook's answer; return None if it has failed."""
        began_s = trio.current_time()
        verdict: object = None
        result, why = "error", ""
        with trio.move_on_after(self._timeout_s) as scope:
            try:
                verdict = await ask()
            except Exception as error:
                why = type(error).__name__
                _log.exception("Hook %s failed at %s", name, event)
            else:
                why = self._unusable(verdict, event, room)
        took_s = trio.current_time() - began_s
        if scope.cancelled_caught or took_s >= self._timeout_s:
            result, why = "timeout", "over time"
        if not why and isinstance(verdict, Accept | Reject | Tarpit | Redirect):
            last = verdict.then if isinstance(verdict, Tarpit) else verdict
            self._counts.answered(name, "refused" if isinstance(last, Reject) else "ok", took_s)
            return verdict
        self._counts.failed(name, result, event, why, took_s)
        self._journal(
            "HOOK",
            self._now_ms(),
            hook=name,
            at_event=event,
            result=result,
            cause=why,
            connector=connection.connector.settings.name,
            session=connection.session_id,
        )
        return None

    def _unusable(self, verdict: object, event: str, room: int) -> str:
        """Say why a verdict cannot be followed; empty if it can."""
        if isinstance(verdict, Tarpit):
            verdict = verdict.then
        if isinstance(verdict, Redirect):
            if event != "on_rcpt_to":
                return "redirects what is no recipient"
            return "" if self._through(verdict.connector) is not None else "no such send connector"
        if isinstance(verdict, Accept):
            return "adds too many header fields" if len(verdict.octets) > room else ""
        return "" if isinstance(verdict, Reject) else "no verdict"

    def _keep(self, connection: Connection) -> None:
        """Tell net that the answer will come."""
        self._apply([pending(connection.session.conn, connection.turn)])


def hooked_of(connection: Connection) -> Hooked:
    """Return what hooks have said of a connection."""
    if connection.hooked is None:
        raise AssertionError("invariant: where there are hooks, a connection knows of them")
    return connection.hooked
