"""What may be given with any command, before it or after it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from penstock.client import DEFAULT_URL

__all__ = ["DEFAULT_CONFIG", "Noun", "Options", "Verb", "pass_options"]

DEFAULT_CONFIG: Final = Path("/etc/penstock/penstock.toml")


@dataclass(slots=True)
class Options:
    """The global options as given.

    Attributes:
        config: Configuration file, or None if none was named.
        socket: Path of the daemon's socket, or None if none was named.
        json: One JSON object per line instead of tables.
        utc: Times in UTC instead of local time.
        no_color: No colour, even on a terminal.
        quiet: Data alone.
        verbose: More; the cause of a bug with its traceback.
    """

    config: Path | None = None
    socket: str | None = None
    json: bool = False
    utc: bool = False
    no_color: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def config_file(self) -> Path:
        """The configuration file to read."""
        return self.config or DEFAULT_CONFIG

    def url(self) -> str:
        """Return where the daemon is: as told, else as its configuration says, else the usual place.

        The file is read for this one key only: checking it takes longer than the rest of a command.

        Raises:
            click.ClickException: The configuration cannot be read.
        """
        if self.socket is not None:
            return f"unix://{os.path.abspath(self.socket)}"
        if self.config is None:
            return DEFAULT_URL
        socket = _socket_of(self.config)
        return DEFAULT_URL if socket is None else f"unix://{os.path.abspath(self.config.parent / socket)}"


def _socket_of(config: Path) -> str | None:
    import tomllib

    try:
        with config.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise click.UsageError(f"{config}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{config}: {error}; see: penstock --config {config} config check") from None
    control = tables.get("control")
    socket = control.get("socket") if isinstance(control, dict) else None
    return socket if isinstance(socket, str) and "\0" not in socket else None


class _Global(click.Option):
    """An option that goes into `Options` wherever it stands; the last one given wins."""

    def __init__(self, *declarations: str, **attributes: Any) -> None:
        super().__init__(list(declarations), expose_value=False, callback=self._keep, **attributes)

    @staticmethod
    def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value and parameter.name is not None:
            setattr(context.ensure_object(Options), parameter.name, value)


def _globals(*, is_root: bool) -> list[click.Parameter]:
    """Return the options; below the root they are left out of the help, and the environment is not asked."""
    path = click.Path(path_type=Path)
    return [
        _Global(
            "--config",
            type=path,
            metavar="FILE",
            hidden=not is_root,
            envvar="PENSTOCK_CONFIG" if is_root else None,
            help=f"Configuration file; also PENSTOCK_CONFIG.  [{DEFAULT_CONFIG}]",
        ),
        _Global(
            "--socket",
            metavar="PATH",
            hidden=not is_root,
            envvar="PENSTOCK_SOCKET" if is_root else None,
            help="The daemon's control socket; also PENSTOCK_SOCKET.  [as the configuration says]",
        ),
        _Global("--json", is_flag=True, hidden=not is_root, help="One JSON object per line."),
        _Global("--utc", is_flag=True, hidden=not is_root, help="Times in UTC instead of local time."),
        _Global("--no-color", is_flag=True, hidden=not is_root, help="No colour; also NO_COLOR."),
        _Global("-q", "--quiet", is_flag=True, hidden=not is_root, help="Data alone, no remarks."),
        _Global("-v", "--verbose", is_flag=True, hidden=not is_root, help="Say more."),
    ]


class Verb(click.Command):
    """A command with an example in its help."""

    def __init__(self, name: str | None = None, *, example: str, **attributes: Any) -> None:
        super().__init__(name, epilog=_epilog(example, is_root=False), **attributes)
        self.params = [*self.params, *_globals(is_root=False)]


class Noun(click.Group):
    """A group of commands with an example in its help."""

    command_class = Verb
    group_class = type

    def __init__(
        self, name: str | None = None, *, example: str, is_root: bool = False, **attributes: Any
    ) -> None:
        super().__init__(name, epilog=_epilog(example, is_root=is_root), **attributes)
        self.params = [*self.params, *_globals(is_root=is_root)]


def _epilog(example: str, *, is_root: bool) -> str:
    text = f"\b\nExample:\n  {example}"
    return text if is_root else f"The options of `penstock --help` may be given here too.\n\n{text}"


pass_options = click.make_pass_decorator(Options, ensure=True)
"""Gives a command the global options as its first argument."""
