"""What is alive of a receive connector, and of each connection that it has let in."""

from __future__ import annotations

from penstock.receive.admission import source_of
from penstock.receive.counts import ConnectorCounts
from penstock.receive.rates import MessageRates
from penstock.receive.received import address_literal
from penstock.receive.relay import AcceptedDomains, Identity, RelayPolicy, SenderDomains
from penstock.receive.settings import MESSAGE_BYTES_MAX, ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.storage import Storage
from penstock.route.permissions import Right, rights_of
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS, GRANTS_WITHOUT_MAIL
from penstock.smtp.terms import ServerTerms

__all__ = ["Connection", "Connector", "largest"]


class Connector:
    """A receive connector, ready for its sessions."""

    __slots__ = ("counts", "fqdn", "limits", "policy", "rates", "settings", "terms")

    def __init__(
        self,
        settings: ReceiveConnectorSettings,
        server: ReceiveSettings,
        domains: AcceptedDomains,
        storage: Storage,
        limits: int,
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.counts = ConnectorCounts(settings.name)
        self.fqdn = settings.fqdn or server.fqdn
        home = server.default_domain or server.fqdn
        rights = rights_of(settings.groups)
        self.rates = None if settings.message_rate is None else MessageRates(settings.message_rate)
        self.policy = RelayPolicy(
            domains,
            storage,
            rights=rights,
            sender_domains=None
            if settings.sender_domains is None
            else SenderDomains(settings.sender_domains),
            rates=self.rates,
        )
        self.terms = ServerTerms(
            fqdn=self.fqdn,
            max_message_bytes=largest(settings),
            max_header_bytes=settings.max_header_bytes,
            max_recipients=settings.max_recipients_per_message,
            max_protocol_errors=settings.max_protocol_errors,
            max_hops=settings.max_hop_count,
            tarpit_ms=settings.tarpit_ms,
            postmaster=(f"postmaster@{home}", home),
            grants=GRANTS if self.policy.is_plain else GRANTS_WITHOUT_MAIL,
        )

    def policy_of(self, peer_ip: str) -> RelayPolicy:
        """Return the policy of a session whose peer has not said who it is."""
        if self.rates is None:
            return self.policy
        by_source = self.settings.message_rate_source != "all"
        identity = Identity(rate_key=source_of(peer_ip) if by_source else "")
        return self.policy.with_identity(identity, self.policy.rights)


class Connection:
    """An incoming connection that was let in."""

    __slots__ = ("connector", "peer_ip", "peer_literal", "session", "session_id", "turn")

    def __init__(self, conn: int, connector: Connector, peer_ip: str, session_id: str) -> None:
        self.connector = connector
        self.peer_ip = peer_ip
        self.peer_literal = address_literal(peer_ip)
        self.session = ServerSession(
            conn, connector.terms, connector.policy_of(peer_ip), connector.counts.replies
        )
        self.session_id = session_id
        self.turn = 0


def largest(settings: ReceiveConnectorSettings) -> int:
    """Return how large a message may be; without the connector's limit there is still that of the engine."""
    is_limited = Right.BYPASS_MESSAGE_SIZE_LIMIT not in rights_of(settings.groups)
    return settings.max_message_bytes if is_limited else MESSAGE_BYTES_MAX
