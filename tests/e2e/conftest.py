"""The running daemon, a receiver, and Debian's mail programs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Settings
from tests.support.receiver import Receiver
from tools import debian


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this folder runs real sockets and a real daemon."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A second server that takes everything, until a test tells it otherwise."""
    with Receiver() as running:
        yield running


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start daemons with Settings' keywords; all are killed at the end."""
    started: list[Daemon] = []

    def start(name: str = "relay", *, run: bool = True, **settings: object) -> Daemon:
        daemon = Daemon(tmp_path / name, Settings(**settings))  # type: ignore[arg-type]
        started.append(daemon)
        if run:
            daemon.start()
        return daemon

    yield start
    for daemon in started:
        if daemon.is_running:
            daemon.kill()


@pytest.fixture
def relay(launch: Callable[..., Daemon], receiver: Receiver) -> Daemon:
    """A daemon whose smart host is the receiver."""
    return launch(smart_host_port=receiver.port)


@pytest.fixture
def program() -> Callable[[str], str]:
    """Return where a program is; the test skips with the reason where it cannot be had."""

    def find(name: str) -> str:
        path = debian.program(name) if name != "curl" else shutil.which(name)
        if path is None:
            pytest.skip(f"{name}: {debian.reason()}")
        return str(path)

    return find


@pytest.fixture
def program_environment() -> dict[str, str]:
    """The environment in which unpacked programs find their libraries."""
    return debian.environment()
