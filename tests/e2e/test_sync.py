"""The 250 comes after the sync, as the kernel sees it, and one sync serves many messages."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import SmtpClient
from tests.support.daemon import Daemon, Settings

Program = Callable[[str], str]

SYNC = r"(?:fdatasync|fsync)"
ENDED = re.compile(rf"{SYNC}\(\d+<[^>]*/log/[^>]*\.seg>\)\s+= 0")
BEGUN = re.compile(rf"^(\d+) .*{SYNC}\(\d+<[^>]*/log/[^>]*\.seg> <unfinished")
RESUMED = re.compile(rf"^(\d+) .*<\.\.\. {SYNC} resumed>.*= 0")
CALLS = "fdatasync,fsync,sync_file_range,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"


@pytest.fixture
def traced(program: Program, tmp_path: Path) -> tuple[Daemon, Path]:
    """A daemon under strace, and where the trace goes."""
    trace = tmp_path / "trace"
    prefix = [
        *(program("strace"), "--follow-forks", "--decode-fds=path", "--string-limit=128", "--quiet=all"),
        *("--output", str(trace), "--trace", CALLS),
    ]
    daemon = Daemon(tmp_path / "relay", Settings(), prefix=prefix)
    try:
        daemon.start()
    except RuntimeError as error:
        if "ptrace" in str(error):
            pytest.skip("strace may not trace here")
        raise
    return daemon, trace


def syncs(lines: list[str]) -> list[int]:
    """Return the indexes of the lines at which a sync of the log has succeeded."""
    pending: set[str] = set()
    found = []
    for index, line in enumerate(lines):
        begun, resumed = BEGUN.match(line), RESUMED.match(line)
        if begun:
            pending.add(begun.group(1))
        elif resumed and resumed.group(1) in pending:
            pending.discard(resumed.group(1))
            found.append(index)
        elif ENDED.search(line):
            found.append(index)
    return found


def test_the_log_is_synced_between_the_last_octet_and_the_250(traced: tuple[Daemon, Path]) -> None:
    daemon, trace = traced
    with SmtpClient(daemon.port) as client:
        client.command("MAIL FROM:<me@penstock.test>")
        client.command("RCPT TO:<far@elsewhere.test>")
        client.command("DATA")
        client.send(b"Subject: sync\r\n\r\nlast-octets-of-content\r\n.\r\n")
        assert client.reply()[0] == 250
    daemon.stop()
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    (came,) = [i for i, line in enumerate(lines) if "last-octets-of-content" in line and is_input(line)]
    said = [i for i, line in enumerate(lines) if i > came and '"250 ' in line and not is_input(line)]
    between = [i for i in syncs(lines) if came < i < said[0]]
    assert between, "\n".join(lines[came : said[0] + 1])


def is_input(line: str) -> bool:
    """Whether a line of the trace is a call that takes octets in."""
    return re.match(r"\d+ +(?:<\.\.\. )?(?:read|readv|recvfrom|recvmsg)\b", line) is not None


def test_one_sync_serves_many_messages(traced: tuple[Daemon, Path]) -> None:
    daemon, trace = traced
    sessions, each = 50, 10

    def send() -> None:
        with SmtpClient(daemon.port) as client:
            for _ in range(each):
                code, text = client.message("me@penstock.test", ["far@elsewhere.test"], b"x\r\n")
                assert code == 250, text

    threads = [threading.Thread(target=send) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted = daemon.wait_journal("RECEIVE", sessions * each)
    daemon.stop()
    # Those of the start and of the stop are in it: the bar is only the higher for that.
    synced = len(syncs(trace.read_text(encoding="utf-8", errors="replace").splitlines()))
    assert len(accepted) == sessions * each
    assert 0 < synced < len(accepted) / 3
