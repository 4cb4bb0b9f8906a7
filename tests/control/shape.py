"""Whether an answer has the shape that it is declared to have."""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints


def conform(value: Any, kind: Any, where: str) -> None:
    """Assert that a value has the shape that a typed dictionary declares."""
    if hasattr(kind, "__total__"):
        hints = get_type_hints(kind)
        assert value.keys() == hints.keys(), where
        for key, inner in hints.items():
            conform(value[key], inner, f"{where}.{key}")
    elif get_origin(kind) is list:
        for inner in value:
            conform(inner, get_args(kind)[0], f"{where}[]")
    elif get_origin(kind) is not None and not isinstance(kind, type):
        options = get_args(kind)
        assert value in options or any(isinstance(o, type) and isinstance(value, o) for o in options), where
    else:
        assert isinstance(value, kind), where
