"""What hooks have answered, how long it took, and which of them keep failing."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from penstock.hooks import EVENTS, ReceiveHooks
from penstock.receive.counts import Sample

__all__ = ["HookCounts", "names_of"]

BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0)
FAILURES_IN_A_ROW: Final = 3
"""So many are an alarm."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def names_of(hooks: Sequence[ReceiveHooks]) -> list[str]:
    """Return what hooks are called.

    Raises:
        TypeError: One is no hook, or has a method that is called like an event and is none.
        ValueError: Two have the same name, or one has none that can be a label.
    """
    names: list[str] = []
    for hook in hooks:
        if not isinstance(hook, ReceiveHooks):
            raise TypeError(f"not a ReceiveHooks: {type(hook).__name__}")
        # With a slip in its name a method would never be asked, and what it refuses would be taken.
        for method in dir(type(hook)):
            if method.startswith("on_") and method not in EVENTS:
                raise TypeError(
                    f"{type(hook).__name__}.{method} is no event and would never be asked; "
                    f"there are {', '.join(EVENTS)}"
                )
        name = hook.name or type(hook).__name__
        if not _NAME.fullmatch(name):
            raise ValueError(f"a hook's name has to be 1 to 64 of A-Za-z0-9._-: {name!r}")
        if name in names:
            raise ValueError(f"two hooks are called {name}: give one another name")
        names.append(name)
    return names


class HookCounts:
    """Times by hook and result, and failures in a row."""

    def __init__(self, names: Sequence[str]) -> None:
        """Begin at zero.

        Args:
            names: The hooks.
        """
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums_s: dict[tuple[str, str], float] = {}
        self._in_a_row = dict.fromkeys(names, 0)
        self._last = dict.fromkeys(names, "")

    def answered(self, name: str, result: str, took_s: float) -> None:
        """Count an answer: `ok` or `refused`."""
        self._count(name, result, took_s)
        self._in_a_row[name] = 0

    def failed(self, name: str, result: str, event: str, why: str, took_s: float) -> None:
        """Count a failure: `error` or `timeout`."""
        self._count(name, result, took_s)
        self._in_a_row[name] += 1
        self._last[name] = f"{event}, {why}"

    def problems(self) -> list[str]:
        """Return which hooks keep failing."""
        return [
            f"Hook {name} has failed {count} times in a row (last: {self._last[name]}); what it was asked "
            "about is told 451 4.3.0."
            for name, count in self._in_a_row.items()
            if count >= FAILURES_IN_A_ROW
        ]

    def samples(self) -> Iterator[Sample]:
        """Yield cumulative buckets and sums under the documented name."""
        for labels, counts in self._buckets.items():
            total = 0
            for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
                total += count
                yield "hook_seconds_bucket", (*labels, bound), float(total)
            yield "hook_seconds_sum", labels, self._sums_s[labels]

    def _count(self, name: str, result: str, took_s: float) -> None:
        counts = self._buckets.setdefault((name, result), [0] * (len(BOUNDS_S) + 1))
        counts[bisect_left(BOUNDS_S, took_s)] += 1
        self._sums_s[name, result] = self._sums_s.get((name, result), 0.0) + took_s
