"""A configuration with all that holds, written as TOML again."""

from __future__ import annotations

import os
import typing
from collections.abc import Collection, Iterator
from typing import Any, Final

from pydantic.fields import FieldInfo

from penstock.config import model
from penstock.config.keys import Choice, Text
from penstock.config.tree import Entry, Layer, Node, dotted
from penstock.config.values import Refused, quoted, read_path

__all__ = ["as_toml"]

LINE_MAX: Final = 100
"""Characters of a line after which a list goes on in the next."""


def as_toml(
    tree: Node, profile: str, *, in_force: Collection[str] | None = None, with_origin: bool = False
) -> Iterator[str]:
    """Yield the lines of a configuration that holds; with `in_force` they can be loaded again.

    Values stand as they were written, but for words that have one spelling of ours, and paths, which are
    absolute.

    Args:
        tree: What `loader.effective` returned.
        profile: Its profile.
        in_force: The receive connectors that are; those of the profile that are not are left out. None for
            all.
        with_origin: Whether to name the file and line of what is not from the profile.
    """
    yield f"config_version = {model.CONFIG_VERSION}"
    yield f"profile = {quoted(profile)}"
    for name, table in model.TABLES.items():
        if name in tree.entries:
            yield from _table((name,), tree.entries[name].node, table, with_origin)
    for kind, table in model.NAMED_TABLES.items():
        named = tree.entries[kind].node.entries if kind in tree.entries else {}
        for name, entry in named.items():
            is_own = entry.place.source.layer is Layer.PROFILE
            if kind == "receive_connector" and is_own and in_force is not None and name not in in_force:
                continue
            yield from _table((kind, name), entry.node, table, with_origin)


def _table(path: tuple[str, ...], node: Node, table: type[model.Table], with_origin: bool) -> Iterator[str]:
    yield ""
    yield f"[{dotted(path)}]"
    # In the order of the model: the same for every file.
    for key in table.model_fields:
        if key in node.entries:
            entry = node.entries[key]
            if with_origin and entry.place.source.layer is not Layer.PROFILE:
                yield f"# {_origin(entry)}"
            yield f"{key} = {_written(entry.node, table.model_fields[key], model.INNER_TABLES.get(key))}"


def _origin(entry: Entry) -> str:
    origin = str(entry.place)
    return origin if origin.isprintable() else ascii(origin)


def _written(node: Node, field: FieldInfo | None = None, inner: type[model.Table] | None = None) -> str:
    """Return a value as TOML has it; of an inner table `inner` tells the keys."""
    value = node.value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        kinds = field.metadata if field is not None else ()
        if any(isinstance(kind, Text) and kind.reader is read_path for kind in kinds):
            return quoted(os.path.normpath(os.path.join(node.place.source.folder, value)))
        return quoted(_word(value, next((kind for kind in kinds if isinstance(kind, Choice)), None)))
    if isinstance(value, tuple):
        words = _words_of(field)
        items = [
            quoted(_word(item.value, words)) if isinstance(item.value, str) else _written(item)
            for item in value
        ]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= LINE_MAX else "[\n" + "".join(f"    {item},\n" for item in items) + "]"
    if isinstance(value, (int, float)):
        return str(value)
    fields = inner.model_fields if inner is not None else {}
    pairs = (f"{key} = {_written(entry.node, fields.get(key))}" for key, entry in node.entries.items())
    return f"{{ {', '.join(pairs)} }}"


def _word(text: str, words: Choice | None) -> str:
    """Return a word in our spelling."""
    try:
        return words.read(text) if words is not None else text
    except Refused:
        return text


def _words_of(field: FieldInfo | None) -> Choice | None:
    """Return which words the items of a list are, if they are words."""
    arguments: tuple[Any, ...] = typing.get_args(field.annotation) if field is not None else ()
    metadata = getattr(arguments[0], "__metadata__", ()) if arguments else ()
    return next((kind for kind in metadata if isinstance(kind, Choice)), None)
