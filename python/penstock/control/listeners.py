"""The Unix socket that only its owner may use, and the TCP address for metrics.

A socket file outlives a killed process, so one that nobody listens on is replaced. Anything else in its
place, a symbolic link included, is somebody's and stays. Two daemons that start at once are kept apart by a
lock on the folder, held from the look to the bind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio

from penstock.errors import BindFailed

__all__ = ["open_tcp_listener", "open_unix_listener"]

SOCKET_MODE: Final = 0o600
FOLDER_MODE: Final = 0o755
BACKLOG: Final = 128
PATH_BYTES_MAX: Final = 107
"""Linux: 108 with the NUL."""
LOCK_TRIES: Final = 100
LOCK_PAUSE_S: Final = 0.02


@asynccontextmanager
async def open_unix_listener(path: Path) -> AsyncIterator[trio.SocketListener]:
    """Listen on a Unix socket of mode 0600 while the context lasts; its file goes with it.

    Its folder is made if it is not there: `/run` is empty after each start of the machine.

    Raises:
        BindFailed: Somebody listens there, something else is there, or the folder cannot be used.
    """
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise BindFailed(
            str(path), errno.ENAMETOOLONG, f"a socket's path has at most {PATH_BYTES_MAX} octets"
        )
    with _failing(str(path)), contextlib.ExitStack() as made:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        made.callback(os.close, folder)
        await _lock(folder)
        _remove_stale(path)
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        undo = made.enter_context(contextlib.ExitStack())
        undo.callback(ours.close)
        # The file gets the mode that the socket has when it is bound: there is no moment with a wider one.
        os.fchmod(ours.fileno(), SOCKET_MODE)
        ours.bind(str(path))
        ours.listen(BACKLOG)
        inode = _inode(path)
        undo.pop_all()
    ours.setblocking(False)
    async with trio.SocketListener(trio.socket.from_stdlib_socket(ours)) as listener:
        try:
            yield listener
        finally:
            # Before it is closed: until then the kernel gives its inode to no other file.
            _remove(path, inode)


async def open_tcp_listener(host: str, port: int) -> trio.SocketListener:
    """Listen on an IP address, never sharing it.

    Args:
        host: IPv4 or IPv6 address.
        port: 0 takes any free one.

    Raises:
        BindFailed: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with _failing(f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"):
        ours = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            # Over the remains of closed connections; never beside another listener.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                ours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            await ours.bind((host, port))
            ours.listen(BACKLOG)
        except BaseException:
            ours.close()
            raise
    return trio.SocketListener(ours)


@contextmanager
def _failing(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BindFailed(address, error.errno or 0, error.strerror or str(error)) from error


async def _lock(folder: int) -> None:
    """Take the folder's lock, which goes with its descriptor.

    Raises:
        BlockingIOError: Somebody else keeps it.
    """
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        await trio.sleep(LOCK_PAUSE_S)
    raise BlockingIOError(errno.EAGAIN, "another process keeps the folder locked")


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "something that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A listener with a full backlog is a listener too, and not worth waiting for.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _remove(path: Path, inode: tuple[int, int]) -> None:
    """Remove our socket file, unless it has gone or somebody has put another one there."""
    with contextlib.suppress(OSError):
        if _inode(path) == inode:
            path.unlink()


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
