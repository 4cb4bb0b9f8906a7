"""Hooks in a receiving side that is stepped: what they are asked, and what peers are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock import (
    Accept,
    ContentView,
    HeaderView,
    ReceiveHooks,
    Redirect,
    Reject,
    Reply,
    SessionView,
    Tarpit,
)
from penstock.errors import Misuse
from penstock.hooks import ADDED_OCTETS_MAX, EVENTS
from tests.support.hooked import Peer, Rig, running

BANNER = "220 relay1.contoso.example ESMTP Penstock"
FAILED = "451 4.3.0 Temporary server error; try again later"
BUSY = "451 4.3.2 Server is busy; try again later"
NO = Reject(Reply(550, "5.7.1", "no"))
LATER = Reject(Reply(450, "4.7.1", "later"))
BYE = Reject(Reply(421, "4.7.0", "bye"))
MAIL = "MAIL FROM:<me@contoso.example>"
YOU, ME = "RCPT TO:<you@contoso.example>", "RCPT TO:<me@contoso.example>"
START = "354 Start mail input; end with <CRLF>.<CRLF>"
MESSAGE = ("Subject: x", "", "hello", ".")
OF_COMMANDS = ("on_mail", "on_rcpt_to")
OF_CONTENT = ("on_end_of_headers", "on_end_of_data")
OF_SMTP = (*OF_COMMANDS, *OF_CONTENT)
"""Events that a client brings about without authentication."""


def hook(name: str = "hook", seen: list[Any] | None = None, **answers: Any) -> ReceiveHooks:
    """Return a hook that overrides what it has answers for, and only that.

    An answer is a verdict, an exception to raise, or an async function of session and argument.
    """

    async def answer(event: str, session: SessionView, *what: Any) -> Any:
        if seen is not None:
            seen.append((name, event, *what))
        said = answers[event]
        if isinstance(said, Exception):
            raise said
        return await said(session, *what) if callable(said) else said

    def method(event: str) -> Any:
        async def asked(_self: Any, session: SessionView, *what: Any) -> Any:
            return await answer(event, session, *what)

        return asked

    members = {event: method(event) for event in answers}
    made = type("Hook", (ReceiveHooks,), {"name": name, **members})()
    assert isinstance(made, ReceiveHooks)
    return made


async def never(*_: Any) -> Accept:
    await trio.sleep_forever()
    raise AssertionError("it sleeps for ever")


class Stage(trio.abc.Clock):
    """Runs rigs under a clock that the test turns: a clock itself, so that it is the one of the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = MockClock()

    def start_clock(self) -> None:
        self._clock.start_clock()

    def current_time(self) -> float:
        return self._clock.current_time()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return self._clock.deadline_to_sleep_time(deadline)

    def __call__(self, hooks: Sequence[ReceiveHooks], **options: Any) -> AbstractAsyncContextManager[Rig]:
        """Run a rig with some hooks."""
        return running(self._folder, hooks, clock=self._clock, **options)


@pytest.fixture
def run(tmp_path: Path) -> Stage:
    """Run a rig with some hooks, under a clock that the test turns."""
    return Stage(tmp_path)


async def greeted(rig: Rig) -> Peer:
    peer = rig.connect()
    assert await peer.heard() == [BANNER]
    assert (await peer.say("EHLO client.example"))[-1].startswith("250 ")
    return peer


async def send(peer: Peer, *recipients: str) -> list[str]:
    """Send a message line by line; return the replies."""
    heard = []
    for line in (MAIL, *(recipients or (YOU,)), "DATA"):
        heard += await peer.say(line)
    if heard[-1:] == [START]:
        heard += await peer.say(*MESSAGE)
    return heard


def codes(heard: list[str]) -> list[str]:
    return [line[:3] for line in heard]


