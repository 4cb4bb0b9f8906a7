"""Penstock and Debian's Postfix, relaying the same load to the same sink, in one sitting.

Disks vary by a factor of three from minute to minute, so the rivals take turns and only medians of runs made
together are compared. `make bench`, or `python -m benches.compare --runs 5`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benches.measure import cpu_s, machine, median
from benches.postfix import Postfix
from tests.support.daemon import Daemon, Settings
from tests.support.ports import free_port
from tools import debian

RELAY = Path(__file__).with_name("relay.sh")
RESULT = re.compile(r"accept=(\d+)/s end-to-end=(\d+)/s delivered=(\d+)")
SESSIONS = 50
OCTETS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way of sending, and by how much Penstock must be ahead."""

    name: str
    flags: str
    factor_min: float


SCENARIOS = (
    Scenario(name="connections kept", flags="-d", factor_min=8.0),
    Scenario(name="one message per connection", flags="", factor_min=5.0),
)
CPU_US_MAX = 130.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run measured."""

    accepted_per_s: float
    delivered_per_s: float
    cpu_us_per_message: float


def run(server: Daemon | Postfix, scenario: Scenario, *, messages: int, sink_port: int) -> Run:
    """Send `messages` through a server and return what it took.

    Raises:
        RuntimeError: The run did not end with everything delivered.
    """
    before_s = cpu_s(server.pid)
    done = subprocess.run(
        [str(RELAY), str(server.port), str(messages), str(SESSIONS), str(OCTETS)],
        env={**debian.environment(), "SRC_FLAGS": scenario.flags, "SINK_PORT": str(sink_port)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    used_s = cpu_s(server.pid) - before_s
    result = RESULT.search(done.stdout)
    if done.returncode != 0 or result is None:
        raise RuntimeError(f"run failed ({done.returncode}): {done.stdout}{done.stderr}")
    return Run(
        accepted_per_s=float(result.group(1)),
        delivered_per_s=float(result.group(2)),
        cpu_us_per_message=used_s / messages * 1e6,
    )


def penstock(folder: Path, sink_port: int) -> Daemon:
    """Return a daemon with everything on and its connection caps raised."""
    settings = Settings(
        smart_host_port=sink_port,
        metrics_port=free_port(),
        max_connections=1000,
        outbound_connections=50,
        recipients=("postmaster@penstock.test",),
        extra={"send_connector.out": ["smtp_max_messages_per_connection = 10000"]},
    )
    return Daemon(folder, settings)


def compare(runs: int, messages: int, rival_messages: int) -> bool:
    """Run, print a table, and return whether every bar was reached."""
    print(machine())
    print(f"{SESSIONS} sessions, {OCTETS} octets, medians of {runs}; both sync before their 250\n")
    sink_port = free_port()
    results: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir="/var/tmp") as temporary:
        folder = Path(temporary)
        with (
            penstock(folder / "penstock", sink_port) as ours,
            Postfix(folder / "postfix", smart_host_port=sink_port) as rival,
        ):
            for _ in range(runs):
                for scenario in SCENARIOS:
                    results[scenario.name, "Penstock"].append(
                        run(ours, scenario, messages=messages, sink_port=sink_port)
                    )
                    results[scenario.name, "Postfix"].append(
                        run(rival, scenario, messages=rival_messages, sink_port=sink_port)
                    )
    return report(results)


def report(results: dict[tuple[str, str], list[Run]]) -> bool:
    """Print medians and factors; return whether every bar was reached."""
    print("| scenario | server | accepted/s | delivered/s | CPU per message |\n|---|---|---|---|---|")
    for (name, server), measured in results.items():
        print(
            f"| {name} | {server} | {median(one.accepted_per_s for one in measured):,.0f} "
            f"| {median(one.delivered_per_s for one in measured):,.0f} "
            f"| {median(one.cpu_us_per_message for one in measured):,.0f} us |"
        )
    good = True
    print()
    for scenario in SCENARIOS:
        ours, rival = (
            median(one.delivered_per_s for one in results[scenario.name, server])
            for server in ("Penstock", "Postfix")
        )
        reached = ours / rival >= scenario.factor_min
        good &= reached
        print(
            f"{scenario.name}: {ours / rival:.1f} x Postfix (bar {scenario.factor_min:.0f}): "
            f"{'reached' if reached else 'MISSED'}"
        )
    used = median(one.cpu_us_per_message for one in results[SCENARIOS[0].name, "Penstock"])
    cheap = used <= CPU_US_MAX
    print(f"server CPU: {used:.0f} us per message (bar {CPU_US_MAX:.0f}): {'reached' if cheap else 'MISSED'}")
    return good and cheap


def main() -> int:
    """Run from the command line; 0 when every bar was reached, 1 when not, 2 when it cannot be measured."""
    parser = argparse.ArgumentParser(description="compare with Postfix")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000, help="per run through Penstock")
    parser.add_argument("--rival-messages", type=int, default=3_000, help="per run through Postfix")
    options = parser.parse_args()
    if os.geteuid() != 0 or debian.program("smtp-source") is None:
        print(f"needs root (Postfix does) and Debian's postfix: {debian.reason()}", file=sys.stderr)
        return 2
    return 0 if compare(options.runs, options.messages, options.rival_messages) else 1


if __name__ == "__main__":
    sys.exit(main())
