"""What slow clients cost the others: latency with and without many of them; and that they are got rid of.

`python -m benches.slow --clients 2000`. Half of the slow clients send a command, the others content, one
octet every ten seconds. Beside them a few clients send messages at a steady pace; the 99th percentile of how
long a message takes, from MAIL to the reply to its content, may at most double. All slow clients must be gone
by the connection's time-out, and the daemon's memory must grow no more while they are there than without.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import select
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from typing import Final

from benches.measure import machine, rss_anon_bytes
from tests.support.daemon import Daemon, Settings

HEALTHY: Final = 10
PER_S: Final = 10
"""Messages of each healthy client."""
OCTET_EVERY_S: Final = 10.0
INACTIVITY_S: Final = 40
TOTAL_S: Final = 60
GRACE_S: Final = 5
RATIO_MAX: Final = 2.0
GROWTH_MAX_BYTES: Final = 4 << 20
CONTENT: Final = b"Subject: healthy\r\n\r\n" + (b"x" * 62 + b"\r\n") * 60 + b".\r\n"


def say(connection: socket.socket, octets: bytes) -> None:
    """Send octets and read the reply.

    Raises:
        RuntimeError: It was refused.
    """
    connection.sendall(octets)
    reply = connection.recv(4096)
    if reply[:1] not in (b"2", b"3"):
        raise RuntimeError(f"{octets[:20]!r}: {reply!r}")


def greeted(port: int) -> socket.socket:
    """Return a connection that has said EHLO."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.recv(4096)
    say(connection, b"EHLO client.test\r\n")
    return connection


def healthy(port: int, until_s: float) -> list[float]:
    """Send messages at a steady pace; return how many milliseconds each took."""
    took = []
    connection = greeted(port)
    opened_s = due_s = time.monotonic()
    while due_s < until_s:
        time.sleep(max(0.0, due_s - time.monotonic()))
        if due_s - opened_s > TOTAL_S / 2:
            # The time-out of the slow ones is its own, too.
            connection.close()
            connection, opened_s = greeted(port), due_s
        begun_s = time.monotonic()
        say(connection, b"MAIL FROM:<a@penstock.test>\r\n")
        say(connection, b"RCPT TO:<you@penstock.test>\r\n")
        say(connection, b"DATA\r\n")
        say(connection, CONTENT)
        took.append(1000 * (time.monotonic() - begun_s))
        due_s += 1 / PER_S
    connection.close()
    return took


def p99_ms(port: int, seconds: float) -> float:
    """Return the 99th percentile over all healthy clients."""
    until_s = time.monotonic() + seconds
    with ThreadPoolExecutor(HEALTHY) as pool:
        runs = [pool.submit(healthy, port, until_s) for _ in range(HEALTHY)]
        return quantiles([one for run in runs for one in run.result()], n=100)[98]


class Slow:
    """Slow clients, and the thread that sends their octets."""

    def __init__(self, port: int, count: int) -> None:
        """Connect them all."""
        self._poll = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        for number in range(count):
            connection = greeted(port)
            if number % 2:
                say(connection, b"MAIL FROM:<a@penstock.test>\r\n")
                say(connection, b"RCPT TO:<you@penstock.test>\r\n")
                say(connection, b"DATA\r\n")
            connection.setblocking(False)
            self._clients[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
        self.all_here_s = time.monotonic()
        self.gone_s = 0.0
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def left(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def _run(self) -> None:
        due_s = time.monotonic()
        while self._clients and not self._is_over:
            if time.monotonic() >= due_s:
                due_s += OCTET_EVERY_S
                for connection in list(self._clients.values()):
                    with contextlib.suppress(OSError):
                        connection.send(b"N")
            for number, _ in self._poll.poll(0.2):
                self._read(self._clients[number])

    def _read(self, connection: socket.socket) -> None:
        try:
            if connection.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._poll.unregister(connection)
        del self._clients[connection.fileno()]
        connection.close()
        self.gone_s = time.monotonic()

    def close(self) -> None:
        """Close those that are left."""
        self._is_over = True
        self._thread.join()
        for connection in self._clients.values():
            connection.close()
        self._poll.close()


def measure(clients: int, seconds: float) -> bool:
    """Run, print, and return whether the bars were reached."""
    print(machine())
    extra = {
        "receive_connector.apps": [
            f'connection_timeout = "{TOTAL_S}s"',
            f'connection_inactivity_timeout = "{INACTIVITY_S}s"',
        ]
    }
    settings = Settings(max_connections=clients + 100, extra=extra)
    with (
        tempfile.TemporaryDirectory(prefix="penstock-slow-", dir="/var/tmp") as temporary,
        Daemon(Path(temporary), settings) as daemon,
    ):
        p99_ms(daemon.port, 5)
        begun = rss_anon_bytes(daemon.pid)
        before_ms = p99_ms(daemon.port, seconds)
        grown_alone = rss_anon_bytes(daemon.pid) - begun
        slow = Slow(daemon.port, clients)
        try:
            begun = rss_anon_bytes(daemon.pid)
            with_ms = p99_ms(daemon.port, seconds)
            grown = rss_anon_bytes(daemon.pid) - begun
            there = slow.left
            deadline_s = slow.all_here_s + TOTAL_S + GRACE_S
            while slow.left and time.monotonic() < deadline_s:
                time.sleep(0.5)
            left = slow.left
        finally:
            slow.close()
    ratio = with_ms / before_ms
    print(
        f"p99 of a message: {before_ms:.1f} ms alone, {with_ms:.1f} ms beside {clients} slow clients",
        end=": ",
    )
    print(f"x {ratio:.2f} (bar {RATIO_MAX:.0f})")
    print(f"memory meanwhile: {grown_alone / 1024:+.0f} KB alone, {grown / 1024:+.0f} KB with them", end="; ")
    print(f"{there} were there after {seconds:.0f} s")
    print(
        f"{left} were left {TOTAL_S + GRACE_S} s after the last had come (time-out {TOTAL_S} s), the others",
        end=" ",
    )
    print(f"had gone after {slow.gone_s - slow.all_here_s:.0f} s")
    return ratio <= RATIO_MAX and left == 0 and grown - grown_alone <= GROWTH_MAX_BYTES


def main() -> int:
    """Run from the command line; 0 when the bars were reached."""
    parser = argparse.ArgumentParser(description="what slow clients cost the others")
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=25, help="each measurement")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The daemon inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return 0 if measure(options.clients, options.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
