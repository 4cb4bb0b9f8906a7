"""What the kernel knows about a process, and medians."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return CPU seconds used by a process and all its descendants, also those that have ended."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # The name in parentheses may hold anything; the numbers begin behind the last one.
        fields = text.rpartition(")")[2].split()
        parents[int(entry.name)] = int(fields[1])
        # utime, stime, and those of children that were waited for.
        used[int(entry.name)] = sum(int(field) for field in fields[11:15])
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(used.get(member, 0) for member in family) / TICKS_PER_S


def rss_anon_bytes(pid: int) -> int:
    """Return a process's anonymous resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no RssAnon")


def median(values: Iterable[float]) -> float:
    """Return the median; runs on shared disks have outliers that a mean would keep."""
    return statistics.median(values)


def machine() -> str:
    """Return one line about where this was measured."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}"
