"""What reception counts, per connector, and how it is told to whoever scrapes.

Counting is a dictionary's business on paths that are taken for every connection or refusal; accepted messages
are counted in Rust.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

__all__ = ["MESSAGE_CAUSES", "NO_CONNECTOR", "ConnectorCounts", "Sample", "samples"]

Sample: TypeAlias = tuple[str, tuple[str, ...], float]

NO_CONNECTOR: Final = "_none"
"""The label of peers that no connector covers."""

MESSAGE_CAUSES: Final = {"too_large": "size", "starved": "spool"}
"""What refused a content, by its status; anything else is about the content itself."""

_VERBS: Final = frozenset(
    (
        "EHLO",
        "HELO",
        "MAIL",
        "RCPT",
        "DATA",
        "RSET",
        "NOOP",
        "VRFY",
        "EXPN",
        "HELP",
        "QUIT",
        "STARTTLS",
        "AUTH",
    )
)


class ConnectorCounts:
    """Counters of one receive connector.

    Attributes:
        connections: Accepted sockets.
        sessions: Open now.
        refused: Connections refused, by cause: total, per_source, no_connector, draining, pressure,
            proxy.
        replies: Refused commands, by the item's name and the first digit of the reply as an octet.
        messages: Messages refused at or after DATA, by cause: size, content, policy, spool.
    """

    __slots__ = ("connections", "messages", "name", "refused", "replies", "sessions")

    def __init__(self, name: str) -> None:
        """Begin at zero."""
        self.name = name
        self.connections = 0
        self.sessions = 0
        self.refused: defaultdict[str, int] = defaultdict(int)
        self.replies: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.messages: defaultdict[str, int] = defaultdict(int)

    def _refused_commands(self) -> dict[tuple[str, str], int]:
        by_verb: defaultdict[tuple[str, str], int] = defaultdict(int)
        for (verb, digit), count in self.replies.items():
            by_verb[verb if verb in _VERBS else "other", chr(digit)] += count
        return by_verb

    def samples(self) -> Iterator[Sample]:
        """Yield the counters under their documented names."""
        name = self.name
        yield "receive_connections_total", (name,), self.connections
        yield "receive_sessions", (name,), self.sessions
        for cause, count in self.refused.items():
            yield "receive_refused_total", (name, cause), count
        for (verb, digit), count in self._refused_commands().items():
            yield "receive_replies_total", (name, verb, digit), count
        for cause, count in self.messages.items():
            yield "messages_refused_total", (name, cause), count


def samples(connectors: Iterable[ConnectorCounts]) -> Iterator[Sample]:
    """Yield the counters of several connectors."""
    for connector in connectors:
        yield from connector.samples()
