"""Questions that tasks ask the index: a number goes down with the question, the answer comes up with it."""

from __future__ import annotations

from typing import Any, Final, Protocol

import trio

from penstock.errors import EngineStopping, Unavailable

__all__ = ["Questions"]

RETRY_AFTER_S: Final = 1.0


class Core(Protocol):
    """What is needed of `_core.Engine`."""

    def request(self, kind: str, *arguments: Any) -> int:
        """Ask the index; the answer is an event with the number returned."""


class _Question:
    """A task's question that waits for its answer."""

    __slots__ = ("answer", "answered", "is_over")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: Any = None
        self.is_over = False


class Questions:
    """The questions that wait for an answer."""

    def __init__(self, core: Core) -> None:
        """Begin with none."""
        self._core = core
        self._waiting: dict[int, _Question] = {}
        self._is_over = False

    async def ask(self, kind: str, *arguments: Any) -> Any:
        """Ask the index and return its answer; `_core.pyi` says which questions there are.

        Raises:
            EngineStopping: The engine stops, and nobody will answer any more.
            Unavailable: The index could not be read.
        """
        if self._is_over:
            raise EngineStopping(RETRY_AFTER_S)
        return await self.wait(self._core.request(kind, *arguments))

    async def wait(self, number: int) -> Any:
        """Wait for the answer to something that was asked of the core in this turn.

        Raises:
            EngineStopping: The engine stops, and nobody will answer any more.
            Unavailable: There is no answer: the log has failed, or the index could not be read.
        """
        if self._is_over:
            raise EngineStopping(RETRY_AFTER_S)
        question = self._waiting[number] = _Question()
        try:
            await question.answered.wait()
        finally:
            self._waiting.pop(number, None)
        if question.is_over:
            raise EngineStopping(RETRY_AFTER_S)
        if question.answer is None:
            raise Unavailable(RETRY_AFTER_S, "the index could not be read")
        return question.answer

    def answer(self, event: tuple[Any, ...]) -> bool:
        """Hand an answer to whoever asked; return whether the question was one of ours."""
        _, number, answer = event
        question = self._waiting.get(number)
        if question is None:
            return False
        question.answer = answer
        question.answered.set()
        return True

    def end(self) -> None:
        """Send all who wait away: nobody will answer any more."""
        self._is_over = True
        for question in self._waiting.values():
            question.is_over = True
            question.answered.set()
