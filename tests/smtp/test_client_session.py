from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.smtp.client_session import ClientSession, Step
from penstock.smtp.outcome import Outcome, Reply, judge
from penstock.smtp.tables import ClientState
from penstock.smtp.terms import ClientTerms

CONN = 9
TERMS = ClientTerms(fqdn="relay1.contoso.example", banner_ms=1, reply_ms=2, data_ms=3)
CONTENT = (1234, 5, 1)
PIPELINING = ("PIPELINING", "SIZE 1000", "8BITMIME", "ENHANCEDSTATUSCODES")


def reply(text: str) -> Reply:
    """Return "250 2.1.0 OK" as it crosses the boundary."""
    code, _, rest = text.partition(" ")
    status, _, words = rest.partition(" ")
    if status.count(".") == 2:
        return int(code), status, (words,)
    return int(code), None, (rest,)


class Peer:
    """Drives a client session from the server's end."""

    def __init__(self, *extensions: str) -> None:
        self.session = ClientSession(CONN, TERMS, "mx.example [192.0.2.1]:25")
        self.actions: list[tuple[Any, ...]] = []
        self.session.connected(1, self.actions)
        assert self.take() == ("flight", [(b"", 1, 1)])
        if extensions:
            assert self.say("220 mx.example") is Step.WAIT
            assert self.take() == ("flight", [(b"EHLO relay1.contoso.example\r\n", 1, 2)])
            self.turn = 3
            greeting: Reply = (250, None, ("mx.example", *extensions))
            assert self.session.replies(3, [greeting], self.actions) is Step.READY

    def take(self) -> tuple[Any, ...]:
        """Take the only action; return it without connection and turn."""
        ((kind, conn, _turn, *rest),) = self.actions
        assert conn == CONN
        self.actions.clear()
        return (kind, *rest)

    def say(self, *texts: str) -> Step:
        """Answer."""
        return self.session.replies(2, [reply(text) for text in texts], self.actions)

    def send(
        self, *addresses: str, size: int = 100, flags: int = 0, sender: str = "me@contoso.example"
    ) -> Step:
        recipients = [
            (index, address, 0, None) for index, address in enumerate(addresses or ("a@b.example",))
        ]
        return self.session.send(4, CONTENT, sender, recipients, size, flags, self.actions)

    def flight(self) -> bytes:
        """Take the only action, a flight of one part; return its commands."""
        kind, parts = self.take()
        assert kind == "flight"
        ((data, replies, _deadline),) = parts
        assert replies == data.count(b"\r\n")
        return data  # type: ignore[no-any-return]


def short(outcomes: list[Outcome]) -> list[tuple[int, str, str, int, str]]:
    """Return outcomes in order, without address and text."""
    return [
        (index, state, stage, code, status) for index, _, state, stage, code, status, _ in sorted(outcomes)
    ]


def test_pipelined_message_and_the_next() -> None:
    peer = Peer(*PIPELINING)
    for _ in range(2):
        assert peer.send() is Step.WAIT
        assert (
            peer.flight() == b"MAIL FROM:<me@contoso.example> SIZE=100\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"
        )
        assert peer.say("250 2.1.0 ok", "250 2.1.5 ok", "354 go") is Step.WAIT
        assert peer.take() == ("content", *CONTENT, "mx.example [192.0.2.1]:25", [])
        assert peer.say("250 2.6.0 queued as 1") is Step.DONE
        assert peer.session.outcomes == [(0, "a@b.example", "delivered", "dot", 250, "2.6.0", "queued as 1")]
    assert peer.session.transactions == 2
    peer.session.quit(5, peer.actions)
    assert peer.take() == ("close", True)
    assert not peer.session.is_open


def test_replies_may_come_one_by_one() -> None:
    peer = Peer(*PIPELINING)
    peer.send()
    peer.take()
    assert peer.say("250 ok") is peer.say("250 ok") is Step.WAIT
    assert not peer.actions
    peer.say("354 go")
    assert peer.take()[0] == "content"


