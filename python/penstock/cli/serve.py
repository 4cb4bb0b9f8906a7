"""`penstock serve`: the daemon, in the foreground."""

from __future__ import annotations

import errno
import os
import pwd
import re
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.config import load_config, override_option, say_warnings
from penstock.cli.options import Options, Verb, pass_options
from penstock.cli.output import abandon, say
from penstock.cli.text import printable
from penstock.errors import (
    BindFailed,
    CertificateFailed,
    ConfigError,
    SpoolDamaged,
    SpoolFailed,
    SpoolFormat,
    SpoolLocked,
)

if TYPE_CHECKING:
    from penstock.config.settings import Config

__all__ = ["serve"]

EXIT_CONFIG: Final = 2
EXIT_BUG: Final = 70
PRIVILEGED_PORTS: Final = range(1, 1024)
# Worst first: where several things went wrong at once, this decides what is said.
EXITS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (SpoolFailed, 71),
    (SpoolDamaged, 71),
    (SpoolFormat, 73),
    (SpoolLocked, 72),
    (BindFailed, 77),
    (ConfigError, EXIT_CONFIG),
    (CertificateFailed, EXIT_CONFIG),
    (OSError, 71),
)


@click.command(cls=Verb, example="penstock --config /etc/penstock/penstock.toml serve")
@override_option
@click.option("--check-only", is_flag=True, help="Check the configuration and end.")
@pass_options
def serve(options: Options, *, overrides: tuple[str, ...], check_only: bool) -> int:
    """Run the daemon until SIGTERM or SIGINT.

    Ends with 2 if the configuration is refused, 71 if a file or the spool's
    disk fails (do not restart blindly), 72 if the spool is in use, 73 if it
    has a newer format, 77 if an address cannot be had, 70 on a bug.
    """
    config = load_config(options, overrides)
    say_warnings(options, config)
    return 0 if check_only else _run(options, config)


def _run(options: Options, config: Config) -> int:
    import logging

    import trio

    from penstock.daemon import run

    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        trio.run(partial(run, config, announce=partial(_announce, options)))
    except Exception as error:
        return _ended(error, options, config)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        # Ctrl-C before the engine was there to stop in order.
        raise KeyboardInterrupt from None
    return 0


def _announce(options: Options, line: str) -> None:
    """Print a line of the start; that nobody reads it any more is no reason to end."""
    if options.quiet:
        return
    try:
        sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()
    except OSError:
        abandon(sys.stdout)


def _ended(error: Exception, options: Options, config: Config) -> int:
    """Say why the daemon has ended; return the exit code for it."""
    causes = list(_causes(error))
    for kind, code in EXITS:
        for cause in causes:
            if isinstance(cause, kind):
                say(printable(f"penstock: {_sentence(cause, config)}"))
                return code
    if options.verbose:
        import traceback

        traceback.print_exception(error)
    cause = causes[0]
    hint = "" if options.verbose else " (with -v: where)"
    say(printable(f"penstock: this is a bug in Penstock: {type(cause).__name__}: {cause}{hint}"))
    return EXIT_BUG


def _sentence(error: BaseException, config: Config) -> str:
    """Return what went wrong, the system's part of it in words, and where the operator can do something."""
    match error:
        case SpoolLocked() | SpoolFormat():
            return f"{config.spool_path}: {error}"
        case SpoolFailed():
            return _of_file(error.path, os.strerror(error.errno), error.errno, config)
        case BindFailed():
            is_privileged = error.errno == errno.EACCES and _port(error.address) in PRIVILEGED_PORTS
            hint = "; ports below 1024 are for root and CAP_NET_BIND_SERVICE" if is_privileged else ""
            return _in_words(str(error)) + hint
        case OSError(filename=str(path), strerror=str(reason)):
            return _of_file(path, reason, error.errno or 0, config)
        case OSError(strerror=str(reason)):
            return _in_words(reason)
    return str(error)


def _of_file(path: str, reason: str, number: int, config: Config) -> str:
    """Return what is wrong with a file: by which key it can be moved, and who may not use it."""
    keys = {"spool.path": config.spool_path, "log.directory": config.log_directory}
    hints = [key for key, folder in keys.items() if f"{path}/".startswith(f"{folder}/")]
    if number in (errno.EACCES, errno.EPERM):
        hints.append(f"Penstock runs as user {_user()}")
    return f"{path}: {_in_words(reason)}" + (f" ({'; '.join(hints)})" if hints else "")


def _in_words(reason: str) -> str:
    """Return what the system said without its number, which Rust adds."""
    return re.sub(r" \(os error \d+\)$", "", reason)


def _port(address: str) -> int:
    """Return the port of an address with one; 0 for the path of a socket."""
    port = address.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def _user() -> str:
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, or what a group of them is made of: nurseries raise groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error
