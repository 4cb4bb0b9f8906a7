"""Three ways to hold a dialogue: with the sessions alone, over a transport in memory, through a socket."""

from __future__ import annotations

import importlib
import itertools
import select
import socket
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from penstock.errors import DraftRefused
from penstock.receive.fresh import FreshMessage
from penstock.receive.receiver import Receiver
from penstock.receive.settings import AcceptedDomainSettings, ReceiveConnectorSettings, ReceiveSettings
from penstock.smtp.extensions import Extensions
from tests.dialogues.script import Script
from tests.support.groups import ANONYMOUS, RELAY

NOW_MS = 1_763_951_400_000
LISTENER = 1
REPLY_WITHIN_S = 10.0
RECIPIENTS = "you@contoso.example  # the only one\nme@contoso.example\n@lists.contoso.example\n"


class SmartHost:
    """A router that knows one way."""

    hop = ("m365", "smart_host", "mx.contoso.example")

    def route(self, address: str, domain: str, /) -> SmartHost:
        """Return the way."""
        assert address.endswith(domain)
        return self


def settings(script: Script, folder: Path) -> ReceiveSettings:
    """Return what the dialogues are held under."""
    file = folder / "recipients"
    file.write_text(RECIPIENTS, encoding="utf-8")
    changed: dict[str, Any] = {"tarpit_ms": 0, "listeners": (LISTENER,), **script.settings}
    changed["extensions"] = Extensions(**script.extensions)
    return ReceiveSettings(
        fqdn="relay1.contoso.example",
        default_domain="contoso.example",
        accepted_domains=(
            AcceptedDomainSettings(
                name="contoso.example", type="authoritative", match_sub_domains=True, recipients=str(file)
            ),
            AcceptedDomainSettings(name="fabrikam.example", type="internal_relay"),
        ),
        connectors=(
            ReceiveConnectorSettings(
                name="lan", groups=(RELAY,), remote_ip_ranges=("127.0.1.0/24",), **changed
            ),
            ReceiveConnectorSettings(
                name="internet", groups=(ANONYMOUS,), remote_ip_ranges=("127.0.2.0/24",), **changed
            ),
        ),
    )


class Backend(Protocol):
    """A client's view of the server."""

    accepted: list[FreshMessage]

    def send(self, data: bytes) -> None:
        """Send octets."""

    def line(self) -> bytes:
        """Return the server's next line, with its CRLF."""

    def is_closed(self) -> bool:
        """Return whether the server has closed the connection, and nothing is left to read."""

    def close(self) -> None:
        """End it all."""


class FakeCore:
    """A spool that is durable at once."""

    def __init__(self) -> None:
        """Begin empty."""
        self.refusals: list[str] = []
        self.committed: list[tuple[int, tuple[Any, ...], bytes]] = []
        self._numbers = itertools.count(1)

    def apply(self, actions: list[Any]) -> None:
        """Carry out actions between turns; there are none."""
        assert not actions

    def draft(self, size_hint: int) -> int:
        """Open a draft, unless told otherwise."""
        if self.refusals:
            raise DraftRefused(self.refusals.pop(0))
        return next(self._numbers)

    def drop_draft(self, draft: int) -> None:
        """Forget a draft."""

    def commit(
        self,
        draft: int,
        envelope: tuple[Any, ...],
        prepend: bytes,
        form: str,
        cause: list[tuple[Any, ...]],
        notes: tuple[tuple[str, str], ...],
    ) -> int:
        """Keep a message."""
        self.committed.append((draft, envelope, prepend))
        return draft

    def hop(self, connector: str, kind: str, destination: str) -> int:
        """Return the only hop."""
        return 1

    def server_limits(self, limits: dict[str, int], standard: tuple[bytes, bytes, int] | None = None) -> int:
        """Take limits for granted."""
        return 0

    def server_tls(
        self,
        certificates: list[tuple[bytes, bytes]],
        *,
        minimum: str,
        client_certificates: str,
        number: int | None = None,
    ) -> int:
        """Have no use for certificates."""
        raise AssertionError("no connector has any")


