"""`penstock version`: of the program, without asking a daemon."""

from __future__ import annotations

import sys

import click

from penstock.cli.options import Options, Verb, pass_options
from penstock.cli.output import print_json, print_line

__all__ = ["installed_version", "print_version", "version"]


def installed_version() -> str:
    """Return the version that is installed."""
    from importlib import metadata

    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        # Run from its sources.
        return "unknown"


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version and end, if that is wanted; the callback of `--version`."""
    if wanted:
        print_line(f"penstock {installed_version()}")
        context.exit()


@click.command(cls=Verb, example="penstock version")
@pass_options
def version(options: Options) -> None:
    """Print the versions of Penstock and Python."""
    python = ".".join(map(str, sys.version_info[:3]))
    versions = {"version": installed_version(), "python": python}
    if options.json:
        print_json([versions])
    else:
        print_line(f"penstock {versions['version']}, Python {versions['python']}")
