"""`penstock spool`: the store itself; `check`, `stat` and `backup` also beside a daemon."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from penstock.cli.config import load_config
from penstock.cli.options import Noun, Options, pass_options
from penstock.cli.output import print_json, print_line, remark, say
from penstock.cli.text import plural, printable, size
from penstock.errors import SpoolError, SpoolFailed, SpoolFormat, SpoolLocked

if TYPE_CHECKING:
    from penstock._core import Progress

__all__ = ["spool"]

F = TypeVar("F", bound=Callable[..., object])

EXIT_DAMAGED: Final = 1
EXITS: Final = ((SpoolLocked, 72), (SpoolFormat, 73), (SpoolFailed, 71), (SpoolError, 1))
"""What each way of failing ends with; see docs/cli.md."""
OF_INDEX: Final = ("Messages", "Opened")
"""Lines of `stat` that only the index tells."""
REFRESH_S: Final = 0.2
BAR_WIDTH: Final = 30


class _Ended(click.exceptions.Exit):
    """A command ends with a code of its own; why was said."""


def _spool_option(function: F) -> F:
    """Add `--spool` to a command."""
    return click.option(
        "--spool",
        "place",
        type=click.Path(path_type=Path),
        metavar="DIRECTORY",
        help="The spool; by default what spool.path of the configuration says.",
    )(function)


@click.group(cls=Noun, example="penstock spool check")
def spool() -> None:
    """The store: check it, salvage its index, back it up."""


@spool.command("check", example="penstock spool check --spool /var/spool/penstock")
@_spool_option
@pass_options
def check(options: Options, *, place: Path | None) -> int:
    """Check every record, every content and every row of the index.

    Beside a daemon only records and contents in the log are checked. Ends with 1 if something is wrong;
    nothing is changed.
    """
    from penstock import _core

    path = _path(options, place)
    found = _run(options, path, lambda progress: _core.spool_check(path, progress))
    problems: list[str] = found["problems"]
    if options.json:
        print_json([found])
    else:
        for problem in problems:
            print_line(printable(problem))
    index = (
        "no index and no blob, for the daemon has them"
        if found["is_in_use"]
        else f"{plural(found['messages'], 'message')}, {plural(found['rows'], 'row')} of the index"
    )
    remark(
        options,
        f"{plural(found['segments'], 'segment')}, {plural(found['records'], 'record')}, {index}: "
        + (plural(found["problems_count"], "problem") if problems else "all sound"),
    )
    return EXIT_DAMAGED if problems else 0


@spool.command("salvage", example="penstock spool salvage --dry-run")
@_spool_option
@click.option("--dry-run", is_flag=True, help="Only tell what it would come to.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_options
def salvage(options: Options, *, place: Path | None, dry_run: bool, yes: bool) -> int:
    """Make the index anew from the log.

    The daemon must be down. What is finished may come back if what says so is not in the log any more; how
    many messages that may concern is told. The old index is kept beside the new one.
    """
    from penstock import _core

    # What is finished is kept as the configuration says, if it is known.
    config = load_config(options, ()) if place is None else None
    path = _path(options, place)
    hold_ms = config.safety_net_hold_ms if config is not None else 0
    until_ms = time.time_ns() // 1_000_000 + hold_ms if hold_ms else None
    if not (dry_run or yes):
        question = f"Make the index of {path} anew? Messages may be delivered a second time"
        click.confirm(question, abort=True, err=True)
    done = _run(options, path, lambda progress: _core.spool_salvage(path, until_ms, dry_run, progress))
    if options.json:
        print_json([done])
        return 0
    word = "would be" if dry_run else "are"
    print_line(f"{plural(done['messages'], 'message')} {word} in the new index")
    print_line(f"{plural(done['may_repeat'], 'message')} of these may be delivered a second time")
    print_line(
        f"{plural(done['segments'], 'segment')} read, {done['missing_segments']} missing between them, "
        f"{plural(done['damaged'], 'place')} unreadable, {done['took_ms'] / 1000:.1f} s"
    )
    if done["missing_blobs"]:
        print_line(f"{plural(done['missing_blobs'], 'message')} without a blob: lost, or finished long ago")
    if done["kept"] is not None:
        remark(options, f"The old index is at {done['kept']}.")
    return 0


@spool.command("stat", example="penstock spool stat --json")
@_spool_option
@pass_options
def stat(options: Options, *, place: Path | None) -> int:
    """Show what the spool takes and holds; beside a daemon, as far as its files tell."""
    from penstock import _core

    path = _path(options, place)
    found = _run(options, path, lambda _: _core.spool_count(path), has_bar=False)
    if options.json:
        print_json([{"path": str(path), **found}])
        return 0
    log = f"{size(found['log_bytes'])} in {plural(found['segments'], 'segment')}"
    if not found["is_in_use"]:
        log += f", {found['live_bytes'] / max(found['log_bytes'], 1):.0%} of it live"
    held = "brought back from a backup: see `penstock spool release`" if found["is_restored"] else "no"
    for title, text in (
        ("Spool", str(path)),
        ("In use", "by a daemon: see `penstock status`" if found["is_in_use"] else "no"),
        ("Messages", str(found["messages"])),
        ("Log", log),
        ("Index", size(found["index_bytes"])),
        ("Opened", plural(found["epoch"] or 0, "time")),
        ("Reports", f"{found['reports']} in {path / 'shard-00' / 'damaged'}"),
        ("Held", held),
    ):
        if not (found["is_in_use"] and title in OF_INDEX):
            print_line(f"{title:<11} {printable(text)}")
    return 0


@spool.command("backup", example="penstock spool backup /srv/backup/monday")
@click.argument("directory", type=click.Path(path_type=Path))
@_spool_option
@pass_options
def backup(options: Options, *, directory: Path, place: Path | None) -> int:
    """Copy the spool into an empty DIRECTORY, also while the daemon runs.

    The copy has every message that was acknowledged before and is not finished by its end.
    """
    from penstock import _core

    path = _path(options, place)
    done = _run(options, path, lambda progress: _core.spool_backup(path, directory, progress))
    return _copied(options, done, directory)


@spool.command("restore", example="penstock spool restore /srv/backup/monday --spool /var/spool/penstock")
@click.argument("directory", type=click.Path(path_type=Path))
@_spool_option
@pass_options
def restore(options: Options, *, directory: Path, place: Path | None) -> int:
    """Bring a backup in DIRECTORY back, where there is no spool.

    A daemon that is started on it takes mail, and delivers nothing before `penstock spool release`.
    """
    from penstock import _core

    path = _path(options, place)
    done = _run(options, directory, lambda progress: _core.spool_restore(directory, path, progress))
    code = _copied(options, done, path)
    remark(options, "Nothing of it is delivered before: penstock spool release")
    return code


@spool.command("release", example="penstock spool release")
@_spool_option
@pass_options
def release(options: Options, *, place: Path | None) -> int:
    """Let what was brought back from a backup be delivered from the daemon's next start on."""
    from penstock import _core

    path = _path(options, place)
    was_held = _run(options, path, lambda _: {"released": _core.spool_release(path)}, has_bar=False)
    if options.json:
        print_json([was_held])
    else:
        remark(options, "Released." if was_held["released"] else "Nothing was held back.")
    return 0


