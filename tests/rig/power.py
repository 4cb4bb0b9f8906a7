"""Power cuts at random moments: the spool on a disk that stops taking writes, with a ledger kept outside.

The spool lies on an ext4 file system in a file. The ioctl for a forced shutdown ends it as a power cut does:
what was not synced, data and names alike, is gone, and no journal is flushed. The daemon goes on for a moment
that is drawn, so that it meets the errors of a dead disk too, and is killed. Then the file system is mounted
again, and the next round begins on what is left. Configuration, journal and ledger lie outside and lose
nothing.

The first round begins on an empty disk. A round in which nothing was acknowledged that the cut could have
taken proves nothing and is drawn again. After the last one the daemon runs until the queue is empty. Then:

- acknowledged - received must be empty: a 250 is a promise. One that comes when the power is gone is none:
  the system itself tells a sync that was under way that it has succeeded (jbd2 asks only whether the
  transaction is over, and it is: given up), and where the power really fails nobody hears of it;
- what was received twice must have been named in doubt, or have come about when the power was cut: an outcome
  is synced some 10 ms after it is known, and the power may go before;
- what was received must be what was sent.

Most rounds end soon after the first 250, so that many of them can be had; every fifth ends at any time, while
the daemon starts and recovers as well.

Needs root, loop devices and mkfs.ext4. By hand: `python -m tests.rig.power --rounds 10`.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.rig.kill import Ledger, Rig, Verdict
from tests.support.receiver import Received

# _IOR('X', 125, __u32) of linux/ext4.h and its flag for "no flush of the journal".
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
DISK_BYTES = 512 << 20
UNMOUNT_TIMEOUT_S = 10.0
# The longest time for which the daemon lives on a dead disk.
AFTERLIFE_S = 0.3
# How long after the first 250 a round ends at the latest, and how long that 250 is waited for.
LOAD_S = 1.0
READY_TIMEOUT_S = 30.0
# So slow is the receiver that mail gathers in the short time that a round has.
RECEIVER_DELAY_S = 0.04
# Every so many rounds one ends at any time.
ANY_TIME = 5
# How long before a cut a delivery may have been that is repeated: a sync begins within 10 ms, the rest is for
# a slow disk and for a machine that is busy with other things. What was on its way comes after the cut.
FRESH_S = 0.5


def obstacle() -> str | None:
    """Return why no disk can be had here; None when one can."""
    if sys.platform != "linux":
        return "file systems are cut off through an ioctl of Linux"
    if os.geteuid() != 0:
        return "only root may mount"
    for program in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is not there"
    with tempfile.TemporaryDirectory(prefix="penstock-power-") as temporary:
        disk = Disk(Path(temporary), size_bytes=8 << 20)
        try:
            with disk:
                disk.cut()
        except (OSError, subprocess.SubprocessError) as error:
            return f"no ext4 file system can be mounted and cut off: {error}"
    return None


class Disk:
    """An ext4 file system in a file, mounted at `point` while the context is open."""

    def __init__(self, folder: Path, *, size_bytes: int = DISK_BYTES) -> None:
        self.point = folder / "spool"
        self._image = folder / "disk.img"
        self._size_bytes = size_bytes
        self._is_mounted = False

    def __enter__(self) -> Self:
        self.point.mkdir(parents=True)
        try:
            self.renew()
        except BaseException:
            self._image.unlink(missing_ok=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.unmount()
        except subprocess.SubprocessError:
            # Whoever still holds it keeps it; with its last user the loop device goes, too.
            _run("umount", "--lazy", str(self.point))
        self._image.unlink(missing_ok=True)

    def renew(self) -> None:
        """Make the file system anew, empty, and mount it."""
        self.unmount()
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount what there is, whatever the last cut left."""
        _run("mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.point))
        self._is_mounted = True

    def unmount(self) -> None:
        """Unmount it; the loop device goes with it.

        Raises:
            subprocess.SubprocessError: Somebody still has something open there.
        """
        deadline = time.monotonic() + UNMOUNT_TIMEOUT_S
        while self._is_mounted:
            try:
                _run("umount", str(self.point))
            except subprocess.SubprocessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                self._is_mounted = False

    def cut(self) -> None:
        """Cut the power: from now on nothing reaches the disk, and what had not reached it is gone."""
        handle = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("=I", NO_LOG_FLUSH))
        finally:
            os.close(handle)