async def test_hooks_are_asked_in_order_and_before_the_reply(run: Stage) -> None:
    seen: list[Any] = []
    both = [hook(name, seen, **dict.fromkeys(EVENTS, Accept())) for name in ("one", "two")]
    async with run(both) as rig:
        peer = await greeted(rig)
        assert seen == [("one", "on_connect"), ("two", "on_connect")]
        seen.clear()
        heard = await peer.say(MAIL, YOU, "RCPT TO:<nobody@contoso.example>", "NOOP", ME, "DATA")
        assert codes(heard) == ["250", "250", "550", "250", "250", "354"]
        assert [(name, event, str(getattr(what, "address", what))) for name, event, what in seen] == [
            (name, event, what)
            for event, what in (
                ("on_mail", "me@contoso.example"),
                ("on_rcpt_to", "you@contoso.example"),
                ("on_rcpt_to", "me@contoso.example"),
            )
            for name in ("one", "two")
        ]
        seen.clear()
        assert codes(await peer.say(*MESSAGE)) == ["250"]
        assert [found[:2] for found in seen] == [
            (name, event) for event in OF_CONTENT for name in ("one", "two")
        ]
        seen.clear()
        # Another transaction on the connection, given up, and a third.
        heard = await peer.say(
            "MAIL FROM:<>", "RCPT TO:<Postmaster>", "RSET", MAIL, YOU, "RSET", MAIL, ME, "QUIT"
        )
        assert codes(heard) == ["250"] * 8 + ["221"]
        assert [str(getattr(what, "address", what)) for name, _, what in seen if name == "two"] == [
            *("None", "postmaster@contoso.example", "me@contoso.example", "you@contoso.example"),
            *("me@contoso.example", "me@contoso.example"),
        ]
        assert len(rig.accepted) == 1
        assert (rig.count("one", "ok"), rig.count("two", "ok")) == (12, 12)


async def test_hook_sees_the_session(run: Stage) -> None:
    seen: dict[str, SessionView] = {}

    def note(event: str) -> Any:
        async def asked(session: SessionView, *_: Any) -> Accept:
            seen[event] = session
            return Accept()

        return asked

    async with run([hook(**{event: note(event) for event in EVENTS})]) as rig:
        peer = await greeted(rig)
        await send(peer, YOU, ME)
    first, last = seen["on_connect"], seen["on_end_of_data"]
    assert (first.connector, first.peer_ip, first.greeting, first.protocol) == (
        "lan",
        "127.0.1.1",
        "",
        "SMTP",
    )
    assert (seen["on_mail"].greeting, seen["on_mail"].protocol) == ("client.example", "ESMTP")
    assert (seen["on_mail"].sender, seen["on_rcpt_to"].sender) == (None, "me@contoso.example")
    assert seen["on_rcpt_to"].recipients == ()
    assert [one.address for one in last.recipients] == ["you@contoso.example", "me@contoso.example"]
    assert len({session.session_id for session in seen.values()}) == 1
    assert (last.tls_version, last.tls_cipher, last.client_certificate, last.login) == (None,) * 4


async def test_content_behind_a_data_without_recipients_is_not_read_as_commands(run: Stage) -> None:
    async with run([hook(on_rcpt_to=NO)]) as rig:
        peer = await greeted(rig)
        heard = await peer.say(MAIL, YOU, "DATA", "RSET", ".")
        assert codes(heard) == ["250", "550", "554"]
        await rig.pass_s(3)
        assert peer.memory.is_closed()


async def test_a_refused_sender_takes_all_behind_it_along(run: Stage) -> None:
    seen: list[Any] = []
    async with run([hook(seen=seen, on_mail=NO, on_rcpt_to=Accept(), on_end_of_data=Accept())]) as rig:
        peer = await greeted(rig)
        assert codes(await peer.say(MAIL, YOU, ME, "DATA")) == ["550", "503", "503", "503"]
        assert codes(await peer.say("BDAT 4 LAST", "ab", "RSET")) == ["503", "250"]
        assert [event for _, event, _ in seen] == ["on_mail"]


