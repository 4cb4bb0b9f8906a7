"""From files to a `Config`: profile, main file, drop-ins, `--set`; later ones win.

Tables are merged key by key; everything else is replaced. All problems are found in one run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Final

from penstock.config import model
from penstock.config.checks import Checks, check_outcome
from penstock.config.problems import Problem
from penstock.config.resolve import Host, ThisHost, resolved
from penstock.config.settings import Config
from penstock.config.sources import read_drop_ins, read_file, read_profile, read_set, shown
from penstock.config.tree import Entry, Layer, Node, Path, Place, absolute, merged, plain
from penstock.config.validate import user_stores, validate
from penstock.config.values import Refused
from penstock.errors import ConfigError

__all__ = ["effective", "effective_profile", "load", "user_store_file"]

_UNREADABLE: Final = frozenset({"C100", "C114", "C115"})
USAGES: Final = "usages"
"""The profile's table of what holds for connectors of each usage."""
DEFAULTS: Final = "defaults"
"""The profile's table of what holds for each connector and domain."""


def load(path: str | os.PathLike[str], *, overrides: Sequence[str] = (), host: Host | None = None) -> Config:
    """Return the configuration of a file, its drop-ins and the command line.

    **Blocking**: reads files; asks for the host's name if none is configured.

    Args:
        path: The main file; drop-ins are in `conf.d` beside it.
        overrides: What `--set` was given: `key=value`.
        host: Stands in for what is not configured.

    Raises:
        ConfigError: There are errors; it has all of them, and the warnings.
    """
    problems: list[Problem] = []
    main_path = os.fspath(path)
    main = read_file(main_path, Layer.MAIN, problems)
    drop_ins = read_drop_ins(main_path, problems)
    layers = [*([main] if main is not None else []), *drop_ins, *read_set(overrides, problems)]
    for layer in drop_ins:
        _refuse_main_keys(layer, problems)
    if main is None or any(problem.code in _UNREADABLE for problem in problems):
        # What is left of it would only bring forth further, false problems.
        raise ConfigError(_ordered(problems, main_path))

    notes: list[Problem] = []
    tree = _merged(layers, notes)
    tables = validate(tree, problems)
    Checks(tree, tables, problems).run()
    config = None
    if not any(problem.severity == "error" for problem in problems):
        files = tuple(layer.place.source.name for layer in (main, *drop_ins))
        config = resolved(files, tree, tables, host or ThisHost())
        problems.extend(check_outcome(config, tree, tables))
    problems = _ordered(problems, main_path)
    if config is None:
        raise ConfigError(problems)
    return dataclasses.replace(config, warnings=tuple(problems), notes=tuple(notes))


def user_store_file(path: str | os.PathLike[str]) -> str | None:
    """Return the file of the user store, or None if there is none; nothing else is judged.

    So a file that is not there yet can be made although the configuration, which names it, is refused.

    **Blocking**: reads files.

    Raises:
        ConfigError: The files cannot be read, or what they say of user stores.
    """
    problems: list[Problem] = []
    main_path = os.fspath(path)
    main = read_file(main_path, Layer.MAIN, problems)
    layers = [*([main] if main is not None else []), *read_drop_ins(main_path, problems)]
    if not any(problem.severity == "error" for problem in problems):
        tree = _merged(layers, [])
        stores = user_stores(tree, problems)
        if not any(problem.severity == "error" for problem in problems):
            files = (absolute(tree, ("user_store", name, "file"), each.file) for name, each in stores.items())
            return next(files, None)
    raise ConfigError(_ordered(problems, main_path))


def effective(path: str | os.PathLike[str], *, overrides: Sequence[str] = ()) -> Node:
    """Return everything that holds with a configuration, as it is written, defaults included.

    **Blocking**: reads files.

    Args:
        path: The main file of a configuration that `load` has accepted.
        overrides: What `--set` was given.
    """
    problems: list[Problem] = []
    main_path = os.fspath(path)
    main = read_file(main_path, Layer.MAIN, problems)
    drop_ins = read_drop_ins(main_path, problems)
    return _merged([*([main] if main is not None else []), *drop_ins, *read_set(overrides, problems)], [])


def effective_profile(name: str) -> Node:
    """Return everything that holds with a profile and nothing else."""
    return _merged([], [], name)


def _refuse_main_keys(layer: Node, problems: list[Problem]) -> None:
    for key, entry in layer.entries.items():
        if key in model.MAIN_FILE_ONLY:
            message = f"{key} is allowed in the main file only, so that no drop-in can change it."
            problems.append(entry.place.problem("C112", message, path=(key,)))


def _merged(layers: Sequence[Node], notes: list[Problem], profile_name: str | None = None) -> Node:
    """Return profile and layers as one tree; overrides of one file by another are noted."""

    def overridden(path: Path, old: Place, new: Place) -> None:
        if old.source.layer is not Layer.PROFILE:
            notes.append(new.problem("C301", f"This overrides {old}.", path=path))

    profile = read_profile(profile_name or _profile(layers))
    defaults, usages = profile.entries[DEFAULTS].node, profile.entries[USAGES].node
    own = {key: entry for key, entry in profile.entries.items() if key not in (DEFAULTS, USAGES)}
    tree = Node(own, profile.place)
    for layer in layers:
        tree = merged(tree, layer, overridden)
    entries = dict(tree.entries)
    for kind, (_, lowest) in defaults.entries.items():
        if kind in entries:
            place, node = entries[kind]
            named = {
                name: Entry(entry.place, merged(_with_usage(lowest, usages, kind, entry.node), entry.node))
                for name, entry in node.entries.items()
            }
            entries[kind] = Entry(place, Node(named, node.place) if named else node)
    return Node(entries, tree.place)


def _with_usage(defaults: Node, usages: Node, kind: str, connector: Node) -> Node:
    """Return what holds for a connector: what its usage presets, if known, over what holds for all."""
    presets = usages.find((kind,))
    usage = connector.find(("usage",))
    if presets is None or usage is None:
        return defaults
    try:
        preset = presets.find((model.RECEIVE_USAGE.read(plain(usage)),))
    except Refused:
        return defaults
    return defaults if preset is None else merged(defaults, preset)


def _profile(layers: Sequence[Node]) -> str:
    """Return the profile's name; of one that does not exist the model will say so."""
    names = [layer.entries["profile"].node for layer in layers if "profile" in layer.entries]
    try:
        return model.PROFILE.read(plain(names[-1])) if names else model.Top().profile
    except Refused:
        return model.Top().profile


def _ordered(problems: list[Problem], main_path: str) -> list[Problem]:
    """Return them in the order in which an operator reads: main file, drop-ins, command line; by place."""
    last = {shown(main_path): 0, Layer.SET.value: 2}

    def reading_order(problem: Problem) -> tuple[int, bytes, int, int]:
        return last.get(problem.file, 1), problem.file.encode(), problem.line, problem.column

    return sorted(problems, key=reading_order)
