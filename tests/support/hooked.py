"""A stepped receiving side with hooks, under a clock that tests turn.

Everything but the hooks happens in `rest`; time passes in Trio's clock (what hooks may take) and in net's
(what peers may), both in `pass_s`. Threads that read content are waited for.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.hooks import ReceiveHooks
from penstock.receive.asking import Hooks
from penstock.receive.consulting import Consulting
from penstock.receive.fresh import FreshMessage
from penstock.receive.receiver import Receiver
from penstock.route.router import Route
from tests.dialogues.backends import LISTENER, NOW_MS, SmartHost, settings
from tests.dialogues.script import Script

OUT = Route(("out", "smart_host", "out"))


class Rig:
    """An engine that is stepped, its receiver, and hooks.

    Attributes:
        journal: Events and their fields.
        accepted: Messages that became durable.
        drafts: The drafts of contents that came.
    """

    def __init__(
        self,
        folder: Path,
        hooks: Sequence[ReceiveHooks],
        clock: MockClock | None,
        *,
        timeout_s: float = 5.0,
        questions_max: int = 1024,
        receive: dict[str, Any] | None = None,
        options: dict[str, int] | None = None,
    ) -> None:
        module = importlib.import_module("penstock._core")
        self.core = module.Engine(spool=str(folder / "spool"), inline=True, options=options or {})
        self.clock = clock
        self.now_ms = NOW_MS
        self.journal: list[tuple[str, dict[str, Any]]] = []
        self.accepted: list[FreshMessage] = []
        self.drafts: list[int] = []
        self._answers: dict[int, Any] = {}
        consulting = Consulting(
            hooks,
            self.core.apply,
            timeout_s=timeout_s,
            through=lambda name: OUT if name == "out" else None,
            journal=lambda event, _now_ms, **fields: self.journal.append((event, fields)),
            now_ms=lambda: self.now_ms,
            questions_max=questions_max,
        )
        self.open = consulting._verdicts._open
        given = settings(Script("hooks", settings={"tarpit_ms": 0}), folder)
        changed = tuple(replace(connector, **(receive or {})) for connector in given.connectors)
        self.receiver = Receiver(
            self.core,
            replace(given, connectors=changed),
            SmartHost(),
            self.accepted.append,
            module.format_queue_id,
            hooks=Hooks(consulting, self.core) if hooks else None,
        )
        self.core.listen(LISTENER, "127.0.0.1", 25)

    def connect(self, peer_ip: str = "127.0.1.1") -> Peer:
        """Connect a peer; it has not been greeted."""
        return Peer(self, self.core.memory_connect(LISTENER, peer_ip))

    def handle_events(self) -> bool:
        """Handle what has happened; return whether anything has."""
        self.core.step(self.now_ms)
        events = self.core.poll(256)
        actions: list[Any] = []
        for event in events:
            kind = event[0]
            if kind == "content":
                self.drafts.append(event[3])
            if kind in ("opened", "commands", "content"):
                getattr(self.receiver, kind)(event, actions, self.now_ms)
            elif kind in ("closed", "committed", "commit_failed"):
                getattr(self.receiver, kind)(event)
            elif kind == "answer":
                self._answers[event[1]] = event[2]
        self.core.apply(actions)
        self.core.step(self.now_ms)
        return bool(events)

    async def rest(self) -> None:
        """Run everything until nothing moves but what waits for the clock."""
        for _ in range(200):
            moved = self.handle_events()
            await wait_all_tasks_blocked()
            while self.receiver._hooks is not None and self.receiver._hooks._readers.borrowed_tokens:
                await trio.lowlevel.checkpoint()
                await wait_all_tasks_blocked()
            self.core.step(self.now_ms)
            if not moved and not self.handle_events():
                return
        raise AssertionError("it does not come to rest")

    async def pass_s(self, seconds: float) -> None:
        """Let time pass, in steps of a quarter of a second."""
        await self.rest()
        while seconds > 0:
            step = min(seconds, 0.25)
            seconds -= step
            self.now_ms += round(step * 1000)
            if self.clock is not None:
                self.clock.jump(step)
            await self.rest()

    def samples(self) -> dict[tuple[str, ...], float]:
        """Return what reception has counted."""
        return {(name, *labels): value for name, labels, value in self.receiver.samples()}

    def count(self, hook: str, result: str) -> float:
        """Return how often a hook has had a result."""
        return self.samples().get(("hook_seconds_bucket", hook, result, "+Inf"), 0)

    async def header(self, message: FreshMessage) -> list[str]:
        """Return the lines of a stored message's header section, but for our own Received field."""
        request = self.core.request("header", message.queue_id, 65_536)
        while request not in self._answers:
            await self.pass_s(0.25)
        lines = self._answers[request].decode().split("\r\n")
        assert lines[0].startswith("Received: from ")
        assert all(line.startswith("\t") for line in lines[1:3])
        return [line for line in lines[3:] if line]

    def hops(self, message: FreshMessage) -> list[tuple[int, list[str]]]:
        """Return a message's next hops, and whom it goes to by each."""
        return [(hop, [recipient[1] for recipient in theirs]) for hop, theirs, *_ in message.entries]


class Peer:
    """A client of the rig."""

    def __init__(self, rig: Rig, memory: Any) -> None:
        self._rig = rig
        self.memory = memory

    async def say(self, *lines: str) -> list[str]:
        """Send lines in one go, and return the lines that came by the time all is at rest."""
        self.memory.send("".join(f"{line}\r\n" for line in lines).encode())
        return await self.heard()

    async def heard(self) -> list[str]:
        """Return what has come."""
        await self._rig.rest()
        return str(self.memory.recv().decode()).splitlines()


@asynccontextmanager
async def running(folder: Path, hooks: Sequence[ReceiveHooks], **options: Any) -> AsyncIterator[Rig]:
    """Run a rig."""
    rig = Rig(folder, hooks, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.receiver.run)
        yield rig
        nursery.cancel_scope.cancel()
    rig.core.close()
