"""Where output goes: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

import click

from penstock.cli.options import Options
from penstock.cli.text import printable

__all__ = [
    "abandon",
    "colour_status",
    "columns",
    "hold_streams",
    "print_json",
    "print_line",
    "remark",
    "say",
]

_COLOURS: Final = {"Retry": "yellow", "Suspended": "magenta", "Active": "green"}


def print_line(text: str) -> None:
    """Print a line of data; its texts are printable already."""
    sys.stdout.write(text + "\n")


def print_json(objects: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object per line: ASCII, so that nothing in it steers a terminal."""
    for value in objects:
        sys.stdout.write(json.dumps(value, separators=(",", ":")) + "\n")


def hold_streams() -> None:
    """Give every standard stream that was closed a stand-in, so that no file or socket gets its number.

    What is written to a closed output is still an error, so its stand-in cannot be written. Nobody can be
    told of a closed standard error, so there it can.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def abandon(stream: TextIO) -> None:
    """Let what is still buffered, and all that follows, go nowhere: it cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(text: str) -> None:
    """Write a line to standard error; that it cannot be written changes nothing in how the program ends."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        abandon(sys.stderr)


def remark(options: Options, text: str) -> None:
    """Say something that is not data, unless data alone is wanted."""
    if not options.quiet:
        sys.stdout.flush()
        say(printable(text))


def columns() -> int | None:
    """Return the terminal's width, or None when the output goes elsewhere."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def colour_status(options: Options, cell: str) -> str:
    """Return the word of a status with its colour, where colour is wanted and can be shown."""
    colour = _COLOURS.get(cell)
    if colour is None or options.no_color or os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return cell
    return click.style(cell, fg=colour)
