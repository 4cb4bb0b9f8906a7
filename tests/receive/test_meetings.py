"""Where hooks, back pressure, tarpits, XFORWARD and what peers send in one go meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from trio.testing import MockClock

from penstock import Accept, ReceiveHooks, Recipient, SessionView, Tarpit, Verdict
from tests.support.hooked import Peer, Rig, running

PEER_IP = "127.0.1.1"
MAIL = "MAIL FROM:<me@contoso.example>"
YOU, NOBODY = "RCPT TO:<you@contoso.example>", "RCPT TO:<nobody@contoso.example>"


class Hook(ReceiveHooks):
    """Says the same of each recipient."""

    name = "hook"

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict

    async def on_rcpt_to(self, session: SessionView, recipient: Recipient) -> Verdict:
        return self.verdict


@asynccontextmanager
async def greeted(folder: Path, clock: MockClock, verdict: Verdict, **receive: Any) -> AsyncIterator[Any]:
    """Run a rig with a hook; yield it and a peer that has greeted."""
    async with running(folder, [Hook(verdict)], clock=clock, receive=receive) as rig:
        peer = rig.connect(PEER_IP)
        await peer.heard()
        await peer.say("EHLO client")
        yield rig, peer


async def codes_after(rig: Rig, peer: Peer, seconds: float) -> list[str]:
    await rig.pass_s(seconds)
    return [line[:3] for line in await peer.heard()]


async def test_mail_behind_a_question_about_a_recipient_waits_under_pressure(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with greeted(tmp_path, mock_clock, Accept()) as (rig, peer):
        await peer.say(MAIL, YOU)
        rig.receiver._pressure.delay_ms = 10_000
        rig.receiver.press()
        assert await peer.say(YOU, "RSET", MAIL) == []
        assert await codes_after(rig, peer, 9) == []
        assert await codes_after(rig, peer, 2) == ["250"] * 3


async def test_answers_before_a_question_count_for_how_long_a_batch_is_held_back(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with greeted(tmp_path, mock_clock, Tarpit(20), tarpit_ms=5_000) as (rig, peer):
        assert await peer.say("X", "X", "X", "X", MAIL, YOU) == []
        assert await codes_after(rig, peer, 21) == ["500"] * 4 + ["250"]
        assert await codes_after(rig, peer, 8) == []
        assert await codes_after(rig, peer, 2) == ["250"]


async def test_a_question_behind_a_mail_that_waits_under_pressure_is_not_held_back(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with greeted(tmp_path, mock_clock, Tarpit(20)) as (rig, peer):
        rig.receiver._pressure.delay_ms = 55_000
        rig.receiver.press()
        assert await peer.say("RSET", MAIL, YOU) == []
        assert await codes_after(rig, peer, 54) == []
        assert await codes_after(rig, peer, 2) == ["250"] * 3


async def test_xforward_is_forgotten_with_a_transaction_of_which_nobody_wanted_anything(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with greeted(tmp_path, mock_clock, Accept(), xforward_ranges=(PEER_IP,)) as (rig, peer):
        await peer.say("XFORWARD NAME=one.example ADDR=192.0.2.1")
        await peer.say(MAIL, NOBODY)
        assert [line[:3] for line in await peer.say("DATA")] == ["554"]
        await peer.say(MAIL, YOU)
        await peer.say("DATA")
        assert [line[:3] for line in await peer.say("Subject: x", "", "hello", ".")] == ["250"]
        (message,) = rig.accepted
        assert await rig.header(message) == ["Subject: x"]
