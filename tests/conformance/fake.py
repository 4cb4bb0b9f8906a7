"""A server that says what a test wants, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Session = Callable[[socket.socket], None]


class FakeServer:
    """Runs one function per connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(10)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(10)
            self._session(peer)


def answers(replies: dict[str, bytes], *, banner: bytes = b"220 fake.test\r\n") -> Session:
    """Answer commands by their verbs; what is not there is 500, content is 250, QUIT closes."""

    def session(peer: socket.socket) -> None:
        peer.sendall(banner)
        is_content = False
        for line in peer.makefile("rb"):
            if is_content:
                if line == b".\r\n":
                    is_content = False
                    peer.sendall(replies.get(".", b"250 2.0.0 taken\r\n"))
                continue
            verb = line.split()[0].decode("latin-1").upper() if line.strip() else ""
            reply = replies.get(verb, b"500 5.5.1 what?\r\n")
            peer.sendall(reply)
            is_content = verb == "DATA" and reply.startswith(b"354")
            if verb == "QUIT":
                return

    return session


GOOD = {
    "EHLO": b"250-fake.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 ENHANCEDSTATUSCODES\r\n",
    "HELO": b"250 fake.test\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go on\r\n",
    "NOOP": b"250 2.0.0 ok\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
}
