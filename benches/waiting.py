"""What it costs to have millions of messages waiting: the start, memory, the first page of a queue.

`python -m benches.waiting --messages 10000000` fills a spool (18 GB of disk for ten million), then starts
the daemon on it with its smart host down, looks, and starts it again with the smart host up, once with a warm
page cache and once with a cold one (that needs root). `--spool DIR` keeps the spool for another run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benches.load import fill
from benches.measure import median, rss_anon_bytes
from penstock.client import Client
from tests.support.daemon import Daemon, Settings
from tests.support.ports import free_port
from tests.support.receiver import Received, Receiver

RSS_ANON_MAX_BYTES: Final = 150 * 1000 * 1000
WARM_MAX_S: Final = 1.0
COLD_MAX_S: Final = 5.0
PAGE_MAX_MS: Final = 20.0
PAGE_ROWS: Final = 100
SETTLE_S: Final = 5.0
START_TIMEOUT_S: Final = 60.0
DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")


def verdict(reached: bool) -> str:
    """Return the word for a bar."""
    return "reached" if reached else "MISSED"


@contextlib.contextmanager
def folder(chosen: Path | None) -> Iterator[Path]:
    """Yield the folder for the daemon's files: the one that was chosen, or one for this run."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
    else:
        with tempfile.TemporaryDirectory(prefix="penstock-waiting-", dir="/var/tmp") as temporary:
            yield Path(temporary)


def first_delivery_s(daemon: Daemon, port: int) -> tuple[float, float]:
    """Start the daemon with its smart host up.

    Returns:
        Seconds from the start of the process to "ready", and to the first message that came.
    """
    came = threading.Event()

    def got(message: Received) -> None:
        del message
        came.set()

    # Nothing is to be delivered but what it takes to see that it is: the receiver is slow.
    with Receiver(port=port, on_message=got, keep=False, content_delay_s=0.2):
        begun = time.monotonic()
        daemon.start(wait=False)
        if not came.wait(START_TIMEOUT_S):
            raise RuntimeError(f"nothing was delivered:\n{daemon.printed()}")
        first_s = time.monotonic() - begun
        daemon.wait_ready()
        ready_s = time.monotonic() - begun
        daemon.stop()
    return ready_s, first_s


def page_ms(daemon: Daemon) -> float:
    """Return the milliseconds of a queue's first page over the control socket, the median of several."""
    times = []
    with Client(f"unix://{daemon.folder}/control.sock") as client:
        for _ in range(9):
            begun = time.perf_counter()
            page = client.messages(limit=PAGE_ROWS)
            times.append((time.perf_counter() - begun) * 1000)
            if len(page.items) != PAGE_ROWS:
                raise RuntimeError(f"a page of {len(page.items)}")
    return median(times)


def measure(home: Path, messages: int) -> bool:
    """Run, print, and return whether all bars were reached."""
    port = free_port()
    spool = home / "spool"
    if not spool.exists():
        took_s = fill(spool, messages, "out")
        print(f"{messages:,} messages stored in {took_s:.0f} s ({messages / took_s:,.0f}/s)")
    daemon = Daemon(home, Settings(smart_host_port=port, outbound_connections=4))
    reached = []
    try:
        daemon.start()
        time.sleep(SETTLE_S)
        anonymous = rss_anon_bytes(daemon.pid)
        page = page_ms(daemon)
        listed = sum(row["count"] for row in daemon.rows("queue", "list"))
        after = rss_anon_bytes(daemon.pid)
        daemon.stop()
        small = max(anonymous, after) <= RSS_ANON_MAX_BYTES
        print(
            f"{listed:,} messages wait; anonymous memory {anonymous / 1e6:.0f} MB, {after / 1e6:.0f} MB after"
        )
        print(f"  bar {RSS_ANON_MAX_BYTES / 1e6:.0f} MB: {verdict(small)}")
        print(
            f"first page of {PAGE_ROWS}: {page:.1f} ms (bar {PAGE_MAX_MS} ms): {verdict(page <= PAGE_MAX_MS)}"
        )
        reached += [small, page <= PAGE_MAX_MS]
        for cache, bar_s in (("warm", WARM_MAX_S), ("cold", COLD_MAX_S)):
            if cache == "cold":
                if os.geteuid() != 0:
                    print("cold page cache: needs root")
                    continue
                os.sync()
                DROP_CACHES.write_text("3\n", encoding="ascii")
            ready_s, first_s = first_delivery_s(daemon, port)
            soon = first_s <= bar_s
            reached.append(soon)
            print(
                f"{cache} page cache: ready after {ready_s:.2f} s, first delivery after {first_s:.2f} s "
                f"(bar {bar_s} s): {verdict(soon)}"
            )
    finally:
        if daemon.is_running:
            daemon.kill()
    return all(reached)


def main() -> int:
    """Run from the command line; 0 when the bars were reached."""
    parser = argparse.ArgumentParser(description="millions of messages that wait")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--spool", type=Path, help="folder to keep, or one that was kept")
    arguments = parser.parse_args()
    with folder(arguments.spool) as home:
        return 0 if measure(home, arguments.messages) else 1


if __name__ == "__main__":
    sys.exit(main())