def test_command_by_command_without_pipelining() -> None:
    peer = Peer("8BITMIME")
    peer.send("a@b.example", "c@b.example")
    assert peer.flight() == b"MAIL FROM:<me@contoso.example>\r\n"
    peer.say("250 ok")
    assert peer.flight() == b"RCPT TO:<a@b.example>\r\n"
    peer.say("550 5.1.1 no")
    assert peer.flight() == b"RCPT TO:<c@b.example>\r\n"
    peer.say("251 ok")
    assert peer.take() == ("flight", [(b"DATA\r\n", 1, 3)])
    peer.say("354 go")
    assert peer.take()[0] == "content"
    assert peer.say("250 ok") is Step.DONE
    assert short(peer.session.outcomes) == [
        (0, "failed", "rcpt", 550, "5.1.1"),
        (1, "delivered", "dot", 250, "2.0.0"),
    ]


def test_data_is_not_sent_when_no_recipient_passed() -> None:
    peer = Peer("8BITMIME")
    peer.send()
    peer.say("250 ok")
    peer.actions.clear()
    assert peer.say("450 4.2.1 later") is Step.DONE
    assert short(peer.session.outcomes) == [(0, "deferred", "rcpt", 450, "4.2.1")]


def test_mail_refused_command_by_command() -> None:
    peer = Peer("8BITMIME")
    peer.send()
    assert peer.say("550 5.7.1 no") is Step.DONE
    assert short(peer.session.outcomes) == [(0, "failed", "mail", 550, "5.7.1")]
    peer.actions.clear()
    # The peer may hold the transaction for open: RSET is awaited before MAIL.
    peer.send()
    assert peer.flight() == b"RSET\r\n"
    assert peer.say("250 ok") is Step.WAIT
    assert peer.flight() == b"MAIL FROM:<me@contoso.example>\r\n"


def test_mail_refused_in_a_flight_is_the_outcome_whatever_follows() -> None:
    peer = Peer(*PIPELINING)
    peer.send("a@b.example", "c@b.example")
    peer.take()
    assert peer.say("451 4.7.1 greylisted", "503 x", "250 odd", "503 x") is Step.DONE
    assert short(peer.session.outcomes) == [
        (0, "deferred", "mail", 451, "4.7.1"),
        (1, "deferred", "mail", 451, "4.7.1"),
    ]
    peer.send()
    assert peer.flight().startswith(b"RSET\r\nMAIL FROM:<me@contoso.example> SIZE=100\r\nRCPT")
    peer.say("250 reset", "250 ok", "250 ok", "354 go")
    assert peer.take()[0] == "content"


def test_354_without_valid_recipients_is_answered_with_nothing() -> None:
    peer = Peer(*PIPELINING)
    peer.send()
    peer.take()
    assert peer.say("250 ok", "550 5.1.1 no", "354 go") is Step.WAIT
    assert peer.flight() == b".\r\n"
    assert peer.say("250 ok, whatever") is Step.DONE
    assert short(peer.session.outcomes) == [(0, "failed", "rcpt", 550, "5.1.1")]
    peer.send()
    assert peer.flight().startswith(b"RSET\r\n")


def test_354_although_mail_was_refused() -> None:
    peer = Peer(*PIPELINING)
    peer.send()
    peer.take()
    peer.say("550 5.7.1 no", "503 x", "354 go")
    assert peer.flight() == b".\r\n"
    assert peer.say("554 no recipients") is Step.DONE
    assert short(peer.session.outcomes) == [(0, "failed", "mail", 550, "5.7.1")]


def test_data_refused_decides_for_those_who_had_passed() -> None:
    peer = Peer(*PIPELINING)
    peer.send("a@b.example", "c@b.example")
    peer.take()
    assert peer.say("250 ok", "250 ok", "550 5.1.1 no", "451 4.3.0 disk") is Step.DONE
    assert short(peer.session.outcomes) == [
        (0, "deferred", "data", 451, "4.3.0"),
        (1, "failed", "rcpt", 550, "5.1.1"),
    ]


def test_552_after_rcpt_is_temporary() -> None:
    assert judge("rcpt", reply("552 too many recipients"))[:3] == ("deferred", "rcpt", 552)
    assert judge("mail", reply("552 5.3.4 too large"))[:3] == ("failed", "mail", 552)


@pytest.mark.parametrize(
    ("text", "state", "status"),
    [
        ("259 fine", "delivered", "2.0.0"),
        ("499 2.0.0 hm", "deferred", "4.0.0"),
        ("599 5.9.9 no", "failed", "5.9.9"),
        ("550 4.1.1 no", "failed", "5.0.0"),
    ],
)
def test_first_digit_decides(text: str, state: str, status: str) -> None:
    verdict = judge("dot", reply(text))
    assert (verdict[0], verdict[3]) == (state, status)


