"""The configuration in force: plain values, every default filled in, every path absolute.

Units are in the names: `_ms` and `_bytes`. Whoever needs a part of it is given that part by the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.config.values import Endpoint
from penstock.receive.settings import AddressHygiene
from penstock.route.address_space import AddressSpace
from penstock.route.permissions import PermissionGroup
from penstock.smtp.extensions import Extensions

if TYPE_CHECKING:
    from penstock.config.model import DomainType
    from penstock.config.problems import Problem
    from penstock.receive.settings import BareLinefeed, RateSource

__all__ = [
    "AcceptedDomain",
    "BackPressure",
    "Certificate",
    "Config",
    "Queue",
    "ReceiveConnector",
    "SendConnector",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDomain:
    """A domain that mail is taken for.

    Attributes:
        name: The domain, in lower case.
        type: Whether its mail ends here (authoritative) or goes on.
        match_sub_domains: Whether its sub-domains are meant, too.
        recipients_file: File of the addresses that exist; None to take any. Never None if authoritative.
        maildir: Where its mail ends; None unless authoritative.
    """

    name: str
    type: DomainType
    match_sub_domains: bool
    recipients_file: str | None
    maildir: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate.

    Attributes:
        name: Its name.
        chain_file: File of it and of those that vouch for it.
        key_file: File of its key.
    """

    name: str
    chain_file: str
    key_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveConnector:
    """A receive connector that is in force.

    Attributes:
        name: Its name.
        usage: The preset that it began with.
        listeners: Indices into `Config.listeners`.
        protocol: `smtp` or `lmtp`.
        implicit_tls_listeners: Those among them on which connections begin with TLS.
        remote_ip_ranges: Who meets it.
        proxy_protocol_ranges: Which peers of its listeners begin with the PROXY protocol.
        xclient_ranges: Which of its peers may speak for others.
        xforward_ranges: Which may say where a message has been before.
        permission_groups: Who may do what.
        sender_domains: The only domains that senders may have; None for any.
        fqdn: What it calls itself.
        max_message_bytes: Largest message.
        max_header_bytes: Largest header section.
        max_recipients_per_message: Most recipients of one message.
        max_protocol_errors: Wrong commands before a session ends.
        max_hop_count: Most `Received:` fields.
        tarpit_ms: Delay of 5yz replies.
        max_inbound_connection: Connections to it at a time.
        trusts_peers: Whether whoever meets it is a server of ours.
        takes_passwords: Whether peers may authenticate themselves with a password.
        passwords_require_tls: Whether only on an encrypted connection.
        max_logon_failures: The failed authentication that ends a session; 0 for never.
        auth_tarpit_ms: Delay of the reply to a failed authentication.
        max_inbound_connection_per_source: Connections to it of one source at a time.
        max_inbound_connection_percentage_per_source: And of what is free, so many per cent; 100: no share.
        message_rate: So many messages of one source within so many milliseconds; None for any number.
        message_rate_source: What they are counted by.
        connection_timeout_ms: How long a connection may last.
        connection_inactivity_timeout_ms: How long it may be silent.
        min_throughput_bytes_s: Octets of content that have to come a second; None for any number.
        min_throughput_grace_ms: Over how long that is averaged, and how long a command line may take.
        bare_linefeed: What becomes of content with a bare LF.
        lenient_syntax: Whether commands are read as devices write them.
        submission_fixups: Whether a missing Date or Message-ID is added, and Bcc left out.
        certificates: What it shows in handshakes, the default first; without any it speaks no TLS.
        tls_minimum: The oldest version of TLS.
        tls_handshake_timeout_ms: How long a handshake may take.
        require_tls: Whether MAIL is refused before TLS.
        tls_client_certificate: Whether clients are asked for certificates: `none` or `ask`.
        extensions: What it offers.
        hygiene: Domains to which it takes no mail.
    """

    name: str
    usage: str
    listeners: tuple[int, ...]
    protocol: str
    implicit_tls_listeners: tuple[int, ...]
    remote_ip_ranges: tuple[str, ...]
    proxy_protocol_ranges: tuple[str, ...]
    xclient_ranges: tuple[str, ...]
    xforward_ranges: tuple[str, ...]
    permission_groups: tuple[PermissionGroup, ...]
    sender_domains: tuple[str, ...] | None
    fqdn: str
    max_message_bytes: int
    max_header_bytes: int
    max_recipients_per_message: int
    max_protocol_errors: int
    max_hop_count: int
    tarpit_ms: int
    max_inbound_connection: int
    max_inbound_connection_per_source: int
    trusts_peers: bool
    takes_passwords: bool
    passwords_require_tls: bool
    max_logon_failures: int
    auth_tarpit_ms: int
    max_inbound_connection_percentage_per_source: int
    message_rate: tuple[int, int] | None
    message_rate_source: RateSource
    connection_timeout_ms: int
    connection_inactivity_timeout_ms: int
    min_throughput_bytes_s: int | None
    min_throughput_grace_ms: int
    bare_linefeed: BareLinefeed
    lenient_syntax: bool
    submission_fixups: bool
    certificates: tuple[Certificate, ...]
    tls_minimum: str
    tls_handshake_timeout_ms: int
    require_tls: bool
    tls_client_certificate: str
    extensions: Extensions
    hygiene: AddressHygiene


