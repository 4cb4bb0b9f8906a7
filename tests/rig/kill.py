"""kill -9 at random moments, with a ledger kept outside the daemon.

A round starts the daemon on the spool that the round before left behind, sends messages with unique names
over many connections, and kills the daemon at a moment drawn uniformly from the length of an undisturbed run,
start-up included. A round in which nothing lay between its 250 and its delivery proves nothing and is drawn
again. After the last round the daemon runs until the queue is empty. Then:

- acknowledged - received must be empty: a 250 is a promise;
- every name received twice must have been named in doubt by the daemon's journal;
- what was received must be what was sent.

By hand: `python -m tests.rig.kill --rounds 20 --messages 5000`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.client import SmtpClient
from tests.support.daemon import Daemon, Settings
from tests.support.receiver import Received, Receiver

# How long nothing may be delivered at the end before what is left counts as lost; busy machines do stand
# still for a while.
DRAIN_STALL_S = 90.0
# A hop that fails is tried again soon, however often it has failed; a wait of minutes would look like a loss.
RETRIES = [
    f'{key} = "1s"'
    for key in (
        "queue_glitch_retry_interval",
        "transient_failure_retry_interval",
        "outbound_connection_failure_retry_interval",
        "message_retry_interval",
    )
]
# How many draws one counted round may take on average before the rig gives up.
DRAWS_PER_ROUND = 4


@dataclass(slots=True)
class Ledger:
    """What the senders were promised and what the receiver has got, by message name."""

    acknowledged: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    received: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    mangled: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def got(self, message: Received) -> None:
        """Enter a received message; called by the receiver before it replies."""
        name = message.recipients[0].partition("@")[0]
        intact = message.content.endswith(content(name))
        with self.lock:
            self.received[name].append(message.queue_id)
            if not intact:
                self.mangled.append(name)

    def acknowledge(self, name: str) -> None:
        """Enter a 250; called with the lock held."""
        self.acknowledged.add(name)

    def promised(self) -> set[str]:
        """Return the names that lie between their 250 and their delivery."""
        with self.lock:
            return self.acknowledged - self.received.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The account after the last round."""

    seed: int
    rounds: int
    drawn: int
    acknowledged: int
    received: int
    lost: list[str]
    doubled: list[str]
    unexplained: list[str]
    mangled: list[str]

    def is_clean(self) -> bool:
        """Whether every promise was kept and every second copy explained."""
        return not (self.lost or self.unexplained or self.mangled)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.rounds} rounds counted of {self.drawn}, "
            f"{self.acknowledged} acknowledged, {self.received} received, "
            f"acknowledged - received = {len(self.lost)}, "
            f"{len(self.doubled)} received twice, {len(self.unexplained)} of them not named in doubt, "
            f"{len(self.mangled)} not as sent"
        )


def content(name: str) -> bytes:
    """Return the one content that belongs to a name, 0.3 to 4 KB."""
    line = f".{name} ".encode() * 6 + b"\r\n"
    return f"Subject: {name}\r\n\r\n".encode() + line * (1 + sum(name.encode()) % 30)


def send(port: int, names: Iterable[str], ledger: Ledger, over: threading.Event) -> None:
    """Send each name once, reconnecting; a name whose reply never came is left as unknown."""
    client: SmtpClient | None = None
    for name in names:
        while client is None:
            if over.is_set():
                return
            try:
                client = SmtpClient(port)
            except (OSError, ValueError):
                time.sleep(0.005)
        try:
            code, text = client.message("ledger@penstock.test", [f"{name}@sink.test"], content(name))
        except (OSError, ValueError):
            client.close()
            client = None
            continue
        with ledger.lock:
            if code == 250:
                ledger.acknowledge(name)
            else:
                ledger.refused[text] += 1
    if client is not None:
        client.close()