def test_421_ends_the_session_wherever_it_comes() -> None:
    peer = Peer(*PIPELINING)
    peer.send("a@b.example", "c@b.example", "d@b.example")
    peer.take()
    assert peer.say("250 ok", "250 ok", "550 5.1.1 no", "421 4.3.2 stopping") is Step.DONE
    assert peer.take() == ("close", False)
    assert not peer.session.is_open
    assert short(peer.session.outcomes) == [
        (0, "deferred", "rcpt", 421, "4.3.2"),
        (1, "failed", "rcpt", 550, "5.1.1"),
        (2, "deferred", "rcpt", 421, "4.3.2"),
    ]
    assert peer.session.closed("local", "none") is Step.READY


@pytest.mark.parametrize("text", ["220 again", "354 go", "100 what", "620 what"])
def test_reply_that_makes_no_sense_ends_the_session(text: str) -> None:
    peer = Peer(*PIPELINING)
    peer.send()
    peer.take()
    peer.say("250 ok", "250 ok", "354 go")
    peer.take()
    step = peer.say(text)
    if text.startswith("2"):
        assert step is Step.DONE
        return
    assert step is Step.DONE
    assert peer.take() == ("close", True)
    # The peer has the whole content: whether it took it, only it knows.
    assert short(peer.session.outcomes) == [(0, "in_doubt", "dot", int(text[:3]), "4.5.0")]


@pytest.mark.parametrize("text", ["354 go", "100 what"])
def test_reply_that_makes_no_sense_before_the_content_leaves_no_doubt(text: str) -> None:
    peer = Peer(*PIPELINING)
    peer.send()
    peer.take()
    assert peer.say("250 ok", text) is Step.DONE
    assert short(peer.session.outcomes) == [(0, "deferred", "rcpt", int(text[:3]), "4.5.0")]


def test_421_to_the_content_is_a_refusal() -> None:
    peer = Peer(*PIPELINING)
    peer.send()
    peer.take()
    peer.say("250 ok", "250 ok", "354 go")
    peer.take()
    assert peer.say("421 4.3.2 stopping") is Step.DONE
    assert short(peer.session.outcomes) == [(0, "deferred", "dot", 421, "4.3.2")]


def test_ehlo_refused_falls_back_to_helo() -> None:
    peer = Peer()
    peer.say("220 old.example")
    peer.take()
    assert peer.say("502 what") is Step.WAIT
    assert peer.flight() == b"HELO relay1.contoso.example\r\n"
    assert peer.say("250 old.example") is Step.READY
    assert peer.session.extensions == {}
    peer.send()
    assert peer.flight() == b"MAIL FROM:<me@contoso.example>\r\n"


@pytest.mark.parametrize(
    ("texts", "failure", "quits"),
    [
        (["554 5.7.1 no"], ("banner", 554, "5.7.1", "no"), True),
        (["421 4.3.2 busy"], ("banner", 421, "4.3.2", "busy"), False),
        (["250 what"], None, False),
        (["220 hi", "451 4.3.0 later"], ("ehlo", 451, "4.3.0", "later"), True),
        (["220 hi", "500 what", "550 no"], ("ehlo", 550, "5.0.0", "no"), True),
        (["220 hi", "354 what"], ("ehlo", 354, "4.5.0", "unexpected reply 354 what"), True),
    ],
)
def test_peer_that_would_not_have_us(texts: list[str], failure: Any, quits: bool) -> None:
    peer = Peer()
    step = Step.WAIT
    for text in texts:
        peer.actions.clear()
        step = peer.say(text)
    if failure is None:
        # Any 2yz is a banner: the first digit decides.
        assert step is Step.WAIT
        return
    assert step is Step.FAILED
    assert peer.session.failure == failure
    assert peer.take() == ("close", quits)


def test_extensions_are_read_in_any_case() -> None:
    peer = Peer("size 0", "Pipelining", "AUTH  PLAIN LOGIN")
    assert peer.session.extensions == {"SIZE": "0", "PIPELINING": "", "AUTH": "PLAIN LOGIN"}
    # RFC 1870 4: SIZE 0 is no limit.
    assert peer.send(size=10**9) is Step.WAIT