async def test_first_that_does_not_accept_ends_the_question(run: Stage) -> None:
    seen: list[Any] = []
    hooks = [
        hook("one", seen, on_mail=Accept()),
        hook("two", seen, on_mail=NO),
        hook("three", seen, on_mail=Accept()),
    ]
    async with run(hooks) as rig:
        peer = await greeted(rig)
        assert await peer.say(MAIL) == ["550 5.7.1 no"]
        assert [name for name, *_ in seen] == ["one", "two"]
        assert rig.count("two", "refused") == 1
        assert rig.samples()["receive_replies_total", "lan", "MAIL", "5"] == 1


@pytest.mark.parametrize("verdict", [NO, LATER])
async def test_refused_connection_ends(run: Stage, verdict: Reject) -> None:
    async with run([hook(on_connect=verdict)]) as rig:
        peer = rig.connect()
        assert await peer.heard() == [verdict.octets.decode().strip()]
        await rig.pass_s(3)
        assert peer.memory.is_closed()
        assert rig.receiver.connections == 0


@pytest.mark.parametrize("event", OF_COMMANDS)
async def test_refused_command_leaves_the_session_as_it_was(run: Stage, event: str) -> None:
    answers = [LATER, NO, Accept()]

    async def asked(*_: Any) -> Any:
        return answers.pop(0)

    async with run([hook(**{event: asked})]) as rig:
        peer = await greeted(rig)
        before = [MAIL] if event == "on_rcpt_to" else []
        line = YOU if before else MAIL
        heard = await peer.say(*before, line, line, line)
        assert heard[len(before) : -1] == ["450 4.7.1 later", "550 5.7.1 no"]
        assert codes(heard[-1:]) == ["250"]


async def test_refused_recipient_is_not_one(run: Stage) -> None:
    async def asked(_session: SessionView, recipient: Any) -> Any:
        return NO if recipient.address.startswith("me@") else Accept([("X-For", recipient.address)])

    async with run([hook(on_rcpt_to=asked)]) as rig:
        peer = await greeted(rig)
        assert codes(await send(peer, ME)) == ["250", "550", "554"]
        assert codes(await send(peer, ME, YOU)) == ["250", "550", "250", "354", "250"]
        (message,) = rig.accepted
        assert [theirs for _, theirs in rig.hops(message)] == [["you@contoso.example"]]
        assert await rig.header(message) == ["X-For: you@contoso.example", "Subject: x"]


@pytest.mark.parametrize("event", OF_CONTENT)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_refused_content_is_dropped(run: Stage, event: str, is_chunked: bool) -> None:
    answers = [NO, LATER, Accept()]

    async def asked(*_: Any) -> Any:
        return answers.pop(0)

    async with run([hook(**{event: asked})]) as rig:
        peer = await greeted(rig)
        for expected in ("550", "450", "250"):
            if is_chunked:
                heard = await peer.say(MAIL, YOU, "BDAT 5", "abc", "BDAT 4 LAST", "de")
            else:
                heard = await send(peer)
            assert codes(heard)[-1] == expected
        assert len(rig.accepted) == 1
        assert rig.samples()["messages_refused_total", "lan", "policy"] == 2
        assert len(rig.drafts) == 3
        for draft in rig.drafts:
            with pytest.raises(LookupError):
                rig.core.draft_reader().read(draft, 0, 1)


@pytest.mark.parametrize("event", OF_SMTP)
async def test_a_refusal_of_421_ends_the_session(run: Stage, event: str) -> None:
    async with run([hook(**{event: BYE})]) as rig:
        peer = await greeted(rig)
        heard = await send(peer) if event in OF_CONTENT else await peer.say(MAIL, YOU, "NOOP")
        assert heard[-1] == "421 4.7.0 bye"
        await rig.pass_s(3)
        assert peer.memory.is_closed()
        assert rig.receiver.is_idle
        assert rig.accepted == []


