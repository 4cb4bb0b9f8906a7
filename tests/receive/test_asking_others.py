"""Hooks where they meet what else reception does: peers that speak for others, LMTP, added fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock import Accept, SessionView
from tests.receive.test_asking import MAIL, MESSAGE, NO, START, YOU, Stage, codes, greeted, hook

LAN, STRANGER = "127.0.1.1", "127.0.2.9"
TRUSTED = {"xclient_ranges": (f"{LAN}/32",)}


@pytest.fixture
def run(tmp_path: Path) -> Stage:
    """Run a rig with some hooks, under a clock that the test turns."""
    return Stage(tmp_path)


async def test_whoever_speaks_by_xclient_is_asked_about_as_if_it_had_connected(run: Stage) -> None:
    seen: list[tuple[str, str, str | None]] = []

    async def connected(session: SessionView) -> Accept:
        seen.append((session.connector, session.peer_ip, session.login))
        return Accept([("X-Peer", session.peer_ip)])

    async with run([hook(on_connect=connected)], receive=TRUSTED) as rig:
        peer = await greeted(rig)
        heard = await peer.say(f"XCLIENT ADDR={STRANGER}")
        assert codes(heard) == ["220"]
        assert codes(await peer.say("EHLO other.example"))[-1] == "250"
        assert codes(await peer.say(MAIL, YOU, "DATA")) == ["250", "250", "354"]
        assert codes(await peer.say(*MESSAGE)) == ["250"]
        (message,) = rig.accepted
        # What was said of the one that has connected is not said of the other.
        assert await rig.header(message) == [f"X-Peer: {STRANGER}", "Subject: x"]
    assert seen == [("lan", LAN, None), ("internet", STRANGER, None)]


async def test_whoever_a_hook_does_not_want_is_not_let_in_by_xclient(run: Stage) -> None:
    async def connected(session: SessionView) -> Any:
        return Accept() if session.peer_ip == LAN else NO

    async with run([hook(on_connect=connected)], receive=TRUSTED) as rig:
        peer = await greeted(rig)
        assert await peer.say(f"XCLIENT ADDR={STRANGER}") == ["550 5.7.1 no"]
        await rig.pass_s(3)
        assert peer.memory.is_closed()
        assert rig.receiver.connections == 0


async def test_hook_at_mail_sees_every_mail_behind_an_xclient(run: Stage) -> None:
    seen: list[Any] = []
    async with run([hook("one", seen, on_mail=NO)], receive=TRUSTED) as rig:
        peer = await greeted(rig)
        await peer.say(f"XCLIENT ADDR={STRANGER} HELO=other.example")
        assert await peer.say(MAIL) == ["550 5.7.1 no"]
    assert len(seen) == 1


@pytest.mark.parametrize("event", ["on_end_of_headers", "on_end_of_data"])
async def test_refused_content_is_refused_for_each_recipient_of_lmtp(run: Stage, event: str) -> None:
    async with run([hook(**{event: NO})], receive={"is_lmtp": True}) as rig:
        peer = rig.connect()
        await peer.heard()
        await peer.say("LHLO client.example")
        heard = await peer.say(MAIL, YOU, "RCPT TO:<me@contoso.example>", "DATA")
        assert heard[-1] == START
        assert await peer.say(*MESSAGE) == ["550 5.7.1 no"] * 2
        assert rig.accepted == []


@pytest.mark.parametrize(
    ("added", "missing"),
    [
        ([], ["Date", "Message-ID"]),
        ([("Date", "Mon, 1 Jan 2029 00:00:00 +0000")], ["Message-ID"]),
        ([("message-id", "<1@hook.example>")], ["Date"]),
        ([("X-Date", "Date: Message-ID:")], ["Date", "Message-ID"]),
    ],
)
async def test_what_a_hook_adds_is_not_missing(
    run: Stage, added: list[tuple[str, str]], missing: list[str]
) -> None:
    async with run([hook(on_end_of_data=Accept(added))], receive={"submission_fixups": True}) as rig:
        peer = await greeted(rig)
        await peer.say(MAIL, YOU, "DATA")
        assert codes(await peer.say(*MESSAGE)) == ["250"]
        (message,) = rig.accepted
        names = [line.split(":")[0] for line in await rig.header(message)]
        assert names == [*missing, *(name for name, _ in added), "Subject"]
