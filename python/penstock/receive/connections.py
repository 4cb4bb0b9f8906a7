"""A receive connector and an incoming connection, as the receiver keeps them."""

from __future__ import annotations

from penstock.receive.counts import ConnectorCounts
from penstock.receive.received import address_literal
from penstock.receive.relay import AcceptedDomains, RelayPolicy
from penstock.receive.settings import ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.storage import Storage
from penstock.smtp.server_session import ServerSession
from penstock.smtp.terms import ServerTerms

__all__ = ["Connection", "Connector"]


class Connector:
    """A receive connector, ready for its sessions."""

    __slots__ = ("counts", "fqdn", "implicit", "limits", "policy", "settings", "terms", "tls", "tls_terms")

    def __init__(
        self,
        settings: ReceiveConnectorSettings,
        server: ReceiveSettings,
        domains: AcceptedDomains,
        storage: Storage,
        limits: int,
        tls: int | None,
    ) -> None:
        """Make the terms of its sessions.

        Args:
            settings: What is configured for it.
            server: What is configured for all.
            domains: The domains mail is taken for.
            storage: Whether there is room for mail.
            limits: The number under which core has its limits.
            tls: The number under which core has its certificates, if there are any.
        """
        self.settings = settings
        self.tls = tls
        self.implicit = settings.tls.implicit_listeners if settings.tls is not None else ()
        self.limits = limits
        self.counts = ConnectorCounts(settings.name)
        self.fqdn = settings.fqdn or server.fqdn
        home = server.default_domain or server.fqdn
        self.terms = ServerTerms(
            fqdn=self.fqdn,
            max_message_bytes=settings.max_message_bytes,
            max_header_bytes=settings.max_header_bytes,
            max_recipients=settings.max_recipients_per_message,
            max_protocol_errors=settings.max_protocol_errors,
            max_hops=settings.max_hop_count,
            tarpit_ms=settings.tarpit_ms,
            postmaster=(f"postmaster@{home}", home),
            offers_tls=tls is not None,
            requires_tls=settings.tls is not None and settings.tls.is_required,
            has_standard_replies=True,
        )
        self.tls_terms = self.terms.under_tls()
        self.policy = RelayPolicy(domains, storage, may_relay=settings.usage == "relay")


class Connection:
    """An incoming connection that was let in."""

    __slots__ = (
        *("banner", "connector", "peer_ip", "peer_literal", "session", "session_id"),
        *("tls", "tls_comment", "turn"),
    )

    def __init__(self, conn: int, connector: Connector, peer_ip: str, session_id: str) -> None:
        """Begin a session on it."""
        self.connector = connector
        self.peer_ip = peer_ip
        self.peer_literal = address_literal(peer_ip)
        self.session = ServerSession(conn, connector.terms, connector.policy, connector.counts.replies)
        self.session_id = session_id
        self.turn = 0
        # What is said after a handshake, and what the journal and Received say of it.
        self.banner = b""
        self.tls = ""
        self.tls_comment = ""
