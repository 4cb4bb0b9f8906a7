"""A receive connector and an incoming connection, as the receiver keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from penstock.receive.admission import source_of
from penstock.receive.certificates import Certificates
from penstock.receive.connectors import IpRange, parse_range
from penstock.receive.core import Core
from penstock.receive.counts import ConnectorCounts
from penstock.receive.hooked import Hooked, certificate_of
from penstock.receive.rates import MessageRates
from penstock.receive.received import ReceivedField, address_literal, forwarded_comment, tls_comment
from penstock.receive.relay import AcceptedDomains, Identity, RelayPolicy, SenderDomains
from penstock.receive.settings import ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.storage import Storage
from penstock.receive.wire import largest, limits_of, standard_replies
from penstock.route.permissions import Right, rights_of
from penstock.smtp import server_auth, server_peers, server_tls
from penstock.smtp.parameters import CHANGED_FIXUPS
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS_WITHOUT_MAIL, ServerState
from penstock.smtp.terms import ServerTerms
from penstock.smtp.told import XCLIENT, XFORWARD, Told

if TYPE_CHECKING:
    from penstock.receive.asking import Hooks
    from penstock.smtp.policy import Policy

__all__ = ["NO_TRUST", "Connection", "Connector", "SessionIds", "Trust", "connectors_of"]

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
        *("_grants", "_trusting", "_xclient", "_xforward", "counts", "fqdn", "hooks", "implicit", "limits"),
        *("policy", "rates", "server_fqdn", "settings", "terms", "tls", "tls_terms"),
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
        # Those of an embedding program, if it has any.
        self.hooks: Hooks | None = None
        self.tls = tls
        self.implicit = settings.tls.implicit_listeners if settings.tls is not None else ()
        self.limits = limits
        self.counts = ConnectorCounts(settings.name)
        self.fqdn = settings.fqdn or server.fqdn
        self.server_fqdn = server.fqdn
        home = server.default_domain or server.fqdn
        rights = settings.rights
        self.rates = None if settings.message_rate is None else MessageRates(settings.message_rate)
        self.policy = RelayPolicy(
            domains,
            storage,
            rights=rights,
            sender_domains=None
            if settings.sender_domains is None
            else SenderDomains(settings.sender_domains),
            rates=self.rates,
            identity=Identity(is_server=settings.trusts_peers),
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
        rate_key = source_of(peer_ip) if by_source else ""
        identity = Identity(is_server=self.settings.trusts_peers, rate_key=rate_key)
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
        *("banner", "connector", "hooked", "is_in", "listener", "met_ip", "notes", "origin", "peer_ip"),
        *("peer_literal", "session", "session_id", "tls_comment", "told", "trust", "turn"),
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
        # What hooks have said, where there are any.
        self.hooked = None if connector.hooks is None else Hooked(connector.hooks)
        terms = connector.terms_for(self.trust, is_secure=False)
        policy = self._under_hooks(connector.policy_of(peer_ip))
        self.session = ServerSession(conn, terms, policy, connector.counts.replies)
        self.session_id = session_id
        self.turn = 0
        # What is said after a handshake, and what the journal and Received say of it.
        self.banner = b""
        self.notes: tuple[tuple[str, str], ...] = ()
        self.origin: tuple[tuple[str, str], ...] = ()
        self.tls_comment = ""

    def prepended(
        self,
        received: ReceivedField,
        header: tuple[str, bool, bool, int],
        queue_id: str,
        recipient: str,
        fields: bytes,
        now_ms: int,
    ) -> tuple[bytes, str, int]:
        """Return what stands before the content of a message that has come: Received, and what it lacks.

        Args:
            received: Makes the fields.
            header: The content's Message-ID, whether it has a Date, whether a Message-ID, and the bits of
                what was changed in it.
            queue_id: The message's name here.
            recipient: The only recipient, or nothing.
            fields: Such as hooks add; they come last.
            now_ms: Unix time in milliseconds.

        Returns:
            The fields; the Message-ID; the bits of all changes.
        """
        message_id, has_date, has_message_id, changes = header
        connector = self.connector
        comment = self.tls_comment
        if self.session.forwarded:
            comment += forwarded_comment(self.session.forwarded)
        lines = received.make(
            greeting=self.session.greeting,
            peer=self.peer_literal,
            fqdn=connector.fqdn,
            protocol=self.session.protocol,
            queue_id=queue_id,
            recipient=recipient,
            now_ms=now_ms,
            tls=comment,
        )
        if fields:
            added = b"\n" + fields.lower()
            has_date |= b"\ndate:" in added
            has_message_id |= b"\nmessage-id:" in added
        if connector.settings.submission_fixups and not (has_date and has_message_id):
            missing, message_id = received.missing(
                message_id,
                has_date=has_date,
                has_message_id=has_message_id,
                queue_id=queue_id,
                fqdn=connector.server_fqdn,
            )
            lines += missing
            changes |= CHANGED_FIXUPS
        return lines + fields, message_id, changes

    def _under_hooks(self, policy: Policy) -> Policy:
        return policy if self.hooked is None else self.hooked.over(policy)

    def came_through(self, proxy_ip: str) -> None:
        """Take note of the proxy that has told where the peer is."""
        self.origin = self.notes = (("proxy", proxy_ip),)

    def secured(
        self, version: str, cipher: str, certificate: tuple[Any, ...] | None, actions: list[Action]
    ) -> None:
        """Go on in TLS, as if nothing had been said before."""
        if self.hooked is not None:
            self.hooked.secured(version, cipher, certificate_of(certificate))
        self.notes = (("tls", f"{version} {cipher}"),)
        self.tls_comment = tls_comment(version, cipher)
        policy = self._under_hooks(self.connector.policy_of(self.peer_ip))
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
        if self.hooked is not None:
            self.hooked.begin_anew()
        terms = connector.terms_for(self.trust, is_secure=self.session.is_secure)
        server_peers.become(
            self.session,
            self.turn,
            connector.limits,
            actions,
            terms=terms,
            policy=self._under_hooks(policy),
            grants={} if terms.requires_tls else connector.grants_under(policy),
            refusals=connector.counts.replies,
            login=login,
            greeting=told.get("HELO", ""),
            is_extended=told.get("PROTO") != "SMTP",
        )

    def dismiss(self, actions: list[Action]) -> None:
        """Say goodbye because the service stops; who waits for a handshake cannot be told."""
        session = self.session
        if self.hooked is not None and self.hooked.is_before_handshake:
            session.state = ServerState.CLOSED
            actions.append(("abort", session.conn))
        else:
            session.shut_down(self.turn, 0, actions)

    def logged_in(self, turn: int, login: str, actions: list[Action]) -> None:
        """Let the peer be who it says it is, and has proved to be."""
        if self.hooked is not None and self.hooked.hooks.asks("on_auth"):
            self.hooked.hooks.authenticated(self, turn, login, actions)
        else:
            self.let_in(turn, login, actions)

    def let_in(self, turn: int, login: str, actions: list[Action]) -> None:
        """Let the peer be who it says it is, whatever hooks would say."""
        self.notes += (("login", login),)
        policy = self.connector.policy_of_user(login, self.peer_ip)
        session = self.session
        grants = {} if session.terms.requires_tls else self.connector.grants_under(policy)
        server_auth.accept(session, turn, login, actions, policy=self._under_hooks(policy), grants=grants)


class SessionIds:
    """Names sessions."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        """Begin to count."""
        self._count = 0

    def next(self, now_ms: int) -> str:
        """Return 16 hexadecimal digits that no other session has: the time and a counter."""
        self._count = (self._count + 1) & 0xFFFF
        return f"{now_ms << 16 | self._count:016X}"


def connectors_of(
    core: Core,
    settings: ReceiveSettings,
    domains: AcceptedDomains,
    storage: Storage,
    certificates: Certificates,
    grants: Mapping[ServerState, str],
    hooks: Hooks | None,
) -> dict[str, Connector]:
    """Return the connectors by name, their limits registered with core."""
    found = {}
    if hooks is not None and hooks.asks("on_mail"):
        grants = GRANTS_WITHOUT_MAIL
    for connector in settings.connectors:
        number = core.server_limits(limits_of(connector), standard_replies(connector))
        tls = certificates.number(connector.name)
        made = Connector(connector, settings, domains, storage, number, tls, grants)
        made.hooks = hooks
        found[connector.name] = made
    return found
