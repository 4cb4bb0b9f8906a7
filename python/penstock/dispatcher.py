"""The one task through which everything that happens below reaches Python, turn by turn.

A turn takes what there is, has each event handled, lets delivery decide what is next, and hands the actions
down in one list. It never waits: for no disk, no peer, no name server.

Turns follow each other as long as something happens, and only then does the task go to sleep: falling asleep
and waking up costs as much as several events. The sleep itself is on the eventfd alone. Whoever wants a turn
for another reason, the clock included, makes the eventfd readable; a scope with a deadline around every sleep
would cost half as much again.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

import trio

__all__ = ["Dispatcher", "Handler", "now_ms"]

Action: TypeAlias = tuple[Any, ...]
Event: TypeAlias = tuple[Any, ...]
Handler: TypeAlias = Callable[[Event, list[Action], int], object]
"""Takes an event, where actions go, and the Unix time in milliseconds."""

EVENTS_PER_TURN: Final = 512
TURNS_IN_A_ROW: Final = 16
"""Turns after which other tasks get theirs, however much there is to do."""


def now_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Core(Protocol):
    """What is needed of `_core.Engine`."""

    def fileno(self) -> int: ...
    def ring(self) -> None: ...
    def poll(self, limit: int) -> list[Event]: ...
    def apply(self, actions: list[Action]) -> None: ...


class Dispatcher:
    """Takes turns for as long as `run` runs."""

    def __init__(self, core: Core, now_ms: Callable[[], int]) -> None:
        """Begin with nothing handled.

        Args:
            core: Where events come from and actions go.
            now_ms: Unix time in milliseconds.
        """
        self._core = core
        self._now_ms = now_ms
        self._events: defaultdict[str, int] = defaultdict(int)
        # When a turn is due that no event brings, in Trio's time; and until when the clock sleeps.
        self._due_s = math.inf
        self._alarm_s = math.inf
        self._alarm = trio.CancelScope()

    async def run(
        self, handlers: Mapping[str, Handler], turn: Callable[[list[Action], int], int | None]
    ) -> None:
        """Take turns, for ever.

        Args:
            handlers: Who handles which event.
            turn: Called at the end of each turn with where actions go and the Unix time in milliseconds;
                returns when it has to be called again, or None.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            await self._take_turns(handlers, turn)

    async def _take_turns(
        self, handlers: Mapping[str, Handler], turn: Callable[[list[Action], int], int | None]
    ) -> None:
        core, counted = self._core, self._events
        fileno = core.fileno()
        while True:
            for _ in range(TURNS_IN_A_ROW):
                events = core.poll(EVENTS_PER_TURN)
                at_ms = self._now_ms()
                actions: list[Action] = []
                for event in events:
                    kind = event[0]
                    counted[kind] += 1
                    handlers[kind](event, actions, at_ms)
                next_ms = turn(actions, at_ms)
                if events or actions:
                    # Also without actions: it passes on what was handed to the log.
                    core.apply(actions)
                if not events:
                    self._sleep_until(next_ms, at_ms)
                    await trio.lowlevel.wait_readable(fileno)
                    break
            else:
                await trio.lowlevel.checkpoint()

    def wake(self) -> None:
        """Have a turn taken although nothing has happened below."""
        self._core.ring()

    def samples(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        """Yield how many events were handled, by kind."""
        for kind, count in self._events.items():
            yield "net_events_total", (kind,), float(count)

    def _sleep_until(self, next_ms: int | None, at_ms: int) -> None:
        """Set the alarm; one that is set for earlier stays, and finds then that it was moved."""
        if next_ms is None:
            self._due_s = math.inf
            return
        self._due_s = trio.current_time() + max(0, next_ms - at_ms) / 1000
        if self._due_s < self._alarm_s:
            self._alarm.cancel()

    async def _keep_time(self) -> None:
        """Ring when a turn is due, for ever."""
        while True:
            self._alarm_s = self._due_s
            with trio.CancelScope() as self._alarm:
                await trio.sleep_until(self._alarm_s)
            if trio.current_time() >= self._due_s:
                self._due_s = math.inf
                self._core.ring()
