"""When to try again, and when to give up.

Two things are retried, each by its own rule. A *next hop* that cannot be reached is tried again in three
stages: a few times soon, because most trouble is a glitch, some times later, then at long intervals; what
waits for it has no times of its own meanwhile. A *message* that its next hop put off waits for the message
retry interval, while others go on.

RFC 5321 4.5.4.1 has half an hour between tries in general, and other strategies where it is known why one
failed: these are Exchange's, and one connection that fails stands for all that waits.

Wall time decides, and clocks jump. So nothing expires but by an attempt, or a look at its route, that began
after its expiry time, and nothing waits longer than the longest interval, whatever was written down when the
clock was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["RetrySchedule", "has_expired"]

SPREAD: Final = 0.1
"""How much of an interval chance adds at most. It never takes away: an interval is what has to pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """The intervals, named as in Set-TransportService, and what follows from them.

    Attributes:
        queue_glitch_retry_count: Retries of a next hop in the first stage.
        queue_glitch_retry_interval_ms: What passes before each.
        transient_failure_retry_count: Retries of a next hop in the second stage.
        transient_failure_retry_interval_ms: What passes before each.
        outbound_connection_failure_retry_interval_ms: What passes before each later one.
        message_retry_interval_ms: What passes before a message that was put off is tried again.
    """

    queue_glitch_retry_count: int = 4
    queue_glitch_retry_interval_ms: int = 60_000
    transient_failure_retry_count: int = 6
    transient_failure_retry_interval_ms: int = 300_000
    outbound_connection_failure_retry_interval_ms: int = 600_000
    message_retry_interval_ms: int = 900_000

    @property
    def longest_ms(self) -> int:
        """The longest that anything waits between two tries; a due time further away is a clock's mistake."""
        interval_ms = max(
            self.queue_glitch_retry_interval_ms,
            self.transient_failure_retry_interval_ms,
            self.outbound_connection_failure_retry_interval_ms,
            self.message_retry_interval_ms,
        )
        return interval_ms + int(interval_ms * SPREAD)

    def next_probe_ms(self, *, failures: int, now_ms: int, jitter: float) -> int:
        """Return when to try a next hop again.

        Args:
            failures: Tries that failed since the last that did not, 1 or more.
            now_ms: When the last of them failed, Unix milliseconds.
            jitter: In [0, 1); spreads hops that failed together.

        Raises:
            ValueError: An argument is outside its range (caller bug).
        """
        if failures < 1:
            raise ValueError(f"failures: {failures} is less than 1")
        if failures <= self.queue_glitch_retry_count:
            interval_ms = self.queue_glitch_retry_interval_ms
        elif failures <= self.queue_glitch_retry_count + self.transient_failure_retry_count:
            interval_ms = self.transient_failure_retry_interval_ms
        else:
            interval_ms = self.outbound_connection_failure_retry_interval_ms
        return now_ms + _spread(interval_ms, jitter)

    def next_attempt_ms(
        self,
        *,
        attempts: int,
        expires_ms: int,
        began_ms: int,
        now_ms: int,
        jitter: float,
        probe_ms: int | None = None,
    ) -> int | None:
        """Return when to try a message again that was put off, or None when it has expired.

        The last try is at its expiry time.

        Args:
            attempts: Attempts so far, the one that has just ended included.
            expires_ms: When the message expires, Unix milliseconds.
            began_ms: When that attempt began, Unix milliseconds.
            now_ms: When it ended, Unix milliseconds.
            jitter: In [0, 1); spreads a batch that failed together.
            probe_ms: If the next hop was at fault, when that is tried again, Unix milliseconds. The message
                goes with it, but not more often than glitches are thought to last: it may be what its peer
                hangs up on, and must not stop all others again and again.

        Raises:
            ValueError: An argument is outside its range (caller bug).
        """
        if has_expired(expires_ms=expires_ms, began_ms=began_ms):
            return None
        if probe_ms is not None and attempts <= self.queue_glitch_retry_count:
            due_ms = probe_ms
        else:
            due_ms = now_ms + _spread(self.message_retry_interval_ms, jitter)
        # An attempt may begin before the expiry time and end after it; then the last one is due at once.
        return min(due_ms, max(expires_ms, now_ms))


def has_expired(*, expires_ms: int, began_ms: int) -> bool:
    """Whether an attempt that delivered nothing was a message's last.

    Args:
        expires_ms: When the message expires, Unix milliseconds.
        began_ms: When the attempt, or the failed try of its next hop, or the look at its route began.
    """
    return began_ms >= expires_ms


def _spread(interval_ms: int, jitter: float) -> int:
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter: {jitter} is outside [0, 1)")
    return interval_ms + int(interval_ms * SPREAD * jitter)
