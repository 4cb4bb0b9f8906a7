"""Back pressure: what reception does when something runs short, and when it stops doing it.

Each resource has a level: low, medium or high. It rises as soon as a reading reaches a mark, and falls only
when one is well below it, so that it does not flutter. Marks, pauses and actions are those of Exchange's
transport service where it has them:

- memory, descriptors: medium refuses mail, save that of our own servers; high refuses all mail, and new
  connections.
- queue length, commit latency: medium makes MAIL wait, longer with every reading, and refuses like the above
  once that has lasted; high does so at once.

Delivery goes on whatever the level is: it is what makes room. Room on the spool's disk is the spool's own
business (`storage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

__all__ = ["RESOURCES", "Change", "Level", "Marks", "Pressure"]

POLL_S: Final = 2.0
"""How often resources are read."""
DELAY_FIRST_MS: Final = 10_000
DELAY_STEP_MS: Final = 5_000
DELAY_MAX_MS: Final = 55_000
"""How long MAIL waits: at first, so much longer with every reading, and at most."""
DELAYED_POLLS_MAX: Final = 300
"""Readings after which waiting has not helped (10 minutes)."""


class Level(IntEnum):
    """How short something is."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2


class _Resource(NamedTuple):
    """How a resource is treated.

    Attributes:
        slows: Whether MAIL waits before it is refused.
        relief: The part of the medium mark below which it is low again.
    """

    slows: bool
    relief: float


RESOURCES: Final[Mapping[str, _Resource]] = {
    "memory": _Resource(slows=False, relief=0.98),
    "descriptors": _Resource(slows=False, relief=0.95),
    "queue_length": _Resource(slows=True, relief=0.2),
    "commit_latency": _Resource(slows=True, relief=0.5),
}
"""Per cent of the memory and of the descriptors that there are, messages x next hop, milliseconds a sync."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """When a level is reached.

    Attributes:
        medium: From here on it is medium.
        high: From here on it is high.
    """

    medium: float
    high: float


class Change(NamedTuple):
    """A level that has changed."""

    resource: str
    before: Level
    now: Level
    reading: float


class _Gauge:
    __slots__ = ("level", "marks", "polls", "relief", "slows")

    def __init__(self, marks: Marks, resource: _Resource) -> None:
        self.marks = marks
        self.slows = resource.slows
        self.relief = resource.relief
        self.level = Level.LOW
        # Readings since it was low.
        self.polls = 0

    def read(self, value: float) -> None:
        marks = self.marks
        if value >= marks.high:
            self.level = Level.HIGH
        elif value >= marks.medium:
            # From high it falls a third above the medium mark, as Exchange's memory does: 72, 75, 73.
            falls = value < marks.medium + (marks.high - marks.medium) / 3
            if self.level is not Level.HIGH or falls:
                self.level = Level.MEDIUM
        elif value < marks.medium * self.relief:
            self.level = Level.LOW
        elif self.level is Level.HIGH:
            self.level = Level.MEDIUM
        self.polls = 0 if self.level is Level.LOW else self.polls + 1

    @property
    def refuses(self) -> bool:
        """Whether mail is refused for it, save that of our own servers."""
        if not self.slows:
            return self.level is not Level.LOW
        return self.level is Level.HIGH or self.polls > DELAYED_POLLS_MAX

    @property
    def delay_ms(self) -> int:
        if not self.slows or self.level is Level.LOW:
            return 0
        return min(DELAY_FIRST_MS + (self.polls - 1) * DELAY_STEP_MS, DELAY_MAX_MS)


class Pressure:
    """The levels of all resources, and what follows from them.

    Attributes:
        delay_ms: How long MAIL waits.
        refuses_others: Whether mail is refused that is not from our own servers.
        refuses_all: Whether all mail is refused, and new connections too.
    """

    __slots__ = ("_gauges", "delay_ms", "refuses_all", "refuses_others")

    def __init__(self, marks: Mapping[str, Marks]) -> None:
        """Begin with everything low.

        Args:
            marks: Those of `RESOURCES` that are looked at.
        """
        self._gauges = {name: _Gauge(mark, RESOURCES[name]) for name, mark in marks.items()}
        self.delay_ms = 0
        self.refuses_others = False
        self.refuses_all = False

    @property
    def resources(self) -> Iterable[str]:
        """The resources that are looked at."""
        return self._gauges.keys()

    def levels(self) -> dict[str, Level]:
        """Return the level of each resource."""
        return {name: gauge.level for name, gauge in self._gauges.items()}

    def poll(self, readings: Mapping[str, float]) -> list[Change]:
        """Take readings; return what has changed. A resource that could not be read stays as it is."""
        changes = []
        for name, value in readings.items():
            gauge = self._gauges.get(name)
            if gauge is None:
                continue
            before = gauge.level
            gauge.read(value)
            if gauge.level is not before:
                changes.append(Change(name, before, gauge.level, value))
        gauges = self._gauges.values()
        self.delay_ms = max((gauge.delay_ms for gauge in gauges), default=0)
        self.refuses_others = any(gauge.refuses for gauge in gauges)
        self.refuses_all = any(gauge.level is Level.HIGH and not gauge.slows for gauge in gauges)
        return changes
