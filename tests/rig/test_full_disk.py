"""A disk that other programs have filled: the daemon is killed, starts on it, and its queue drains."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.rig.kill import Ledger, send
from tests.rig.power import Disk, obstacle
from tests.support.daemon import Daemon, Settings
from tests.support.receiver import Receiver

SENDERS = 4
DISK_BYTES = 384 << 20
# How long the daemon runs on the full disk, with outcomes and a checkpoint each second.
FULL_S = 4.0
DRAIN_TIMEOUT_S = 30.0


def fill(path: Path) -> None:
    """Write a file until nothing more can be written."""
    with path.open("wb", buffering=0) as file:
        for octets in (1 << 20, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(octets))


def wait_empty(ledger: Ledger) -> bool:
    """Return whether all that is promised came in time."""
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while ledger.promised() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not ledger.promised()


def send_all(port: int, names: list[str], ledger: Ledger) -> None:
    """Send each name once, over a few connections."""
    over = threading.Event()
    shares = [names[start::SENDERS] for start in range(SENDERS)]
    threads = [threading.Thread(target=send, args=(port, share, ledger, over)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_queue_on_a_full_disk_survives_a_kill_and_drains(tmp_path: Path) -> None:
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    ledger = Ledger()
    names = [f"full-{index}" for index in range(800)]
    later: Mapping[str, str] = {f"{name}@sink.test": "451 4.2.0 later" for name in names}
    retries = {"queue": ['queue_glitch_retry_interval = "1s"', 'message_retry_interval = "1s"']}
    with (
        Disk(tmp_path, size_bytes=DISK_BYTES) as disk,
        Receiver(on_message=ledger.got, keep=False) as receiver,
    ):
        receiver.rcpt = dict(later)
        daemon = Daemon(tmp_path, Settings(smart_host_port=receiver.port, extra=retries))
        try:
            daemon.start()
            send_all(daemon.port, names, ledger)
            assert len(ledger.acknowledged) == len(names)
            fill(disk.point / "filler")
            time.sleep(FULL_S)
            daemon.kill()
            fill(disk.point / "filler-too")
            assert os.statvfs(disk.point).f_bavail == 0
            daemon.start()
            receiver.rcpt = {}
            assert wait_empty(ledger), f"{len(ledger.promised())} are left\n{daemon.printed()}"
            # With the index up to date a restart finds nothing, and with room there is mail again.
            assert daemon.stop() == 0
            for filler in disk.point.glob("filler*"):
                filler.unlink()
            daemon.start()
            send_all(daemon.port, ["after-1", "after-2"], ledger)
            assert wait_empty(ledger)
            assert len(ledger.acknowledged) == len(names) + 2
            assert daemon.stop() == 0
        finally:
            if daemon.is_running:
                daemon.kill()
    assert not ledger.mangled
    assert all(len(ids) == 1 for ids in ledger.received.values())