def item(line: str) -> tuple[Any, ...]:
    """Return a well-formed command as it crosses the boundary; the grammar proper is Rust's."""
    verb, _, rest = line.partition(" ")
    verb = verb.upper()
    if verb in ("MAIL", "RCPT"):
        path, _, parameters = rest[rest.index("<") + 1 :].partition(">")
        params = tuple(
            (key.upper(), value if equals else None)
            for key, equals, value in (word.partition("=") for word in parameters.split())
        )
        return verb, path, path.rpartition("@")[2].lower() if "@" in path else "", params
    if verb in ("EHLO", "HELO", "VRFY", "EXPN", "HELP"):
        return verb, rest
    if verb == "BDAT":
        size, _, last = rest.partition(" ")
        return verb, int(size), last.upper() == "LAST"
    if verb == "AUTH":
        mechanism, _, initial = rest.partition(" ")
        return verb, mechanism, b64decode(initial) if initial else None
    if verb in ("XCLIENT", "XFORWARD"):
        return verb, tuple(tuple(word.split("=", 1)) for word in rest.split())
    known = ("DATA", "RSET", "NOOP", "QUIT", "STARTTLS")
    return (verb,) if verb in known else ("unknown", verb)


class SessionBackend:
    """The receiving side without its Rust half."""

    def __init__(self, script: Script, folder: Path) -> None:
        """Connect."""
        self.accepted: list[FreshMessage] = []
        self.core = FakeCore()
        self.receiver = Receiver(
            self.core, settings(script, folder), SmartHost(), self.accepted.append, "q{:012d}".format
        )
        self._output = b""
        self._is_closed = False
        self._turn = 0
        self._draft: int | None = None
        self._content: list[str] = []
        self._handle(self.receiver.opened, "opened", LISTENER, script.peer, 1025, "127.0.0.1", 25, None)

    def _handle(self, method: Callable[[Any, list[Any], int], None], kind: str, *rest: Any) -> None:
        self._turn += 1
        actions: list[tuple[Any, ...]] = []
        method((kind, 1, self._turn, *rest), actions, NOW_MS)
        for action in actions:
            assert action[1:3] == (1, self._turn)
            if action[0] == "reply":
                self._output += action[3]
                self._is_closed = self._is_closed or action[6]
            elif action[0] == "begin":
                self._output += action[4]
            elif action[0] == "take":
                self._draft = action[3]
                self._output += action[5]
            else:
                assert action[0] == "await_durable"
                self._output += action[4]
                self.receiver.committed(("committed", action[3], 0, 1))

    def send(self, data: bytes) -> None:
        """Send lines."""
        lines = data.decode().split("\r\n")
        assert lines.pop() == "", "the sessions alone take whole lines"
        while lines and not self._is_closed:
            if self._draft is None:
                self._send_commands(lines)
            else:
                self._send_content(lines)

    def _send_commands(self, lines: list[str]) -> None:
        items = [item(lines.pop(0))]
        while lines and items[-1][0] not in ("EHLO", "DATA", "BDAT", "QUIT"):
            items.append(item(lines.pop(0)))
        self._handle(self.receiver.commands, "commands", items, bool(lines), False, 0)

    def _send_content(self, lines: list[str]) -> None:
        while lines and lines[0] != ".":
            self._content.append(lines.pop(0).removeprefix("."))
        if not lines:
            return
        lines.pop(0)
        size = sum(len(line) + 2 for line in self._content)
        header = self._content[: self._content.index("")] if "" in self._content else self._content
        received = sum(line.lower().startswith("received:") for line in header)
        message_id = next((line[12:] for line in header if line.lower().startswith("message-id: ")), "")
        draft, self._draft, self._content = self._draft, None, []
        status = "too_large" if size > self.receiver_limit() else "complete"
        header_size = sum(len(line) + 2 for line in header)
        self._handle(
            self.receiver.content,
            *("content", draft, status, 0, size, received, message_id, "", "", (header_size, True, True, 0)),
        )

    def receiver_limit(self) -> int:
        """Return the limit that the last `take` would have named; all connectors have the same."""
        return self.receiver._settings.connectors[0].max_message_bytes

    def line(self) -> bytes:
        """Return the next line."""
        line, end, self._output = self._output.partition(b"\r\n")
        assert end, f"the server said no more than {line!r}"
        return line + end

    def is_closed(self) -> bool:
        """Return whether the last reply closed the connection."""
        return self._is_closed and not self._output

    def close(self) -> None:
        """Nothing is open."""