async def test_added_fields_stand_below_ours_in_the_order_said(run: Stage) -> None:
    first = {event: Accept([(f"X-{event.title()}".replace("_", "-"), "1")]) for event in EVENTS}
    second = {
        event: Accept([(name + "-2", value) for name, value in said.add_headers])
        for event, said in first.items()
    }
    async with run([hook("one", **first), hook("two", **second)]) as rig:
        peer = await greeted(rig)
        for recipients in ((YOU, ME), (ME,)):
            assert codes(await send(peer, *recipients))[-1] == "250"
        expected = [
            f"{name}{end}: 1"
            for name in (
                "X-On-Connect",
                "X-On-Mail",
                *["X-On-Rcpt-To"] * 2,
                "X-On-End-Of-Headers",
                "X-On-End-Of-Data",
            )
            for end in ("", "-2")
        ]
        headers = [await rig.header(message) for message in rig.accepted]
    assert headers[0] == [*expected, "Subject: x"]
    assert headers[1] == [*expected[:4], *expected[6:], "Subject: x"]


async def test_fields_of_a_transaction_go_with_it(run: Stage) -> None:
    count = iter(range(100))

    async def asked(*_: Any) -> Accept:
        return Accept([("X-N", str(next(count)))])

    async with run([hook(on_mail=asked, on_rcpt_to=asked)]) as rig:
        peer = await greeted(rig)
        await peer.say(MAIL, YOU, ME, "RSET")
        # The same recipient again counts once, as it was said last.
        assert codes(await send(peer, YOU, YOU, ME)) == ["250"] * 4 + ["354", "250"]
        assert await rig.header(rig.accepted[0]) == ["X-N: 3", "X-N: 5", "X-N: 6", "Subject: x"]


async def test_fields_of_transactions_that_were_given_up_take_no_room(run: Stage) -> None:
    async with run([hook(on_rcpt_to=Accept([("X", "x" * 995)] * 20))]) as rig:
        peer = await greeted(rig)
        for index in range(4):
            heard = await peer.say(MAIL, f"RCPT TO:<{index}@lists.contoso.example>", "RSET")
            assert codes(heard) == ["250"] * 3


async def test_more_fields_than_fit_are_a_failure(run: Stage) -> None:
    many = Accept([("X", "x" * 995)] * (ADDED_OCTETS_MAX // 1000 // 2))
    async with run([hook(on_rcpt_to=many)]) as rig:
        peer = await greeted(rig)
        heard = await peer.say(MAIL, YOU, ME, YOU, "RCPT TO:<a@lists.contoso.example>")
        assert codes(heard[:3]) == ["250"] * 3
        assert heard[3:] == [FAILED, FAILED]
        assert {fields["cause"] for _, fields in rig.journal} == {"adds too many header fields"}


async def test_redirected_recipient_goes_another_way(run: Stage) -> None:
    async def asked(_session: SessionView, recipient: Any) -> Any:
        return Redirect("out") if recipient.address.startswith("me@") else Accept()

    async with run([hook(on_rcpt_to=asked)]) as rig:
        peer = await greeted(rig)
        assert codes(await send(peer, YOU, ME))[-1] == "250"
        assert codes(await send(peer, YOU))[-1] == "250"
        first, second = rig.accepted
        (usual, yours), (other, mine) = rig.hops(first)
        assert usual != other
        assert (yours, mine) == (["you@contoso.example"], ["me@contoso.example"])
        assert rig.hops(second) == [(usual, ["you@contoso.example"])]
        assert rig.core.hop("out", "smart_host", "out") == other


async def test_what_is_said_last_of_a_recipient_counts(run: Stage) -> None:
    answers = [Redirect("out"), Accept(), Accept(), Redirect("out")]

    async def asked(*_: Any) -> Any:
        return answers.pop(0)

    async with run([hook(on_rcpt_to=asked)]) as rig:
        peer = await greeted(rig)
        for _ in range(2):
            assert codes(await send(peer, YOU, YOU))[-1] == "250"
        ((first, _),), ((second, _),) = map(rig.hops, rig.accepted)
        assert (first == second, second) == (False, rig.core.hop("out", "smart_host", "out"))


@pytest.mark.parametrize("verdict", [Redirect("nowhere"), Tarpit(1, Redirect("nowhere"))])
async def test_redirection_to_a_connector_that_is_not_there_is_a_failure(run: Stage, verdict: Any) -> None:
    async with run([hook(on_rcpt_to=verdict)]) as rig:
        peer = await greeted(rig)
        assert await peer.say(MAIL, YOU) == ["250 2.1.0 Sender OK", FAILED]
        assert rig.journal[0][1]["cause"] == "no such send connector"


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in ("on_rcpt_to", "on_auth")])
async def test_only_recipients_can_be_redirected(run: Stage, event: str) -> None:
    async with run([hook(**{event: Redirect("out")})]) as rig:
        peer = rig.connect()
        heard = await peer.heard()
        if event != "on_connect":
            await peer.say("EHLO client.example")
            heard = await send(peer)
        assert FAILED in heard
        assert rig.accepted == []


