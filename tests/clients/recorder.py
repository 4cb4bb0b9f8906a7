"""Stands between a client and the daemon, and keeps what they say first, to see which extensions are used."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from types import TracebackType
from typing import Self

KEPT_BYTES = 16384
_MAIL = re.compile(rb"^MAIL FROM:<[^>]*>(.*?)\r?$", re.IGNORECASE | re.MULTILINE)
_DATA = re.compile(rb"^(DATA|BDAT)\b", re.IGNORECASE | re.MULTILINE)
_GREETING = re.compile(rb"^(EHLO|HELO)\b", re.IGNORECASE | re.MULTILINE)


class Recorder:
    """Forwards connections to a port of this machine."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.said = bytearray()
        """What clients said, the first 16 KiB."""
        self.heard = bytearray()
        """What they heard, likewise."""

    @property
    def port(self) -> int:
        """Where clients connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A close does not wake who waits in accept; a shutdown does.
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._connections):
            each.close()

    def dialogue(self) -> str:
        """Return the beginnings of both sides, for the message of a failure."""
        heard, said = (bytes(each[:2000]).decode("ascii", "replace") for each in (self.heard, self.said))
        return f"said:\n{said}\nheard:\n{heard}"

    def used(self) -> list[str]:
        """Return which of the extensions the client used, as far as its commands show it."""
        found = []
        if greeting := _GREETING.search(self.said):
            found.append(greeting[1].decode().upper())
        if mail := _MAIL.search(self.said):
            parameters = mail[1].decode("ascii", "replace").upper().split()
            found += [each.removeprefix("BODY=").partition("=")[0] for each in parameters]
        if data := _DATA.search(self.said):
            found.append("CHUNKING" if data[1].upper() == b"BDAT" else "DATA")
        return found

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, 10)
                far.settimeout(None)
                self._connections += [near, far]
                self._start(self._forward, near, far, self.said)
                self._start(self._forward, far, near, self.heard)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                kept += octets[: max(0, KEPT_BYTES - len(kept))]
                sink.sendall(octets)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
