"""Random sessions against the whole receiving side: what a hostile client may try, for as long as one likes.

`python -m tests.dialogues.driver --steps 1000000 --seed 7`. A step is what one of a few clients sends at
once: lines that are in order, lines that are not, pieces of them, chunks, octets of any kind; or that it
lets time pass, stops sending, or breaks its connection. After each step must hold:

- nothing was raised (a failure names the seed, the step and what that client had sent);
- sessions have moved only as `tables.SERVER` says, and stay within their limits;
- what a client hears is whole replies, with codes that RFC 5321 4.2 knows, and nothing of what it has sent
  except where a reply quotes it on purpose;
- as many messages were accepted as clients have heard of, save one for each connection that broke.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from penstock.smtp.extensions import Extensions
from penstock.smtp.tables import SERVER, ServerState
from penstock.smtp.told import XCLIENT, XFORWARD
from tests.dialogues.backends import LISTENER, NOW_MS, EngineBackend
from tests.dialogues.script import Script

CLIENTS: Final = 4
PEERS: Final = ("127.0.1.1", "127.0.2.1")
LIMITS: Final = {
    "max_message_bytes": 3_000,
    "max_header_bytes": 900,
    "max_recipients_per_message": 3,
    "max_protocol_errors": 6,
    "max_hop_count": 2,
    "connection_timeout_ms": 900_000,
    "tarpit_ms": 100,
}
REPLY: Final = re.compile(
    rb"(?:[2345][0-5]\d(?:-[\x20-\x7e\t]*\r\n))*[2345][0-5]\d(?: [\x20-\x7e\t]*)?\r\n", re.DOTALL
)
ACCEPTED: Final = re.compile(rb"^250 2\.6\.0 ", re.MULTILINE)
CANARY: Final = b"qzqz"
"""In what is sent wherever no reply may repeat it."""

ADDRESSES: Final = (
    *(b"<you@contoso.example>", b"<me@contoso.example>", b"<a@fabrikam.example>", b"<Postmaster>", b"<>"),
    *(b"<nobody@contoso.example>", b"<a@far.example>", b'<"a b"@contoso.example>', b"<a@[127.0.0.1]>"),
    *(
        b"<@a,@b:you@contoso.example>",
        b"<you@contoso.example",
        b"you@contoso.example",
        b"<" + b"x" * 300 + b">",
    ),
    *("<grüße@contoso.example>".encode(), b"<\xff@contoso.example>", b"<a@b@c>", b"<a@-.example>"),
)
PARAMETERS: Final = (
    *(b"SIZE=10", b"SIZE=4000", b"SIZE=99999999999999999999999", b"SIZE=-1", b"SIZE", b"BODY=8BITMIME"),
    *(b"BODY=BINARYMIME", b"BODY=7BIT", b"SMTPUTF8", b"RET=HDRS", b"ENVID=a+2Bb", b"ENVID=+", b"AUTH=<>"),
    *(b"NOTIFY=NEVER", b"NOTIFY=SUCCESS,DELAY", b"NOTIFY=NEVER,DELAY", b"ORCPT=rfc822;a+40b", b"ORCPT=x"),
    *(b"BY=120;R", b"BY=-5;N", b"BY=1;R", b"HOLDFOR=60", b"HOLDFOR=99999999", b"MT-PRIORITY=-9"),
    *(b"MT-PRIORITY=10", b"HOLDUNTIL=2030-01-01T00:00:00Z", b"REQUIRETLS", b"XYZ=1", b"=", b"X" * 90),
)
OTHERS: Final = (
    *(b"RSET", b"NOOP", b"NOOP " + CANARY, b"HELP", b"HELP " + CANARY, b"VRFY <a@b>", b"EXPN list", b"QUIT"),
    *(
        b"STARTTLS",
        b"STARTTLS now",
        b"AUTH",
        b"AUTH PLAIN",
        b"AUTH " + CANARY,
        b"",
        b" ",
        CANARY,
        b"GET / HTTP/1.1",
    ),
    *(b"XCLIENT ADDR=127.0.2.1", b"XCLIENT ADDR=127.0.1.1 HELO=x PROTO=SMTP NAME=a.example", b"XCLIENT"),
    *(
        b"XCLIENT ADDR=192.0.2.1",
        b"XCLIENT ADDR=[UNAVAILABLE]",
        b"XCLIENT HELO=" + CANARY,
        b"XCLIENT LOGIN=a",
    ),
    *(b"XFORWARD ADDR=127.0.0.1 NAME=x", b"XFORWARD SOURCE=LOCAL HELO=" + CANARY, b"XFORWARD X=y"),
    *(b"DATA now", b"MAIL", b"RCPT", b"EHLO", b"HELO a b", b"EHLO [127.0.0.1]"),
    *(b"\x16\x03\x01\x02\x00\x01", b"NOOP\x00", b"NOOP\n", b"NO\rOP", b"NOOP " + b"x" * 3000, "nöp".encode()),
)
CONTENTS: Final = (
    *(b"Subject: x\r\n\r\nhello\r\n", b"", b"\r\n", b"..dot\r\n", b"Received: a\r\nReceived: b\r\n\r\n"),
    *(b"Received: a\r\n" * 3 + b"\r\n", b"X: " + b"x" * 995 + b"\r\n\r\n", b"\r\n" + b"y" * 2990 + b"\r\n"),
    *(
        b"\r\n" + b"y" * 3100 + b"\r\n",
        b"a\nb\r\n",
        b"a\rb\r\n",
        b"a\x00b\r\n",
        b"a\n.\n",
        b"a\r\n.\nMAIL FROM:<>\r\n",
    ),
    *(b"a\n.\r\nMAIL FROM:<>\r\n", b"a\r.\r\n", b"\xff\xfe\r\n", b"Message-ID: <" + CANARY + b"@x>\r\n\r\n"),
)


class Client:
    """One client's connection, and what is known of it."""

    def __init__(self, peer: Any, peer_ip: str) -> None:
        self.peer = peer
        self.peer_ip = peer_ip
        self.sent = bytearray()
        self.heard = b""
        self.accepted = b""
        self.queue: list[bytes] = []
        self.has_shut_down = False


