"""The entries of a new message: its recipients grouped by next hop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

from penstock.receive.fresh import Entry, Recipient

__all__ = ["Entries", "HopKey", "Hops", "Route", "Router", "records"]

HopKey: TypeAlias = tuple[str, str, str]
"""Connector, kind, destination."""

HOPS_REMEMBERED_MAX: Final = 10_000
PRIORITY_NORMAL: Final = 1


class Hops(Protocol):
    """What is needed of `_core.Engine`."""

    def hop(self, connector: str, kind: str, destination: str) -> int:
        """Return the number of a next hop."""


class Route(Protocol):
    """Where a recipient's mail goes."""

    @property
    def hop(self) -> HopKey:
        """The next hop."""


class Router(Protocol):
    """What is needed of `route.Router`."""

    def route(self, address: str, domain: str, /) -> Route:
        """Return the next hop of a recipient; there always is one, if only Unreachable."""


class Entries:
    """Groups recipients; remembers the numbers of next hops."""

    __slots__ = ("_core", "_expiration_ms", "_hops", "_router")

    def __init__(self, core: Hops, router: Router, expiration_ms: int) -> None:
        """Join what decides.

        Args:
            core: Numbers next hops.
            router: Finds them.
            expiration_ms: How long delivery of a new message is tried.
        """
        self._core = core
        self._router = router
        self._expiration_ms = expiration_ms
        self._hops: dict[HopKey, int] = {}

    def of(
        self,
        domains: Mapping[str, str],
        recipients: list[Recipient],
        now_ms: int,
        redirected: Mapping[str, HopKey] | None = None,
    ) -> list[Entry]:
        """Return one entry per next hop, in the order of the first recipient of each.

        Args:
            domains: The domain of each recipient's address.
            recipients: All recipients of the message.
            now_ms: When it was received, Unix milliseconds.
            redirected: Next hops that are known already, by address.
        """
        by_hop: dict[int, list[Recipient]] = {}
        for recipient in recipients:
            address = recipient[1]
            if redirected and address in redirected:
                key = redirected[address]
            else:
                key = self._router.route(address, domains[address]).hop
            hop = self._hops.get(key)
            if hop is None:
                if len(self._hops) >= HOPS_REMEMBERED_MAX:
                    self._hops.clear()
                hop = self._hops[key] = self._core.hop(*key)
            theirs = by_hop.get(hop)
            if theirs is None:
                by_hop[hop] = [recipient]
            else:
                theirs.append(recipient)
        expires_ms = now_ms + self._expiration_ms
        return [(hop, theirs, PRIORITY_NORMAL, now_ms, expires_ms) for hop, theirs in by_hop.items()]


def records(entries: list[Entry]) -> list[tuple[int, list[int], int, int, int]]:
    """Return entries as the envelope of a commit has them: recipients by index."""
    return [
        (hop, [recipient[0] for recipient in theirs], priority, due, expiry)
        for hop, theirs, priority, due, expiry in entries
    ]
