"""Who may listen where, and what is left behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from penstock.control import listeners
from penstock.control.listeners import open_tcp_listener, open_unix_listener
from penstock.errors import BindFailed


def bound(path: Path) -> socket.socket:
    """Return a socket that listens at a path, as another process would."""
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(path))
    other.listen()
    return other


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(each.name for each in folder.iterdir())


def inodes(folder: Path) -> list[tuple[str, int]]:
    """Return what is in a folder, and that it is the same as before."""
    return sorted((each.name, each.lstat().st_ino) for each in folder.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_use_the_socket_from_its_first_moment(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "s"
    before = os.umask(umask)
    try:
        async with open_unix_listener(path):
            mode = path.lstat().st_mode
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_the_file_goes_with_the_listener(tmp_path: Path) -> None:
    async with open_unix_listener(tmp_path / "s"):
        assert (tmp_path / "s").exists()
    assert names(tmp_path) == []


async def test_the_file_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    bound(tmp_path / "s").close()
    async with (
        open_unix_listener(tmp_path / "s") as listener,
        await trio.open_unix_socket(tmp_path / "s") as near,
        await listener.accept() as far,
    ):
        await near.send_all(b"x")
        assert await far.receive_some(1) == b"x"


async def test_a_socket_that_somebody_listens_on_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(path) as other:
        inode = path.lstat().st_ino
        with pytest.raises(BindFailed) as caught:
            async with open_unix_listener(path):
                pass
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.address == str(path)
        assert path.lstat().st_ino == inode
        other.close()


async def test_a_listener_with_a_full_backlog_listens_too(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(path))
        other.listen(0)
        waiting.connect(str(path))
        with pytest.raises(BindFailed):
            async with open_unix_listener(path):
                pass
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "fifo", "link", "dangling"])
async def test_anything_else_in_its_place_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious", encoding="utf-8")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "target")
        if kind == "link":
            bound(tmp_path / "target").close()
    before = inodes(tmp_path)
    with pytest.raises(BindFailed) as caught:
        async with open_unix_listener(path):
            pass
    assert caught.value.errno == errno.EEXIST
    assert inodes(tmp_path) == before


async def test_a_missing_folder_is_made_and_may_be_entered_by_all(tmp_path: Path) -> None:
    path = tmp_path / "run" / "penstock" / "s"
    before = os.umask(0o000)
    try:
        async with open_unix_listener(path):
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    finally:
        os.umask(before)
    assert names(path.parent) == []


async def test_an_impossible_folder_and_a_long_path_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "s", tmp_path / ("x" * listeners.PATH_BYTES_MAX)):
        with pytest.raises(BindFailed, match="cannot listen on"):
            async with open_unix_listener(path):
                pass


async def test_of_two_that_start_at_once_one_listens(tmp_path: Path) -> None:
    bound(tmp_path / "s").close()
    outcomes: list[str] = []
    both = trio.Event()

    async def start() -> None:
        try:
            async with open_unix_listener(tmp_path / "s"):
                outcomes.append("listens")
                await both.wait()
        except BindFailed:
            outcomes.append("refused")
            both.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)
    assert sorted(outcomes) == ["listens", "refused"]


async def test_a_file_that_another_has_put_there_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with open_unix_listener(path):
        path.unlink()
        path.write_text("another's", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "another's"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_tcp_port_is_never_shared(host: str) -> None:
    try:
        first = await open_tcp_listener(host, 0)
    except BindFailed as error:
        pytest.skip(str(error))
    async with first:
        port = first.socket.getsockname()[1]
        with pytest.raises(BindFailed) as caught:
            await open_tcp_listener(host, port)
        assert caught.value.errno == errno.EADDRINUSE
        assert str(port) in caught.value.address


async def test_a_tcp_port_that_others_would_share_is_refused() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BindFailed):
            await open_tcp_listener("127.0.0.1", other.getsockname()[1])


async def test_an_address_of_another_machine_is_a_sentence() -> None:
    with pytest.raises(BindFailed, match=r"192\.0\.2\.1:9925"):
        await open_tcp_listener("192.0.2.1", 9925)
