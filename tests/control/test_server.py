"""Both servers with real sockets."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
import trio

from penstock.control import server
from penstock.control.server import serve_control, serve_metrics
from penstock.errors import BindFailed
from tests.control.fake import FakeViews

GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def ask(stream: trio.SocketStream, octets: bytes) -> bytes:
    """Send octets and return everything that comes back."""
    await stream.send_all(octets)
    return await rest(stream)


async def rest(stream: trio.SocketStream) -> bytes:
    octets = b""
    async for piece in stream:
        octets += piece
    return octets


@pytest.fixture
async def control(tmp_path: Path, nursery: trio.Nursery) -> Path:
    path = tmp_path / "s"
    await nursery.start(partial(serve_control, path, FakeViews(), version="0.1.0"))
    return path


@pytest.fixture
async def metrics(nursery: trio.Nursery) -> tuple[str, int]:
    address: tuple[str, int] = await nursery.start(
        partial(serve_metrics, "127.0.0.1", 0, FakeViews(), version="0.1.0", names=["relay1"])
    )
    return address


async def test_the_socket_has_the_mail_side(control: Path) -> None:
    async with await trio.open_unix_socket(control) as stream:
        head, _, body = (await ask(stream, GET % b"/v1/status")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == FakeViews().state


async def test_tcp_has_the_public_side_only(metrics: tuple[str, int]) -> None:
    for path, status in ((b"/metrics", b"200"), (b"/livez", b"200"), (b"/readyz", b"200"), (b"/v1", b"404")):
        async with await trio.open_tcp_stream(*metrics) as stream:
            assert (await ask(stream, GET % path)).startswith(b"HTTP/1.1 " + status)


async def test_tcp_refuses_foreign_names_and_origins(metrics: tuple[str, int]) -> None:
    for request, status in (
        ((GET % b"/metrics").replace(b"localhost", b"relay1"), b"200"),
        ((GET % b"/metrics").replace(b"localhost", b"evil.example"), b"421"),
        (GET % b"http://evil.example/metrics", b"421"),
        ((GET % b"/metrics").replace(b"\r\n\r\n", b"\r\nOrigin: http://evil.example\r\n\r\n"), b"403"),
    ):
        async with await trio.open_tcp_stream(*metrics) as stream:
            assert (await ask(stream, request)).startswith(b"HTTP/1.1 " + status), request


async def test_garbage_and_hanging_up_harm_nobody_else(metrics: tuple[str, int]) -> None:
    for octets in (b"", b"\x00" * 5000, b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"):
        async with await trio.open_tcp_stream(*metrics) as stream:
            await stream.send_all(octets)
    async with await trio.open_tcp_stream(*metrics) as stream:
        assert b" 200 " in await ask(stream, GET % b"/livez")


async def test_a_bug_costs_one_connection(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    await nursery.start(partial(serve_control, tmp_path / "s", FakeViews(), version="0.1.0"))
    with monkeypatch.context() as patched:
        patched.setattr(server, "serve_connection", broken)
        async with await trio.open_unix_socket(tmp_path / "s") as stream:
            assert await rest(stream) == b""
    assert "ZeroDivisionError" in caplog.text
    async with await trio.open_unix_socket(tmp_path / "s") as stream:
        assert b" 200 " in await ask(stream, GET % b"/v1")


async def test_a_refusal_arrives_although_more_was_sent_than_is_read(metrics: tuple[str, int]) -> None:
    async with await trio.open_tcp_stream(*metrics) as stream:
        head = b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
        assert (await ask(stream, head + b"x" * 200_000)).startswith(b"HTTP/1.1 413")


async def test_one_connection_too_many_is_told_503_and_room_comes_back(metrics: tuple[str, int]) -> None:
    streams = [await trio.open_tcp_stream(*metrics) for _ in range(server.CONNECTIONS_MAX)]
    for stream in streams:
        # Answered, so it is counted.
        await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await stream.receive_some()
    async with await trio.open_tcp_stream(*metrics) as stream:
        assert (await rest(stream)).startswith(b"HTTP/1.1 503 ")
    for stream in streams:
        await stream.aclose()
    with trio.fail_after(10):
        while True:
            async with await trio.open_tcp_stream(*metrics) as stream:
                try:
                    if b" 200 " in await ask(stream, GET % b"/livez"):
                        return
                except trio.BrokenResourceError:
                    continue


async def test_a_socket_in_use_is_refused(control: Path) -> None:
    with pytest.raises(BindFailed):
        await serve_control(control, FakeViews(), version="0.1.0")


async def test_the_socket_file_goes_when_the_server_is_cancelled(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_control, tmp_path / "s", FakeViews(), version="0.1.0"))
        async with await trio.open_unix_socket(tmp_path / "s"):
            nursery.cancel_scope.cancel()
    assert not os.listdir(tmp_path)
