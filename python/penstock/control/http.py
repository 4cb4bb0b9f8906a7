"""HTTP/1.1 over one stream: h11 reads and writes, Trio waits, an answerer decides.

Small and strict. Every size is bounded, every wait has a deadline, and whatever cannot be read in exactly one
way is refused and the connection closed:

    idle ──first octet──► request line and headers ──► body, drained ──► answer ──► idle or closed
    IDLE_S               REQUEST_S for both                            WRITE_S per piece

A connection that has not asked anything yet may be idle for REQUEST_S only.

A request's body means nothing to the routes there are, so it is drained up to a limit and dropped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, TypeAlias

import h11
import trio

from penstock.control.messages import Refused, Request, Response, problem, read_target

__all__ = ["Answerer", "serve_connection"]

HEAD_BYTES_MAX: Final = 16 * 1024
"""Request line and headers; one piece of READ_BYTES more is taken where it ends the section."""
BODY_BYTES_MAX: Final = 64 * 1024
READ_BYTES: Final = 4 * 1024
WRITE_BYTES: Final = 64 * 1024
IDLE_S: Final = 75.0
"""Longer than Prometheus' default interval of a minute, so that its connections are kept."""
REQUEST_S: Final = 10.0
"""From a request's first octet to its last."""
WRITE_S: Final = 10.0
"""For a peer to take up to WRITE_BYTES."""
LINGER_S: Final = 1.0
LINGER_BYTES_MAX: Final = 256 * 1024

Answerer: TypeAlias = Callable[[Request], Awaitable[Response]]

_SENTENCES: Final = {
    400: "The request is not HTTP/1.1.",
    408: "The request did not come in time.",
    431: "The request's header section is too large.",
    501: "The request's transfer encoding is not known.",
}


async def serve_connection(stream: trio.abc.HalfCloseableStream, answer: Answerer, version: str) -> None:
    """Answer the requests of one connection until either side has enough, then close it.

    Args:
        stream: The connection; closed on return.
        answer: Decides. What it raises passes through.
        version: Told to the peer with every response.
    """
    async with stream:
        # The peer has gone, or takes nothing more: there is nobody to tell.
        with contextlib.suppress(trio.BrokenResourceError, trio.TooSlowError):
            await _Exchanges(stream, answer, version).run()


class _Exchanges:
    """Requests and responses on one connection, one at a time."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, answer: Answerer, version: str) -> None:
        self._stream = stream
        self._answer = answer
        self._version = version
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    async def run(self) -> None:
        """Go on until the connection cannot be used again."""
        idle_s = REQUEST_S
        while await self._wait_first_octet(idle_s):
            await self._exchange()
            idle_s = IDLE_S
            if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                await self._linger()
                return
            self._http.start_next_cycle()

    async def _wait_first_octet(self, idle_s: float) -> bool:
        """Return False when the peer has said goodbye, or nothing, for too long."""
        if self._http.trailing_data[0]:
            return True
        with trio.move_on_after(idle_s):
            octets = await self._stream.receive_some(READ_BYTES)
            if octets:
                self._http.receive_data(bytes(octets))
            return bool(octets)
        return False

    async def _exchange(self) -> None:
        has_body = True
        try:
            with trio.fail_after(REQUEST_S):
                head = await self._head()
                has_body = head.method != b"HEAD"
                await self._drain_body()
            request = _request(head)
        except h11.RemoteProtocolError as error:
            response = _not_http(error.error_status_hint)
        except trio.TooSlowError:
            response = _not_http(408)
        except Refused as refused:
            response = refused.response
        else:
            response = await self._answer(request)
        await self._send(response, has_body=has_body)

    async def _head(self) -> h11.Request:
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            # The peer closed its side within a request.
            raise h11.RemoteProtocolError("no request")
        if event.http_version not in (b"1.0", b"1.1"):
            raise Refused(505, "not-http", "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        return event

    async def _drain_body(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            raise Refused(417, "body-refused", "Bodies are not wanted here.")
        size_bytes = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size_bytes += len(event.data)
            if size_bytes > BODY_BYTES_MAX:
                raise Refused(413, "body-refused", "The request's body is too large.")

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))
        return event

    async def _send(self, response: Response, *, has_body: bool) -> None:
        headers = [
            ("Date", formatdate(time.time(), usegmt=True)),
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Penstock-Version", self._version),
            *response.headers,
        ]
        if self._http.their_state is not h11.DONE:
            # Where the next request would begin is not known.
            headers.append(("Connection", "close"))
        head = h11.Response(
            status_code=response.status, headers=headers, reason=HTTPStatus(response.status).phrase.encode()
        )
        octets = self._http.send(head) or b""
        if has_body:
            octets += self._http.send(h11.Data(data=response.body)) or b""
        octets += self._http.send(h11.EndOfMessage()) or b""
        view = memoryview(octets)
        for begin in range(0, len(view), WRITE_BYTES):
            with trio.fail_after(WRITE_S):
                await self._stream.send_all(view[begin : begin + WRITE_BYTES])

    async def _linger(self) -> None:
        """End our side first: closing over unread octets is a reset, which can destroy what was answered."""
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            size_bytes = 0
            while size_bytes < LINGER_BYTES_MAX and (octets := await self._stream.receive_some(READ_BYTES)):
                size_bytes += len(octets)


def _not_http(status: int) -> Response:
    """Answer what is no request; nothing of what came is repeated."""
    if status not in _SENTENCES:
        status = 400
    return problem(status, "not-http", _SENTENCES[status])


def _request(head: h11.Request) -> Request:
    """Return what the routes see.

    Raises:
        Refused: The target cannot be read.
    """
    headers = dict(head.headers)
    authority, path, query = read_target(head.target.decode("ascii", "replace"))
    host = headers.get(b"host")
    origin = headers.get(b"origin")
    return Request(
        method=head.method.decode("ascii"),
        path=path,
        query=query,
        host=authority if authority is not None or host is None else host.decode("latin-1"),
        origin=None if origin is None else origin.decode("latin-1"),
    )
