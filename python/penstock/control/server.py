"""The two servers: mail on the Unix socket, metrics and health on TCP.

Both are started with `nursery.start` and run until they are cancelled. What a peer does never ends them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

from penstock.control.http import Answerer, serve_connection
from penstock.control.listeners import open_tcp_listener, open_unix_listener
from penstock.control.routes import mail_site, public_site
from penstock.control.views import Views

__all__ = ["serve_control", "serve_metrics"]

CONNECTIONS_MAX: Final = 64
"""Per server; a connection costs some kilobytes, and a request some milliseconds of the loop."""
TURN_AWAY_S: Final = 1.0

_log = logging.getLogger(__name__)

_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Length: 0\r\nRetry-After: 1\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
)


async def serve_control(
    path: Path,
    views: Views,
    *,
    version: str,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `/v1` on a Unix socket of mode 0600.

    Args:
        path: Where the socket is made; its folder must exist.
        views: What is shown.
        version: Version of Penstock.
        task_status: Told when it listens.

    Raises:
        BindFailed: The socket cannot be made, or somebody listens there.
    """
    async with open_unix_listener(path) as listener:
        task_status.started()
        await _serve(listener, mail_site(views, version).answer, version)


async def serve_metrics(
    host: str,
    port: int,
    views: Views,
    *,
    version: str,
    names: Iterable[str] = (),
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `/metrics`, `/livez` and `/readyz` on TCP.

    Args:
        host: IP address to listen on.
        port: Its port; 0 takes any.
        views: What is shown.
        version: Version of Penstock.
        names: Names by which scrapers may ask for this server, beside localhost and IP addresses.
        task_status: Told the address when it listens.

    Raises:
        BindFailed: The address cannot be had.
    """
    listener = await open_tcp_listener(host, port)
    async with listener:
        task_status.started(listener.socket.getsockname()[:2])
        await _serve(listener, public_site(views, names).answer, version)


async def _serve(listener: trio.SocketListener, answer: Answerer, version: str) -> None:
    connections = 0

    async def connection(stream: trio.SocketStream) -> None:
        nonlocal connections
        if connections >= CONNECTIONS_MAX:
            await _turn_away(stream)
            return
        connections += 1
        try:
            await serve_connection(stream, answer, version)
        except Exception:
            # A bug here costs one connection, never the mail.
            _log.exception("bug: a connection has ended")
        finally:
            connections -= 1

    async with trio.open_nursery() as nursery:
        await trio.serve_listeners(connection, [listener], handler_nursery=nursery)


async def _turn_away(stream: trio.SocketStream) -> None:
    """Tell a peer that there is no room; it has not been read from, so it may lose the sentence."""
    with trio.move_on_after(TURN_AWAY_S), contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(_BUSY)
