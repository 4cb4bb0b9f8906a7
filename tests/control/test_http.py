"""One connection: what is answered, when it is kept, and what hostile peers get."""

from __future__ import annotations

import contextlib
import random
import re

import pytest
import trio
import trio.testing

from penstock.control import http
from penstock.control.http import serve_connection
from penstock.control.messages import Request, Response

GET = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"


class Peer:
    """The far end of a connection whose server answers everything with what it was asked."""

    def __init__(self, nursery: trio.Nursery, body: bytes = b"") -> None:
        self.asked: list[Request] = []
        self.body = body
        near, self.stream = trio.testing.memory_stream_pair()
        self.done = trio.Event()
        nursery.start_soon(self._serve, near)

    async def _serve(self, near: trio.abc.HalfCloseableStream) -> None:
        await serve_connection(near, self._answer, "9.9")
        self.done.set()

    async def _answer(self, request: Request) -> Response:
        self.asked.append(request)
        body = self.body or "/".join(request.path).encode()
        return Response(status=200, content_type="text/plain", body=body)

    async def send(self, octets: bytes) -> None:
        await self.stream.send_all(octets)

    async def finish(self) -> bytes:
        """End our side and return everything that is still to come."""
        await self.stream.send_eof()
        octets = b""
        async for piece in self.stream:
            octets += piece
        await self.done.wait()
        return octets

    async def read(self, until: bytes) -> bytes:
        """Return what comes, up to the end of `until`."""
        octets = b""
        while not octets.endswith(until):
            piece = await self.stream.receive_some()
            assert piece, octets
            octets += piece
        return octets


