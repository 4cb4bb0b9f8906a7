"""How late the loop is: the first thing to look at when Penstock is slow."""

from __future__ import annotations

import trio

from penstock.observe.metrics import Histogram

__all__ = ["LAG_BOUNDS_S", "watch"]

INTERVAL_S = 0.25
LAG_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


async def watch(lag: Histogram) -> None:
    """Observe, for ever, by how many seconds a timer of 250 ms is late."""
    while True:
        due_s = trio.current_time() + INTERVAL_S
        await trio.sleep_until(due_s)
        lag.observe(max(0.0, trio.current_time() - due_s))
