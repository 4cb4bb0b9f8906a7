"""Reads the tables of a tree with the model, each by itself, and says of every mistake where it is.

A table that has a mistake is left out of what is returned, the others are there, so that `checks` can judge
them in the same run.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from penstock.config import model
from penstock.config.keys import wrong_type
from penstock.config.problems import Problem
from penstock.config.tree import Layer, Node, Path, Place, plain
from penstock.config.values import (
    Refused,
    quoted,
    read_certificate_name,
    read_connector_name,
    read_domain,
    read_send_connector_name,
)

__all__ = ["Tables", "user_stores", "validate"]

SUGGESTIONS_MAX: Final = 100
"""Problems after which no more is guessed what was meant."""
FIX_CHARACTERS_MAX: Final = 100

T = TypeVar("T", bound=model.Table)

_NAME_READERS: Final[Mapping[str, Callable[[str], str]]] = {
    "certificate": read_certificate_name,
    "accepted_domain": read_domain,
    "permission_group": read_connector_name,
    "receive_connector": read_connector_name,
    "send_connector": read_send_connector_name,
    "user_store": read_connector_name,
}


@dataclass(slots=True, kw_only=True)
class Tables:
    """What could be read. Named tables are by the names as they are written."""

    top: model.Top | None = None
    server: model.Server | None = None
    spool: model.Spool | None = None
    queue: model.Queue | None = None
    back_pressure: model.BackPressure | None = None
    log: model.Log | None = None
    control: model.Control | None = None
    certificates: dict[str, model.Certificate] = field(default_factory=dict)
    accepted_domains: dict[str, model.AcceptedDomain] = field(default_factory=dict)
    permission_groups: dict[str, model.PermissionGroup] = field(default_factory=dict)
    receive_connectors: dict[str, model.ReceiveConnector] = field(default_factory=dict)
    send_connectors: dict[str, model.SendConnector] = field(default_factory=dict)
    user_stores: dict[str, model.UserStore] = field(default_factory=dict)


def validate(tree: Node, problems: list[Problem]) -> Tables:
    """Return what can be read; add to the problems what cannot."""
    reader = _Reader(tree, problems)
    reader.unknown_tables()
    return Tables(
        top=reader.top(),
        server=reader.table(model.Server, ("server",)),
        spool=reader.table(model.Spool, ("spool",)),
        queue=reader.table(model.Queue, ("queue",)),
        back_pressure=reader.table(model.BackPressure, ("back_pressure",)),
        log=reader.table(model.Log, ("log",)),
        control=reader.table(model.Control, ("control",)),
        certificates=reader.named(model.Certificate, "certificate"),
        accepted_domains=reader.named(model.AcceptedDomain, "accepted_domain"),
        permission_groups=reader.named(model.PermissionGroup, "permission_group"),
        receive_connectors=reader.named(model.ReceiveConnector, "receive_connector"),
        send_connectors=reader.named(model.SendConnector, "send_connector"),
        user_stores=reader.named(model.UserStore, "user_store"),
    )


def user_stores(tree: Node, problems: list[Problem]) -> dict[str, model.UserStore]:
    """Return the user stores alone; add to the problems what is wrong with them."""
    return _Reader(tree, problems).named(model.UserStore, "user_store")


class _Reader:
    def __init__(self, tree: Node, problems: list[Problem]) -> None:
        self._tree = tree
        self._problems = problems

    def unknown_tables(self) -> None:
        known = [*model.Top.model_fields, *model.TABLES, *model.NAMED_TABLES]
        for key in self._tree.entries:
            if key not in known:
                self._unknown((key,), known)

    def top(self) -> model.Top | None:
        keys = self._tree.entries.keys() & model.Top.model_fields.keys()
        return self._validated(model.Top, {key: plain(self._tree.entries[key].node) for key in keys}, ())

    def table(self, table: type[T], path: Path) -> T | None:
        node = self._tree.find(path)
        return self._validated(table, {} if node is None else plain(node), path)

    def named(self, table: type[T], kind: str) -> dict[str, T]:
        node = self._tree.find((kind,))
        if node is not None and not isinstance(node.value, Mapping):
            self._refused(wrong_type(dict, plain(node)), (kind,))
        found = {}
        for name in node.entries if node is not None else ():
            valid = self.table(table, (kind, name))
            try:
                _NAME_READERS[kind](name)
            except Refused as refused:
                self._add(refused.code, refused.message, (kind, name), is_key=True)
                continue
            if valid is not None:
                found[name] = valid
        return found

    def _validated(self, table: type[T], values: Any, path: Path) -> T | None:
        try:
            return table.model_validate(values)
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_input=False):
                self._report(table, error["type"], error.get("ctx", {}), path, error["loc"])
            return None

    def _report(
        self, table: type[model.Table], kind: str, context: dict[str, Any], path: Path, below: Path
    ) -> None:
        where = (*path, *below)
        if kind == "extra_forbidden":
            self._unknown(where, _fields(table, below[:-1]))
        elif kind == "missing":
            self._missing(table, where, below)
        elif kind in {"tuple_type", "model_type"}:
            self._wrong_shape(tuple if kind == "tuple_type" else dict, where)
        elif kind == "too_short":
            # Items that are refused are not counted; that is told of each of them.
            node = self._tree.find(where)
            if node is None or node.value == ():
                self._add("C106", "The list must not be empty.", where)
        elif kind == "too_long":
            self._add("C106", f"The list must not have more than {context['max_length']} items.", where)
        else:
            self._refused(Refused(kind, context["message"], context["fix"]), where)

    def _unknown(self, path: Path, known: Iterable[str]) -> None:
        key = str(path[-1])
        entry = self._tree.find(path)
        what = "table" if entry is not None and isinstance(entry.value, Mapping) else "key"
        message, fix = f"Unknown {what}.", None
        if len(self._problems) < SUGGESTIONS_MAX:
            # What is there already was not meant; but a profile's value is there to be replaced, and of the
            # tables that have names there may be many.
            is_free = [
                name
                for name in known
                if (len(path) == 1 and name in model.NAMED_TABLES) or not self._is_written((*path[:-1], name))
            ]
            meant = _meant(key, is_free)
            home = next((name for name, table in model.TABLES.items() if key in table.model_fields), None)
            if meant is not None:
                message = f"{message} Did you mean {meant}?"
                fix = _with_key(self._tree.place_of(path, key=True), meant)
            elif home is not None:
                message = f"{message} {key} belongs to [{home}]."
        self._add("C101", message, path, is_key=True, fix=fix)

    def _is_written(self, path: Path) -> bool:
        entry = self._tree.entry(path)
        return entry is not None and entry.place.source.layer is not Layer.PROFILE

    def _missing(self, table: type[model.Table], path: Path, below: Path) -> None:
        key = str(below[-1])
        examples = table.model_fields[key].examples if len(below) == 1 else None
        fix = f"{key} = {examples[0]}" if examples else None
        self._add("C102", f"{key} is missing.", path, fix=fix)

    def _wrong_shape(self, wanted: type, path: Path) -> None:
        node = self._tree.find(path)
        value = plain(node) if node is not None else {}
        inner = model.INNER_TABLES.get(str(path[-1]))
        fix = None
        if isinstance(value, str) and wanted is tuple:
            fix = f"[{quoted(value)}]"
        elif isinstance(value, str) and inner is not None:
            (key,) = inner.model_fields
            fix = f"{{ {key} = {quoted(value)} }}"
        self._refused(wrong_type(wanted, value, fix), path)

    def _refused(self, refused: Refused, path: Path) -> None:
        fix = refused.fix
        if fix is not None and isinstance(path[-1], str):
            fix = f"{path[-1]} = {fix}"
        self._add(refused.code, refused.message, path, fix=fix)

    def _add(
        self, code: str, message: str, path: Path, *, is_key: bool = False, fix: str | None = None
    ) -> None:
        place = self._tree.place_of(path, key=is_key)
        self._problems.append(place.problem(code, message, path=path, fix=fix))


def _fields(table: type[model.Table], below: Path) -> Iterable[str]:
    """The keys of a table, or of the table within it."""
    for step in below:
        table = model.INNER_TABLES[str(step)]
    return table.model_fields


def _meant(key: str, known: Iterable[str]) -> str | None:
    """Return the key that was probably meant: in Exchange's spelling, or with a slip."""
    folded = {name.replace("_", ""): name for name in known}
    close = difflib.get_close_matches(key.replace("_", "").replace("-", "").lower(), folded, n=1, cutoff=0.75)
    return folded[close[0]] if close else None


def _with_key(place: Place, key: str) -> str | None:
    """Return the line with another key, if it is short enough to be read."""
    line = place.source.lines[place.line - place.source.first_line]
    before = place.column - 1
    fix = (line[:before] + key + line[before + place.width :]).strip()
    return fix if len(fix) <= FIX_CHARACTERS_MAX and fix.isprintable() else None
