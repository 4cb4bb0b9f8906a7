"""Where output goes: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import click

from penstock.cli.options import Options
from penstock.cli.text import printable

__all__ = ["abandon_output", "colour_status", "columns", "print_json", "print_line", "remark"]

_COLOURS: Final = {"Retry": "yellow", "Suspended": "magenta", "Active": "green"}


def print_line(text: str) -> None:
    """Print a line of data; its texts are printable already."""
    sys.stdout.write(text + "\n")


def print_json(objects: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object per line: ASCII, so that nothing in it steers a terminal."""
    for value in objects:
        sys.stdout.write(json.dumps(value, separators=(",", ":")) + "\n")


def abandon_output() -> None:
    """Let what is still buffered, and all that follows, go nowhere: whoever read it has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def remark(options: Options, text: str) -> None:
    """Say something that is not data, unless data alone is wanted."""
    if not options.quiet:
        sys.stdout.flush()
        sys.stderr.write(printable(text) + "\n")


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
