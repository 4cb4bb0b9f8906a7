"""An SMTP receiver that keeps what it gets, octet for octet, and answers as told.

It shares no code with Penstock on purpose: what it says was received is the tests' independent witness. One
thread per connection, blocking sockets, plain SMTP with PIPELINING, 8BITMIME and SIZE.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

_PATH = re.compile(rb"^(?:MAIL FROM|RCPT TO):<([^>]*)>", re.IGNORECASE)
_QUEUE_ID = re.compile(rb"\bid ([0-9a-z]{13})\b")
_GREETING = "\r\n".join(
    ("250-receiver.test", "250-PIPELINING", "250-8BITMIME", "250-SIZE 0", "250 ENHANCEDSTATUSCODES")
)
_ACCEPT = "250 2.0.0 taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message as it came, dots unstuffed."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    session: int
    monotonic_s: float

    @property
    def queue_id(self) -> str:
        """The id in the topmost Received: header, "" if there is none."""
        found = _QUEUE_ID.search(self.content[:2048])
        return found.group(1).decode() if found else ""


@dataclass(slots=True, kw_only=True)
class _Transaction:
    sender: str | None = None
    recipients: tuple[str, ...] = ()


class Receiver:
    """Listens while the context is open.

    Args:
        port: 0 takes a free one.
        rcpt: Reply to RCPT by recipient address; others are accepted.
        dot: Reply to the end of content by the first recipient's address; others are accepted.
        content_delay_s: Time taken before the reply to the content.
        on_message: Called in the connection's thread before the reply is sent, also for refused content.
        keep: Keep messages in `messages`; off for long runs that count by themselves.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        rcpt: Mapping[str, str] | None = None,
        dot: Mapping[str, str] | None = None,
        content_delay_s: float = 0.0,
        on_message: Callable[[Received], None] | None = None,
        keep: bool = True,
    ) -> None:
        self.rcpt = dict(rcpt or {})
        self.dot = dict(dot or {})
        self.messages: list[Received] = []
        self.sessions = 0
        self._content_delay_s = content_delay_s
        self._on_message = on_message
        self._keep = keep
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1000)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="receiver", daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, break open connections, wait for the threads."""
        # shutdown wakes the accept that another thread is in; close alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(10)
        for thread in self._threads:
            thread.join(10)

    def wait(self, count: int, *, timeout_s: float = 20.0) -> list[Received]:
        """Return the messages once there are at least `count`.

        Raises:
            TimeoutError: Fewer came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.messages) >= count, timeout_s):
                raise TimeoutError(f"{len(self.messages)} of {count} messages after {timeout_s} s")
            return list(self.messages)

    def for_recipient(self, address: str) -> list[Received]:
        """Return the accepted messages that had this recipient."""
        with self._changed:
            return [message for message in self.messages if address in message.recipients]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.sessions += 1
                number = self.sessions
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 receiver.test ESMTP\r\n")
            for reply in self._dialogue(lines, connection, number):
                connection.sendall(reply.encode() + b"\r\n")
        with self._changed:
            self._open.discard(connection)

    def _dialogue(self, lines: BinaryIO, connection: socket.socket, number: int) -> Iterator[str]:
        transaction = _Transaction()
        for line in iter(lines.readline, b""):
            verb = line[:4].upper().strip()
            if verb == b"EHLO":
                yield _GREETING
            elif verb == b"QUIT":
                yield "221 2.0.0 bye"
                return
            elif verb == b"MAIL":
                transaction = _Transaction(sender=_address(line))
                yield "250 2.1.0 sender ok"
            elif verb == b"RCPT":
                yield self._recipient(line, transaction)
            elif verb != b"DATA":
                transaction = _Transaction()
                yield "250 2.0.0 ok"
            elif not transaction.recipients:
                yield "554 5.5.1 no valid recipients"
            else:
                connection.sendall(b"354 go on\r\n")
                content = _content(lines)
                if content is None:
                    return
                yield self._take(content, transaction, number)
                transaction = _Transaction()

    def _recipient(self, line: bytes, transaction: _Transaction) -> str:
        address = _address(line)
        reply = self.rcpt.get(address, "250 2.1.5 recipient ok")
        if reply.startswith("2"):
            transaction.recipients += (address,)
        return reply

    def _take(self, content: bytes, transaction: _Transaction, number: int) -> str:
        message = Received(
            sender=transaction.sender or "",
            recipients=transaction.recipients,
            content=content,
            session=number,
            monotonic_s=time.monotonic(),
        )
        if self._content_delay_s:
            time.sleep(self._content_delay_s)
        reply = self.dot.get(message.recipients[0], _ACCEPT)
        if self._on_message is not None:
            self._on_message(message)
        if self._keep and reply.startswith("2"):
            with self._changed:
                self.messages.append(message)
                self._changed.notify_all()
        return reply


def _address(line: bytes) -> str:
    found = _PATH.match(line)
    if found is None:
        raise AssertionError(f"not a path: {line!r}")
    return found.group(1).decode("utf-8", "surrogateescape")


def _content(lines: BinaryIO) -> bytes | None:
    """Read up to CRLF.CRLF; None when the connection ends before."""
    kept: list[bytes] = []
    at_line_start = True
    for line in iter(lines.readline, b""):
        if at_line_start and line == b".\r\n":
            return b"".join(kept)
        kept.append(line[1:] if at_line_start and line.startswith(b".") else line)
        at_line_start = line.endswith(b"\r\n")
    return None