def statuses(octets: bytes) -> list[int]:
    """Return the status of every response in a stream of them."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", octets)]


async def test_a_request_is_answered_with_the_headers_of_the_house(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    await peer.send(GET)
    octets = await peer.finish()
    head, _, body = octets.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 200 ok"
    assert body == b"v1/status"
    for line in (
        b"content-type: text/plain",
        b"content-length: 9",
        b"cache-control: no-store",
        b"x-content-type-options: nosniff",
        b"penstock-version: 9.9",
    ):
        assert line in lines
    assert any(line.startswith(b"date: ") for line in lines)


async def test_a_connection_is_kept_for_further_requests(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    for _ in range(3):
        await peer.send(GET)
        assert b" 200 " in await peer.read(b"v1/status")
    assert await peer.finish() == b""


async def test_pipelined_requests_are_answered_in_order(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    await peer.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(20)))
    assert statuses(await peer.finish()) == [200] * 20
    assert [request.path for request in peer.asked] == [(str(n),) for n in range(20)]


async def test_any_split_of_the_octets_is_the_same_request(nursery: trio.Nursery) -> None:
    request = b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz" + GET
    for step in (1, 2, 7, len(request)):
        peer = Peer(nursery)
        for begin in range(0, len(request), step):
            await peer.send(request[begin : begin + step])
        assert statuses(await peer.finish()) == [200, 200]
        assert peer.asked[0] == Request(method="GET", path=("a b",), query={"c": "d"}, host="x")


async def test_head_has_the_length_and_no_body(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    await peer.send(GET.replace(b"GET", b"HEAD"))
    octets = await peer.finish()
    assert b"content-length: 9" in octets.lower()
    assert octets.endswith(b"\r\n\r\n")


async def test_http_1_0_is_answered_and_closed(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    await peer.send(b"GET / HTTP/1.0\r\n\r\n")
    octets = await peer.read(b"\r\n\r\n")
    assert statuses(octets) == [200]
    assert b"connection: close" in octets.lower()
    assert await peer.stream.receive_some() == b""
    await peer.stream.aclose()


async def test_close_is_honoured(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    await peer.send(GET[:-2] + b"Connection: close\r\n\r\n" + GET)
    octets = await peer.finish()
    assert statuses(octets) == [200]
    assert len(peer.asked) == 1


async def test_absolute_target_names_the_host(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    await peer.send(b"GET http://a.test/b HTTP/1.1\r\nHost: other.test\r\nOrigin: null\r\n\r\n")
    await peer.finish()
    assert peer.asked == [Request(method="GET", path=("b",), host="a.test", origin="null")]


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"EHLO client.example\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n" + GET, 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"CONNECT relay1:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", 417),
        (b"GET /" + b"a" * (http.HEAD_BYTES_MAX + http.READ_BYTES) + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 3_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + b"a" * 70_000, 413),
    ],
)
async def test_what_is_no_proper_request_is_refused_once_and_closed(
    octets: bytes, status: int, nursery: trio.Nursery
) -> None:
    peer = Peer(nursery)
    await peer.send(octets)
    answer = await peer.finish()
    assert statuses(answer) == [status]
    assert b"application/problem+json" in answer
    assert peer.asked == []


async def test_a_body_up_to_the_limit_is_dropped(nursery: trio.Nursery) -> None:
    body = b"a" * http.BODY_BYTES_MAX
    for size_bytes, expected in ((len(body), [200, 200]), (len(body) + 1, [413])):
        peer = Peer(nursery)
        await peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size_bytes)
        await peer.send(body + b"a" * (size_bytes - len(body)) + GET)
        assert statuses(await peer.finish()) == expected


async def test_header_section_up_to_the_limit_is_taken(nursery: trio.Nursery) -> None:
    begin = b"GET / HTTP/1.1\r\nHost: x\r\nA: "
    fill = http.HEAD_BYTES_MAX - len(begin) - 4
    for more, expected in ((0, 200), (1 + http.READ_BYTES, 431)):
        peer = Peer(nursery)
        await peer.send(begin + b"b" * (fill + more) + b"\r\n\r\n")
        assert statuses(await peer.finish()) == [expected]


async def test_a_peer_that_drips_its_request_is_told_408(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Peer(nursery)
    begun = trio.current_time()

    async def drip() -> None:
        with trio.move_on_after(http.REQUEST_S * 2):
            for octet in b"GET / HTTP/1.1\r\nA: " + b"b" * 1000:
                try:
                    await peer.send(bytes([octet]))
                except trio.BrokenResourceError:
                    return
                await trio.sleep(0.5)

    nursery.start_soon(drip)
    answer = await peer.read(b"}\n")
    assert statuses(answer) == [408]
    assert trio.current_time() - begun == pytest.approx(http.REQUEST_S, abs=0.1)
    await peer.done.wait()


async def test_an_idle_connection_is_closed_without_a_word(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    for first, idle_s in ((b"", http.REQUEST_S), (GET, http.IDLE_S)):
        peer = Peer(nursery)
        begun = trio.current_time()
        if first:
            await peer.send(first)
            await peer.read(b"v1/status")
        assert await peer.stream.receive_some() == b""
        await peer.done.wait()
        assert trio.current_time() - begun == pytest.approx(idle_s, abs=0.1)


async def test_a_peer_that_takes_nothing_is_left(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    done = trio.Event()

    async def answer(request: Request) -> Response:
        return Response(status=200, content_type="text/plain", body=b"a" * 1_000_000)

    async def serve() -> None:
        await serve_connection(near, answer, "9.9")
        done.set()

    nursery.start_soon(serve)
    await far.send_all(GET)
    begun = trio.current_time()
    await done.wait()
    assert trio.current_time() - begun == pytest.approx(http.WRITE_S, abs=0.1)


async def test_a_large_answer_arrives_whole(nursery: trio.Nursery) -> None:
    peer = Peer(nursery, body=b"0123456789" * 100_000)
    await peer.send(GET)
    assert (await peer.finish()).endswith(b"\r\n\r\n" + peer.body)


async def test_octets_after_a_refusal_are_read_and_dropped_up_to_a_limit(nursery: trio.Nursery) -> None:
    peer = Peer(nursery)
    await peer.send(b"garbage\r\n\r\n")
    await peer.read(b"}\n")
    sent = 0
    with contextlib.suppress(trio.BrokenResourceError):
        while sent < http.LINGER_BYTES_MAX * 2:
            await peer.send(b"x" * http.READ_BYTES)
            sent += http.READ_BYTES
    assert sent < http.LINGER_BYTES_MAX * 2
    await peer.done.wait()


async def test_no_octets_break_a_connection(nursery: trio.Nursery) -> None:
    rng = random.Random(9457)
    seeds = [
        GET,
        GET.replace(b"GET", b"HEAD"),
        b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nxyz\r\n0\r\nT: u\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\r\n",
    ]
    for _ in range(500):
        octets = bytearray(b"".join(rng.choices(seeds, k=rng.randint(1, 3))))
        for _ in range(rng.randint(0, 4)):
            place = rng.randrange(len(octets))
            octets[place : place + rng.randint(0, 2)] = rng.choice(
                (b"", b"\0", b"\r\n", b" ", b":", b"9", b"\xff")
            )
        peer = Peer(nursery)
        await peer.send(bytes(octets))
        answer = await peer.finish()
        assert set(statuses(answer)) <= {200, 400, 413, 417, 431, 501, 505}, bytes(octets)
