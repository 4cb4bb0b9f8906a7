"""Whatever clients say, and however it is cut: a server that grants says the same as one that does not.

Two servers are told the same, octet for octet and at the same times, by two clients each. After every step
that leaves both at rest, what was heard, accepted and counted must be the same, queue ids apart. A step may
also leave octets in the kernel, or events with a Python that has not come to them.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.receive.fresh import FreshMessage
from tests.dialogues.backends import LISTENER, NOW_MS, EngineBackend, SocketBackend
from tests.dialogues.script import Script

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("penstock._core") is None, reason="penstock._core is not built"
    ),
    # Each dialogue is held with two servers that sync: on a busy disk a hundred of them take minutes.
    pytest.mark.timeout(600),
]

PEERS = ("127.0.1.1", "127.0.2.1")
"""One that may relay, one that may not."""
QUEUE_ID = re.compile(rb"InternalId=[^,]+")
LIMITS = {
    "max_message_bytes": 600,
    "max_header_bytes": 300,
    "max_recipients_per_message": 2,
    "max_protocol_errors": 3,
    "max_hop_count": 1,
    "connection_timeout_ms": 900_000,
}
IDLE_MS = 300_000

Message = tuple[Any, ...]
"""All of an accepted message that does not depend on its queue id."""


def told(message: FreshMessage) -> Message:
    return (
        message.sender,
        message.received_ms,
        message.size,
        message.flags,
        message.message_id,
        message.params,
        message.entries,
    )


class Server(EngineBackend):
    """The whole receiving side, stepped, with two clients."""

    def __init__(
        self, folder: Path, *, has_grants: bool, tarpit_ms: int = 0, options: dict[str, int] | None = None
    ) -> None:
        """Begin without clients."""
        folder.mkdir()
        script = Script("random", settings=LIMITS | {"tarpit_ms": tarpit_ms})
        super().__init__(script, folder, inline=True, has_grants=has_grants, options=options)
        self.core.listen(LISTENER, "127.0.0.1", 25)
        self.now_ms = NOW_MS
        self.clients: list[Any] = []
        self.heard: list[bytes] = []
        self.counted: Counter[tuple[str, ...]] = Counter()

    def connect(self) -> None:
        """Begin anew with clients that have the banner."""
        self.accepted.clear()
        self.clients = [self.core.memory_connect(LISTENER, peer) for peer in PEERS]
        self.heard = [b"" for _ in PEERS]
        self.rest()
        self.counted = Counter(self.counts())

    def leave(self) -> None:
        """Break all connections."""
        for client in self.clients:
            client.reset()
        # What is held back keeps its connection until then.
        self.pass_ms(60_000)
        assert self.receiver.connections == 0
        assert self.receiver.is_idle

    def step(self) -> None:
        """Run what is not Python."""
        self.core.step(self.now_ms)

    def rest(self) -> None:
        """Run everything until nothing moves."""
        for _ in range(100):
            self.step()
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

    def state(self) -> tuple[Any, ...]:
        """Return all that may not depend on grants."""
        for index, client in enumerate(self.clients):
            self.heard[index] += client.recv()
        return (
            [QUEUE_ID.sub(b"InternalId=", heard) for heard in self.heard],
            [client.is_closed() for client in self.clients],
            [told(message) for message in self.accepted],
            {key: count for key, value in self.counts().items() if (count := value - self.counted[key])},
        )

    def counts(self) -> dict[tuple[str, ...], int]:
        """Return what was counted since the beginning."""
        return {(name, *labels): value for name, labels, value in self.receiver.samples()}


def line(*texts: str) -> st.SearchStrategy[bytes]:
    return st.sampled_from([text.encode("latin-1") + b"\r\n" for text in texts])


HELLO = line("EHLO client.example", "HELO client.example")
MAIL = line(
    "MAIL FROM:<me@contoso.example>",
    "MAIL FROM:<me@contoso.example> SIZE=100",
    "MAIL FROM:<me@contoso.example> SIZE=100 BODY=8BITMIME",
    "mail from:<> body=7bit",
    "MAIL FROM:<> BODY=8BitMime SIZE=600",
    "MAIL FROM:<> SIZE=00000000000000000001",
)
ODD_MAIL = line(
    "MAIL FROM:<> SIZE=601",
    "MAIL FROM:<> SIZE=99999999999999999999",
    "MAIL FROM:<> SIZE=000000000000000000001",
    "MAIL FROM:<> SIZE=+1",
    "MAIL FROM:<> SIZE=-1",
    "MAIL FROM:<> SIZE",
    "MAIL FROM:<> SIZE=",
    "MAIL FROM:<> SIZE=1 SIZE=1",
    "MAIL FROM:<> BODY=BINARYMIME",
    "MAIL FROM:<> BODY=8BIT",
    "MAIL FROM:<> BODY",
    "MAIL FROM:<> RET=HDRS",
    "MAIL FROM:<> SIZE=1 SMTPUTF8",
    "MAIL FROM:<me@contoso.example>x",
    "MAIL FROM:<me@contoso.example",
    "MAIL FROM: <me@contoso.example>",
    f"MAIL FROM:<{'x' * 65}@contoso.example>",
    "MAIL",
    "MAIL FROM:<>\n",
)
RCPT = line(
    "RCPT TO:<you@contoso.example>",
    "RCPT TO:<me@contoso.example>",
    "RCPT TO:<Postmaster>",
    "RCPT TO:<a@fabrikam.example>",
)
ODD_RCPT = line(
    "RCPT TO:<nobody@contoso.example>",
    "RCPT TO:<a@far.example>",
    "RCPT TO:<you@contoso.example> NOTIFY=NEVER",
    "RCPT TO:you@contoso.example",
)
DATA = line("DATA", "data")
OTHER = line(
    *("RSET", "NOOP", "HELP", "VRFY you", "EXPN you", "QUIT", "STARTTLS", "AUTH PLAIN", "BDAT 3", "DATA now"),
    *("EHLO again.example", "EHLO", "", "XYZZY", "GET / HTTP/1.1", "n\xf6", "NOOP\n", "NOOP " + "x" * 2100),
)
CONTENT = line(
    ".",
    "Subject: x\r\n\r\nhello\r\n.",
    "Message-ID: <1@client.example>\r\n\r\n..\r\n8-bit \xe4\r\n.",
    f"{'x' * 298}\r\n\r\n{'x' * 294}\r\n.",
)
ODD_CONTENT = line(
    "Received: a\r\nReceived: b\r\n\r\n.",
    f"X: {'x' * 320}\r\n\r\n.",
    f"X: x\r\n\r\n{'x' * 600}\r\n.",
    "bare\nLF\r\n.",
    "bare\rCR\r\n.\r\nMAIL FROM:<>",
)
ANY = MAIL | ODD_MAIL | RCPT | ODD_RCPT | DATA | OTHER | CONTENT | ODD_CONTENT
RARELY = st.sampled_from([False] * 9 + [True])
PROMPT = st.sampled_from(["rest"] * 5 + ["join", "join", "cut"])
"""What happens behind a line: everything comes to rest; the next line goes with it; everything rests in the
middle of it, too."""
SLOW = st.sampled_from(["rest"] * 5 + ["join", "join", "cut", "net", "kernel"])
"""Also: net alone has read it; nobody has. How many replies go together then depends on grants, so these are
not for tarpits."""
LOCK_STEP = st.just("rest")
PAUSES = st.sampled_from([0] * 45 + [1_000, 6_000, 60_000, IDLE_MS - 1_000, IDLE_MS + 1_000])


@st.composite
def talks(draw: st.DrawFn) -> list[bytes]:
    """Return what a client says that has messages to send and something odd about it now and then."""

    def maybe(odd: st.SearchStrategy[bytes], usual: st.SearchStrategy[bytes] | None) -> None:
        strategy = odd if draw(RARELY) else usual
        if strategy is not None:
            said.append(draw(strategy))

    said: list[bytes] = []
    maybe(OTHER, HELLO)
    for _ in range(draw(st.integers(1, 4))):
        maybe(ANY, None)
        maybe(ODD_MAIL, MAIL)
        maybe(ANY, None)
        maybe(ODD_RCPT, RCPT)
        for _ in range(draw(st.integers(0, 2))):
            maybe(ODD_RCPT, RCPT)
        maybe(ANY, None)
        maybe(ANY, DATA)
        maybe(ODD_CONTENT, CONTENT)
    maybe(ANY, None)
    return said


@dataclass(frozen=True)
class Step:
    """What a client does, and then the servers."""

    client: int
    data: bytes
    way: str
    pause_ms: int


@st.composite
def dialogues(draw: st.DrawFn, ways: st.SearchStrategy[str], *, has_pauses: bool) -> list[Step]:
    """Return what one or two clients say."""
    steps: list[Step] = []
    left = [draw(talks()), draw(st.just([]) | talks())]
    while any(left):
        client = draw(st.sampled_from([index for index, lines in enumerate(left) if lines]))
        data = left[client].pop(0)
        way = draw(ways)
        while way == "join" and left[client]:
            data += left[client].pop(0)
            way = draw(ways)
        if way == "cut":
            at = draw(st.integers(1, len(data) - 1))
            steps.append(Step(client, data[:at], "rest", 0))
            data, way = data[at:], "rest"
        steps.append(Step(client, data, way, draw(PAUSES) if way == "rest" and has_pauses else 0))
    return steps


class Pair:
    """A server that grants, and one that does not."""

    def __init__(self, folder: Path, **options: Any) -> None:
        """Begin both."""
        self.servers = [
            Server(folder / name, has_grants=name == "with", **options) for name in ("with", "without")
        ]

    def compare(self, steps: list[Step]) -> None:
        """Hold a dialogue with both."""
        with_grants, without = self.servers
        for server in self.servers:
            server.connect()
        try:
            for step in steps:
                for server in self.servers:
                    self.follow(server, step)
                if step.way == "rest":
                    assert with_grants.state() == without.state(), step
            for server in self.servers:
                for client in server.clients:
                    client.shutdown_write()
                server.rest()
            assert with_grants.state() == without.state()
        finally:
            for server in self.servers:
                server.leave()

    @staticmethod
    def follow(server: Server, step: Step) -> None:
        """Have a server's client do what it does."""
        server.clients[step.client].send(step.data)
        if step.way == "net":
            server.step()
        elif step.way != "kernel":
            server.rest()
        if step.pause_ms:
            server.pass_ms(step.pause_ms)

    def close(self) -> None:
        """Close both."""
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Pair]]:
    """Make pairs with certain options, each once."""
    pairs: dict[str, Pair] = {}

    def get(name: str, **options: Any) -> Pair:
        if name not in pairs:
            pairs[name] = Pair(tmp_path_factory.mktemp(name), **options)
        return pairs[name]

    yield get
    for one in pairs.values():
        one.close()


