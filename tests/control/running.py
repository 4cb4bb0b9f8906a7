"""The control server in a thread of its own, for clients that block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio

from penstock.control.server import serve_control
from tests.control.fake import FakeViews

VERSION = "0.1.0"


@contextlib.contextmanager
def running(path: Path, views: FakeViews) -> Iterator[None]:
    """Serve on a Unix socket for as long as the context lasts."""
    listening = threading.Event()
    stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_control, path, views, version=VERSION))
            stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            listening.set()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:
            failed.append(error)
        finally:
            listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    listening.wait(10)
    try:
        if failed:
            raise failed[0]
        yield
    finally:
        for token, scope in stop:
            token.run_sync_soon(scope.cancel)
        thread.join(10)
