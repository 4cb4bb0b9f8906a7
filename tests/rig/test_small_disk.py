"""A disk of 64 MB filled under load, by mail, then by another program: nothing is lost, nothing dies."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.kill import RETRIES, Ledger
from tests.rig.power import Disk, obstacle
from tests.rig.test_full_disk import fill
from tests.support.client import SmtpClient
from tests.support.daemon import Daemon, Settings
from tests.support.receiver import Received, Receiver

DISK_BYTES = 64 << 20
SENDERS = 6
# Of so many messages one is delivered at once, while the others wait.
AT_ONCE = 5
# How long the disk is wholly full under load, and how long it takes at most until something has happened.
FULL_S = 4.0
TIMEOUT_S = 90.0
LINE = b"The same line again and again, which is as good as any other for filling a small disk.\r\n"


def content(name: str) -> bytes:
    """Return the one content that belongs to a name, some 20 KB."""
    return f"Subject: {name}\r\n\r\n".encode() + f"{name}\r\n".encode() + LINE * 220


class BigLedger(Ledger):
    """A ledger of messages that fill a disk sooner."""

    def got(self, message: Received) -> None:
        """Enter a received message; called by the receiver before it replies."""
        name = message.recipients[0].partition("@")[0]
        with self.lock:
            self.received[name].append(message.queue_id)
            if not message.content.endswith(content(name)):
                self.mangled.append(name)


class Later(dict[str, str]):
    """Replies to RCPT: most come later, until `is_over`."""

    is_over = False

    def get(self, address: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the reply for an address; None takes it."""
        return default if self.is_over or address.startswith("now-") else "451 4.2.0 later"


class Load:
    """Senders that go on whatever they are told, and keep all replies."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        self.codes: Counter[int] = Counter()
        self.broken = 0
        self._port = port
        self._ledger = ledger
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        client: SmtpClient | None = None
        number = 0
        while not self._over.is_set():
            number += 1
            name = f"{'now' if number % AT_ONCE == 0 else 'later'}-{sender}-{number}"
            try:
                client = client or SmtpClient(self._port)
                code, _ = client.message("ledger@penstock.test", [f"{name}@sink.test"], content(name))
            except (OSError, ValueError):
                client = None
                self.broken += 1
                time.sleep(0.05)
                continue
            with self._ledger.lock:
                self.codes[code] += 1
                if code == 250:
                    self._ledger.acknowledged.add(name)
            if code != 250:
                time.sleep(0.02)
        if client is not None:
            client.close()


def wait_until(what: str, is_so: Callable[[], bool], daemon: Daemon) -> None:
    """Return once a condition holds.

    Raises:
        AssertionError: It does not hold in time, or the daemon has ended.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert daemon.is_running, f"{what}: the daemon has ended\n{daemon.printed()}"
        assert time.monotonic() < deadline, f"{what}: not in time\n{daemon.printed()}"
        time.sleep(0.1)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_disk_of_64_mb_filled_under_load_gives_452s_and_recovers_by_itself(tmp_path: Path) -> None:
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    ledger, later = BigLedger(), Later()
    retries = {"queue": RETRIES}
    with (
        Disk(tmp_path, size_bytes=DISK_BYTES) as disk,
        Receiver(on_message=ledger.got, keep=False) as receiver,
    ):
        receiver.rcpt = later
        daemon = Daemon(tmp_path, Settings(smart_host_port=receiver.port, extra=retries))
        try:
            daemon.start()
            pid = daemon.pid
            with Load(daemon.port, ledger) as load:
                # Mail alone fills it up to what is kept free.
                wait_until("refused", lambda: load.codes[452] >= 20, daemon)
                filled = len(ledger.acknowledged)
                # Another program takes the rest, while mail is still offered and sent.
                fill(disk.point / "filler")
                assert os.statvfs(disk.point).f_bavail == 0
                time.sleep(FULL_S)
                assert daemon.is_running, daemon.printed()
                # On the full disk delivery goes on, and all that waits is delivered.
                delivered = len(ledger.received)
                later.is_over = True
                wait_until("delivered", lambda: len(ledger.received) > delivered + filled // 2, daemon)
                (disk.point / "filler").unlink()
                # Mail is taken again, without a hand.
                taken = len(ledger.acknowledged)
                wait_until("taken again", lambda: len(ledger.acknowledged) > taken + 50, daemon)
            wait_until("drained", lambda: not ledger.promised(), daemon)
            assert daemon.pid == pid
            assert daemon.stop() == 0
        finally:
            if daemon.is_running:
                daemon.kill()
    print(f"{len(ledger.acknowledged)} acknowledged, {filled} before the first refusals, {load.codes}")
    assert set(load.codes) == {250, 452}
    assert load.broken == 0
    assert filled > 500
    assert ledger.promised() == set()
    assert not ledger.mangled
    assert all(len(ids) == 1 for ids in ledger.received.values())
