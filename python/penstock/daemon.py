"""The daemon: an engine that runs until it is told to stop."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

from penstock import _core
from penstock.config.settings import Config
from penstock.engine import GENERATION, Engine, open_engine

__all__ = ["run"]

GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Almost nothing that lives for a message is in a cycle; looking for cycles every 700 objects costs more."""


async def run(config: Config, *, announce: Callable[[str], None]) -> None:
    """Run an engine until SIGTERM, SIGINT or SIGHUP, then stop it in order; a second signal cuts that short.

    SIGHUP is what a foreground daemon gets when its terminal closes.

    Args:
        config: What to run.
        announce: Told a line when mail is taken, and one when the stop begins.

    Raises:
        SpoolError: The spool cannot be opened, or its disk has failed.
        BindFailed: An address cannot be had.
    """
    begun_s = time.monotonic()
    _core.forbid_core_dumps()
    _raise_descriptor_limit()
    _work_in_batches()
    gc.set_threshold(*GC_THRESHOLDS)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with open_engine(config) as engine:
            announce(
                f"ready in {time.monotonic() - begun_s:.2f} s: "
                f"{_count(len(engine.addresses), 'listener')}, "
                f"{_count(len(engine.send_connectors), 'send connector')}, "
                f"{_count(engine.waiting, 'message')} waiting, generation {GENERATION}"
            )
            async for number in signals:
                announce(f"stopping: {signal.Signals(number).name}; once more to wait for nothing")
                break
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hurry, engine, signals)
                await engine.stop()
                nursery.cancel_scope.cancel()


async def _hurry(engine: Engine, signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        engine.hurry()


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may have: each connection needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _work_in_batches() -> None:
    """Let no thread of ours break in on another that works.

    A thread that is woken usually takes the processor from whoever has it, so that under load every event
    would be handled by itself, at the price of a change of threads each. As batch work it waits its turn, and
    finds more to do then. Where a processor is free it starts at once, as ever. (Linux, sched(7).)
    """
    # Where the system does not allow it, everything works all the same.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
