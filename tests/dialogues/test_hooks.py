"""Whatever clients say, and however it is cut: with hooks that say what our own rules say they hear the same.

Two servers are told the same, octet for octet and at the same times. Of one, a hook refuses the recipient
whom the other does not know, and accepts everything else. The hook lets other tasks run before it answers,
now more often, now less, and reads what it is shown. Everything happens in a thread of its own but what
touches the hooks, which is Trio's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from penstock import (
    Accept,
    ContentView,
    HeaderView,
    ReceiveHooks,
    Recipient,
    Reject,
    Reply,
    SessionView,
    Verdict,
)
from penstock.receive.asking import Hooks
from penstock.receive.consulting import Consulting
from penstock.receive.receiver import Receiver
from tests.dialogues.backends import NOW_MS, SmartHost
from tests.dialogues.backends import settings as backend_settings
from tests.dialogues.script import Script
from tests.dialogues.test_grants import LIMITS, PROMPT, Pair, Server, Step, dialogues

NOBODY = "nobody@contoso.example"
UNKNOWN = Reject(Reply(550, "5.1.1", "Recipient not found"))

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("penstock._core") is None, reason="penstock._core is not built"
    ),
    pytest.mark.timeout(600),
]


class Obliging(ReceiveHooks):
    """Says what would be said in any case, in its own time."""

    def __init__(self) -> None:
        self.chance = Random(0)
        self.asked = 0

    async def accept(self) -> Accept:
        self.asked += 1
        for _ in range(self.chance.randrange(4)):
            await trio.lowlevel.checkpoint()
        return Accept()

    async def on_connect(self, session: SessionView) -> Accept:
        return await self.accept()

    async def on_mail(self, session: SessionView, sender: str | None) -> Accept:
        return await self.accept()

    async def on_rcpt_to(self, session: SessionView, recipient: Recipient) -> Verdict:
        accept = await self.accept()
        return UNKNOWN if recipient.address == NOBODY else accept

    async def on_end_of_headers(self, session: SessionView, headers: HeaderView) -> Accept:
        assert all(name for name, _ in headers.fields)
        return await self.accept()

    async def on_end_of_data(self, session: SessionView, content: ContentView) -> Accept:
        assert len(await content.read()) == content.size
        return await self.accept()


class HookedServer(Server):
    """The same with hooks; `rest` waits for them."""

    def __init__(self, folder: Path, *, tarpit_ms: int) -> None:
        super().__init__(folder, has_grants=True, tarpit_ms=tarpit_ms)
        self.hook = Obliging()
        self._consulting = Consulting(
            [self.hook],
            self.core.apply,
            timeout_s=30.0,
            through=lambda _name: None,
            journal=self._fail,
            now_ms=lambda: self.now_ms,
        )
        script = Script("hooks", settings=LIMITS | {"tarpit_ms": tarpit_ms})
        hooks = Hooks(self._consulting, self.core)
        told = backend_settings(script, folder)
        with (folder / "recipients").open("a", encoding="utf-8") as file:
            file.write(f"{NOBODY}\n")
        self.receiver = Receiver(
            self.core,
            told,
            SmartHost(),
            self.accepted.append,
            self._module.format_queue_id,
            hooks=hooks,
        )
        self._readers = hooks._readers

    @staticmethod
    def _fail(*what: Any, **_: Any) -> None:
        raise AssertionError(f"no hook fails: {what}")

    def rest(self) -> None:
        trio.from_thread.run(self._rest)

    async def _rest(self) -> None:
        for _ in range(200):
            self.step()
            moved = self.handle_events(self.now_ms)
            await wait_all_tasks_blocked()
            while self._readers.borrowed_tokens:
                await trio.lowlevel.checkpoint()
                await wait_all_tasks_blocked()
            self.step()
            if not moved and not self.handle_events(self.now_ms):
                assert not self._consulting._verdicts._open, "nothing waits for a clock"
                return
        raise AssertionError("the server does not come to rest")

    def counts(self) -> dict[tuple[str, ...], int]:
        return {key: value for key, value in super().counts().items() if not key[0].startswith("hook_")}


class HookedPair(Pair):
    """A server with hooks, and one without."""

    servers: list[Any]

    def __init__(self, folder: Path, *, tarpit_ms: int) -> None:
        folder.mkdir()
        self.pause_ms = 40_000 if tarpit_ms else 0
        self.hooked = HookedServer(folder / "with", tarpit_ms=tarpit_ms)
        self.servers = [self.hooked, Server(folder / "without", has_grants=True, tarpit_ms=tarpit_ms)]

    def follow(self, server: Server, step: Step) -> None:  # type: ignore[override]
        """Have a client do what it does, and wait for what is held back.

        With hooks the answers to a batch go out one by one, and without them all together, held back as long
        as the last of them.
        """
        super().follow(server, step)
        if self.pause_ms:
            server.pass_ms(self.pause_ms)

    async def hold(self, steps: list[Step], seed: int) -> None:
        """Hold a dialogue with both."""
        self.hooked.hook.chance = Random(seed)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.hooked.receiver.run)
            await trio.to_thread.run_sync(self.compare, steps)
            nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[HookedPair]]:
    """Pairs without and with a tarpit."""
    folder = tmp_path_factory.mktemp("hooks")
    made = [HookedPair(folder / str(tarpit_ms), tarpit_ms=tarpit_ms) for tarpit_ms in (0, 5_000)]
    yield made
    for pair in made:
        pair.close()


USUAL = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@given(steps=dialogues(PROMPT, has_pauses=True), seed=st.integers(0, 99))
@settings(USUAL)
def test_hooks_that_agree_change_nothing(pairs: list[HookedPair], steps: list[Step], seed: int) -> None:
    trio.run(pairs[0].hold, steps, seed)


@given(steps=dialogues(PROMPT, has_pauses=False), seed=st.integers(0, 99))
@settings(USUAL, max_examples=50)
def test_hooks_that_agree_slow_nobody_down(pairs: list[HookedPair], steps: list[Step], seed: int) -> None:
    trio.run(pairs[1].hold, steps, seed)


def test_the_hook_was_asked(pairs: list[HookedPair]) -> None:
    lines = f"MAIL FROM:<>\r\nRCPT TO:<{NOBODY}>\r\nRCPT TO:<you@contoso.example>\r\nDATA\r\n".encode()
    said = (b"EHLO client.example\r\n", lines, b"a: b\r\n\r\nc\r\n.\r\n")
    steps = [Step(0, data, "rest", 0) for data in said]
    before = pairs[0].hooked.hook.asked
    trio.run(pairs[0].hold, steps, 1)
    assert pairs[0].hooked.hook.asked == before + len(pairs[0].servers) + 5
    assert pairs[0].hooked.now_ms >= NOW_MS
