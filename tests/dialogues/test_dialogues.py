"""Every dialogue in scripts/, held with the sessions alone, in memory, and through a socket."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dialogues.backends import Backend, MemoryBackend, SessionBackend, SocketBackend
from tests.dialogues.script import SCRIPTS, Script, read

HAS_CORE = importlib.util.find_spec("penstock._core") is not None
BACKENDS: dict[str, Callable[[Script, Path], Backend]] = {
    "session": SessionBackend,
    "memory": MemoryBackend,
    "socket": SocketBackend,
}


def expect(backend: Backend, text: str, place: str) -> None:
    """Read one reply, or one line of it if the text says that it goes on."""
    line = backend.line().decode()
    assert line.startswith(text), f"{place}: expected {text!r}, got {line!r}"
    if text[3:4] != "-":
        while line[3] == "-":
            line = backend.line().decode()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", BACKENDS)
def test_dialogue(kind: str, path: Path, tmp_path: Path) -> None:
    script = read(path)
    if kind == "session" and script.needs_wire:
        pytest.skip("needs octets to be read as octets")
    if kind != "session" and script.needs_session:
        pytest.skip("what the script asks for can be had of the fake spool only")
    if kind != "session" and not HAS_CORE:
        pytest.skip("penstock._core is not built")
    backend = BACKENDS[kind](script, tmp_path)
    try:
        for step in script.steps:
            place = f"{path.name}:{step.number}"
            if step.kind == "send":
                backend.send(step.data)
            elif step.kind == "expect":
                expect(backend, step.text, place)
            elif step.kind == "close":
                assert backend.is_closed(), f"{place}: the connection is open"
            elif isinstance(backend, SessionBackend) and step.kind == "storage":
                backend.core.refusals.append(step.text)
            elif isinstance(backend, SessionBackend) and step.kind == "drain":
                backend.receiver.drain()
    finally:
        backend.close()