def _path(options: Options, place: Path | None) -> Path:
    """Return the spool's directory."""
    return place if place is not None else Path(load_config(options, ()).spool_path)


def _copied(options: Options, done: Mapping[str, Any], to: Path) -> int:
    if options.json:
        print_json([done])
    else:
        remark(options, f"{plural(done['segments'], 'segment')}, {size(done['bytes'])}, in {to}.")
    return 0


def _run(
    options: Options, path: Path, work: Callable[[Progress], dict[str, Any]], *, has_bar: bool = True
) -> dict[str, Any]:
    """Do something to a spool in a thread, with a bar on a terminal meanwhile.

    Raises:
        _Ended: It could not be done; why was said.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    from penstock import _core

    progress = _core.Progress()
    is_shown = has_bar and sys.stderr.isatty() and not options.quiet
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(work, progress)
        total = _log_bytes(path) if is_shown else 0
        while not wait([doing], REFRESH_S if is_shown else None).done:
            done = min(1.0, progress.octets() / max(total, 1))
            sys.stderr.write(f"\r[{'#' * round(done * BAR_WIDTH):<{BAR_WIDTH}}] {done:4.0%}")
            sys.stderr.flush()
        if is_shown:
            sys.stderr.write("\r\x1b[K")
    try:
        return doing.result()
    except SpoolError as error:
        hint = ": is the daemon running?" if isinstance(error, SpoolLocked) else ""
        reason = os.strerror(error.errno) if isinstance(error, SpoolFailed) else str(error)
        say(printable(f"penstock: {path}: {reason}{hint}"))
        raise _Ended(next(code for kind, code in EXITS if isinstance(error, kind))) from None


def _log_bytes(path: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in (path / "shard-00" / "log").iterdir())
    except OSError:
        return 0
