"""A receive connector and an incoming connection, as the receiver keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, TypeAlias

from penstock.receive.admission import source_of
from penstock.receive.certificates import Certificates
from penstock.receive.connectors import IpRange, parse_range
from penstock.receive.core import Core
from penstock.receive.counts import ConnectorCounts
from penstock.receive.rates import MessageRates
from penstock.receive.received import address_literal, tls_comment
from penstock.receive.relay import AcceptedDomains, Identity, RelayPolicy, SenderDomains
from penstock.receive.settings import ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.storage import Storage
from penstock.receive.wire import largest, output_limit, standard_replies, switches
from penstock.route.permissions import Right, rights_of
from penstock.smtp import server_auth, server_peers, server_tls
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS_WITHOUT_MAIL, ServerState
from penstock.smtp.terms import ServerTerms
from penstock.smtp.told import XCLIENT, XFORWARD, Told

__all__ = ["NO_TRUST", "Connection", "Connector", "Trust", "connectors_of"]

Action: TypeAlias = tuple[Any, ...]


class Trust(NamedTuple):
    """What a peer is believed that it says of others.

    Attributes:
        may_speak_for_others: By XCLIENT.
        may_forward: By XFORWARD.
    """

    may_speak_for_others: bool = False
    may_forward: bool = False


NO_TRUST: Final = Trust()


class Connector:
    """A receive connector, ready for its sessions."""

    __slots__ = (
        *(
            "_grants",
            "_trusting",
            "_xclient",
            "_xforward",
            "counts",
            "fqdn",
            "implicit",
            "limits",
            "policy",
            "rates",
            "settings",
        ),
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
            hygiene=settings.hygiene,
        )
        self._grants = grants
        grants = self.grants_under(self.policy)
        self.terms = ServerTerms(
            fqdn=self.fqdn,
            max_message_bytes=largest(settings),
            max_header_bytes=settings.max_header_bytes,
            max_recipients=settings.max_recipients_per_message,
            max_protocol_errors=settings.max_protocol_errors,
            max_hops=settings.max_hop_count,
            tarpit_ms=settings.tarpit_ms,
            postmaster=(f"postmaster@{home}", home),
            offers_tls=tls is not None,
            requires_tls=settings.tls is not None and settings.tls.is_required,
            is_lmtp=settings.is_lmtp,
            extensions=settings.extensions,
            mechanisms=settings.mechanisms,
            auth_requires_tls=settings.auth_requires_tls,
            requires_authentication=bool(settings.mechanisms) and Right.SUBMIT not in rights,
            max_logon_failures=settings.max_logon_failures,
            auth_tarpit_ms=settings.auth_tarpit_ms,
            grants=grants,
        )
        self.tls_terms = self.terms.under_tls(grants)
        self._xclient = tuple(map(parse_range, settings.xclient_ranges))
        self._xforward = tuple(map(parse_range, settings.xforward_ranges))
        # What holds for peers that are trusted, made when the first of them comes.
        self._trusting: dict[tuple[bool, Trust], ServerTerms] = {}

    def trust_in(self, peer_ip: str) -> Trust:
        """Return what a peer is believed that it says of others."""
        if not self._xclient and not self._xforward:
            return NO_TRUST
        address = ip_address(peer_ip)
        here = IpRange(address.version, int(address), int(address))
        return Trust(
            may_speak_for_others=any(span.covers(here) for span in self._xclient),
            may_forward=any(span.covers(here) for span in self._xforward),
        )

    def terms_for(self, trust: Trust, *, is_secure: bool) -> ServerTerms:
        """Return the terms of a session."""
        terms = self.tls_terms if is_secure else self.terms
        if trust == NO_TRUST:
            return terms
        key = (is_secure, trust)
        if key not in self._trusting:
            # A user can be named only where users can log in.
            names = tuple(name for name in XCLIENT if name != "LOGIN" or self.settings.mechanisms)
            told = names if trust.may_speak_for_others else ()
            forwarded = tuple(XFORWARD) if trust.may_forward else ()
            extensions = replace(terms.extensions, xclient=told, xforward=forwarded)
            self._trusting[key] = replace(terms, extensions=extensions)
        return self._trusting[key]

    def policy_of(self, peer_ip: str) -> RelayPolicy:
        """Return the policy of a session whose peer has not said who it is."""
        if self.rates is None:
            return self.policy
        by_source = self.settings.message_rate_source != "all"
        identity = Identity(rate_key=source_of(peer_ip) if by_source else "")
        return self.policy.with_identity(identity, self.policy.rights)

    def policy_of_user(self, login: str, peer_ip: str) -> RelayPolicy:
        """Return the policy of a session whose peer has authenticated as a user."""
        # The prefix keeps a user who is called like an address from being counted as that.
        keys = {"all": "", "user": f"user:{login}"}
        rate_key = keys.get(self.settings.message_rate_source, source_of(peer_ip))
        identity = Identity(login, rate_key=rate_key)
        return self.policy.with_identity(identity, rights_of(self.settings.groups, is_user=True))

    def grants_under(self, policy: RelayPolicy) -> Mapping[ServerState, str]:
        """Return what net may answer ahead under a policy."""
        return self._grants if policy.is_plain else GRANTS_WITHOUT_MAIL


class Connection:
    """An incoming connection that was let in."""

    __slots__ = (
        *("banner", "connector", "notes", "origin", "peer_ip", "peer_literal", "session", "session_id"),
        *("is_in", "listener", "met_ip", "told", "tls_comment", "trust", "turn"),
    )

    def __init__(
        self, conn: int, connector: Connector, peer_ip: str, session_id: str, listener: int = 0
    ) -> None:
        self.connector = connector
        self.listener = listener
        # Whether it counts as one of the connector's: not if whom it speaks for was turned away.
        self.is_in = True
        self.peer_ip = self.met_ip = peer_ip
        self.peer_literal = address_literal(peer_ip)
        # It is whoever has connected that is trusted, not those that it speaks for.
        self.trust = connector.trust_in(peer_ip)
        self.told: Told = {}
        terms = connector.terms_for(self.trust, is_secure=False)
        self.session = ServerSession(conn, terms, connector.policy_of(peer_ip), connector.counts.replies)
        self.session_id = session_id
        self.turn = 0
        # What is said after a handshake, and what the journal and Received say of it.
        self.banner = b""
        self.notes: tuple[tuple[str, str], ...] = ()
        self.origin: tuple[tuple[str, str], ...] = ()
        self.tls_comment = ""

    def came_through(self, proxy_ip: str) -> None:
        """Take note of the proxy that has told where the peer is."""
        self.origin = self.notes = (("proxy", proxy_ip),)

    def secured(self, version: str, cipher: str, actions: list[Action]) -> None:
        """Go on in TLS, as if nothing had been said before."""
        self.notes = (("tls", f"{version} {cipher}"),)
        self.tls_comment = tls_comment(version, cipher)
        policy = self.connector.policy_of(self.peer_ip)
        terms = self.connector.terms_for(self.trust, is_secure=True)
        server_tls.secured(self.session, self.turn, terms, self.banner, actions, policy=policy)
        self.notes += self.origin

    def become(
        self, connector: Connector, peer_ip: str, told: Told, login: str, actions: list[Action]
    ) -> None:
        """Go on as another peer, which has been let in."""
        self.connector = connector
        self.peer_ip = peer_ip
        literal = address_literal(peer_ip)
        self.peer_literal = f"{told['NAME']} {literal}" if told.get("NAME") else literal
        self.told = told
        proxies = tuple(note for note in self.origin if note[0] == "proxy")
        self.origin = (*proxies, ("xclient", self.met_ip))
        secured = tuple(note for note in self.notes if note[0] == "tls")
        self.notes = (*secured, *((("login", login),) if login else ()), *self.origin)
        policy = connector.policy_of_user(login, peer_ip) if login else connector.policy_of(peer_ip)
        terms = connector.terms_for(self.trust, is_secure=self.session.is_secure)
        server_peers.become(
            self.session,
            self.turn,
            connector.limits,
            actions,
            terms=terms,
            policy=policy,
            grants={} if terms.requires_tls else connector.grants_under(policy),
            refusals=connector.counts.replies,
            login=login,
            greeting=told.get("HELO", ""),
            is_extended=told.get("PROTO") != "SMTP",
        )

    def logged_in(self, turn: int, login: str, actions: list[Action]) -> None:
        """Let the peer be who it says it is."""
        self.notes += (("login", login),)
        policy = self.connector.policy_of_user(login, self.peer_ip)
        session = self.session
        grants = {} if session.terms.requires_tls else self.connector.grants_under(policy)
        server_auth.accept(session, turn, login, actions, policy=policy, grants=grants)


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
            **switches(connector.extensions),
            **output_limit(connector),
        }
        number = core.server_limits(limits, standard_replies(connector))
        tls = certificates.number(connector.name)
        found[connector.name] = Connector(connector, settings, domains, storage, number, tls, grants)
    return found
