"""The loop's lag is what a timer is late by."""

from __future__ import annotations

import trio
import trio.testing

from penstock.observe.lag import LAG_BOUNDS_S, watch
from penstock.observe.metrics import Histogram


async def test_a_loop_that_keeps_up_has_no_lag(autojump_clock: trio.testing.MockClock) -> None:
    lag = Histogram("event_loop_lag_seconds", LAG_BOUNDS_S)
    with trio.move_on_after(10.1):
        await watch(lag)
    samples = {labels: value for name, labels, value in lag.samples() if name.endswith("_bucket")}
    assert samples[("0.0005",)] == samples[("+Inf",)] == 40