@pytest.mark.parametrize("then", [Accept(), NO])
@pytest.mark.parametrize("event", [event for event in EVENTS if event != "on_auth"])
async def test_answer_is_held_back(run: Stage, event: str, then: Any) -> None:
    async with run([hook(**{event: Tarpit(8, then)})]) as rig:
        peer = rig.connect()
        if event != "on_connect":
            await peer.heard()
            await peer.say("EHLO client.example")
            lines = {"on_mail": (MAIL,), "on_rcpt_to": (MAIL, YOU)}.get(event, (MAIL, YOU, "DATA"))
            for line in lines[:-1]:
                await peer.say(line)
            heard = await peer.say(lines[-1])
            if event in OF_CONTENT:
                assert heard == [START]
                heard = await peer.say(*MESSAGE)
            assert heard == []
        await rig.pass_s(7.5)
        assert await peer.heard() == []
        await rig.pass_s(1)
        expected = "550" if then is NO else "220" if event == "on_connect" else "250"
        assert codes(await peer.heard()) == [expected]
        # What its seconds are for is not its time to answer.
        assert rig.count("hook", "refused" if then is NO else "ok") == 1


async def test_answers_to_one_batch_are_held_back_30_s_at_most(run: Stage) -> None:
    async with run([hook(on_rcpt_to=Tarpit(20, NO))]) as rig:
        peer = await greeted(rig)
        assert codes(await peer.say(MAIL, YOU, YOU, YOU, YOU)) == ["250"]
        await rig.pass_s(31)
        assert codes(await peer.heard()) == ["550"] * 4


