"""A daemon that runs out of file descriptors does not spin, tells who comes so, and recovers by itself."""

from __future__ import annotations

import resource
import shutil
import smtplib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benches.measure import cpu_s
from tests.support.daemon import Daemon, Settings

DESCRIPTORS = 256
PEERS = 1_000
WATCHED_S = 3.0
CPU_SHARE_MAX = 0.2
LET_IN = 192
"""A quarter of the descriptors is for others."""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process have a descriptor for each peer."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = PEERS + 500
    if most != resource.RLIM_INFINITY and most < needed:
        pytest.skip(f"may have {most} descriptors; needs {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, needed), most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def beginning_of(reply: socket.socket) -> bytes:
    reply.settimeout(20)
    return reply.recv(4)


def refusal(client: smtplib.SMTP) -> int:
    """Try to hand over a message; return the code that its recipient was refused with, or 0."""
    try:
        client.sendmail("me@penstock.test", ["you@penstock.test"], b"Subject: hi\r\n\r\nhi\r\n")
    except smtplib.SMTPRecipientsRefused as refused:
        code: int = refused.recipients["you@penstock.test"][0]
        return code
    return 0


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_connections_for_256_descriptors(tmp_path: Path) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("util-linux has no prlimit here")
    prefix = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    with Daemon(tmp_path, Settings(max_connections=2 * PEERS), prefix=prefix) as daemon:
        peers = [socket.create_connection(("127.0.0.1", daemon.port), 20) for _ in range(PEERS)]
        try:
            assert Counter(map(beginning_of, peers)) == {b"220 ": LET_IN, b"421 ": PEERS - LET_IN}
            before_s = cpu_s(daemon.pid)
            time.sleep(WATCHED_S)
            assert (cpu_s(daemon.pid) - before_s) / WATCHED_S < CPU_SHARE_MAX
            # The counting of descriptors and whoever asks have their share.
            assert daemon.cli("status").returncode in (0, 1)
        finally:
            for peer in peers:
                peer.close()
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=20) as client:
            deadline = time.monotonic() + 20
            # Until descriptors have been counted once more, which is every two seconds.
            while code := refusal(client):
                assert code == 452
                assert time.monotonic() < deadline
                time.sleep(0.1)
        daemon.wait_journal("DELIVER")