USUAL = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(steps=dialogues(SLOW, has_pauses=True))
@settings(USUAL, max_examples=100)
def test_server_that_grants_says_the_same(pair: Callable[..., Pair], steps: list[Step]) -> None:
    pair("usual").compare(steps)


@given(steps=dialogues(PROMPT, has_pauses=True))
@settings(USUAL, max_examples=100)
def test_server_that_grants_says_the_same_as_slowly(pair: Callable[..., Pair], steps: list[Step]) -> None:
    pair("tarpit", tarpit_ms=5_000).compare(steps)


@given(steps=dialogues(PROMPT, has_pauses=False))
@settings(USUAL, max_examples=100)
def test_server_that_has_room_for_one_draft_says_the_same(
    pair: Callable[..., Pair], steps: list[Step]
) -> None:
    pair("narrow", options={"draft_budget_bytes": 1}).compare(steps)


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, SocketBackend]]:
    """A server that is stepped and does not grant, and one with threads that does."""
    folder = tmp_path_factory.mktemp("threads")
    stepped = Server(folder / "stepped", has_grants=False)
    threaded = SocketBackend(Script("random", peer=PEERS[0], settings=LIMITS | {"tarpit_ms": 0}), folder)
    threaded.hang_up()
    yield stepped, threaded
    stepped.close()
    threaded.close()


@given(steps=dialogues(LOCK_STEP, has_pauses=False))
@settings(USUAL, max_examples=30)
def test_server_with_threads_says_the_same(threads: tuple[Server, SocketBackend], steps: list[Step]) -> None:
    stepped, threaded = threads
    stepped.connect()
    threaded.connect()
    threaded.accepted.clear()
    try:
        assert threaded.line() == stepped.clients[0].recv()
        for step in steps:
            if step.client != 0:
                continue
            stepped.clients[0].send(step.data)
            stepped.rest()
            threaded.send(step.data)
            for expected in stepped.clients[0].recv().splitlines(keepends=True):
                assert QUEUE_ID.sub(b"", threaded.line()) == QUEUE_ID.sub(b"", expected), step
            if stepped.clients[0].is_closed():
                assert threaded.is_closed()
                break
        threaded.wait(lambda: len(threaded.accepted) == len(stepped.accepted))
        envelopes = [
            [(message.sender, message.flags, message.message_id, message.params) for message in accepted]
            for accepted in (threaded.accepted, stepped.accepted)
        ]
        assert envelopes[0] == envelopes[1]
    finally:
        stepped.leave()
        threaded.hang_up()
        threaded.wait(lambda: threaded.receiver.connections == 0)