class Driver(EngineBackend):
    """The receiving side, stepped, and its clients.

    Attributes:
        peers: Where they come from.
        others: Lines that they say out of turn.
        contents: Their content.
        added_max: Octets that may stand before it.
    """

    peers = PEERS
    others = OTHERS
    contents = CONTENTS
    added_max = 1_000

    def __init__(self, folder: Path, seed: int) -> None:
        """Begin without clients."""
        super().__init__(Script("driver", settings=LIMITS, extensions=extensions()), folder, inline=True)
        self.core.listen(LISTENER, "127.0.0.1", 25)
        self.random = random.Random(seed)
        self.now_ms = NOW_MS
        self.clients: list[Client] = []
        self.known = 0
        self.broken = 0
        self.told = 0
        self.states: dict[int, ServerState] = {}

    def run(self, steps: int) -> None:
        """Do so many steps.

        Raises:
            AssertionError: Something did not hold.
        """
        self.clients = [self.connect() for _ in range(CLIENTS)]
        for step in range(steps):
            index = self.random.randrange(CLIENTS)
            client = self.clients[index]
            try:
                self.step_of(client)
                self.check()
            except BaseException as error:
                error.add_note(f"step {step}, client {index}, which has sent {bytes(client.sent)!r}")
                raise
            if client.peer.is_closed() or client.has_shut_down:
                self.listen_to(client)
                self.leave(client)
                self.clients[index] = self.connect()
        for client in self.clients:
            self.leave(client)
        self.pass_ms(LIMITS["connection_timeout_ms"])
        assert self.receiver.connections == 0
        assert self.receiver.is_idle
        self.leave_no_trace()
        # Whoever broke its connection may not have heard of the last one.
        assert self.told <= len(self.accepted) + self.known <= self.told + self.broken

    def leave_no_trace(self) -> None:
        """Check what is left when everybody has left."""

    def connect(self) -> Client:
        peer_ip = self.random.choice(self.peers)
        client = Client(self.core.memory_connect(LISTENER, peer_ip), peer_ip)
        if self.random.random() < 0.97:
            self.rest()
        if self.random.random() < 0.97:
            client.queue.append(b"EHLO client.example\r\n")
        return client

    def leave(self, client: Client) -> None:
        client.peer.reset()
        self.rest()
        self.listen_to(client)
        self.broken += 1

    def step_of(self, client: Client) -> None:
        """Have a client do something, and the engine what follows."""
        chance = self.random.random()
        if chance < 0.002:
            client.peer.reset()
        elif chance < 0.004:
            client.peer.shutdown_write()
            client.has_shut_down = True
        elif chance < 0.01:
            self.pass_ms(self.random.choice([50, 1_000, 60_000, 299_000, 301_000]))
        else:
            data = self.saying(client)
            if chance < 0.1 and len(data) > 1:
                at = self.random.randrange(1, len(data))
                client.queue.insert(0, data[at:])
                data = data[:at]
            client.sent += data
            client.peer.send(data)
        if chance < 0.9:
            self.rest()
        elif chance < 0.95:
            self.core.step(self.now_ms)
        # Whoever was refused something is answered later.
        if self.random.random() < 0.2:
            self.pass_ms(LIMITS["tarpit_ms"])
        self.listen_to(client)

    def saying(self, client: Client) -> bytes:
        """Return what a client says next."""
        if not client.queue:
            client.queue = list(self.lines())
        data = client.queue.pop(0)
        while client.queue and self.random.random() < 0.25:
            data += client.queue.pop(0)
        return data

    def lines(self) -> Iterable[bytes]:
        """Yield what a client is going to say."""
        return self.transaction()

    def transaction(self) -> Iterable[bytes]:
        """Yield lines: a transaction, with something odd now and then."""
        rng = self.random
        if rng.random() < 0.5:
            yield from self.usual()
            return

        def maybe(usual: bytes) -> bytes:
            if rng.random() < 0.06:
                return rng.choice((*self.others, rng.randbytes(rng.randrange(1, 40)))) + b"\r\n"
            return usual + b"\r\n"

        if rng.random() < 0.4:
            yield maybe(rng.choice((b"EHLO client.example", b"EHLO client.example", b"HELO c")))
        yield maybe(b"MAIL FROM:" + self.path() + self.parameters())
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            yield maybe(b"RCPT TO:" + self.path() + self.parameters())
        content = rng.choice(self.contents)
        if rng.random() < 0.5:
            yield maybe(b"DATA")
            yield content + (b".\r\n" if rng.random() < 0.95 else b"\n.\n")
            return
        while rng.random() < 0.4:
            yield self.chunk(rng.choice(self.contents), b"")
            if rng.random() < 0.1:
                yield maybe(rng.choice((b"NOOP", b"RSET", b"DATA", b"RCPT TO:<a@fabrikam.example>")))
        yield self.chunk(content, b" LAST")

    def usual(self) -> Iterable[bytes]:
        """Yield a transaction that is in order."""
        rng = self.random
        if rng.random() < 0.3:
            yield b"EHLO client.example\r\n"
        yield b"MAIL FROM:<me@contoso.example>" + rng.choice((b"", b" SIZE=100", b" BODY=8BITMIME")) + b"\r\n"
        for address in rng.sample(ADDRESSES[:4], rng.choice((1, 2, 3))):
            yield b"RCPT TO:" + address + rng.choice((b"", b" NOTIFY=FAILURE")) + b"\r\n"
        if rng.random() < 0.6:
            yield b"DATA\r\n"
            yield rng.choice(self.contents) + b".\r\n"
            return
        for _ in range(rng.choice((0, 0, 1, 3))):
            yield self.chunk(rng.choice(self.contents[:5]), b"")
        yield self.chunk(rng.choice(self.contents[:5]), b" LAST")

    def chunk(self, content: bytes, last: bytes) -> bytes:
        size = b"%d" % len(content)
        if self.random.random() < 0.03:
            size = self.random.choice(
                (b"", b"-1", b"99999999999999999999", b"4294967296", b"3001", size + b"x")
            )
        return b"BDAT " + size + last + b"\r\n" + content

    def path(self) -> bytes:
        return self.random.choice(ADDRESSES[:5] if self.random.random() < 0.85 else ADDRESSES)

    def parameters(self) -> bytes:
        if self.random.random() < 0.7:
            return b""
        count = self.random.choice((1, 1, 2, 3, 30))
        return b"".join(b" " + self.random.choice(PARAMETERS) for _ in range(count))

    def rest(self) -> None:
        """Run everything until nothing moves."""
        for _ in range(200):
            self.core.step(self.now_ms)
            if not self.handle_events(self.now_ms):
                return
        raise AssertionError("the server does not come to rest")

    def pass_ms(self, ms: int) -> None:
        """Let time pass, stopping wherever there is something to do."""
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            next_ms = self.core.next_deadline_ms() or until_ms
            self.now_ms = min(max(next_ms, self.now_ms + 1), until_ms)
            self.rest()

    def listen_to(self, client: Client) -> None:
        """Read what was said, and check its form."""
        client.heard += client.peer.recv()
        end = client.heard.rfind(b"\n") + 1
        whole, client.heard = client.heard[:end], client.heard[end:]
        at = 0
        while at < len(whole):
            reply = REPLY.match(whole, at)
            if reply is None:
                # The rest of a reply that goes on.
                client.heard = whole[at:] + client.heard
                assert re.match(rb"[2345][0-5]\d-", client.heard), client.heard
                break
            assert CANARY not in reply[0] or b"InternalId" in reply[0], reply[0]
            at = reply.end()
            if b"InternalId=" in reply[0] and ACCEPTED.match(reply[0]) and reply[0] != client.accepted:
                # In LMTP each recipient is told of the same one.
                client.accepted = reply[0]
                self.told += 1

    def check(self) -> None:
        """Check all sessions."""
        now: dict[int, ServerState] = {}
        for conn, connection in self.receiver._connections.items():
            session = connection.session
            now[conn] = session.state
            before = self.states.get(conn, ServerState.START)
            assert session.state in REACHABLE[before], (before, session.state)
            assert len(session.recipients) <= LIMITS["max_recipients_per_message"]
            assert len(session.reports) <= len(session.recipients)
            assert session.errors <= LIMITS["max_protocol_errors"] + 64
            if session.state in (ServerState.GREETED, ServerState.REFUSED, ServerState.START):
                assert not session.recipients
        self.states = now
        for message in self.accepted:
            assert 0 < len(message.entries) <= LIMITS["max_recipients_per_message"]
            assert message.size <= LIMITS["max_message_bytes"] + self.added_max
        # They are not kept, or a long run would be one of memory.
        self.known += len(self.accepted)
        self.accepted.clear()


