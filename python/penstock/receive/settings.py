"""What the receiving side has to be told; plain values, filled from the configuration by the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from penstock.receive.rates import MessageRate
from penstock.route.permissions import PermissionGroup, Right, rights_of
from penstock.smtp.extensions import USUAL, Extensions

__all__ = [
    "MESSAGE_BYTES_MAX",
    "NO_HYGIENE",
    "AcceptedDomainSettings",
    "AddressHygiene",
    "BareLinefeed",
    "CertificateSettings",
    "DomainType",
    "RateSource",
    "ReceiveConnectorSettings",
    "ReceiveSettings",
    "TlsSettings",
]

DomainType: TypeAlias = Literal["authoritative", "internal_relay", "external_relay"]
MESSAGE_BYTES_MAX: Final = 48 * 1024 * 1024
"""The largest message that is tested; the spool keeps content above 1 MiB in files of their own."""
BareLinefeed: TypeAlias = Literal["reject", "normalise"]
RateSource: TypeAlias = Literal["none", "ip_address", "user", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDomainSettings:
    """A domain we take mail for.

    Attributes:
        name: The domain, in lower case.
        type: Whether we know its recipients (authoritative) or pass its mail on.
        match_sub_domains: Whether its sub-domains are meant, too.
        recipients: File of the addresses that exist; None to take any.
    """

    name: str
    type: DomainType
    match_sub_domains: bool = False
    recipients: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSettings:
    """Where a certificate is.

    Attributes:
        name: What the configuration calls it.
        chain: File of the certificate and of those that vouch for it, in PEM.
        key: File of its key, in PEM.
    """

    name: str
    chain: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How a connector speaks TLS.

    Attributes:
        certificates: At least one; the first is shown where the client names no server, or an unknown one.
        minimum: The oldest version: `1.2` or `1.3`.
        client_certificate: Whether clients are asked for certificates: `none` or `ask`.
        is_required: Whether MAIL is refused before TLS.
        implicit_listeners: Numbers of the listeners on which connections begin with TLS.
    """

    certificates: tuple[CertificateSettings, ...]
    minimum: str = "1.2"
    client_certificate: str = "none"
    is_required: bool = False
    implicit_listeners: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressHygiene:
    """Domains of recipients that cannot be meant, whatever else is allowed.

    Attributes:
        reserved_top_level: Those under `.test`, `.example`, `.invalid` and `.localhost` (RFC 2606 2).
        reserved_second_level: `example.com`, `example.net`, `example.org` and what is under them (3).
        single_label: Those without a dot.
    """

    reserved_top_level: bool = False
    reserved_second_level: bool = False
    single_label: bool = False


NO_HYGIENE: Final = AddressHygiene()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveConnectorSettings:
    """A receive connector.

    Attributes:
        name: Its name.
        groups: Who may do what.
        listeners: Numbers of the listeners it answers on.
        is_lmtp: Whether it speaks LMTP, not SMTP.
        remote_ip_ranges: Who meets it: addresses, `first-last`, or networks in CIDR form.
        proxy_protocol_ranges: Which peers of its listeners are proxies, which begin with the PROXY protocol.
        xclient_ranges: Which of its peers may speak for others.
        xforward_ranges: Which may say where a message has been before.
        fqdn: What it calls itself; None for the server's name.
        sender_domains: The only domains that senders may have, `*.` before one for those below it; None for
            any.
        max_message_bytes: Announced as SIZE.
        max_header_bytes: Octets of a header section.
        max_recipients_per_message: More get 452.
        max_protocol_errors: The next wrong command ends the session.
        mechanisms: What is offered for authentication; nothing to do without it.
        auth_requires_tls: Whether it is offered only on an encrypted connection.
        max_logon_failures: The failed authentication that ends the session; 0 for never.
        auth_tarpit_ms: Delay of the reply to a failed authentication; 0 for none.
        max_hop_count: Received fields that a message may have.
        tarpit_ms: Delay of each 5yz reply; 0 for none.
        max_inbound_connection: Connections at a time.
        max_inbound_connection_per_source: Connections of one source (an IPv4 address, an IPv6 /64) at a
            time.
        max_inbound_connection_percentage_per_source: And of what is free, so many per cent.
        message_rate: Messages that one source may begin within a time; None for any number.
        message_rate_source: What they are counted by.
        connection_timeout_ms: How long a connection may last.
        connection_inactivity_timeout_ms: How long it may be silent.
        min_throughput_bytes_s: Octets of content that have to come a second; None for any number.
        min_throughput_grace_ms: Over how long that is averaged; a command line that has begun has as long.
        tls: How it speaks TLS; None if it does not.
        tls_handshake_timeout_ms: How long a handshake may take.
        submission_fixups: Whether a missing Date or Message-ID is added, and Bcc left out.
        lenient_syntax: Whether commands are read as devices write them.
        bare_linefeed: What becomes of content with a bare LF.
        extensions: What it offers.
        hygiene: Domains to which it takes no mail.
        trusts_peers: Whether whoever meets it is a server of ours.
    """

    name: str
    groups: tuple[PermissionGroup, ...]
    listeners: tuple[int, ...]
    remote_ip_ranges: tuple[str, ...]
    is_lmtp: bool = False
    proxy_protocol_ranges: tuple[str, ...] = ()
    xclient_ranges: tuple[str, ...] = ()
    xforward_ranges: tuple[str, ...] = ()
    fqdn: str | None = None
    sender_domains: tuple[str, ...] | None = None
    max_message_bytes: int = 36 * 1024 * 1024
    max_header_bytes: int = 256 * 1024
    max_recipients_per_message: int = 200
    max_protocol_errors: int = 5
    mechanisms: tuple[str, ...] = ()
    auth_requires_tls: bool = False
    max_logon_failures: int = 3
    auth_tarpit_ms: int = 5_000
    max_hop_count: int = 30
    tarpit_ms: int = 5_000
    max_inbound_connection: int = 5_000
    max_inbound_connection_per_source: int = 20
    max_inbound_connection_percentage_per_source: int = 100
    message_rate: MessageRate | None = None
    message_rate_source: RateSource = "ip_address"
    connection_timeout_ms: int = 600_000
    connection_inactivity_timeout_ms: int = 300_000
    min_throughput_bytes_s: int | None = None
    min_throughput_grace_ms: int = 60_000
    tls: TlsSettings | None = None
    tls_handshake_timeout_ms: int = 30_000
    submission_fixups: bool = False
    lenient_syntax: bool = False
    bare_linefeed: BareLinefeed = "reject"
    extensions: Extensions = USUAL
    hygiene: AddressHygiene = NO_HYGIENE
    trusts_peers: bool = False

    @property
    def rights(self) -> Right:
        """What a peer may do that has not authenticated itself."""
        return rights_of(self.groups, is_server=self.trusts_peers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveSettings:
    """The receiving side as a whole.

    Attributes:
        fqdn: The server's name.
        default_domain: The accepted domain that mail to the bare `<Postmaster>` goes to; empty for the
            server's name.
        accepted_domains: Domains we take mail for.
        connectors: Receive connectors.
        users_file: File of those who may log in; None where nobody may.
        message_expiration_ms: How long delivery of a new message is tried.
    """

    fqdn: str
    default_domain: str
    accepted_domains: tuple[AcceptedDomainSettings, ...]
    connectors: tuple[ReceiveConnectorSettings, ...]
    users_file: str | None = None
    message_expiration_ms: int = 4 * 86_400_000
