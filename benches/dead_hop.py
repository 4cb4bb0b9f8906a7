"""A queue that only grows: many messages into a dead next hop, then a restart when it is back.

Cost must follow what is active, not what is stored. `python -m benches.dead_hop --messages 100000`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benches.measure import rss_anon_bytes
from tests.support.daemon import Daemon, Settings
from tests.support.ports import free_port
from tests.support.receiver import Received, Receiver
from tools import debian

RSS_ANON_MAX_BYTES = 120 * 1000 * 1000
FIRST_DELIVERY_MAX_S = 2.0


def fill(daemon: Daemon, messages: int) -> tuple[int, float]:
    """Send the messages; return the daemon's highest anonymous memory meanwhile and the seconds it took."""
    begun = time.monotonic()
    source = subprocess.Popen(
        [
            *(str(debian.program("smtp-source")), "-d", "-s", "50", "-m", str(messages), "-l", "4096"),
            *("-f", "sender@penstock.test", "-t", "recipient@elsewhere.test", f"127.0.0.1:{daemon.port}"),
        ],
        env=debian.environment(),
    )
    highest = 0
    while source.poll() is None:
        highest = max(highest, rss_anon_bytes(daemon.pid))
        time.sleep(0.1)
    if source.returncode != 0:
        raise RuntimeError(f"smtp-source ended with {source.returncode}")
    return highest, time.monotonic() - begun


def measure(messages: int) -> bool:
    """Run, print, and return whether both bars were reached."""
    port = free_port()
    came = threading.Event()
    count = 0

    def got(message: Received) -> None:
        nonlocal count
        del message
        count += 1
        came.set()

    with tempfile.TemporaryDirectory(prefix="penstock-dead-", dir="/var/tmp") as temporary:
        settings = Settings(smart_host_port=port, max_connections=1000, outbound_connections=50)
        daemon = Daemon(Path(temporary), settings)
        try:
            daemon.start()
            highest, took_s = fill(daemon, messages)
            time.sleep(3)
            settled = rss_anon_bytes(daemon.pid)
            daemon.stop()
            with Receiver(port=port, on_message=got, keep=False):
                begun = time.monotonic()
                daemon.start(wait=False)
                delivered = came.wait(30)
                first_s = time.monotonic() - begun
                daemon.wait_ready()
                time.sleep(5)
                after = rss_anon_bytes(daemon.pid)
                daemon.stop()
        finally:
            if daemon.is_running:
                daemon.kill()
    print(f"{messages} messages into a dead hop in {took_s:.1f} s ({messages / took_s:,.0f}/s)")
    small = max(highest, settled, after) < RSS_ANON_MAX_BYTES
    verdict = "reached" if small else "MISSED"
    print(
        f"anonymous memory: {highest / 1e6:.0f} MB at most, {settled / 1e6:.0f} MB at rest, "
        f"{after / 1e6:.0f} MB after the restart (bar {RSS_ANON_MAX_BYTES / 1e6:.0f} MB): {verdict}"
    )
    soon = delivered and first_s <= FIRST_DELIVERY_MAX_S
    print(
        f"first delivery {first_s:.2f} s after the start of the process, {count} after 5 s "
        f"(bar {FIRST_DELIVERY_MAX_S} s): {'reached' if soon else 'MISSED'}"
    )
    return small and soon


def main() -> int:
    """Run from the command line; 0 when the bars were reached, 2 when it cannot be measured."""
    parser = argparse.ArgumentParser(description="a queue that only grows")
    parser.add_argument("--messages", type=int, default=100_000)
    messages = parser.parse_args().messages
    if debian.program("smtp-source") is None:
        print(f"needs smtp-source: {debian.reason()}", file=sys.stderr)
        return 2
    return 0 if measure(messages) else 1


if __name__ == "__main__":
    sys.exit(main())
