r"""Identities of queues and messages as operators write them.

Separators are `\` and `/` alike, since a shell eats the first. The server may be left out; `*` as a queue
means all. Names match without regard to case.

    queue:    relay1\m365   m365   relay1\17   17   Unreachable
    message:  relay1\m365\0saj3v6580402   m365/0saj3v6580402   *\0saj3v6580402   0saj3v6580402
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.errors import Ambiguous, NotFound

__all__ = ["find_queue", "split_message"]


def find_queue(identity: str, server: str, queues: Iterable[tuple[int, str]]) -> int:
    r"""Return the number of the queue that an identity means.

    A number wins over a name that looks like one: numbers are what an operator takes when a name fits two.

    Args:
        identity: `NAME`, `NUMBER`, `SERVER\NAME` or `SERVER\NUMBER`.
        server: This server's name.
        queues: Number and name of each queue.

    Raises:
        NotFound: None fits, or the server is another.
        Ambiguous: The name fits several; the candidates are given by number.
    """
    *before, name = _parts(identity, 2)
    if before and before[0].casefold() != server.casefold():
        raise NotFound(identity)
    known = list(queues)
    if name.isascii() and name.isdecimal() and any(number == int(name) for number, _ in known):
        return int(name)
    fitting = [number for number, other in known if other.casefold() == name.casefold()]
    if not fitting:
        raise NotFound(identity)
    if len(fitting) > 1:
        raise Ambiguous([f"{server}\\{number}" for number in fitting])
    return fitting[0]


def split_message(identity: str, server: str) -> tuple[str | None, str]:
    """Return the queue, None for all, and the message's id as it was written.

    Raises:
        NotFound: It cannot be read, or the server is another.
    """
    *before, queue_id = _parts(identity, 3)
    if len(before) == 2 and before[0].casefold() != server.casefold():
        raise NotFound(identity)
    queue = before[-1] if before else "*"
    return (None if queue == "*" else queue), queue_id


def _parts(identity: str, most: int) -> list[str]:
    parts = identity.strip().replace("/", "\\").split("\\")
    if len(parts) > most or not all(parts):
        raise NotFound(identity)
    return parts
