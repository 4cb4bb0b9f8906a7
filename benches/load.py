"""Fill a spool with waiting messages: drafts, commits, log and index as ever, only without sockets.

`python -m benches.load SPOOL --messages 1000000` makes or extends a spool that a daemon can be started on.
"""

from __future__ import annotations

import argparse
import select
import sys
import time
from pathlib import Path
from typing import Final

from penstock import _core
from penstock.errors import DraftRefused

COMMITS_PER_TURN: Final = 512
UNANSWERED_MAX: Final = 8 * COMMITS_PER_TURN
DOMAINS: Final = 1_000
CONTENT_OCTETS: Final = 1024
EXPIRY_MS: Final = 30 * 86_400_000
PRIORITY_NORMAL: Final = 1
REPORT_EVERY: Final = 100_000


def content(number: int) -> bytes:
    """Return a message of 1 KB."""
    head = f"Message-ID: <{number}@load.test>\r\nSubject: waiting {number}\r\n\r\n".encode("ascii")
    line = b"x" * 62 + b"\r\n"
    return (head + line * (CONTENT_OCTETS // len(line)))[: CONTENT_OCTETS - 2] + b"\r\n"


class Loader:
    """Commits messages for one next hop, and counts those that are durable."""

    def __init__(self, core: _core.Engine, connector: str) -> None:
        """Begin with none.

        Args:
            core: An open engine.
            connector: The send connector with smart hosts that all messages are for.
        """
        self._core = core
        self._hop = core.hop(connector, "smart_host", connector)
        self._unanswered = 0
        self.durable = 0

    def load(self, first: int, messages: int) -> None:
        """Commit messages with the numbers from `first` on; return when all are durable.

        Raises:
            RuntimeError: One could not be stored.
        """
        number, end = first, first + messages
        while number < end or self._unanswered:
            while self._unanswered >= UNANSWERED_MAX or (self._unanswered and number == end):
                self._take(wait=True)
            for _ in range(min(COMMITS_PER_TURN, end - number)):
                if not self._commit(number):
                    break
                number += 1
            self._core.apply([])
            self._take(wait=False)

    def _commit(self, number: int) -> bool:
        """Hand a message to the writer; return False if the index is too far behind now."""
        octets = content(number)
        try:
            draft = self._core.draft(len(octets))
        except DraftRefused as refused:
            if refused.reason != "behind":
                raise
            self._core.apply([])
            time.sleep(0.01)
            return False
        self._core.write_draft(draft, octets)
        now_ms = time.time_ns() // 1_000_000
        recipient = f"user{number}@domain{number % DOMAINS}.test"
        sender = f"sender{number % 10_000}@penstock.test"
        self._core.commit(
            draft,
            (
                now_ms,
                sender,
                (None, None, False),
                ("load", "127.0.0.1", "load.test", "load"),
                len(octets),
                0,
                f"<{number}@load.test>",
                f"waiting {number}",
                [(recipient, 0, None)],
                [(self._hop, [0], PRIORITY_NORMAL, now_ms, now_ms + EXPIRY_MS)],
            ),
            b"",
            "plain",
            [],
            (),
        )
        self._unanswered += 1
        return True

    def _take(self, *, wait: bool) -> None:
        if wait:
            select.select([self._core.fileno()], [], [], 1.0)
        for event in self._core.poll(4 * UNANSWERED_MAX):
            if event[0] == "committed":
                self.durable += 1
                self._unanswered -= 1
            elif event[0] in ("commit_failed", "poisoned"):
                raise RuntimeError(f"the spool took no more: {event}")
        self._core.apply([])


def fill(spool: Path, messages: int, connector: str) -> float:
    """Put messages into the spool in a folder; return the seconds it took, the last checkpoint included."""
    begun = time.monotonic()
    core = _core.Engine(spool=str(spool), options={"free_min_bytes": 1 << 20})
    try:
        loader = Loader(core, connector)
        for done in range(0, messages, REPORT_EVERY):
            loader.load(done, min(REPORT_EVERY, messages - done))
            took_s = time.monotonic() - begun
            print(f"\r{loader.durable:,} messages, {loader.durable / took_s:,.0f}/s", end="", file=sys.stderr)
        print(file=sys.stderr)
    finally:
        core.close()
    return time.monotonic() - begun


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="fill a spool with waiting messages")
    parser.add_argument("spool", type=Path)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--connector", default="out")
    arguments = parser.parse_args()
    took_s = fill(arguments.spool, arguments.messages, arguments.connector)
    print(f"{arguments.messages:,} messages in {took_s:.1f} s ({arguments.messages / took_s:,.0f}/s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
