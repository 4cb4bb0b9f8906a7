"""`penstock config`: the configuration, without a daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import click

from penstock.cli.options import DEFAULT_CONFIG, Noun, Options, pass_options
from penstock.cli.output import print_line, remark, say
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from penstock.config.problems import Problem
    from penstock.config.settings import Config

__all__ = ["config", "load_config", "override_option", "say_refused", "say_warnings"]

F = TypeVar("F", bound=Callable[..., object])

EXIT_REFUSED: Final = 2
UNNAMED: Final = "That is the default. Name another file with --config FILE or PENSTOCK_CONFIG."


def override_option(function: F) -> F:
    """Add `--set` to a command."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override one key, such as server.name=relay2; may be given again.",
    )(function)


def load_config(options: Options, overrides: Sequence[str]) -> Config:
    """Return the configuration.

    Raises:
        ConfigError: It has errors.
    """
    from penstock.config.loader import load

    return load(options.config_file, overrides=overrides)


def say_refused(options: Options, refused: ConfigError) -> int:
    """Say on stderr what is wrong with a configuration; return the exit code for it."""
    from penstock.config import render

    problems = _problems(refused)
    say(f"penstock: {render.headline(problems)}\n\n{render.as_text(problems)}")
    if _is_unnamed(options, problems):
        say(f"\n{UNNAMED}")
    return EXIT_REFUSED


def say_warnings(options: Options, config: Config) -> None:
    """Say on stderr what should be looked at."""
    from penstock.config import render

    if config.warnings and not options.quiet:
        say(render.as_text(config.warnings))


@click.group(cls=Noun, example="penstock --config /etc/penstock/penstock.toml config check")
def config() -> None:
    """The configuration."""


@config.command("check", example="penstock --config /etc/penstock/penstock.toml config check")
@override_option
@pass_options
def check(options: Options, *, overrides: tuple[str, ...]) -> int:
    """Check a configuration; needs no daemon.

    Everything that is wrong is shown at once, with its place and what to write instead. Ends with 2 if there
    is an error; warnings and notes do not count.
    """
    from penstock.config import render

    try:
        accepted = load_config(options, overrides)
    except ConfigError as refused:
        code, problems = EXIT_REFUSED, _problems(refused)
    else:
        code, problems = 0, [*accepted.warnings, *accepted.notes]
    if options.json:
        for problem in problems:
            print_line(render.as_json(problem))
    elif problems:
        print_line(render.as_text(problems))
    remark(options, f"{options.config_file}: {render.headline(problems)}")
    if _is_unnamed(options, problems):
        remark(options, UNNAMED)
    return code


@config.command("render", example="penstock config render --profile exchange")
@click.option("--profile", metavar="NAME", help="A profile alone, without any file.")
@click.option("--origin", is_flag=True, help="Name file and line of what is not from the profile.")
@override_option
@pass_options
def render_(options: Options, *, profile: str | None, origin: bool, overrides: tuple[str, ...]) -> int:
    """Print everything that holds, defaults included; needs no daemon.

    What is printed is a configuration itself. Ends with 2 if there is an error in the file.
    """
    from penstock.config.loader import effective, effective_profile
    from penstock.config.rendering import as_toml

    if profile is not None:
        if overrides or origin:
            raise click.UsageError("--profile is about no file: it goes without --set and --origin.")
        name = _profile_name(profile)
        lines = as_toml(effective_profile(name), name)
    else:
        try:
            accepted = load_config(options, overrides)
        except ConfigError as refused:
            return say_refused(options, refused)
        tree = effective(options.config_file, overrides=overrides)
        in_force = {connector.name for connector in accepted.receive_connectors}
        lines = as_toml(tree, accepted.profile, in_force=in_force, with_origin=origin)
    for line in lines:
        print_line(line)
    return 0


def _profile_name(text: str) -> str:
    """Return a profile's name in our spelling."""
    from penstock.config.model import PROFILE
    from penstock.config.values import Refused

    try:
        return PROFILE.read(text)
    except Refused as refused:
        raise click.UsageError(refused.message) from None


def _is_unnamed(options: Options, problems: Sequence[Problem]) -> bool:
    """Whether the file that cannot be read is one that nobody asked for."""
    return options.config is None and any(
        problem.code == "C114" and problem.file == str(DEFAULT_CONFIG) for problem in problems
    )


def _problems(refused: ConfigError) -> Sequence[Problem]:
    from penstock.config.problems import Problem

    return [problem for problem in refused.problems if isinstance(problem, Problem)]
