"""A receive connector and an incoming connection, as the receiver keeps them."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.receive.admission import source_of
from penstock.receive.certificates import Certificates
from penstock.receive.core import Core
from penstock.receive.counts import ConnectorCounts
from penstock.receive.rates import MessageRates
from penstock.receive.received import address_literal
from penstock.receive.relay import AcceptedDomains, Identity, RelayPolicy, SenderDomains
from penstock.receive.settings import MESSAGE_BYTES_MAX, ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.storage import Storage
from penstock.route.permissions import Right, rights_of
from penstock.smtp import replies
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS_WITHOUT_MAIL, ServerState
from penstock.smtp.terms import ServerTerms

__all__ = ["Connection", "Connector", "connectors_of"]


class Connector:
    """A receive connector, ready for its sessions."""

    __slots__ = (
        *("counts", "fqdn", "implicit", "limits", "policy", "rates", "settings"),
        *("terms", "tls", "tls_terms"),
    )

    def __init__(
        self,
        settings: ReceiveConnectorSettings,
        server: ReceiveSettings,
        domains: AcceptedDomains,
        storage: Storage,
        limits: int,
        tls: int | None,
        grants: Mapping[ServerState, str],
    ) -> None:
        """Make the terms of its sessions.

        Args:
            settings: What is configured for it.
            server: What is configured for all.
            domains: The domains mail is taken for.
            storage: Whether there is room for mail.
            limits: The number under which core has its limits.
            tls: The number under which core has its certificates, if there are any.
            grants: What may be granted where nobody looks at the sender.
        """
        self.settings = settings
        self.tls = tls
        self.implicit = settings.tls.implicit_listeners if settings.tls is not None else ()
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
        if not self.policy.is_plain:
            grants = GRANTS_WITHOUT_MAIL
        self.terms = ServerTerms(
            fqdn=self.fqdn,
            max_message_bytes=_largest(settings),
            max_header_bytes=settings.max_header_bytes,
            max_recipients=settings.max_recipients_per_message,
            max_protocol_errors=settings.max_protocol_errors,
            max_hops=settings.max_hop_count,
            tarpit_ms=settings.tarpit_ms,
            postmaster=(f"postmaster@{home}", home),
            offers_tls=tls is not None,
            requires_tls=settings.tls is not None and settings.tls.is_required,
            grants=grants,
        )
        self.tls_terms = self.terms.under_tls(grants)

    def policy_of(self, peer_ip: str) -> RelayPolicy:
        """Return the policy of a session whose peer has not said who it is."""
        if self.rates is None:
            return self.policy
        by_source = self.settings.message_rate_source != "all"
        identity = Identity(rate_key=source_of(peer_ip) if by_source else "")
        return self.policy.with_identity(identity, self.policy.rights)


class Connection:
    """An incoming connection that was let in."""

    __slots__ = (
        *("banner", "connector", "peer_ip", "peer_literal", "session", "session_id"),
        *("tls", "tls_comment", "turn"),
    )

    def __init__(self, conn: int, connector: Connector, peer_ip: str, session_id: str) -> None:
        self.connector = connector
        self.peer_ip = peer_ip
        self.peer_literal = address_literal(peer_ip)
        self.session = ServerSession(
            conn, connector.terms, connector.policy_of(peer_ip), connector.counts.replies
        )
        self.session_id = session_id
        self.turn = 0
        # What is said after a handshake, and what the journal and Received say of it.
        self.banner = b""
        self.tls = ""
        self.tls_comment = ""


def connectors_of(
    core: Core,
    settings: ReceiveSettings,
    domains: AcceptedDomains,
    storage: Storage,
    certificates: Certificates,
    grants: Mapping[ServerState, str],
) -> dict[str, Connector]:
    """Return the connectors by name, their limits registered with core."""
    found = {}
    for connector in settings.connectors:
        limits = {
            "idle_ms": connector.connection_inactivity_timeout_ms,
            "total_ms": connector.connection_timeout_ms,
            # One more than allowed, so that a section that is too large is seen to be.
            "header_bytes": connector.max_header_bytes + 1,
        }
        number = core.server_limits(limits, (replies.SENDER_OK, replies.START_CONTENT, _largest(connector)))
        tls = certificates.number(connector.name)
        found[connector.name] = Connector(connector, settings, domains, storage, number, tls, grants)
    return found


def _largest(settings: ReceiveConnectorSettings) -> int:
    """Return how large a message may be; without the connector's limit there is still that of the engine."""
    is_limited = Right.BYPASS_MESSAGE_SIZE_LIMIT not in rights_of(settings.groups)
    return settings.max_message_bytes if is_limited else MESSAGE_BYTES_MAX
