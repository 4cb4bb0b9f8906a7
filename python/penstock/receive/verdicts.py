"""Answers that a task gives, to commands that wait for them.

The turn of the connection stays with us meanwhile, so net reads nothing from it and commands behind it wait.
A question has a deadline, after which the answer is None; so it is when the question itself fails, which
costs one answer and not the daemon. When the connection ends the question is cancelled and nobody is told.

How many questions may be open is bounded: whoever asks beyond that is told so at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import trio

__all__ = ["Verdicts"]

T = TypeVar("T")

Action: TypeAlias = tuple[Any, ...]

OPEN_MAX: Final = 256
"""Questions that are open at a time."""


class Verdicts:
    """Runs questions, each for one connection."""

    def __init__(self, apply: Callable[[list[Action]], None], *, open_max: int = OPEN_MAX) -> None:
        """Begin with none.

        Args:
            apply: Carries out actions; called between the turns of the dispatcher.
            open_max: Questions that may be open at a time.
        """
        self._apply = apply
        self._open_max = open_max
        self._nursery: trio.Nursery | None = None
        self._open: dict[int, trio.CancelScope] = {}
        self.late = 0
        self.failed: dict[str, int] = {}

    def problems(self) -> list[str]:
        """Return what an operator should know: questions that failed, by what they raised."""
        return [f"{count} verdicts could not be found: {name}" for name, count in self.failed.items()]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have a place for the tasks, for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def ask(
        self,
        conn: int,
        question: Callable[[], Awaitable[T]],
        then: Callable[[T | None, list[Action]], None],
        *,
        within_s: float,
    ) -> bool:
        """Have a question answered for a connection that has none open.

        Args:
            conn: The connection.
            question: Finds the answer.
            then: Takes the answer, or None if there is none in time, and where actions go.
            within_s: How long that may take.

        Returns:
            Whether it is asked; not if too many are, or nobody runs them.
        """
        if self._nursery is None or len(self._open) >= self._open_max or conn in self._open:
            return False
        scope = trio.CancelScope()
        self._open[conn] = scope
        self._nursery.start_soon(self._answer, conn, scope, question, then, within_s)
        return True

    def forget(self, conn: int) -> None:
        """Cancel the question of a connection that has ended, if there is one."""
        scope = self._open.pop(conn, None)
        if scope is not None:
            scope.cancel()

    async def _answer(
        self,
        conn: int,
        scope: trio.CancelScope,
        question: Callable[[], Awaitable[T]],
        then: Callable[[T | None, list[Action]], None],
        within_s: float,
    ) -> None:
        answer = None
        with scope, trio.move_on_after(within_s) as deadline:
            try:
                answer = await question()
            except Exception as error:
                name = type(error).__name__
                self.failed[name] = self.failed.get(name, 0) + 1
        self.late += deadline.cancelled_caught
        if self._open.get(conn) is not scope:
            return
        del self._open[conn]
        actions: list[Action] = []
        then(answer, actions)
        self._apply(actions)
