"""`penstock serve`: what it says when it takes mail, and what each way of ending looks like from outside."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.cli.program import run
from penstock.errors import BindFailed, SpoolDamaged, SpoolFailed, SpoolFormat, SpoolLocked
from tests.cli.test_config import GOOD

READY = "ready in 0.31 s: 3 listeners, 2 send connectors, 14 messages waiting, generation 1"


class FakeDaemon(ModuleType):
    """Stands for penstock.daemon: says that it is ready, then ends as it is told.

    Attributes:
        configs: The configurations it was run with.
        ending: Raised at the end.
    """

    def __init__(self) -> None:
        super().__init__("penstock.daemon")
        self.configs: list[Any] = []
        self.ending: BaseException | None = None

    async def run(self, config: Any, *, announce: Callable[[str], None]) -> None:
        self.configs.append(config)
        announce(READY)
        if self.ending is not None:
            raise self.ending


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setitem(sys.modules, "penstock.daemon", fake)
    return fake


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., int]]:
    import logging

    config = tmp_path / "penstock.toml"
    config.write_text(GOOD, encoding="utf-8")
    yield lambda *arguments: run(["--config", str(config), "serve", *arguments])
    logging.getLogger().handlers.clear()


Serve = Callable[..., int]


def test_the_last_line_of_the_start_is_on_stdout(
    serve: Serve, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve("--set", "server.name=relay2") == 0
    assert capsys.readouterr().out == READY + "\n"
    assert daemon.configs[0].server_name == "relay2"
    assert serve("-q") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("ending", "code", "sentence"),
    [
        (SpoolFailed("/spool/log", errno.EIO), 71, "/spool/log: Input/output error\n"),
        (
            SpoolFailed("/var/lib/penstock/spool", errno.EPERM),
            71,
            "/var/lib/penstock/spool: Operation not permitted (spool.path; Penstock runs as user ",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device (os error 28)", "/var/log/penstock/journal.jsonl"),
            71,
            "/var/log/penstock/journal.jsonl: No space left on device (log.directory)\n",
        ),
        (SpoolDamaged("segment 3 has gone"), 71, "segment 3 has gone"),
        (SpoolLocked(812), 72, "/var/lib/penstock/spool: the spool is in use by process 812"),
        (SpoolFormat(999, 1), 73, "format 999"),
        (
            BindFailed("127.0.0.1:25", 13, "Permission denied"),
            77,
            "127.0.0.1:25: Permission denied; ports below 1024 are for root and CAP_NET_BIND_SERVICE\n",
        ),
        (
            BindFailed("[::1]:2525", 98, "Address already in use (os error 98)"),
            77,
            "[::1]:2525: Address already in use\n",
        ),
        (BindFailed("/run/s", 13, "Permission denied"), 77, "/run/s: Permission denied\n"),
        (
            PermissionError(13, "Permission denied", "/var/log/x"),
            71,
            "/var/log/x: Permission denied",
        ),
        (ExceptionGroup("", [ExceptionGroup("", [SpoolLocked(812)])]), 72, "in use by process 812"),
        (ExceptionGroup("", [BindFailed("a:1", 98), SpoolFailed("/spool", 5)]), 71, "/spool: "),
        (ExceptionGroup("", [ZeroDivisionError(), SpoolFailed("/spool", 5)]), 71, "/spool: "),
        (ZeroDivisionError("by\x1bzero"), 70, "bug in Penstock: ZeroDivisionError: by\\x1bzero"),
    ],
)
def test_what_ends_it_is_a_sentence_and_a_code(
    serve: Serve,
    daemon: FakeDaemon,
    capsys: pytest.CaptureFixture[str],
    ending: Exception,
    code: int,
    sentence: str,
) -> None:
    daemon.ending = ending
    assert serve() == code
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert sentence in text


def test_a_bug_has_its_traceback_with_v(
    serve: Serve, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.ending = ZeroDivisionError()
    assert serve("-v") == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])])
def test_control_c_before_it_listens_to_signals_is_a_130(
    serve: Serve, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], ending: BaseException
) -> None:
    daemon.ending = ending
    assert serve() == 130
    assert capsys.readouterr().err == ""


def test_a_closed_output_does_not_end_it(
    serve: Serve, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert serve() == 0
        print("and it is written to later, too", flush=True)
        monkeypatch.undo()
    assert len(daemon.configs) == 1
