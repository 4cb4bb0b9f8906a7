"""What an idle connection costs: anonymous memory of the daemon with and without many of them.

`python -m benches.idle --connections 5000`.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path

from benches.measure import rss_anon_bytes
from tests.support.daemon import Daemon, Settings

BYTES_MAX = 10 * 1024
WARM_UP = 100


def connect(port: int) -> socket.socket:
    """Open one session: banner read, EHLO answered, then nothing."""
    peer = socket.create_connection(("127.0.0.1", port), 30)
    answered(peer, b"220 ")
    peer.sendall(b"EHLO idle.test\r\n")
    answered(peer, b"\n250 ")
    return peer


def answered(peer: socket.socket, last_line: bytes) -> None:
    """Read until a reply's last line has begun."""
    got = b"\n"
    while last_line not in got or not got.endswith(b"\r\n"):
        octets = peer.recv(2048)
        if not octets:
            raise ConnectionError(f"closed after {got!r}")
        got += octets


def measure(connections: int) -> float:
    """Return octets of anonymous memory per idle connection."""
    with tempfile.TemporaryDirectory(prefix="penstock-idle-", dir="/var/tmp") as temporary:
        settings = Settings(max_connections=connections + 2 * WARM_UP)
        with Daemon(Path(temporary), settings) as daemon:
            # What is allocated once, whoever comes, is not a connection's cost.
            for peer in [connect(daemon.port) for _ in range(WARM_UP)]:
                peer.close()
            time.sleep(1)
            before = rss_anon_bytes(daemon.pid)
            peers = [connect(daemon.port) for _ in range(connections)]
            time.sleep(2)
            after = rss_anon_bytes(daemon.pid)
            for peer in peers:
                peer.close()
    return (after - before) / connections


def main() -> int:
    """Run from the command line; 0 when the bar was reached."""
    parser = argparse.ArgumentParser(description="memory of idle connections")
    parser.add_argument("--connections", type=int, default=5_000)
    connections = parser.parse_args().connections
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The daemon inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    each = measure(connections)
    reached = each <= BYTES_MAX
    print(
        f"{connections} idle connections: {each / 1024:.1f} KB each "
        f"(bar {BYTES_MAX // 1024} KB): {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
