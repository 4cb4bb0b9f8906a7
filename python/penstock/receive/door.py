"""Whether a peer is let in, and by which connector: asked when it comes, and when it proves to be another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from penstock.receive.admission import CAUSES, Admission
from penstock.receive.connections import Connector
from penstock.receive.connectors import ReceiveConnectors
from penstock.receive.counts import NO_CONNECTOR, ConnectorCounts
from penstock.receive.pressure import Pressure
from penstock.smtp import replies

__all__ = ["Door"]


class Door:
    """Lets peers in and out.

    Attributes:
        is_draining: Whether nobody is let in any more.
    """

    def __init__(
        self, ranges: ReceiveConnectors, connectors: Mapping[str, Connector], pressure: Pressure
    ) -> None:
        """Join what is needed.

        Args:
            ranges: Who meets which connector.
            connectors: The connectors by name.
            pressure: What is short.
        """
        self._ranges = ranges
        self._connectors = connectors
        self._pressure = pressure
        self._admission = Admission()
        self._uncovered = ConnectorCounts(NO_CONNECTOR)
        self.is_draining = False

    @property
    def connections(self) -> int:
        """How many connections are in."""
        return self._admission.connections

    def counts(self) -> Iterator[ConnectorCounts]:
        """Yield what was counted, of peers that no connector covers first."""
        yield self._uncovered
        for connector in self._connectors.values():
            yield connector.counts

    def find(self, listener: int, peer_ip: str) -> Connector | None:
        """Return the connector that a peer meets on a listener, if any."""
        found = self._ranges.find(listener, peer_ip)
        return None if found is None else self._connectors[found.name]

    def admit(self, listener: int, peer_ip: str) -> Connector | bytes:
        """Let a peer in by its connector; or return the reply that refuses it."""
        connector = self.find(listener, peer_ip)
        if connector is None:
            self._uncovered.refused["no_connector"] += 1
            return replies.NO_CONNECTOR
        counts = connector.counts
        counts.connections += 1
        if self.is_draining:
            cause, refusal = "draining", replies.SHUTTING_DOWN
        elif self._pressure.refuses_all:
            cause, refusal = "pressure", replies.SYSTEM_OVERLOADED
        else:
            refused = self._admission.admit(connector.settings, peer_ip)
            if refused is None:
                counts.sessions += 1
                return connector
            cause, refusal = CAUSES[refused], refused
        counts.refused[cause] += 1
        if not connector.settings.extensions.enhanced_status_codes:
            refusal = replies.without_codes(refusal)
        return refusal

    def leave(self, connector: Connector, peer_ip: str) -> None:
        """Let a peer out that was let in."""
        connector.counts.sessions -= 1
        self._admission.release(connector.settings, peer_ip)

    def refuse_proxy(self) -> None:
        """Count a proxy that did not say whom it speaks for, so that nobody knows its connector."""
        self._uncovered.refused["proxy"] += 1