@dataclass(frozen=True, slots=True, kw_only=True)
class SendConnector:
    """A send connector, in force or not.

    Attributes:
        name: Its name.
        enabled: Whether mail may be sent through it. What follows may be incomplete if not.
        usage: `custom` or `internet`.
        address_spaces: What it is for.
        smart_hosts: Where it delivers to, each with its port.
        fqdn: What it calls itself.
        source_ip_address: The address it connects from; None for the system's choice.
        max_outbound_connections_per_domain: Connections of one delivery queue at a time.
        smtp_max_messages_per_connection: Messages before a connection is renewed.
    """

    name: str
    enabled: bool
    usage: str
    address_spaces: tuple[AddressSpace, ...]
    smart_hosts: tuple[tuple[str, int], ...]
    fqdn: str
    source_ip_address: str | None
    max_outbound_connections_per_domain: int
    smtp_max_messages_per_connection: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """When delivery is tried again, and when it is given up.

    Attributes:
        glitch_retry_count: Retries of a next hop in the first stage.
        glitch_retry_interval_ms: What passes before each of them.
        transient_failure_retry_count: Retries of a next hop in the second stage.
        transient_failure_retry_interval_ms: What passes before each of them.
        outbound_connection_failure_retry_interval_ms: What passes before each later one.
        message_retry_interval_ms: What passes before a message is tried again that its next hop put off.
        message_expiration_ms: How long delivery of a message is tried.
        max_outbound_connections: Outgoing connections in all at a time.
    """

    glitch_retry_count: int
    glitch_retry_interval_ms: int
    transient_failure_retry_count: int
    transient_failure_retry_interval_ms: int
    outbound_connection_failure_retry_interval_ms: int
    message_retry_interval_ms: int
    message_expiration_ms: int
    max_outbound_connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackPressure:
    """From where on a resource is short; None for never.

    Attributes:
        resource: One of `penstock.receive.pressure.RESOURCES`.
        medium: From here on its level is medium, in the resource's unit.
        high: From here on its level is high.
    """

    resource: str
    medium: int | None
    high: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration, without errors.

    Attributes:
        files: The main file and the drop-ins that were read, in order.
        profile: The profile beneath them.
        server_name: First part of identities.
        fqdn: What the server calls itself.
        io_threads: Reactor threads, 1 or more.
        spool_path: Directory of the spool.
        refuse_mail_below_bytes: Free space under which no new mail is taken.
        safety_net_hold_ms: How long finished mail is kept; 0 for not at all.
        safety_net_max_bytes: Octets of log and blobs that it may keep at most.
        accepted_domains: In the order of the files.
        default_domain: The domain of the bare postmaster; empty if no domain is accepted.
        listeners: Where to listen, each address and port once.
        receive_connectors: Those in force, in the order of the files.
        send_connectors: All of them, in the order of the files.
        users_file: File of those who may log in; None if there is no user store.
        queue: Retry and expiry.
        back_pressure: When new mail is slowed down or refused.
        log_directory: Directory of the journal.
        control_socket: Path of the control socket.
        metrics: Where metrics are served, if anywhere.
        warnings: What blocks nothing but should be looked at.
        notes: What is worth knowing: overrides of one file by another.
    """

    files: tuple[str, ...]
    profile: str
    server_name: str
    fqdn: str
    io_threads: int
    spool_path: str
    refuse_mail_below_bytes: int
    safety_net_hold_ms: int
    safety_net_max_bytes: int
    accepted_domains: tuple[AcceptedDomain, ...]
    default_domain: str
    listeners: tuple[Endpoint, ...]
    receive_connectors: tuple[ReceiveConnector, ...]
    send_connectors: tuple[SendConnector, ...]
    users_file: str | None
    queue: Queue
    back_pressure: tuple[BackPressure, ...]
    log_directory: str
    control_socket: str
    metrics: Endpoint | None
    warnings: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
