"""`penstock user`: who may log in; changes the file of users, without a daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from penstock.cli.options import Noun, Options, pass_options
from penstock.cli.output import print_json, print_line, remark, say
from penstock.cli.text import printable

if TYPE_CHECKING:
    from penstock.receive.users import User

__all__ = ["user"]

F = TypeVar("F", bound=Callable[..., object])

EXIT_NO: Final = 1
STDIN_CHARACTERS_MAX: Final = 4_096


class _No(click.ClickException):
    """The answer is no."""

    exit_code = EXIT_NO

    def show(self, file: object = None) -> None:
        """Say why."""
        say(printable(f"penstock: {self.message}"))


def _file_option(function: F) -> F:
    """Add `--file` to a command."""
    return click.option(
        "--file",
        "place",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The file of users; by default the one of the configuration.",
    )(function)


@click.group(cls=Noun, example="penstock user add erp@contoso.example")
def user() -> None:
    """Who may log in: the users of the configuration's [user_store.NAME].

    A daemon that runs sees a change within a second. Passwords are asked for on a terminal; elsewhere one is
    read from the first line of stdin.
    """


@user.command("add", example="penstock user add erp@contoso.example")
@click.argument("name")
@_file_option
@pass_options
def add(options: Options, *, name: str, place: Path | None) -> None:
    """Add a user. Ends with 1 if there is one of this name."""
    from datetime import UTC, datetime

    from penstock.receive.users import User

    name, path = _name(name), _path(options, place)
    stored = _password()

    def edit(old: User | None) -> User:
        if old is not None:
            raise _No(f"{name} is there already; a new password is given with: penstock user passwd {name}")
        return User(name=name, stored=stored, created=datetime.now(UTC).date().isoformat())

    is_new = not path.exists()
    _change(path, name, edit)
    remark(options, f"{name} may log in.")
    if is_new:
        remark(options, f"{path} is new; it has to belong to root or to the user that Penstock runs as.")


@user.command("passwd", example="penstock user passwd erp@contoso.example")
@click.argument("name")
@_file_option
@pass_options
def passwd(options: Options, *, name: str, place: Path | None) -> None:
    """Give a user another password. Ends with 1 if there is no such user."""
    from dataclasses import replace

    name, path = _name(name), _path(options, place)
    _require(path, name)
    stored = _password()
    _change(path, name, lambda old: replace(_existing(old, name), stored=stored))
    remark(options, f"{name} has a new password.")


@user.command("disable", example="penstock user disable scan-3f")
@click.argument("name")
@_file_option
@pass_options
def disable(options: Options, *, name: str, place: Path | None) -> None:
    """Refuse a user's logins until it is enabled again. Ends with 1 if there is no such user."""
    _switch(options, name, place, is_disabled=True)


@user.command("enable", example="penstock user enable scan-3f")
@click.argument("name")
@_file_option
@pass_options
def enable(options: Options, *, name: str, place: Path | None) -> None:
    """Take a user's logins again. Ends with 1 if there is no such user."""
    _switch(options, name, place, is_disabled=False)


@user.command("remove", example="penstock user remove scan-3f")
@click.argument("name")
@_file_option
@pass_options
def remove(options: Options, *, name: str, place: Path | None) -> None:
    """Remove a user. Ends with 1 if there is no such user."""
    name, path = _name(name), _path(options, place)

    def edit(old: User | None) -> None:
        _existing(old, name)

    _change(path, name, edit)
    remark(options, f"{name} is removed.")


@user.command("list", example="penstock --json user list")
@_file_option
@pass_options
def list_users(options: Options, *, place: Path | None) -> None:
    """List the users, with the day on which each was added."""
    from penstock.receive.user_edits import users_in

    path = _path(options, place)
    try:
        users = users_in(path)
    except FileNotFoundError:
        users = []
    except (OSError, ValueError) as error:
        raise _No(_why(path, error)) from None
    if options.json:
        print_json(
            {"name": each.name, "enabled": not each.is_disabled, "created": each.created or None}
            for each in users
        )
        return
    width = max((len(each.name) for each in users), default=0)
    for each in users:
        state = "disabled" if each.is_disabled else "enabled"
        print_line(f"{each.name.ljust(width)}  {state.ljust(8)}  {each.created}".rstrip())
    remark(options, f"{len(users)} user{'s' * (len(users) != 1)} in {path}")


def _switch(options: Options, name: str, place: Path | None, *, is_disabled: bool) -> None:
    from dataclasses import replace

    name, path = _name(name), _path(options, place)
    _change(path, name, lambda old: replace(_existing(old, name), is_disabled=is_disabled))
    remark(options, f"{name} {'may not log in now' if is_disabled else 'may log in'}.")


def _name(text: str) -> str:
    from penstock.receive.users import read_name

    try:
        return read_name(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _path(options: Options, place: Path | None) -> Path:
    if place is not None:
        return place
    from penstock.config.loader import user_store_file

    file = user_store_file(options.config_file)
    if file is None:
        raise click.UsageError(
            f'{options.config_file} has no user store. Write:\n\n[user_store.local]\nfile = "users"'
        )
    return Path(file)


def _password() -> str:
    """Ask for a password, twice; or read it from stdin. Return how it is stored."""
    from penstock.receive.passwords import PasswordRefused, hashed

    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True)
    else:
        password = sys.stdin.readline(STDIN_CHARACTERS_MAX).removesuffix("\n").removesuffix("\r")
    try:
        return hashed(password)
    except PasswordRefused as refused:
        raise click.UsageError(f"{refused}.") from None


def _existing(old: User | None, name: str) -> User:
    if old is None:
        raise _No(f"there is no user {name}")
    return old


def _require(path: Path, name: str) -> None:
    """Find out before a password is asked for that nobody has this name."""
    from penstock.receive.user_edits import users_in

    try:
        users = users_in(path)
    except FileNotFoundError:
        users = []
    except (OSError, ValueError) as error:
        raise _No(_why(path, error)) from None
    _existing(next((each for each in users if each.name == name), None), name)


def _change(path: Path, name: str, edit: Callable[[User | None], User | None]) -> None:
    from penstock.receive.user_edits import change

    try:
        change(path, name, edit)
    except (OSError, ValueError) as error:
        raise _No(_why(path, error)) from None


def _why(path: Path, error: Exception) -> str:
    return f"{path}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
