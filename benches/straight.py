"""What the index costs for mail that flows straight through: pages of LMDB written per 1,000 messages.

`python -m benches.straight --messages 20000` relays as `benches.compare` does, and asks the kernel what the
thread of the index has written. Mail that is accepted and delivered between two checkpoints leaves no row in
the index: what is written is the watermark, with each checkpoint.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from benches.compare import SCENARIOS, penstock, run
from benches.measure import machine
from tests.support.ports import free_port
from tools import debian

INDEX_THREAD: Final = "spool-index"
PAGE_OCTETS: Final = 4096


def written_octets(pid: int) -> int:
    """Return the octets that the thread of the index has written so far.

    Raises:
        ValueError: There is no such thread.
    """
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text(encoding="ascii").strip() == INDEX_THREAD:
            counters = (task / "io").read_text(encoding="ascii").splitlines()
            return int(next(line for line in counters if line.startswith("wchar:")).split()[1])
    raise ValueError(f"process {pid} has no thread {INDEX_THREAD}")


def measure(messages: int) -> None:
    """Run and print."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="penstock-straight-", dir="/var/tmp") as temporary,
        penstock(Path(temporary) / "penstock", port) as daemon,
    ):
        run(daemon, SCENARIOS[0], messages=2_000, sink_port=port)
        before = written_octets(daemon.pid)
        took = run(daemon, SCENARIOS[0], messages=messages, sink_port=port)
        pages = (written_octets(daemon.pid) - before) / PAGE_OCTETS
    print(
        f"{messages:,} messages, {took.delivered_per_s:,.0f}/s: {pages:,.0f} pages of the index written, "
        f"{pages * 1000 / messages:.1f} per 1,000 messages"
    )


def main() -> int:
    """Run from the command line; 2 when it cannot be measured."""
    parser = argparse.ArgumentParser(description="pages of the index per message that flows straight through")
    parser.add_argument("--messages", type=int, default=20_000)
    arguments = parser.parse_args()
    if debian.program("smtp-source") is None:
        print(f"needs Debian's postfix: {debian.reason()}", file=sys.stderr)
        return 2
    print(machine())
    measure(arguments.messages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
