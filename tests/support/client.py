"""A small SMTP client over a plain socket, for tests that must decide every octet they send.

smtplib changes content (line ends, a final CRLF), so byte-exactness is measured with this one.
"""

from __future__ import annotations

import re
import socket
from types import TracebackType
from typing import Self

_DOT_AT_LINE_START = re.compile(rb"^\.", re.MULTILINE)


class SmtpClient:
    """One connection; the banner is read, EHLO is sent."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = 30.0) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")
        try:
            self.banner = self.reply()
            self.extensions = self.command("EHLO client.test")[1].splitlines()[1:]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break the connection without QUIT."""
        self._lines.close()
        self._socket.close()

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(octets)

    def reply(self) -> tuple[int, str]:
        """Read one reply: its code, and its lines without codes.

        Raises:
            ConnectionError: The connection ended.
        """
        texts: list[str] = []
        while True:
            line = self._lines.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionError(f"connection ended inside a reply: {line!r}")
            texts.append(line[4:-2].decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return int(line[:3]), "\n".join(texts)

    def command(self, text: str) -> tuple[int, str]:
        """Send one command and read its reply."""
        self.send(text.encode() + b"\r\n")
        return self.reply()

    def message(self, sender: str, recipients: list[str], content: bytes) -> tuple[int, str]:
        """Send one message, the envelope pipelined; return the reply that decided.

        Args:
            content: Ends with CRLF, or is empty; lines end with CRLF only.
        """
        envelope = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{address}>" for address in recipients), "DATA"]
        self.send("".join(f"{line}\r\n" for line in envelope).encode())
        replies = [self.reply() for _ in envelope]
        if replies[-1][0] != 354:
            return next((reply for reply in replies if reply[0] >= 400), replies[-1])
        self.send(_DOT_AT_LINE_START.sub(b"..", content) + b".\r\n")
        return self.reply()
