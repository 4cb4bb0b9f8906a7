"""How many connections a connector takes: in all, and from one source.

A source is an IPv4 address or an IPv6 network of 64 bits: whoever has an IPv6 address has so many of them.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address

from penstock.receive.settings import ReceiveConnectorSettings
from penstock.smtp import replies

__all__ = ["Admission", "source_of"]

SOURCES_REMEMBERED_MAX = 10_000


@lru_cache(SOURCES_REMEMBERED_MAX)
def source_of(peer_ip: str) -> str:
    """Return the source that an address belongs to: itself, or its IPv6 network.

    >>> source_of("2001:db8:1:2:3::4")
    '2001:db8:1:2::/64'
    """
    if ":" not in peer_ip:
        return peer_ip
    network = IPv6Address(int(IPv6Address(peer_ip)) >> 64 << 64)
    return f"{network}/64"


class Admission:
    """Counts the connections that were let in."""

    def __init__(self) -> None:
        """Begin with none."""
        self._connections = 0
        self._of_connector: dict[str, int] = {}
        self._of_source: dict[tuple[str, str], int] = {}

    @property
    def connections(self) -> int:
        """How many connections are in, over all connectors."""
        return self._connections

    def admit(self, connector: ReceiveConnectorSettings, peer_ip: str) -> bytes | None:
        """Count a connection in; or return the reply that refuses it."""
        of_connector = self._of_connector.get(connector.name, 0)
        free = connector.max_inbound_connection - of_connector
        if free <= 0:
            return replies.TOO_MANY_CONNECTIONS
        source = (connector.name, source_of(peer_ip))
        of_source = self._of_source.get(source, 0)
        # As in Exchange: a share of what is free, so that the last connections are not one source's. One is
        # never too many.
        per_cent = connector.max_inbound_connection_percentage_per_source
        most = connector.max_inbound_connection_per_source
        # Of all that is free one source may have as much as there is, however much it has already.
        if per_cent < 100:
            most = min(most, max(1, free * per_cent // 100))
        if of_source >= most:
            return replies.TOO_MANY_CONNECTIONS_FROM_SOURCE
        self._connections += 1
        self._of_connector[connector.name] = of_connector + 1
        self._of_source[source] = of_source + 1
        return None

    def release(self, connector: ReceiveConnectorSettings, peer_ip: str) -> None:
        """Count a connection out that was let in."""
        self._connections -= 1
        self._of_connector[connector.name] -= 1
        source = (connector.name, source_of(peer_ip))
        left = self._of_source[source] - 1
        if left:
            self._of_source[source] = left
        else:
            del self._of_source[source]