class Rig:
    """One daemon folder, one receiver, one ledger, as many rounds as asked for."""

    def __init__(
        self,
        folder: Path,
        *,
        messages: int,
        connections: int,
        seed: int,
        ledger: Ledger | None = None,
        receiver_delay_s: float = 0.01,
    ) -> None:
        self.ledger = ledger or Ledger()
        self._rng = random.Random(seed)
        self._seed = seed
        self._messages = messages
        self._connections = connections
        # A receiver slower than the senders keeps mail between its 250 and its delivery.
        self._receiver = Receiver(on_message=self.ledger.got, keep=False, content_delay_s=receiver_delay_s)
        self._daemon = Daemon(
            folder,
            Settings(
                smart_host_port=self._receiver.port,
                max_connections=connections * 2,
                outbound_connections=8,
                extra={"queue": RETRIES},
            ),
        )

    def run(self, rounds: int) -> Verdict:
        """Run until `rounds` rounds have counted, then drain and settle the account."""
        with self._receiver:
            try:
                length_s = self._undisturbed()
                counted = drawn = 0
                while counted < rounds and drawn < rounds * DRAWS_PER_ROUND:
                    drawn += 1
                    after_s = self._rng.uniform(0.0, length_s)
                    between = self._round(drawn, after_s)
                    counted += between > 0
                    print(f"round {drawn}: killed after {after_s:.3f} s, {between} between 250 and delivery")
                self._daemon.start()
                self._drain()
                self._daemon.stop()
            finally:
                if self._daemon.is_running:
                    self._daemon.kill()
        return self._settle(counted, drawn)

    def _undisturbed(self) -> float:
        """Run once without a kill; return how long start, sending and delivery take."""
        begun = time.monotonic()
        self._daemon.start(wait=False)
        senders, _ = self._send(0)
        # The senders would wait for ever for one that cannot start.
        self._daemon.wait_ready()
        for sender in senders:
            sender.join()
        self._drain()
        length_s = time.monotonic() - begun
        self._daemon.stop()
        print(f"an undisturbed run takes {length_s:.2f} s")
        return length_s

    def _round(self, number: int, after_s: float) -> int:
        """Start, send, kill; return how many messages the kill caught between 250 and delivery."""
        begun = time.monotonic()
        self._daemon.start(wait=False)
        senders, over = self._send(number)
        self._wait(number, begun + after_s)
        self._end()
        over.set()
        for sender in senders:
            sender.join()
        # What the daemon had handed to the kernel still reaches the receiver.
        time.sleep(0.1)
        return len(self.ledger.promised())

    def _wait(self, _number: int, until_s: float) -> None:
        """Wait for the moment at which a round ends."""
        time.sleep(max(0.0, until_s - time.monotonic()))

    def _end(self) -> None:
        """End the daemon as a round does."""
        self._daemon.kill()

    def _is_explained(self, name: str, doubts: set[str]) -> bool:
        """Whether a message may have been received twice; `doubts` are the ids that were named in doubt."""
        return doubts.issuperset(self.ledger.received[name])

    def _send(self, number: int) -> tuple[list[threading.Thread], threading.Event]:
        over = threading.Event()
        names = [f"r{number}-{index}" for index in range(self._messages)]
        threads = [
            threading.Thread(
                target=send,
                args=(self._daemon.port, names[start :: self._connections], self.ledger, over),
                daemon=True,
            )
            for start in range(self._connections)
        ]
        for thread in threads:
            thread.start()
        return threads, over

    def _drain(self) -> None:
        """Wait until nothing is promised and the queue is empty, as long as there is progress."""
        progress, last = time.monotonic(), -1
        while True:
            waiting = len(self.ledger.promised())
            if waiting == 0 and not self._daemon.rows("queue", "list"):
                return
            if waiting != last:
                progress, last = time.monotonic(), waiting
            elif time.monotonic() - progress > DRAIN_STALL_S:
                return
            time.sleep(0.1)

    def _settle(self, counted: int, drawn: int) -> Verdict:
        doubts = {line["queue_id"] for line in self._daemon.journal() if line["event"] == "INDOUBT"}
        received = self.ledger.received
        doubled = sorted(name for name, ids in received.items() if len(ids) > 1)
        return Verdict(
            seed=self._seed,
            rounds=counted,
            drawn=drawn,
            acknowledged=len(self.ledger.acknowledged),
            received=len(received),
            lost=sorted(self.ledger.promised()),
            doubled=doubled,
            unexplained=[name for name in doubled if not self._is_explained(name, doubts)],
            mangled=sorted(self.ledger.mangled),
        )


def main() -> int:
    """Run from the command line; 0 when the account is clean."""
    parser = argparse.ArgumentParser(description="kill -9 at random moments and settle the account")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--messages", type=int, default=5000, help="per round")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="kept; default: a temporary one")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="penstock-kill-") as temporary:
        rig = Rig(
            options.folder or Path(temporary),
            messages=options.messages,
            connections=options.connections,
            seed=seed,
        )
        verdict = rig.run(options.rounds)
    print(verdict)
    for title, names in (
        ("lost", verdict.lost),
        ("not in doubt", verdict.unexplained),
        ("mangled", verdict.mangled),
    ):
        for name in names[:20]:
            print(f"  {title}: {name} {rig.ledger.received.get(name, [])}")
    return 0 if verdict.is_clean() and verdict.rounds >= options.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
