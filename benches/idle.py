"""What an idle connection costs: anonymous memory of the daemon with and without many of them.

`python -m benches.idle --connections 10000 [--tls]`.
"""

from __future__ import annotations

import argparse
import resource
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path

from benches.measure import rss_anon_bytes
from tests.support.certificates import ROOT, install, table
from tests.support.daemon import Daemon, Settings

BYTES_MAX = {"plain": 8 * 1024, "TLS": 40 * 1024}
WARM_UP = 100


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    """Open one session: banner read, EHLO answered, in TLS if there is a context; then nothing."""
    peer = socket.create_connection(("127.0.0.1", port), 30)
    answered(peer, b"\n220 ")
    if context is not None:
        peer.sendall(b"STARTTLS\r\n")
        answered(peer, b"\n220 ")
        peer = context.wrap_socket(peer, server_hostname="mail.example")
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


def measure(connections: int, *, is_secure: bool) -> float:
    """Return octets of anonymous memory per idle connection."""
    context = ssl.create_default_context(cafile=str(ROOT)) if is_secure else None
    with tempfile.TemporaryDirectory(prefix="penstock-idle-", dir="/var/tmp") as temporary:
        extra = {
            **table("mail", *install(Path(temporary), "mail")),
            "receive_connector.apps": ['tls_certificate_name = "mail"'],
        }
        settings = Settings(max_connections=connections + 2 * WARM_UP, extra=extra)
        with Daemon(Path(temporary) / "penstock", settings) as daemon:
            # What is allocated once, whoever comes, is not a connection's cost.
            for peer in [connect(daemon.port, context) for _ in range(WARM_UP)]:
                peer.close()
            time.sleep(1)
            before = rss_anon_bytes(daemon.pid)
            peers = [connect(daemon.port, context) for _ in range(connections)]
            time.sleep(2)
            after = rss_anon_bytes(daemon.pid)
            for peer in peers:
                peer.close()
    return (after - before) / connections


def main() -> int:
    """Run from the command line; 0 when the bar was reached."""
    parser = argparse.ArgumentParser(description="memory of idle connections")
    parser.add_argument("--connections", type=int, default=5_000)
    parser.add_argument("--tls", action="store_true", help="after STARTTLS")
    options = parser.parse_args()
    connections = options.connections
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The daemon inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    each = measure(connections, is_secure=options.tls)
    name = "TLS" if options.tls else "plain"
    reached = each <= BYTES_MAX[name]
    print(
        f"{connections} idle connections ({name}): {each / 1024:.1f} KB each "
        f"(bar {BYTES_MAX[name] // 1024} KB): {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
