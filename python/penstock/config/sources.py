"""Reads the texts that a configuration is made of: the main file, its drop-ins, `--set`, a profile.

Whatever is there instead of a text file, or in it, becomes one clear problem. **Blocking**: reads files.
"""

from __future__ import annotations

import codecs
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from penstock._core import parse_toml
from penstock.config.problems import Problem
from penstock.config.tree import Layer, Node, Place, Source, build, merged
from penstock.config.values import format_size, quoted

__all__ = ["read_drop_ins", "read_file", "read_profile", "read_set", "shown"]

BASE: Final = "base"
"""What all profiles are made of."""
FILE_BYTES_MAX: Final = 1 << 20
DROP_INS_MAX: Final = 256
DROP_IN_FOLDER: Final = "conf.d"
SET_CHARACTERS_MAX: Final = 4_096
SYNTAX_SHOWN_MAX: Final = 10
"""Mistakes of syntax that are told of one file; after a few they follow from each other."""

# What the parser says (toml 1.2).
_UNCLOSED: Final = "unclosed array"
_NEXT_OF_LIST: Final = "missing comma between array elements"
_UNQUOTED: Final = (
    "string values must be quoted",
    "invalid boolean",
    "invalid float",
    "number cannot be read",
)
_TRUTHS: Final = {
    **dict.fromkeys(("true", "yes", "on", "$true"), "true"),
    **dict.fromkeys(("false", "no", "off", "$false"), "false"),
}
"""What else is written for true and false."""
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PROFILES: Final = Path(__file__).parent / "profiles"


class _Unreadable(Exception):
    """A file cannot be read; the text says why."""


def read_profile(name: str) -> Node:
    """Read a profile that comes with Penstock: what it says over what holds in every one."""
    return merged(_own_file(BASE), _own_file(name))


def _own_file(name: str) -> Node:
    problems: list[Problem] = []
    node = read_file(str(_PROFILES / f"{name}.toml"), Layer.PROFILE, problems)
    if node is None or problems:
        raise AssertionError(f"invariant: profile {name} can be read: {problems}")
    return node


def read_file(path: str, layer: Layer, problems: list[Problem]) -> Node | None:
    """Read a file; what is wrong with it is added to the problems, and None returned if it is of no use."""
    source = Source(name=shown(path), layer=layer, folder=os.path.dirname(os.path.abspath(path)), lines=())
    try:
        data, status = _octets(path)
    except _Unreadable as error:
        problems.append(source.whole.problem("C114", str(error)))
        return None
    if layer is Layer.DROP_IN and not _is_safe(status):
        message = (
            "A drop-in must belong to root or to the user that Penstock runs as, "
            "and be writable by nobody else (chmod go-w)."
        )
        problems.append(source.whole.problem("C113", message))
    if data.startswith(_UTF16):
        message = "The file is UTF-16. Save it as UTF-8."
        problems.append(source.whole.problem("C114", message))
        return None
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        lines = data[: error.start].split(b"\n")
        place = Place(
            _with_lines(source, data.decode(errors="replace")), len(lines), len(lines[-1].decode()) + 1, 1
        )
        problems.append(place.problem("C114", "This is not UTF-8. Save the file as UTF-8."))
        return None
    return _parsed(text, _with_lines(source, text), problems)


def read_drop_ins(main: str, problems: list[Problem]) -> list[Node]:
    """Read `conf.d/*.toml` beside the main file, in byte order; names that begin with a dot are left out."""
    folder = os.path.join(os.path.dirname(main), DROP_IN_FOLDER)
    source = Source(name=shown(folder), layer=Layer.DROP_IN, folder=folder, lines=())
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(source.whole.problem("C114", f"{error.strerror}."))
        return []
    if len(names) > DROP_INS_MAX:
        message = f"There are {len(names)} drop-ins; at most {DROP_INS_MAX} are read."
        problems.append(source.whole.problem("C114", message))
        return []
    paths = (os.path.join(folder, name) for name in sorted(names, key=os.fsencode))
    nodes = (read_file(path, Layer.DROP_IN, problems) for path in paths)
    return [node for node in nodes if node is not None]


