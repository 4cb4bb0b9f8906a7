"""What happens reaches its handler, what is decided goes down once, and time brings turns of its own."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from penstock.dispatcher import TURNS_IN_A_ROW, Dispatcher


class Core:
    """An eventfd with events behind it."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.applied: list[list[tuple[Any, ...]]] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def close(self) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def ring(self) -> None:
        os.eventfd_write(self._fd, 1)

    def happen(self, *events: tuple[Any, ...]) -> None:
        self.events.extend(events)
        self.ring()

    def poll(self, limit: int) -> list[tuple[Any, ...]]:
        taken, self.events = self.events[:limit], self.events[limit:]
        if not self.events:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return taken

    def apply(self, actions: list[tuple[Any, ...]]) -> None:
        self.applied.append(actions)


class Rig:
    def __init__(self) -> None:
        self.core = Core()
        self.dispatcher = Dispatcher(self.core, self.now_ms)
        self.seen: list[tuple[Any, ...]] = []
        self.turns: list[float] = []
        self.next_in_ms: int | None = None

    def now_ms(self) -> int:
        return int(trio.current_time() * 1000)

    def handle(self, event: tuple[Any, ...], actions: list[tuple[Any, ...]], _now_ms: int) -> None:
        self.seen.append(event)
        actions.append(("did", event[1]))

    def turn(self, _actions: list[tuple[Any, ...]], now_ms: int) -> int | None:
        self.turns.append(trio.current_time())
        next_in_ms, self.next_in_ms = self.next_in_ms, None
        return None if next_in_ms is None else now_ms + next_in_ms

    async def run(self) -> None:
        await self.dispatcher.run({"it": self.handle}, self.turn)


@pytest.fixture
def rig() -> Any:
    rig = Rig()
    yield rig
    rig.core.close()


async def test_events_of_a_turn_are_answered_with_one_list(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        rig.core.happen(("it", 1), ("it", 2))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert rig.seen == [("it", 1), ("it", 2)]
    assert rig.core.applied == [[("did", 1), ("did", 2)]]
    assert dict((labels, value) for _, labels, value in rig.dispatcher.samples()) == {("it",): 2.0}


async def test_time_brings_a_turn(rig: Rig, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        rig.next_in_ms = 5_000
        nursery.start_soon(rig.run)
        await trio.testing.wait_all_tasks_blocked()
        before = len(rig.turns)
        mock_clock.jump(4.9)
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.turns) == before
        mock_clock.jump(0.2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(rig.turns) == before + 1
        nursery.cancel_scope.cancel()


async def test_a_time_that_comes_nearer_is_kept(rig: Rig, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        rig.next_in_ms = 60_000
        nursery.start_soon(rig.run)
        await trio.testing.wait_all_tasks_blocked()
        rig.next_in_ms = 1_000
        rig.dispatcher.wake()
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = len(rig.turns)
        mock_clock.jump(1.1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(rig.turns) == before + 1
        nursery.cancel_scope.cancel()


async def test_others_get_their_turn_however_much_happens(rig: Rig) -> None:
    rig.handle = lambda event, _actions, _now_ms: rig.core.happen(event)  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        rig.core.happen(("it", 1))
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert TURNS_IN_A_ROW <= len(rig.turns) <= 6 * TURNS_IN_A_ROW
