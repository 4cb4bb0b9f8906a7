"""Configurations in a folder of their own, and where their mistakes are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock.config.loader import load
from penstock.config.problems import Problem
from penstock.config.settings import Config
from penstock.errors import ConfigError

MARKED = re.compile("«(.*?)»")


class FakeHost:
    """A machine with a name and cores of our choice."""

    def __init__(self, fqdn: str = "host.own.example", cores: int = 2) -> None:
        self._fqdn = fqdn
        self._cores = cores

    def name(self) -> str:
        return self._fqdn.partition(".")[0]

    def fqdn(self) -> str:
        return self._fqdn

    def cores(self) -> int:
        return self._cores


@dataclass(frozen=True)
class Marked:
    """A text in which «marks» show what is meant; their places, in order."""

    text: str
    places: tuple[tuple[int, int, int], ...]


def unmark(marked: str) -> Marked:
    """Take the marks out of a text: (line, column, width) of each."""
    places = []
    lines = []
    for number, line in enumerate(marked.split("\n"), start=1):
        while found := MARKED.search(line):
            places.append((number, found.start() + 1, len(found[1])))
            line = line[: found.start()] + found[1] + line[found.end() :]
        lines.append(line)
    return Marked("\n".join(lines), tuple(places))


def told(refused: ConfigError) -> tuple[Problem, ...]:
    """The problems of a refusal."""
    return tuple(problem for problem in refused.problems if isinstance(problem, Problem))


class Folder:
    """A folder with a configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.main = path / "penstock.toml"

    def write(self, text: str, name: str = "penstock.toml") -> Path:
        """Write a file of the configuration."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        path.chmod(0o644)
        return path

    def load(
        self, text: str | None = None, *, overrides: Sequence[str] = (), host: FakeHost | None = None
    ) -> Config:
        """Load it."""
        if text is not None:
            self.write(text)
        return load(self.main, overrides=overrides, host=host or FakeHost())

    def problems(self, text: str | None = None, *, overrides: Sequence[str] = ()) -> tuple[Problem, ...]:
        """Return why it is refused."""
        with pytest.raises(ConfigError) as refused:
            self.load(text, overrides=overrides)
        return told(refused.value)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder."""
    return Folder(tmp_path)


@pytest.fixture
def marked() -> Callable[[str], Marked]:
    """The reader of marks."""
    return unmark
