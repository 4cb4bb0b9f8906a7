"""Configurations as trees that know where each key and value is written, and how one lies over another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from penstock.config.keys import Moment
from penstock.config.problems import Problem
from penstock.config.values import quoted

__all__ = [
    "Entry",
    "Layer",
    "Node",
    "Path",
    "Place",
    "Source",
    "absolute",
    "build",
    "dotted",
    "merged",
    "plain",
]

Path: TypeAlias = tuple[str | int, ...]
Override: TypeAlias = Callable[[Path, "Place", "Place"], None]

_NO_ENTRIES: Final[Mapping[str, Entry]] = MappingProxyType({})
_BARE_KEY: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Layer(Enum):
    """Where a source lies; later ones win."""

    PROFILE = "profile"
    MAIN = "main"
    DROP_IN = "drop-in"
    SET = "--set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One text that a configuration is made of.

    Attributes:
        name: What its reader calls it.
        layer: Where it lies.
        folder: Where its relative paths begin; absolute.
        lines: Its text, without ends of lines.
        first_line: The number of its first line.
    """

    name: str
    layer: Layer
    folder: str
    lines: tuple[str, ...]
    first_line: int = 1

    @property
    def whole(self) -> Place:
        """All of it."""
        return Place(self, 0, 0, 0)


class Place(NamedTuple):
    """Some characters of a source; line 0 stands for all of it."""

    source: Source
    line: int
    column: int
    width: int

    def problem(self, code: str, message: str, *, path: Path = (), fix: str | None = None) -> Problem:
        """Return a problem in this place."""
        index = self.line - self.source.first_line
        return Problem(
            code=code,
            file=self.source.name,
            line=self.line,
            column=self.column,
            path=dotted(path),
            message=message,
            fix=fix,
            source_line=self.source.lines[index] if 0 <= index < len(self.source.lines) else "",
            width=self.width,
        )

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}"


class Entry(NamedTuple):
    """A key of a table: where it is written, and its value."""

    place: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it is written.

    Attributes:
        value: Of a table its entries by key, of an array its nodes, otherwise the plain value.
        place: Where it is written; of a table its head.
    """

    value: Mapping[str, Entry] | tuple[Node, ...] | str | int | float | bool
    place: Place

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The entries of a table; none if this is no table."""
        return self.value if isinstance(self.value, Mapping) else _NO_ENTRIES

    def find(self, path: Path) -> Node | None:
        """Return what is at a path below this node, if anything is."""
        node: Node = self
        for step in path:
            if isinstance(step, str) and step in node.entries:
                node = node.entries[step].node
            elif isinstance(step, int) and isinstance(node.value, tuple) and step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node

    def entry(self, path: Path) -> Entry | None:
        """Return the entry of the key at a path below this node, if there is one."""
        parent = self.find(path[:-1])
        return parent.entries.get(str(path[-1])) if parent is not None else None

    def place_of(self, path: Path, *, key: bool = False) -> Place:
        """Return where an operator has to look: at the value, or its key, or the nearest table around it.

        What is in the profile alone is not in any file of the operator's.
        """
        while path:
            place = self._place_at(path, key=key)
            if place is not None and place.source.layer is not Layer.PROFILE:
                return place
            path, key = path[:-1], True
        return self.place

    def _place_at(self, path: Path, *, key: bool) -> Place | None:
        entry = self.entry(path) if isinstance(path[-1], str) else None
        # A table is best shown by its name: its value is all that it holds.
        if entry is not None and (key or isinstance(entry.node.value, Mapping)):
            return entry.place
        node = self.find(path)
        return node.place if node is not None else None


def build(raw: tuple[str, Any, int, int, int], source: Source) -> Node:
    """Return the tree of what `_core.parse_toml` has read."""
    kind, value, line, column, width = raw
    place = _place(source, line, column, width)
    if kind == "table":
        return Node(
            {key: Entry(_place(source, *where), build(node, source)) for key, *where, node in value}, place
        )
    if kind == "array":
        return Node(tuple(build(node, source) for node in value), place)
    if kind == "datetime" and source.layer is not Layer.SET:
        return Node(Moment(value), place)
    return Node(value, place)


def merged(lower: Node, upper: Node, override: Override | None = None, path: Path = ()) -> Node:
    """Return one tree over another: tables key by key, everything else replaced.

    Args:
        lower: What holds so far.
        upper: What wins.
        override: Told each path at which a value is replaced, with the places of the old and the new key.
        path: Where the two trees are.
    """
    if not (isinstance(lower.value, Mapping) and isinstance(upper.value, Mapping)):
        return upper
    entries = dict(lower.value)
    for key, entry in upper.value.items():
        below = entries.get(key)
        if below is None:
            entries[key] = entry
            continue
        here = (*path, key)
        node = merged(below.node, entry.node, override, here)
        if node is entry.node and override is not None:
            override(here, below.place, entry.place)
        # A table is where it was first opened, but a profile is nowhere that an operator could look.
        keeps = node is not entry.node and below.place.source.layer is not Layer.PROFILE
        entries[key] = Entry(below.place if keeps else entry.place, node)
    return Node(entries, lower.place if lower.place.source.layer is not Layer.PROFILE else upper.place)


def plain(node: Node) -> Any:
    """Return the value without its places: dict, tuple, str, int, float, bool."""
    if isinstance(node.value, Mapping):
        return {key: plain(entry.node) for key, entry in node.value.items()}
    if isinstance(node.value, tuple):
        return tuple(plain(item) for item in node.value)
    return node.value


def absolute(tree: Node, path: Path, file: str) -> str:
    """Return a path that begins in the folder of the file in which it is written."""
    node = tree.find(path)
    folder = tree.place.source.folder if node is None else node.place.source.folder
    return os.path.normpath(os.path.join(folder, file))


def dotted(path: Path) -> str:
    """Return a path as it is written, with lists counted from 0: `receive_connector."a b".bindings[1]`."""
    return "".join(_steps(path)).removeprefix(".")


def _steps(path: Path) -> Iterator[str]:
    for step in path:
        if isinstance(step, int):
            yield f"[{step}]"
        else:
            yield f".{step}" if step and _BARE_KEY.issuperset(step) else f".{quoted(step)}"


def _place(source: Source, line: int, column: int, width: int) -> Place:
    return Place(source, line + source.first_line - 1, column, width)
