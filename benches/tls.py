"""What TLS costs the server: CPU per message with and without, per handshake, and memory of idle connections.

`python -m benches.tls` relays the same messages over kept connections in plain text and in TLS, in turns, with
one client that does both; only the server's CPU is looked at. The bars: 125 % of plain text, and 40 KB for a
connection that is idle.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benches.measure import cpu_s, machine, median, rss_anon_bytes
from tests.support.certificates import ROOT, install, table
from tests.support.daemon import Daemon, Settings
from tests.support.ports import free_port
from tools import debian

SESSIONS: Final = 50
OCTETS: Final = 4096
RATIO_MAX: Final = 1.25
IDLE_OCTETS_MAX: Final = 40 * 1024
CONTENT: Final = b"Subject: load\r\n\r\n" + (b"x" * 62 + b"\r\n") * (OCTETS // 64) + b".\r\n"
COMMANDS: Final = (
    b"MAIL FROM:<a@penstock.test>\r\n",
    b"RCPT TO:<b@elsewhere.test>\r\n",
    b"DATA\r\n",
    CONTENT,
)


def connect(daemon: Daemon, context: ssl.SSLContext | None) -> socket.socket:
    """Return a greeted connection, in TLS if there is a context."""
    connection = socket.create_connection(("127.0.0.1", daemon.port), 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.recv(4096)
    if context is not None:
        say(connection, b"STARTTLS\r\n")
        connection = context.wrap_socket(connection, server_hostname="mail.example")
    say(connection, b"EHLO client.test\r\n")
    return connection


def say(connection: socket.socket, octets: bytes) -> None:
    """Send a command and read its reply.

    Raises:
        RuntimeError: It was refused.
    """
    connection.sendall(octets)
    reply = connection.recv(4096)
    if reply[:1] not in (b"2", b"3"):
        raise RuntimeError(f"{octets[:20]!r}: {reply!r}")


def session(daemon: Daemon, context: ssl.SSLContext | None, messages: int) -> None:
    """Send messages over one connection."""
    with connect(daemon, context) as connection:
        for _ in range(messages):
            for command in COMMANDS:
                say(connection, command)
        say(connection, b"QUIT\r\n")


@contextlib.contextmanager
def sink(port: int) -> Iterator[None]:
    """Run Postfix's sink."""
    command = [str(debian.program("smtp-sink")), "-u", "nobody", f"127.0.0.1:{port}", "1000"]
    process = subprocess.Popen(command, env=debian.environment())
    try:
        yield
    finally:
        process.kill()
        process.wait()


def relay(daemon: Daemon, context: ssl.SSLContext | None, messages: int) -> float:
    """Return microseconds of the server's CPU per message, delivery included."""
    before_s, sent = cpu_s(daemon.pid), sent_by(daemon)
    share = messages // SESSIONS
    with ThreadPoolExecutor(SESSIONS) as pool:
        for done in [pool.submit(session, daemon, context, share) for _ in range(SESSIONS)]:
            done.result()
    deadline = time.monotonic() + 60
    while sent_by(daemon) < sent + share * SESSIONS:
        if time.monotonic() > deadline:
            raise RuntimeError("not everything was delivered")
        time.sleep(0.1)
    return (cpu_s(daemon.pid) - before_s) / (share * SESSIONS) * 1e6


def sent_by(daemon: Daemon) -> int:
    """Return how many messages have been delivered."""
    with (daemon.folder / "log" / "journal.jsonl").open("rb") as journal:
        return sum(b'"SEND"' in line for line in journal)


def handshakes(daemon: Daemon, context: ssl.SSLContext | None, connections: int) -> float:
    """Return microseconds of the server's CPU per connection that only greets."""
    before_s = cpu_s(daemon.pid)
    for _ in range(connections):
        session(daemon, context, 0)
    return (cpu_s(daemon.pid) - before_s) / connections * 1e6


def idle(daemon: Daemon, context: ssl.SSLContext | None, connections: int) -> float:
    """Return octets of the server's memory per idle connection."""
    before = rss_anon_bytes(daemon.pid)
    kept = [connect(daemon, context) for _ in range(connections)]
    time.sleep(1)
    used = (rss_anon_bytes(daemon.pid) - before) / connections
    for connection in kept:
        connection.close()
    time.sleep(1)
    return used


def measure(runs: int, messages: int) -> bool:
    """Run, print, and return whether the bars were reached."""
    print(machine())
    context = ssl.create_default_context(cafile=str(ROOT))
    port = free_port()
    used: dict[str, list[float]] = {"plain": [], "TLS": []}
    with tempfile.TemporaryDirectory(prefix="penstock-tls-", dir="/var/tmp") as temporary:
        chain, key = install(Path(temporary), "mail")
        extra = {
            **table("mail", chain, key),
            "receive_connector.apps": ['tls_certificate_name = "mail"'],
            "send_connector.out": ["smtp_max_messages_per_connection = 10000"],
        }
        settings = Settings(smart_host_port=port, max_connections=2000, outbound_connections=50, extra=extra)
        with Daemon(Path(temporary) / "penstock", settings) as daemon, sink(port):
            relay(daemon, None, messages // 4)
            relay(daemon, context, messages // 4)
            for number in range(runs):
                for name, how in (("plain", None), ("TLS", context))[:: 1 if number % 2 else -1]:
                    used[name].append(relay(daemon, how, messages))
            greeting = {
                name: handshakes(daemon, how, 300) for name, how in (("plain", None), ("TLS", context))
            }
            resting = {name: idle(daemon, how, 500) for name, how in (("plain", None), ("TLS", context))}
    plain, sealed = median(used["plain"]), median(used["TLS"])
    print(f"{SESSIONS} sessions, {OCTETS} octets, connections kept, medians of {runs}")
    print(f"plain {plain:.0f} us, TLS {sealed:.0f} us of the server's CPU per message", end=": ")
    print(f"{sealed / plain:.0%} (bar {RATIO_MAX:.0%})")
    print(f"a connection that only greets: plain {greeting['plain']:.0f} us, TLS {greeting['TLS']:.0f} us")
    print(f"an idle connection: plain {resting['plain'] / 1024:.1f} KB, TLS {resting['TLS'] / 1024:.1f} KB")
    return sealed <= plain * RATIO_MAX and resting["TLS"] <= IDLE_OCTETS_MAX


def main() -> int:
    """Run from the command line; 0 when the bars were reached, 1 when not, 2 when it cannot be measured."""
    parser = argparse.ArgumentParser(description="what TLS costs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=10_000, help="per run")
    options = parser.parse_args()
    if debian.program("smtp-sink") is None:
        print(f"needs Debian's postfix: {debian.reason()}", file=sys.stderr)
        return 2
    return 0 if measure(options.runs, options.messages) else 1


if __name__ == "__main__":
    sys.exit(main())
