"""What BDAT brings leaves as DATA, octet for octet."""

from __future__ import annotations

import socket

import pytest

from tests.support.daemon import Daemon
from tests.support.receiver import Receiver

LARGE = b"Subject: large\r\n\r\n" + b"".join(
    b"." * (index % 3) + b"line %d \xc3\xa4\r\n" % index for index in range(1_900_000)
)
CONTENTS = [
    b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\n",
    b".",
    b".\r\n",
    b"Subject: no last line end\r\n\r\ntext",
    b"Subject: commands\r\n\r\nBDAT 3 LAST\r\nRSET\r\nQUIT\r\n.\r\nMAIL FROM:<x@y.test>\r\n",
    b"",
]


def say(peer: socket.socket, octets: bytes, replies: int) -> list[bytes]:
    """Send, and return the last lines of so many replies."""
    peer.sendall(octets)
    heard = b""
    while True:
        lines = [line for line in heard.split(b"\r\n")[:-1] if line[3:4] == b" "]
        if len(lines) >= replies:
            return lines
        chunk = peer.recv(65_536)
        assert chunk, f"the server closed after {heard!r}"
        heard += chunk


def bdat(content: bytes, sizes: list[int]) -> bytes:
    """Return a content in chunks of such sizes, the last of which takes the rest."""
    out = b""
    for size in sizes:
        chunk, content = content[:size], content[size:]
        out += b"BDAT %d\r\n" % len(chunk) + chunk
    return out + b"BDAT %d LAST\r\n" % len(content) + content


@pytest.fixture
def peer(relay: Daemon) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", relay.port), timeout=60)
    say(connection, b"", 1)
    say(connection, b"EHLO client.test\r\n", 1)
    return connection


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_chunks_arrive_as_lines(peer: socket.socket, receiver: Receiver, size: int) -> None:
    with peer:
        for index, content in enumerate(CONTENTS):
            sizes = [size] * (len(content) // size)
            envelope = b"MAIL FROM:<me@penstock.test>\r\nRCPT TO:<m%d@elsewhere.test>\r\n" % index
            # Everything in one write: no reply has to be waited for (RFC 3030 4.2).
            replies = say(peer, envelope + bdat(content, sizes), 3 + len(sizes))
            assert [reply[:3] for reply in replies] == [b"250"] * len(replies), replies
            assert b"Queued mail for delivery" in replies[-1]
    got = {message.recipients[0]: message.content for message in receiver.wait(len(CONTENTS), timeout_s=60)}
    for index, content in enumerate(CONTENTS):
        expected = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
        trace = got[f"m{index}@elsewhere.test"].removesuffix(expected)
        assert trace.startswith(b"Received: from client.test ")
        assert trace.count(b"Received: ") == 1
        assert trace.endswith(b" +0000\r\n")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_large_content_arrives_whole(peer: socket.socket, receiver: Receiver) -> None:
    assert 30_000_000 < len(LARGE) < 36 << 20
    sizes = [1, 2_000_000, 65_535, 65_536, 65_537, 3]
    envelope = b"MAIL FROM:<me@penstock.test> BODY=8BITMIME\r\nRCPT TO:<m@elsewhere.test>\r\n"
    with peer:
        replies = say(peer, envelope + bdat(LARGE, sizes), 3 + len(sizes))
    assert [reply[:3] for reply in replies] == [b"250"] * len(replies), replies
    (message,) = receiver.wait(1, timeout_s=120)
    same = message.content.endswith(b"+0000\r\n" + LARGE)
    assert same, f"{len(message.content)} octets differ"


def test_messages_that_break_off_are_not_there(
    relay: Daemon, peer: socket.socket, receiver: Receiver
) -> None:
    envelope = b"MAIL FROM:<me@penstock.test>\r\nRCPT TO:<m@elsewhere.test>\r\n"
    with peer:
        say(peer, envelope + b"BDAT 3\r\na\r\n", 3)
        say(peer, b"RSET\r\n", 1)
        say(peer, envelope + b"BDAT 4 LAST\r\na\n\r\n", 3)
        say(peer, envelope + b"BDAT 3\r\nb\r\n", 3)
        peer.sendall(b"BDAT 100 LAST\r\nc\r\n")
    with socket.create_connection(("127.0.0.1", relay.port), timeout=60) as other:
        say(other, b"", 1)
        say(other, b"EHLO client.test\r\n", 1)
        say(other, envelope + b"BDAT 3 LAST\r\nd\r\n", 3)
    (message,) = receiver.wait(1, timeout_s=60)
    assert message.content.endswith(b"+0000\r\nd\r\n")
    assert len(receiver.messages) == 1