def extensions() -> dict[str, Any]:
    """Return all that can be offered."""
    switches = (one.name for one in fields(Extensions) if one.init and one.type == "bool")
    return dict.fromkeys(switches, True) | {"xclient": tuple(XCLIENT), "xforward": tuple(XFORWARD)}


def _reachable(state: ServerState) -> frozenset[ServerState]:
    """Return the states that a session may be in after one step that began in a state."""
    if state is ServerState.CLOSED:
        return frozenset((state,))
    found = {state, ServerState.CLOSED}
    while True:
        more = {after for one in found for pair in SERVER[one].values() for after in pair} - found
        # XCLIENT, between transactions, begins the session anew.
        if ServerState.GREETED in found:
            more |= {ServerState.START} - found
        if not more:
            return frozenset(found)
        found |= more


REACHABLE: Final = {state: _reachable(state) for state in ServerState}


def main(kind: type[Driver] = Driver) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="random sessions against the receiving side")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-driver-") as folder:
        driver = kind(Path(folder), options.seed)
        try:
            driver.run(options.steps)
        finally:
            driver.close()
    print(
        f"{options.steps} steps, {driver.broken} connections, {driver.known} messages accepted, "
        f"{time.monotonic() - begun_s:.0f} s: nothing raised, no state that the tables do not know"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