def _run(*command: str) -> None:
    """Run a command; what it says is in the error.

    Raises:
        subprocess.SubprocessError: It failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise subprocess.SubprocessError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass(slots=True)
class TimedLedger(Ledger):
    """A ledger that knows when each message came first, and whether there is power."""

    first_s: dict[str, float] = field(default_factory=dict)
    has_power: bool = True
    late: int = 0

    def acknowledge(self, name: str) -> None:
        """Enter a 250; called with the lock held."""
        if self.has_power:
            Ledger.acknowledge(self, name)
        else:
            self.late += 1

    def got(self, message: Received) -> None:
        """Enter a received message; called by the receiver before it replies."""
        # A slotted dataclass is another class than the one that super() without arguments would mean.
        Ledger.got(self, message)
        self.first_s.setdefault(message.recipients[0].partition("@")[0], time.monotonic())


class PowerRig(Rig):
    """The rig of kill.py on a disk whose power is cut before the daemon is killed."""

    def __init__(self, folder: Path, disk: Disk, *, messages: int, connections: int, seed: int) -> None:
        self._timed = TimedLedger()
        super().__init__(
            folder,
            messages=messages,
            connections=connections,
            seed=seed,
            ledger=self._timed,
            receiver_delay_s=RECEIVER_DELAY_S,
        )
        self._disk = disk
        self._cuts_s: list[float] = []

    def _undisturbed(self) -> float:
        length_s = super()._undisturbed()
        self._disk.renew()
        return length_s

    def _round(self, number: int, after_s: float) -> int:
        before = set(self.ledger.acknowledged)
        self._timed.has_power = True
        super()._round(number, after_s)
        return len(self.ledger.promised() - before)

    def _wait(self, number: int, until_s: float) -> None:
        if number % ANY_TIME == 0:
            super()._wait(number, until_s)
            return
        before, deadline = len(self.ledger.acknowledged), time.monotonic() + READY_TIMEOUT_S
        while len(self.ledger.acknowledged) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(self._rng.uniform(0.0, LOAD_S))

    def _end(self) -> None:
        with self.ledger.lock:
            self._timed.has_power = False
        self._disk.cut()
        self._cuts_s.append(time.monotonic())
        time.sleep(self._rng.uniform(0.0, AFTERLIFE_S))
        super()._end()
        self._disk.unmount()
        self._disk.mount()

    def _is_explained(self, name: str, doubts: set[str]) -> bool:
        came_s = self._timed.first_s[name]
        is_fresh = any(-AFTERLIFE_S <= cut_s - came_s <= FRESH_S for cut_s in self._cuts_s)
        return is_fresh or super()._is_explained(name, doubts)


def run(folder: Path, *, rounds: int, messages: int, connections: int, seed: int) -> tuple[Verdict, Ledger]:
    """Run the rig on a disk below a folder; leave neither mount nor loop device nor image behind."""
    with Disk(folder) as disk:
        rig = PowerRig(folder, disk, messages=messages, connections=connections, seed=seed)
        return rig.run(rounds), rig.ledger


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 when the account is clean."""
    parser = argparse.ArgumentParser(description="cut the power at random moments and settle the account")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--messages", type=int, default=2000, help="per round")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    reason = obstacle()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="penstock-power-") as temporary:
        verdict, ledger = run(
            Path(temporary),
            rounds=options.rounds,
            messages=options.messages,
            connections=options.connections,
            seed=seed,
        )
    print(verdict)
    for title, names in (
        ("lost", verdict.lost),
        ("unexplained", verdict.unexplained),
        ("mangled", verdict.mangled),
    ):
        for name in names[:20]:
            print(f"  {title}: {name} {ledger.received.get(name, [])}")
    return 0 if verdict.is_clean() and verdict.rounds >= options.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