class EngineBackend:
    """A spool and a wire in a folder, with a receiver that is fed their events."""

    def __init__(
        self,
        script: Script,
        folder: Path,
        *,
        inline: bool,
        has_grants: bool = True,
        options: dict[str, int] | None = None,
    ) -> None:
        """Open the engine.

        Args:
            script: Has the settings.
            folder: Where the spool goes.
            inline: Whether it is stepped.
            has_grants: Whether net may give standard replies.
            options: Of the spool.
        """
        self._module = importlib.import_module("penstock._core")
        self.accepted: list[FreshMessage] = []
        self.core = self._module.Engine(spool=str(folder / "spool"), inline=inline, options=options or {})
        self.receiver = Receiver(
            self.core,
            settings(script, folder),
            SmartHost(),
            self.accepted.append,
            self._module.format_queue_id,
        )
        for connector in self.receiver._connectors.values():
            if not has_grants:
                connector.terms = replace(connector.terms, grants={})

    def handle_events(self, now_ms: int) -> bool:
        """Handle what has happened; return whether anything has."""
        events = self.core.poll(256)
        actions: list[Any] = []
        for event in events:
            kind = event[0]
            if kind in ("opened", "commands", "content"):
                getattr(self.receiver, kind)(event, actions, now_ms)
            elif kind in ("closed", "committed", "commit_failed"):
                getattr(self.receiver, kind)(event)
        self.core.apply(actions)
        return bool(events)

    def close(self) -> None:
        """Close the engine."""
        self.core.close()


class MemoryBackend(EngineBackend):
    """The whole receiving side, stepped, over a connection in memory."""

    def __init__(self, script: Script, folder: Path) -> None:
        """Connect."""
        super().__init__(script, folder, inline=True)
        self.core.listen(LISTENER, "127.0.0.1", 25)
        self._peer = self.core.memory_connect(LISTENER, script.peer)
        self._output = b""
        self._run()

    def _run(self) -> None:
        for _ in range(100):
            self.core.step(NOW_MS)
            if not self.handle_events(NOW_MS):
                self._output += self._peer.recv()
                return
        raise AssertionError("the engine does not come to rest")

    def send(self, data: bytes) -> None:
        """Send octets and let the engine come to rest."""
        self._peer.send(data)
        self._run()

    def line(self) -> bytes:
        """Return the next line."""
        line, end, self._output = self._output.partition(b"\r\n")
        assert end, f"the server said no more than {line!r}"
        return line + end

    def is_closed(self) -> bool:
        """Return whether the engine has closed the connection."""
        return not self._output and self._peer.is_closed()


class SocketBackend(EngineBackend):
    """The whole receiving side with its threads, through a socket."""

    def __init__(self, script: Script, folder: Path) -> None:
        """Connect."""
        super().__init__(script, folder, inline=False)
        self._peer = script.peer
        self._address = self.core.listen(LISTENER, "127.0.0.1", 0)
        self.connect()

    def connect(self) -> None:
        """Begin a connection."""
        self._socket = socket.create_connection(self._address, source_address=(self._peer, 0))
        self._input = b""

    def hang_up(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send octets."""
        self._socket.sendall(data)

    def _receive(self) -> bytes:
        """Run the engine until the server says something; return it, or nothing at the end."""
        until = time.monotonic() + REPLY_WITHIN_S
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self._socket, self.core.fileno()], [], [], left)
            if self._socket in readable:
                return self._socket.recv(65536)
            self.handle_events(time.time_ns() // 1_000_000)
        raise AssertionError("the server says nothing")

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Run the engine until something is so."""
        until = time.monotonic() + REPLY_WITHIN_S
        while not is_done():
            assert time.monotonic() < until, "it does not come to that"
            select.select([self.core.fileno()], [], [], 0.1)
            self.handle_events(time.time_ns() // 1_000_000)

    def line(self) -> bytes:
        """Return the next line."""
        while b"\r\n" not in self._input:
            chunk = self._receive()
            assert chunk, f"the server closed after {self._input!r}"
            self._input += chunk
        line, end, self._input = self._input.partition(b"\r\n")
        return line + end

    def is_closed(self) -> bool:
        """Wait for the end of the connection."""
        return not self._input and self._receive() == b""

    def close(self) -> None:
        """Close both ends."""
        self.hang_up()
        super().close()
