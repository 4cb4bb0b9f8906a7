"""How many connections a connector takes: in all, and from one address."""

from __future__ import annotations

from penstock.receive.settings import ReceiveConnectorSettings
from penstock.smtp import replies

__all__ = ["Admission"]


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
        if of_connector >= connector.max_inbound_connection:
            return replies.TOO_MANY_CONNECTIONS
        source = (connector.name, peer_ip)
        of_source = self._of_source.get(source, 0)
        if of_source >= connector.max_inbound_connection_per_source:
            return replies.TOO_MANY_CONNECTIONS_FROM_SOURCE
        self._connections += 1
        self._of_connector[connector.name] = of_connector + 1
        self._of_source[source] = of_source + 1
        return None

    def release(self, connector: ReceiveConnectorSettings, peer_ip: str) -> None:
        """Count a connection out that was let in."""
        self._connections -= 1
        self._of_connector[connector.name] -= 1
        source = (connector.name, peer_ip)
        left = self._of_source[source] - 1
        if left:
            self._of_source[source] = left
        else:
            del self._of_source[source]
