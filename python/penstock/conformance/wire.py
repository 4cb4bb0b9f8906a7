"""A connection to the server under test: octets out, replies in, each wait bounded.

It forgives what it can read, and notes it as a flaw of the reply: a case may ask for `strict`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from typing import Final, Self

from penstock.conformance.expectation import Closed, Event, Garbled, Reply, Silent

__all__ = ["REPLY_LINES_MAX", "REPLY_LINE_MAX", "Wire"]

REPLY_LINE_MAX: Final = 512
"""Octets of a line of a reply with its CRLF (RFC 5321 4.5.3.1.5); longer is a flaw."""
REPLY_BYTES_MAX: Final = 65_536
"""Octets of a reply that are read at most, whatever its lines are."""
REPLY_LINES_MAX: Final = 200
"""Lines of a reply that are read at most."""

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class Wire:
    """One connection."""

    def __init__(self, host: str, port: int, *, timeout_s: float, is_tls: bool) -> None:
        """Connect.

        Args:
            host: Name or address.
            port: Port.
            timeout_s: The longest wait for anything.
            is_tls: Whether TLS begins at once (RFC 8314).

        Raises:
            OSError: There is no connection, or no TLS.
        """
        self._host = host
        self._timeout_s = timeout_s
        self._received = b""
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_tls:
            failure = self.handshake()
            if failure:
                self.close()
                raise OSError(f"no TLS: {failure}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, without QUIT."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def send(self, octets: bytes) -> None:
        """Send octets; that nobody takes them is seen when the reply is read."""
        self._socket.settimeout(self._timeout_s)
        with contextlib.suppress(OSError):
            self._socket.sendall(octets)

    def handshake(self) -> str:
        """Begin TLS; return why it failed, or nothing. What was received before is none of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The protocol is tested, not the certificate: a server under test has one of its own making.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self._received:
            return f"octets in plain text after the reply to STARTTLS: {self._received[:100]!r}"
        self._socket.settimeout(self._timeout_s)
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=self._host)
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__
        return ""

    def read(self, wait_s: float | None = None) -> Event:
        """Read a reply, for `wait_s` or the usual time in all."""
        deadline = time.monotonic() + (self._timeout_s if wait_s is None else wait_s)
        code = b""
        lines: list[str] = []
        flaws: list[str] = []
        taken = 0
        while True:
            line = self._line(deadline)
            if not isinstance(line, bytes):
                return line if not lines else Garbled(b"%s- and no more" % code)
            taken += len(line)
            match = _LINE.fullmatch(line.rstrip(b"\r\n"))
            if match is None or taken > REPLY_BYTES_MAX or len(lines) >= REPLY_LINES_MAX:
                return Garbled(line)
            flaws += _flaws(line, match, code)
            code = match[1]
            lines.append((match[3] or b"").decode("utf-8", "replace"))
            if match[2] != b"-":
                return Reply(code.decode(), tuple(lines), tuple(dict.fromkeys(flaws)))

    def _line(self, deadline: float) -> bytes | Closed | Silent | Garbled:
        while b"\n" not in self._received:
            if len(self._received) > REPLY_BYTES_MAX:
                return Garbled(self._received)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return Garbled(self._received) if self._received else Silent()
            self._socket.settimeout(left_s)
            try:
                octets = self._socket.recv(16_384)
            except TimeoutError:
                continue
            except OSError:
                octets = b""
            if not octets:
                return Garbled(self._received) if self._received else Closed()
            self._received += octets
        line, _, self._received = self._received.partition(b"\n")
        return line + b"\n"


def _flaws(line: bytes, match: re.Match[bytes], code: bytes) -> list[str]:
    found = []
    if not line.endswith(b"\r\n"):
        found.append("a line does not end with CRLF")
    if len(line) > REPLY_LINE_MAX:
        found.append(f"a line of {len(line)} octets")
    if code and code != match[1]:
        found.append("lines with different codes")
    if re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", match[3] or b""):
        found.append("control characters")
    return found
