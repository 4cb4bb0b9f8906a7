"""The program: its commands, and what each way of ending looks like from outside.

An operator's mistake is a sentence and an exit code of docs/cli.md, never a traceback.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from penstock.cli.config import config, say_refused
from penstock.cli.conformance import test
from penstock.cli.explain import explain
from penstock.cli.message import message
from penstock.cli.options import Noun, Options
from penstock.cli.output import abandon, hold_streams, say
from penstock.cli.queue import queue
from penstock.cli.serve import serve
from penstock.cli.spool import spool
from penstock.cli.status import status
from penstock.cli.text import printable
from penstock.cli.user import user
from penstock.cli.version import print_version, version
from penstock.errors import Ambiguous, ConfigError, NotFound, PenstockError, Unreachable

__all__ = ["main", "root", "run"]

EXIT_NO: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_REFUSED: Final = 4
EXIT_BUG: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
"""What a shell reports of a program that SIGPIPE has ended."""


@click.group(
    name="penstock",
    cls=Noun,
    is_root=True,
    example="penstock --json queue list",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Print the version and end.",
)
def root() -> None:
    """A durable SMTP queue engine.

    The options below may stand before or after a command.
    """


for _command in (serve, status, queue, message, user, spool, explain, config, test, version):
    root.add_command(_command)


def main() -> NoReturn:
    """Run the program and end it with its exit code."""
    hold_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return the exit code of docs/cli.md."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A subject in letters that the terminal's encoding lacks is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    options = Options()
    try:
        code = _invoke(arguments, options)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon(sys.stdout)
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:
        code = _failed(error, options)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Python would try once more at its end, and end with a code of its own.
            abandon(stream)
    return code


def _invoke(arguments: Sequence[str], options: Options) -> int:
    """Run the command that is meant; it returns an exit code, or None for 0."""
    try:
        with root.make_context("penstock", list(arguments), obj=options) as context:
            return root.invoke(context) or 0
    except click.exceptions.Exit as ended:
        return ended.exit_code


def _failed(error: Exception, options: Options) -> int:
    """Say what went wrong; return the exit code for it."""
    if isinstance(error, click.ClickException):
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    if isinstance(error, ConfigError):
        return say_refused(options, error)
    if isinstance(error, OSError):
        # Of our own output: what the client meets is an error of ours.
        return _say(EXIT_NO, error.strerror or str(error))
    if isinstance(error, NotFound):
        return _say(
            EXIT_NO,
            str(error),
            "What waits is listed by `penstock queue list` and `penstock message list`; "
            "what has been delivered or has failed is in the journal.",
        )
    if isinstance(error, Ambiguous):
        return _say(EXIT_NO, "that could be any of these:", *(f"  {each}" for each in error.candidates))
    if isinstance(error, Unreachable) and error.is_forbidden:
        return _say(EXIT_UNREACHABLE, str(error), "Run this as root, or as the user that the daemon runs as.")
    if isinstance(error, Unreachable):
        return _say(
            EXIT_UNREACHABLE,
            str(error),
            "Is it running? Start it with: penstock --config FILE serve",
            "Is it elsewhere? Name its socket with --socket PATH, or its configuration with --config FILE.",
        )
    if isinstance(error, PenstockError):
        return _say(EXIT_REFUSED, str(error))
    if options.verbose:
        import traceback

        traceback.print_exception(error)
    hint = "" if options.verbose else " (with -v: where)"
    return _say(EXIT_BUG, f"this is a bug in Penstock: {type(error).__name__}: {error}{hint}")


def _say(code: int, sentence: str, *more: str) -> int:
    for line in (f"penstock: {sentence}", *more):
        say(printable(line))
    return code