def read_set(options: Sequence[str], problems: list[Problem]) -> list[Node]:
    """Read `key=value`, each value in TOML or as a bare word; relative paths begin in the current folder."""
    nodes = []
    for number, option in enumerate(options, start=1):
        source = Source(
            name=Layer.SET.value, layer=Layer.SET, folder=os.getcwd(), lines=(option,), first_line=number
        )
        node = _option(option, source)
        if node is None:
            message = "Write it as --set table.key=value; the value as in the file, or without quotes."
            problems.append(Place(source, number, 1, len(option)).problem("C115", message))
        else:
            nodes.append(node)
    return nodes


def shown(path: str) -> str:
    """Return a path as it can be printed, whatever octets it has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _octets(path: str) -> tuple[bytes, os.stat_result]:
    """Return what is in a regular file that is not too large, and its status."""
    try:
        # Without O_NONBLOCK a pipe in the file's place would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError:
        raise _Unreadable("A path must not contain NUL.") from None
    except OSError as error:
        raise _Unreadable(f"{error.strerror}.") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        kind = "a directory, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise _Unreadable(f"This is {kind}.")
    with open(descriptor, "rb") as file:
        try:
            data = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise _Unreadable(f"{error.strerror}.") from None
    if len(data) > FILE_BYTES_MAX:
        raise _Unreadable(f"The file is larger than {format_size(FILE_BYTES_MAX)}.")
    return data, status


def _is_safe(status: os.stat_result) -> bool:
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in {0, os.geteuid()} and not writable_by_others


def _parsed(text: str, source: Source, problems: list[Problem]) -> Node | None:
    raw, errors = parse_toml(text)
    told: set[int] = set()
    last = _end_of_sense(errors)
    for what, line, column, width in errors:
        # What follows on the same line mostly follows from the first.
        if line in told or line > last or len(told) == SYNTAX_SHOWN_MAX:
            continue
        told.add(line)
        place = Place(source, line, column, width)
        if line == last:
            what = "the list that begins above has no `]` at its end"
        problems.append(place.problem("C100", f"This is no TOML: {what}.", fix=_in_quotes(what, place)))
    return None if errors else build(raw, source)


def _end_of_sense(errors: Sequence[tuple[str, int, int, int]]) -> float:
    """Return the line from which on all was read as part of a list that has no end; infinity without such."""
    if not any(what.startswith(_UNCLOSED) for what, *_ in errors):
        return math.inf
    return min((line for what, line, *_ in errors if what.startswith(_NEXT_OF_LIST)), default=math.inf)


def _in_quotes(what: str, place: Place) -> str | None:
    """The line with its value in quotes, if they are all that it lacks."""
    line = place.source.lines[place.line - 1]
    key, _, value = line.partition("=")
    value = value.strip()
    if value.lower() in _TRUTHS:
        return f"{key.strip()} = {_TRUTHS[value.lower()]}"
    if what.startswith(_UNQUOTED) and value and value.isprintable() and not set(value) & set("\"'[]{}#,="):
        return f"{key.strip()} = {quoted(value)}"
    return None


def _option(option: str, source: Source) -> Node | None:
    key, equals, value = option.partition("=")
    if not equals or not option.isprintable() or len(option) > SET_CHARACTERS_MAX:
        return None
    for text in (option, f"{key}={quoted(value.strip())}"):
        raw, errors = parse_toml(text)
        if not errors:
            return build(raw, source)
    return None


def _with_lines(source: Source, text: str) -> Source:
    lines = tuple(line.removesuffix("\r") for line in text.split("\n"))
    return Source(name=source.name, layer=source.layer, folder=source.folder, lines=lines)