FAILURES: dict[str, tuple[Any, str, str]] = {
    "raises": (LookupError("a secret"), "error", "LookupError"),
    "takes too long": (never, "timeout", "over time"),
    "says nothing": (None, "error", "no verdict"),
    "says yes": (True, "error", "no verdict"),
    "accepts by its class": (Accept, "error", "TypeError"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("event", [event for event in EVENTS if event != "on_auth"])
async def test_hook_that_fails_costs_its_command_and_nothing_is_accepted(
    run: Stage, event: str, failure: str
) -> None:
    answer, result, cause = FAILURES[failure]
    seen: list[Any] = []
    async with run([hook("bad", **{event: answer}), hook("good", seen, **{event: Accept()})]) as rig:
        peer = rig.connect()
        heard = await peer.heard()
        if event != "on_connect":
            assert heard == [BANNER]
            await peer.say("EHLO client.example")
            if event in OF_CONTENT:
                await peer.say(MAIL)
                await peer.say(YOU)
                assert await peer.say("DATA") == [START]
                heard = await peer.say(*MESSAGE)
            elif event == "on_mail":
                heard = await peer.say(MAIL)
            else:
                await peer.say(MAIL)
                heard = await peer.say(YOU)
        if result == "timeout":
            assert heard == []
            await rig.pass_s(4.75)
            assert await peer.heard() == []
            await rig.pass_s(0.5)
            heard = await peer.heard()
        assert heard == [FAILED]
        assert (rig.accepted, seen) == ([], [])
        assert rig.count("bad", result) == 1
        ((name, fields),) = rig.journal
        assert name == "HOOK"
        assert {key: fields[key] for key in ("hook", "at_event", "result", "cause", "connector")} == {
            "hook": "bad",
            "at_event": event,
            "result": result,
            "cause": cause,
            "connector": "lan",
        }
        assert "secret" not in str(fields)
        if event != "on_connect":
            assert codes(await peer.say("RSET", "NOOP")) == ["250", "250"]


async def test_hook_that_fails_three_times_in_a_row_is_an_alarm(run: Stage) -> None:
    answers: list[Any] = [ValueError(), ValueError(), Accept(), *[ValueError()] * 3, Accept()]

    async def asked(*_: Any) -> Any:
        said = answers.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    async with run([hook("shaky", on_mail=asked)]) as rig:
        peer = await greeted(rig)
        for alarms in ([], [], [], [], [], ["hook_failing"], []):
            await peer.say(MAIL, "RSET")
            assert [name for name, _ in rig.receiver.alarms(0)] == alarms
        assert answers == []


async def test_late_verdict_that_ignores_its_cancellation_does_not_count(run: Stage) -> None:
    async def asked(*_: Any) -> Accept:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        return Accept()

    async with run([hook(on_mail=asked)]) as rig:
        peer = await greeted(rig)
        assert await peer.say(MAIL) == []
        await rig.pass_s(21)
        assert await peer.heard() == [FAILED]
        assert rig.count("hook", "timeout") == 1


@pytest.mark.parametrize("event", [event for event in EVENTS if event != "on_auth"])
async def test_end_of_a_connection_cancels_its_question(run: Stage, event: str) -> None:
    ended: list[str] = []

    async def asked(*_: Any) -> Accept:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("cancelled")
        raise AssertionError("it sleeps for ever")

    async with run([hook(**{event: asked})]) as rig:
        peer = rig.connect()
        await peer.heard()
        if event != "on_connect":
            await peer.say("EHLO client.example")
            await send(peer)
        assert len(rig.open) == 1
        peer.memory.reset()
        await rig.rest()
        assert ended == ["cancelled"]
        assert not rig.open
        assert rig.receiver.connections == 0
        assert rig.receiver.is_idle
        await rig.pass_s(10)
        assert (rig.accepted, rig.journal) == ([], [])
        assert rig.count("hook", "timeout") == rig.count("hook", "error") == 0


async def test_a_peer_that_waits_for_us_is_not_idle(run: Stage) -> None:
    async def slow(*_: Any) -> Accept:
        await trio.sleep(25)
        return Accept()

    limits = {"connection_inactivity_timeout_ms": 10_000, "connection_timeout_ms": 200_000}
    hooks = [hook(name, on_mail=slow, on_end_of_data=slow) for name in ("one", "two", "three")]
    async with run(hooks, timeout_s=30.0, receive=limits) as rig:
        peer = await greeted(rig)
        # More than net would wait for one answer of ours.
        assert await peer.say(MAIL) == []
        await rig.pass_s(76)
        assert codes(await peer.heard()) == ["250"]
        await peer.say(YOU)
        await peer.say("DATA")
        await peer.say(*MESSAGE)
        await rig.pass_s(76)
        assert codes(await peer.heard()) == ["250"]
        # How long a connection may last goes on meanwhile.
        await peer.say(MAIL)
        await rig.pass_s(74)
        assert codes(await peer.heard()) == []
        await rig.pass_s(2)
        assert codes(await peer.heard()) == ["250", "421"]


async def test_sessions_do_not_wait_for_each_other(run: Stage) -> None:
    async def asked(_session: SessionView, sender: str | None) -> Accept:
        if sender is not None:
            await trio.sleep_forever()
        return Accept()

    async with run([hook(on_mail=asked)]) as rig:
        blocked = [await greeted(rig) for _ in range(5)]
        for peer in blocked:
            assert await peer.say(MAIL, YOU) == []
        free = await greeted(rig)
        assert codes(await free.say("MAIL FROM:<>", YOU, "DATA")) == ["250", "250", "354"]
        assert codes(await free.say(*MESSAGE)) == ["250"]
        await rig.pass_s(5.25)
        for peer in blocked:
            assert await peer.heard() == [FAILED, "503 5.5.1 Need MAIL first"]


async def test_300_questions_are_open_at_a_time(run: Stage) -> None:
    gate = trio.Event()

    async def asked(*_: Any) -> Accept:
        await gate.wait()
        return Accept()

    limits = {"max_inbound_connection_per_source": 1000}
    async with run([hook(on_mail=asked)], receive=limits, questions_max=300) as rig:
        peers = [await greeted(rig) for _ in range(301)]
        for peer in peers:
            peer.memory.send(f"{MAIL}\r\n".encode())
        await rig.rest()
        assert len(rig.open) == 300
        assert await peers[300].heard() == [BUSY]
        assert rig.samples()["hook_busy_total",] == 1
        gate.set()
        await rig.rest()
        assert [codes(await peer.heard()) for peer in peers[:300]] == [["250"]] * 300
        assert codes(await peers[300].say(MAIL)) == ["250"]


async def test_a_batch_that_finds_no_room_is_answered_whole(run: Stage) -> None:
    async with run([hook(on_mail=never, on_rcpt_to=never)], questions_max=0) as rig:
        peer = await greeted(rig)
        heard = await peer.say(*[MAIL] * 64)
        assert heard == [BUSY] * 64
        assert rig.samples()["hook_busy_total",] == 64


async def test_drain_with_questions_open(run: Stage) -> None:
    gates: dict[str, trio.Event] = {"on_mail": trio.Event(), "on_end_of_data": trio.Event()}

    def waits(event: str) -> Any:
        async def asked(session: SessionView, *_: Any) -> Accept:
            if session.greeting == "slow.example":
                await gates[event].wait()
            return Accept()

        return asked

    async with run([hook(**{event: waits(event) for event in gates})]) as rig:
        at_mail, at_content = rig.connect(), rig.connect()
        for peer in (at_mail, at_content):
            assert await peer.heard() == [BANNER]
            await peer.say("EHLO slow.example")
        gates["on_mail"].set()
        for line in (MAIL, YOU, "DATA"):
            await at_content.say(line)
        assert await at_content.say(*MESSAGE) == []
        gates["on_mail"] = trio.Event()
        assert await at_mail.say(MAIL) == []
        rig.receiver.drain()
        actions: list[Any] = []
        rig.receiver.dismiss_idle(actions)
        rig.core.apply(actions)
        assert await at_mail.heard() == ["421 4.3.2 Service not active; try again later"]
        assert not rig.receiver.is_idle
        gates["on_mail"].set()
        gates["on_end_of_data"].set()
        await rig.rest()
        assert codes(await at_content.heard()) == ["250"]
        assert len(rig.accepted) == 1
        assert rig.receiver.is_idle
        assert not rig.open


async def test_verdict_on_somebody_who_was_told_goodbye_is_not_told(run: Stage) -> None:
    gate = trio.Event()

    async def asked(*_: Any) -> Any:
        await gate.wait()
        return NO

    async with run([hook(on_mail=asked)]) as rig:
        peer = await greeted(rig)
        assert await peer.say(MAIL) == []
        rig.receiver.drain()
        actions: list[Any] = []
        rig.receiver.dismiss_idle(actions)
        rig.core.apply(actions)
        gate.set()
        # Before anybody hears that the connection has ended.
        await wait_all_tasks_blocked()
        assert await peer.heard() == ["421 4.3.2 Service not active; try again later"]
        assert ("receive_replies_total", "lan", "MAIL", "5") not in rig.samples()


class Reading(ReceiveHooks):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.headers: list[HeaderView] = []
        self.views: list[ContentView] = []
        self.contents: list[bytes] = []

    async def on_end_of_headers(self, session: SessionView, headers: HeaderView) -> Accept:
        self.headers.append(headers)
        return Accept()

    async def on_end_of_data(self, session: SessionView, content: ContentView) -> Accept:
        self.views.append(content)
        self.contents.append(await content.read())
        assert len(self.contents[-1]) == content.size
        return Accept()


@pytest.fixture
async def reading(run: Stage) -> AsyncIterator[tuple[Rig, Reading, Peer]]:
    """A rig whose hook reads, with a client."""
    hook = Reading()
    async with run([hook], options={"blob_bytes": 200_000}) as rig:
        yield rig, hook, await greeted(rig)


async def test_hook_reads_content_as_the_client_means_it(reading: tuple[Rig, Reading, Peer]) -> None:
    rig, hook, peer = reading
    for lines, content in (
        (["Subject: a", " b", "", "..one", "two", "."], b"Subject: a\r\n b\r\n\r\n.one\r\ntwo\r\n"),
        (["."], b""),
        (["..: x", "", "."], b".: x\r\n\r\n"),
    ):
        for line in (MAIL, YOU, "DATA"):
            await peer.say(line)
        assert codes(await peer.say(*lines)) == ["250"]
        assert hook.contents.pop() == content
    assert [view.octets for view in hook.headers] == [b"Subject: a\r\n b\r\n", b"", b".: x\r\n"]
    heard = await peer.say(MAIL, YOU, "BDAT 14", "Subject: c", "", "BDAT 5 LAST", "..d")
    assert codes(heard) == ["250"] * 4
    assert hook.contents.pop() == b"Subject: c\r\n\r\n..d\r\n"
    assert len(rig.accepted) == 4


@pytest.mark.parametrize("octets", [65_535, 65_536, 65_537, 150_000, 199_999, 1_000_000])
async def test_hook_reads_content_of_any_size(reading: tuple[Rig, Reading, Peer], octets: int) -> None:
    _, hook, peer = reading
    line = "..dots and " + "x" * 60
    content = "Subject: x\r\n\r\n" + "\r\n".join([line] * (octets // len(line)))
    for command in (MAIL, YOU, "DATA"):
        await peer.say(command)
    heard = await peer.say(content, ".")
    while not heard:
        heard = await peer.heard()
    assert codes(heard) == ["250"]
    assert hook.contents == [f"{content}\r\n".replace("..dots", ".dots").encode()]
    with pytest.raises(Misuse, match="decided on"):
        await hook.views[0].read()


async def test_content_cannot_be_read_when_its_peer_has_gone(run: Stage) -> None:
    views: list[ContentView] = []

    async def asked(_session: SessionView, content: ContentView) -> Accept:
        views.append(content)
        return await never()

    async with run([hook(on_end_of_data=asked)]) as rig:
        peer = await greeted(rig)
        await send(peer)
        assert await views[0].read() == b"Subject: x\r\n\r\nhello\r\n"
        peer.memory.reset()
        await rig.rest()
        with pytest.raises(Misuse, match="decided on"):
            await views[0].read()


@pytest.mark.parametrize("event", EVENTS)
async def test_only_what_is_overridden_is_asked(run: Stage, event: str) -> None:
    async with run([hook(**{event: Accept()})]) as rig:
        hooks = rig.receiver._hooks
        assert hooks is not None
        assert [one for one in EVENTS if hooks.asks(one)] == [event]
        grants = {state.value for state in rig.receiver._connectors["lan"].terms.grants}
        assert grants == ({"recipients"} if event == "on_mail" else {"greeted", "recipients"})
