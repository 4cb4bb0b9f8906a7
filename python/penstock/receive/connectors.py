"""Which receive connector a peer meets: of those on its listener the one whose range fits it most closely.

A peer that no connector covers is refused; there is no hidden catch-all. A range that would make an open
relay is refused here, too, whoever built the settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from penstock.receive.settings import ReceiveConnectorSettings
from penstock.route.permissions import Right

__all__ = ["IpRange", "ReceiveConnectors", "is_open_to_the_public", "is_private", "parse_range"]

PUBLIC_RANGE_MAX: Final = {4: 1 << 16, 6: 1 << 96}
"""Addresses by IP version that a relay's range may hold at most if it is not private (a /16, a /32)."""
PEERS_REMEMBERED_MAX: Final = 10_000


class IpRange(NamedTuple):
    """Addresses from `first` to `last`, both included."""

    version: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return self.last - self.first + 1

    def covers(self, other: IpRange) -> bool:
        """Whether every address of another range is in this one."""
        return self.version == other.version and self.first <= other.first and other.last <= self.last


def parse_range(text: str) -> IpRange:
    """Read an address, `first-last` or a network.

    Raises:
        ValueError: The text is none of them.
    """
    first, dash, last = text.partition("-")
    if dash:
        low, high = ip_address(first.strip()), ip_address(last.strip())
        if low.version != high.version or int(low) > int(high):
            raise ValueError(f"{text!r} is no range: its end comes before its start")
        return IpRange(low.version, int(low), int(high))
    network = ip_network(text.strip(), strict=False)
    return IpRange(network.version, int(network.network_address), int(network.broadcast_address))


_PRIVATE: Final = tuple(
    parse_range(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("fc00::/7", "fe80::/10", "::1"),
    )
)


def is_private(span: IpRange) -> bool:
    """Whether a range has only addresses that nobody on the Internet has."""
    return any(private.covers(span) for private in _PRIVATE)


def is_open_to_the_public(span: IpRange) -> bool:
    """Whether a relay with this range would serve a part of the Internet that nobody can answer for."""
    if is_private(span):
        return False
    return span.size > PUBLIC_RANGE_MAX[span.version]


class ReceiveConnectors:
    """The receive connectors, by listener and range."""

    def __init__(self, connectors: Iterable[ReceiveConnectorSettings]) -> None:
        """Order the ranges.

        Raises:
            ValueError: A range cannot be read, or would make an open relay.
        """
        self._ranges: dict[int, list[tuple[IpRange, ReceiveConnectorSettings]]] = {}
        self._remembered: dict[tuple[int, str], ReceiveConnectorSettings | None] = {}
        for connector in connectors:
            for text in connector.remote_ip_ranges:
                span = parse_range(text)
                may_relay = Right.ACCEPT_ANY_RECIPIENT in connector.rights
                if may_relay and is_open_to_the_public(span):
                    raise ValueError(f"connector {connector.name!r} would be an open relay for {text}")
                for listener in connector.listeners:
                    self._ranges.setdefault(listener, []).append((span, connector))
        for ranges in self._ranges.values():
            # Stable: of two equal ranges the connector that comes first in the configuration wins.
            ranges.sort(key=lambda pair: pair[0].size)

    def find(self, listener: int, peer_ip: str) -> ReceiveConnectorSettings | None:
        """Return the connector that a peer meets on a listener, if any."""
        key = (listener, peer_ip)
        try:
            return self._remembered[key]
        except KeyError:
            pass
        address = ip_address(peer_ip)
        found = self._search(listener, address)
        if len(self._remembered) >= PEERS_REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[key] = found
        return found

    def _search(self, listener: int, address: IPv4Address | IPv6Address) -> ReceiveConnectorSettings | None:
        number = int(address)
        for span, connector in self._ranges.get(listener, ()):
            if span.version == address.version and span.first <= number <= span.last:
                return connector
        return None
