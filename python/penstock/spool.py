"""A spool without an engine: what tools ask while no daemon runs."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import trio

from penstock import _core
from penstock.dispatcher import now_ms
from penstock.errors import SpoolFailed, Unavailable
from penstock.querying import Queries, Queryable, Standing

__all__ = ["StoredSpool", "open_spool"]

META: Final = "meta.toml"
"""The file without which a folder is no spool."""
RETRY_AFTER_S: Final = 1.0
EVENTS: Final = 100


class StoredSpool(Queryable):
    """An open spool in which nothing happens; `open_spool` makes one."""

    def __init__(self, core: _core.Engine) -> None:
        """Begin to ask."""
        self._core = core
        self._turn = trio.Lock()
        self._queries = Queries(self.ask, core, _standing)

    @property
    def recovery(self) -> dict[str, Any]:
        """What was found at open; see `_core.Engine.recovery`."""
        return self._core.recovery

    async def ask(self, kind: str, *arguments: Any) -> Any:
        """Ask the index and return its answer; `_core.pyi` says which questions there are.

        Raises:
            Unavailable: The index could not be read.
        """
        core = self._core
        async with self._turn:
            number = core.request(kind, *arguments)
            while True:
                for event in core.poll(EVENTS):
                    if event[0] == "answer" and event[1] == number:
                        core.apply([])
                        if event[2] is None:
                            raise Unavailable(RETRY_AFTER_S, "the index could not be read")
                        return event[2]
                core.apply([])
                await trio.lowlevel.wait_readable(core.fileno())


@asynccontextmanager
async def open_spool(path: PathLike[str] | str) -> AsyncIterator[StoredSpool]:
    """Open a spool that no engine has, for as long as the context lasts: take its lock, recover it, answer.

    Nothing is accepted and nothing is delivered meanwhile. **Blocking**: recovery and the closing, in a
    thread. **Durability**: what recovery finds is durable before anything is answered.

    Args:
        path: Directory of the spool.

    Raises:
        SpoolLocked: A daemon has it; ask that one.
        SpoolError: It is none, of a newer format, damaged, or its disk has failed.
    """
    if not await trio.Path(fspath(path), META).exists():
        raise SpoolFailed(str(Path(path) / META), errno.ENOENT)
    core = await trio.to_thread.run_sync(partial(_core.Engine, spool=fspath(path)))
    try:
        spool = StoredSpool(core)
        # So that hops have numbers: they are of this process.
        await spool.ask("hops")
        yield spool
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(core.close)


def _standing() -> Standing:
    """Nothing is under way."""
    return now_ms(), [], []
