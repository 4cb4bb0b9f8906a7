"""How many messages a source may hand in within a time: token buckets.

A bucket holds at most what may come within the time, and fills evenly; so whoever has been silent for that
time has all of it. What has a full bucket is not remembered.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MessageRate", "MessageRates"]

SOURCES_MAX: Final = 50_000
"""Sources that are remembered; with more, those that were silent longest are forgiven."""


class MessageRate(NamedTuple):
    """So many messages within a time.

    Attributes:
        messages: How many, 1 or more.
        window_ms: Within how long.
    """

    messages: int
    window_ms: int


class MessageRates:
    """The buckets of one connector."""

    __slots__ = ("_buckets", "_cost_ms", "_window_ms", "now_ms")

    def __init__(self, rate: MessageRate) -> None:
        """Begin with full buckets.

        Attributes:
            now_ms: The time; whoever asks sets it before.
        """
        self.now_ms = 0
        self._window_ms = rate.window_ms
        self._cost_ms = rate.window_ms / rate.messages
        # By source when its bucket will be full again; in the order of the last message.
        self._buckets: dict[str, float] = {}

    def __len__(self) -> int:
        """How many sources are remembered."""
        return len(self._buckets)

    def take(self, source: str) -> bool:
        """Count a message of a source; or return False, and count nothing, when it is one too many."""
        now_ms = self.now_ms
        # The clock may have been set back: then nobody waits longer than the window.
        full_ms = min(max(self._buckets.pop(source, 0.0), now_ms), now_ms + self._window_ms) + self._cost_ms
        is_taken = full_ms <= now_ms + self._window_ms + _EPSILON_MS
        self._buckets[source] = full_ms if is_taken else full_ms - self._cost_ms
        if len(self._buckets) > SOURCES_MAX:
            del self._buckets[next(iter(self._buckets))]
        return is_taken

    def left(self, source: str) -> int:
        """Return how many messages of a source would be taken now."""
        used_ms = min(max(self._buckets.get(source, 0.0) - self.now_ms, 0.0), self._window_ms)
        return int((self._window_ms - used_ms + _EPSILON_MS) / self._cost_ms)

    def forget_full(self) -> None:
        """Forget the sources whose buckets are full."""
        self._buckets = {source: at_ms for source, at_ms in self._buckets.items() if at_ms > self.now_ms}


_EPSILON_MS: Final = 1e-6
"""What sums of fractions may be off."""