def test_message_larger_than_the_peer_takes_is_not_sent() -> None:
    peer = Peer(*PIPELINING)
    assert peer.send("a@b.example", "c@b.example", size=1001) is Step.DONE
    assert not peer.actions
    assert short(peer.session.outcomes) == [
        (0, "failed", "mail", 0, "5.3.4"),
        (1, "failed", "mail", 0, "5.3.4"),
    ]
    assert peer.send(size=1000) is Step.WAIT


def test_eight_bit_content_needs_a_peer_that_takes_it() -> None:
    peer = Peer(*PIPELINING)
    peer.send(flags=16)
    assert b" SIZE=100 BODY=8BITMIME\r\n" in peer.flight()
    other = Peer("PIPELINING")
    assert other.send(flags=16) is Step.DONE
    assert short(other.session.outcomes) == [(0, "failed", "mail", 0, "5.6.3")]


@pytest.mark.parametrize(
    "address", ["a@b.example>\r\nRCPT TO:<c", "a\n@b.example", "ä@b.example", "a\x00@b.example"]
)
def test_address_cannot_smuggle_in_a_command(address: str) -> None:
    peer = Peer(*PIPELINING)
    assert peer.send(address) is Step.DONE
    assert peer.send(sender=address) is Step.DONE
    assert not peer.actions
    assert peer.session.is_open


@pytest.mark.parametrize(
    ("content", "state"), [("none", "deferred"), ("partial", "deferred"), ("terminated", "in_doubt")]
)
def test_connection_lost_during_content(content: str, state: str) -> None:
    peer = Peer(*PIPELINING)
    peer.send("a@b.example", "c@b.example")
    peer.take()
    peer.say("250 ok", "250 ok", "550 5.1.1 no", "354 go")
    assert peer.session.closed("reset", content) is Step.DONE
    assert short(peer.session.outcomes) == [
        (0, state, "dot", 0, "4.4.2"),
        (1, "failed", "rcpt", 550, "5.1.1"),
    ]


def test_connection_lost_before_there_was_a_session() -> None:
    peer = Peer()
    assert peer.session.closed("idle", "none") is Step.FAILED
    assert peer.session.failure == ("banner", 0, "4.4.2", "no reply in time")


def test_connection_lost_while_nothing_was_under_way() -> None:
    peer = Peer(*PIPELINING)
    assert peer.session.closed("peer", "none") is Step.READY


def test_refused_rset_is_not_trusted() -> None:
    peer = Peer(*PIPELINING)
    peer.send()
    peer.say("550 no", "503 x", "503 x")
    peer.actions.clear()
    peer.send()
    peer.take()
    assert peer.say("500 what") is Step.DONE
    assert not peer.session.is_open
    assert short(peer.session.outcomes) == [(0, "deferred", "mail", 500, "4.5.0")]


CODES = st.sampled_from([220, 250, 251, 354, 421, 450, 452, 500, 503, 550, 552, 554, 100, 999])


@given(
    extensions=st.sampled_from([("8BITMIME",), PIPELINING]),
    recipients=st.integers(1, 4),
    codes=st.lists(CODES, max_size=30),
    ending=st.sampled_from(["none", "partial", "terminated"]),
)
def test_every_recipient_has_exactly_one_outcome(
    extensions: tuple[str, ...], recipients: int, codes: list[int], ending: str
) -> None:
    peer = Peer(*extensions)
    session = peer.session
    addresses = [f"{n}@b.example" for n in range(recipients)]
    assert peer.send(*addresses) is Step.WAIT
    awaited = 0
    step = Step.WAIT
    for code in codes:
        for action in peer.actions:
            awaited += sum(part[1] for part in action[3]) if action[0] == "flight" else action[0] == "content"
        peer.actions.clear()
        if step is not Step.WAIT or not awaited:
            break
        awaited -= 1
        step = session.replies(5, [(code, None, ("x",))], peer.actions)
    if step is Step.WAIT:
        step = session.closed("reset", ending)
    assert step is Step.DONE
    assert sorted(outcome[0] for outcome in session.outcomes) == list(range(recipients))
    assert session.state in (ClientState.READY, ClientState.CLOSED)
    if session.is_open:
        assert awaited == 0, "no reply is outstanding when the next transaction begins"
