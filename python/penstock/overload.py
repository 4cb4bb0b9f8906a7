"""Reads what can run short, every two seconds, and has reception act on it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import trio

from penstock.receive.pressure import POLL_S, Change, Level, Pressure

__all__ = ["Overload", "memory_limit_bytes", "room_for_connections"]

Sample: TypeAlias = tuple[str, tuple[str, ...], float]

CONNECTIONS_MAX: Final = 50_000
"""Incoming connections, however many descriptors there are."""
KEPT_BACK: Final = 64, 1_024
"""Descriptors that no incoming connection gets: at least, if there are twice as many, and at most."""

_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_SYNC_SUM: Final = "spool_sync_seconds_sum"
_SYNC_COUNT: Final = "spool_sync_seconds_bucket"


class Overload:
    """Watches; see `pressure` for what follows."""

    def __init__(
        self,
        pressure: Pressure,
        *,
        core_samples: Callable[[], Iterable[Sample]],
        queue_samples: Callable[[], Iterable[Sample]],
        act: Callable[[], None],
        journal: Callable[..., None],
        now_ms: Callable[[], int],
    ) -> None:
        """Prepare.

        Args:
            pressure: Takes the readings.
            core_samples: What Rust counts.
            queue_samples: What delivery counts.
            act: Called after each reading.
            journal: Takes the name of an event, the time, and fields.
            now_ms: Unix time in milliseconds.
        """
        self._pressure = pressure
        self._core_samples = core_samples
        self._queue_samples = queue_samples
        self._act = act
        self._journal = journal
        self._now_ms = now_ms
        self._memory_bytes = memory_limit_bytes()
        self._memory = 0.0
        self._synced = (0.0, 0.0)

    async def run(self) -> None:
        """Read every two seconds, for ever."""
        if not self._pressure.resources:
            return
        while True:
            # Listing thousands of descriptors takes milliseconds, so it does not happen on the loop.
            readings = await trio.to_thread.run_sync(self._of_process)
            readings["queue_length"] = sum(
                value for name, _, value in self._queue_samples() if name == "queue_messages"
            )
            readings["commit_latency"] = self._sync_ms()
            for change in self._pressure.poll(readings):
                self._tell(change)
            self._act()
            await trio.sleep(POLL_S)

    def _tell(self, change: Change) -> None:
        self._journal(
            "PRESSURE",
            self._now_ms(),
            resource=change.resource,
            before=change.before.name.lower(),
            now=change.now.name.lower(),
            reading=round(change.reading),
        )

    def samples(self) -> Iterator[Sample]:
        """Yield the levels, for metrics."""
        for name, level in self._pressure.levels().items():
            yield "pressure_level", (name,), float(level)

    def alarms(self) -> Iterator[tuple[str, str]]:
        """Yield an alarm for each resource that is short."""
        for name, level in self._pressure.levels().items():
            if level is not Level.LOW:
                yield (
                    f"back_pressure_{name}",
                    f"Back pressure: {name.replace('_', ' ')} is {level.name.lower()}; "
                    "new mail is slowed down or refused, delivery goes on.",
                )

    def _of_process(self) -> dict[str, float]:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self._memory = 100 * resident * resource.getpagesize() / self._memory_bytes
            descriptors = 100 * len(os.listdir("/proc/self/fd")) / most
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # To count them takes one.
            descriptors = 100.0
        return {"memory": self._memory, "descriptors": descriptors}

    def _sync_ms(self) -> float:
        """Return how long a sync took since the last time, on average; 0 without any."""
        total_s = count = 0.0
        for name, labels, value in self._core_samples():
            if name == _SYNC_SUM:
                total_s += value
            elif name == _SYNC_COUNT and labels[-1] == "+Inf":
                count += value
        before_s, before = self._synced
        self._synced = total_s, count
        return 1000 * (total_s - before_s) / (count - before) if count > before else 0.0


def room_for_connections() -> int:
    """Return how many connections may come in, so that their mail can be stored and delivered."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    at_least, at_most = KEPT_BACK
    return min(CONNECTIONS_MAX, most - min(most // 2, max(most // 4, at_least), at_most))


def memory_limit_bytes(limit: Path = _CGROUP_LIMIT, info: Path = Path("/proc/meminfo")) -> int:
    """Return how much memory this process may have: all of the machine's, or what its group may have."""
    fields: Mapping[str, str] = dict(
        line.split(":", 1) for line in info.read_text(encoding="ascii").splitlines() if ":" in line
    )
    machine = int(fields["MemTotal"].split()[0]) * 1024
    try:
        text = limit.read_text(encoding="ascii").strip()
    except OSError:
        return machine
    return min(machine, int(text)) if text.isdecimal() else machine
