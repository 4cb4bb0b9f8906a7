"""The command line against a fake engine behind the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.cli.program import run
from tests.control.fake import FakeViews
from tests.control.running import running


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENSTOCK_CONFIG", "PENSTOCK_SOCKET", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "Europe/Berlin")


@pytest.fixture
def views() -> FakeViews:
    return FakeViews()


@pytest.fixture
def socket(tmp_path: Path, views: FakeViews) -> Iterator[Path]:
    with running(tmp_path / "s", views):
        yield tmp_path / "s"


@pytest.fixture
def penstock(socket: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command against the daemon; return its exit code, what is data and what is not."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(["--socket", str(socket), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command
