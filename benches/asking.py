"""What it costs to ask about millions of messages that wait, and what delivery loses by it meanwhile.

`python -m benches.asking --spool DIR` wants a folder that `python -m benches.waiting --spool DIR` has filled.
It runs the engine on it in this process, delivering to Debian's smtp-sink, and measures how much is delivered
in spans that take turns: in one half nobody asks anything, in the other all messages are grouped by domain
again and again. Each run delivers some 500,000 of them.

Where delivery has use for every processor, a question gets what is left, and takes as long as that takes; so
how long it takes is first measured while nothing is delivered.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from benches.measure import machine, median
from benches.waiting import verdict
from penstock.engine import Engine, open_engine
from penstock.queries import EVERYTHING, Groups, MessageProperty, QueueProperty
from tests.rig.kill import RETRIES
from tests.support.daemon import Settings, configuration
from tests.support.ports import free_port
from tools import debian

CONNECTIONS: Final = 50
SPAN_S: Final = 5.0
PAIRS: Final = 5
WARM_UP_S: Final = 3.0
GROUP_MAX_S: Final = 15.0
RATIO_MIN: Final = 0.9


@contextlib.contextmanager
def sink(port: int) -> Iterator[None]:
    """Run smtp-sink, which takes everything."""
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    program = str(debian.program("smtp-sink"))
    process = subprocess.Popen([program, *user, f"127.0.0.1:{port}", "1000"], env=debian.environment())
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


async def waiting(engine: Engine) -> int:
    """Return how many messages wait; the index has a counter for each queue."""
    page = await engine.query_queues(select=[QueueProperty.COUNT])
    return sum(row[QueueProperty.COUNT] for row in page.rows)


async def delivered_per_s(engine: Engine) -> float:
    """Return how many messages a second are delivered in one span.

    Raises:
        RuntimeError: There are too few messages.
    """
    before, begun = await waiting(engine), trio.current_time()
    await trio.sleep(SPAN_S)
    left = await waiting(engine)
    if not left:
        raise RuntimeError("all messages have been delivered: fill the spool with more")
    return (before - left) / (trio.current_time() - begun)


async def ask_on(engine: Engine, found: list[tuple[float, Groups]], once: trio.Event) -> None:
    """Group all messages by domain again and again; note how long each took, and tell when one is."""
    while True:
        begun = trio.current_time()
        groups = await engine.group(MessageProperty.RECIPIENT_DOMAIN, EVERYTHING)
        found.append((trio.current_time() - begun, groups))
        once.set()


def told(took_s: float, groups: Groups) -> str:
    """Return what a question came to."""
    first, last = groups.watermarks
    return f"{groups.examined:,} rows in {took_s:.1f} s, snapshots from {first} to {last}"


async def measure(home: Path) -> bool:
    """Run, print, and return whether both bars were reached."""
    port = free_port()
    extra = {
        "send_connector.out": ["smtp_max_messages_per_connection = 10000"],
        "queue": RETRIES,
    }
    settings = Settings(smart_host_port=port, outbound_connections=CONNECTIONS, extra=extra)
    config = home / "asking.toml"
    config.write_text(configuration(home, settings), encoding="utf-8")
    (home / "recipients").write_text("you@penstock.test\n", encoding="utf-8")
    alone: list[float] = []
    beside: list[float] = []
    found: list[tuple[float, Groups]] = []
    once = trio.Event()
    async with open_engine(config) as engine:
        print(f"{await waiting(engine):,} messages wait")
        begun = trio.current_time()
        groups = await engine.group(MessageProperty.RECIPIENT_DOMAIN, EVERYTHING)
        took_s = trio.current_time() - begun
        is_soon = groups.is_complete and took_s <= GROUP_MAX_S
        print(f"grouped by domain, nothing being delivered: {told(took_s, groups)}")
        print(f"  bar {GROUP_MAX_S} s: {verdict(is_soon)}")
        with sink(port):
            await trio.sleep(WARM_UP_S)
            for _ in range(PAIRS):
                alone.append(await delivered_per_s(engine))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask_on, engine, found, once)
                    beside.append(await delivered_per_s(engine))
                    await once.wait()
                    nursery.cancel_scope.cancel()
    took_s, groups = found[0]
    ratio = median(one / other for one, other in zip(beside, alone, strict=True))
    print(f"beside delivery: {told(took_s, groups)}")
    print(
        f"delivered: {median(alone):,.0f}/s alone, {median(beside):,.0f}/s while asked; "
        f"median ratio {ratio:.2f} (bar {RATIO_MIN}): {verdict(ratio >= RATIO_MIN)}"
    )
    return is_soon and ratio >= RATIO_MIN


def main() -> int:
    """Run from the command line; 0 when the bars were reached, 2 when it cannot be measured."""
    parser = argparse.ArgumentParser(description="questions about millions of messages that wait")
    parser.add_argument("--spool", type=Path, required=True, help="folder that benches.waiting has filled")
    arguments = parser.parse_args()
    if debian.program("smtp-sink") is None:
        print(f"needs Debian's postfix: {debian.reason()}", file=sys.stderr)
        return 2
    print(machine())
    return 0 if trio.run(measure, arguments.spool) else 1


if __name__ == "__main__":
    sys.exit(main())
