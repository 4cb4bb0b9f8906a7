"""The tests' own client and receiver agree octet for octet; what they say about Penstock rests on that."""

from __future__ import annotations

import random

from tests.support import content
from tests.support.client import SmtpClient
from tests.support.receiver import Receiver


def test_client_and_receiver_carry_every_octet(receiver: Receiver) -> None:
    rng = random.Random(7)
    sent = [content.message(rng, size_bytes=size) for size in content.sizes(rng, 30, largest_bytes=300_000)]
    with SmtpClient(receiver.port) as client:
        for octets in sent:
            assert client.message("a@a.test", ["b@b.test"], octets)[0] == 250
    assert [message.content for message in receiver.wait(len(sent))] == sent


def test_generated_contents_hold_what_is_hard() -> None:
    rng = random.Random(7)
    octets = content.message(rng, size_bytes=200_000)
    lines = octets.split(b"\r\n")
    assert any(line.startswith(b".") for line in lines)
    assert any(len(line) == content.LINE_OCTETS_MAX for line in lines)
    assert max(len(line) for line in lines) == content.LINE_OCTETS_MAX
    assert any(octet > 127 for octet in octets)
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert content.message(rng, size_bytes=0) == b""


def test_receiver_answers_as_told(receiver: Receiver) -> None:
    receiver.rcpt["no@b.test"] = "550 5.1.1 no such user"
    receiver.dot["late@b.test"] = "451 4.3.0 later"
    with SmtpClient(receiver.port) as client:
        assert client.message("", ["no@b.test"], b"x\r\n")[0] == 550
        client.command("RSET")
        assert client.message("", ["late@b.test"], b"x\r\n")[0] == 451
        assert client.message("", ["no@b.test", "yes@b.test"], b"x\r\n")[0] == 250
    (message,) = receiver.wait(1)
    assert (message.sender, message.recipients) == ("", ("yes@b.test",))
