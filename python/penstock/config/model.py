"""What a configuration may say: every table and key, with its type and limits.

Defaults are in profiles/*.toml; a key that has none here has one there, or must be written. What belongs
together is judged in `checks`, so that one mistake does not hide another.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from penstock.config.keys import (
    AutoOr,
    Choice,
    Count,
    Duration,
    Flag,
    OneOrMore,
    Size,
    Text,
    UnlimitedOr,
    Version,
)
from penstock.config.values import (
    Endpoint,
    SmartHost,
    read_address_space,
    read_certificate_name,
    read_connector_name,
    read_domain,
    read_duration,
    read_endpoint,
    read_ip,
    read_ip_range,
    read_path,
    read_rate,
    read_sender_domain,
    read_server_name,
    read_size,
    read_smart_host,
    read_throughput,
)
from penstock.receive.settings import MESSAGE_BYTES_MAX, BareLinefeed
from penstock.route.address_space import AddressSpace
from penstock.route.permissions import Member, Right

__all__ = [
    "MAIN_FILE_ONLY",
    "NAMED_TABLES",
    "TABLES",
    "AcceptedDomain",
    "BackPressure",
    "Certificate",
    "Control",
    "DeliverTo",
    "KeySource",
    "Log",
    "PermissionGroup",
    "Queue",
    "ReceiveConnector",
    "RecipientsSource",
    "SendConnector",
    "Server",
    "Spool",
    "Table",
    "Top",
    "UserStore",
    "key_names",
]

CONFIG_VERSION: Final = 1
CONNECTIONS_MAX: Final = 50_000
"""What the wire engine holds at a time."""
SECOND_MS: Final = read_duration("1s")
DAY_MS: Final = read_duration("1d")
BINDINGS_MAX: Final = 64
CERTIFICATES_MAX: Final = 64
"""Of one connector."""
SMART_HOSTS_MAX: Final = 64
GROUPS_MAX: Final = 64
ITEMS_MAX: Final = 10_000
"""Ranges or address spaces of one connector."""

PERCENT: Final = Count(1, 100)
LENGTH: Final = Count(1, 1_000_000_000)
LATENCY: Final = Duration(1, read_duration("1m"))

SizeMode: TypeAlias = Literal["enabled", "disabled", "enabled_without_value"]
DomainType: TypeAlias = Literal["authoritative", "internal_relay", "external_relay"]
Switch: TypeAlias = Annotated[bool, Flag()]
Path: TypeAlias = Annotated[str, Text(read_path)]
Domain: TypeAlias = Annotated[str, Text(read_domain)]
Retries: TypeAlias = Annotated[int, Count(0, 15)]
Timeout: TypeAlias = Annotated[int, Duration(SECOND_MS, DAY_MS)]

PROFILE: Final = Choice(
    "relay",
    "exchange",
    "iis",
    later=dict.fromkeys(("dev", "embedded"), "features that do not exist yet"),
)
RECEIVE_USAGE: Final = Choice(
    "relay",
    "internet",
    "client",
    "internal",
    "custom",
    later={"partner": "authentication by certificate"},
)
AUTH_MECHANISM: Final = Choice(
    "none",
    "tls",
    "basic_auth",
    "basic_auth_require_tls",
    "external_authoritative",
    later={
        "integrated": "NTLM and Kerberos",
        "exchange_server": "authentication of servers",
    },
)
MEMBERS: Final = Choice(Member.ANONYMOUS, Member.USERS, Member.SERVERS)
RIGHT: Final = Choice(
    *(right.word for right in Right),
    later={
        "bypass_anti_spam": "filters",
        **dict.fromkeys(
            (
                "accept_headers_routing",
                "accept_headers_organization",
                "accept_headers_forest",
                "accept_authentication_flag",
            ),
            "a header firewall",
        ),
    },
)
RATE_SOURCE: Final = Choice("none", "ip_address", "user", "all")
SEND_USAGE: Final = Choice(
    "custom",
    "internet",
    later=dict.fromkeys(("m365_connector", "m365_client", "m365_direct", "m365_hve"), "TLS"),
)


class Table(BaseModel):
    """A table: nothing but its keys, each of its own type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Top(Table):
    """The keys above all tables."""

    config_version: Annotated[int, Version(CONFIG_VERSION)] = CONFIG_VERSION
    profile: Annotated[str, PROFILE] = "relay"


class Server(Table):
    """`[server]`."""

    name: Annotated[str, Text(read_server_name)] | None = None
    fqdn: Domain | None = None
    io_threads: Annotated[int | None, AutoOr(Count(1, 64))]


class Spool(Table):
    """`[spool]`."""

    path: Path
    refuse_mail_below: Annotated[int, Size(read_size("1 MB"), read_size("1024 TB"))]
    safety_net_hold_time: Annotated[int, Duration(0, read_duration("90d"))]
    safety_net_max_size: Annotated[int, Size(read_size("1 MB"), read_size("1024 TB"))]


class Queue(Table):
    """`[queue]`: names as in Set-TransportService and Set-TransportConfig."""

    queue_glitch_retry_count: Retries
    queue_glitch_retry_interval: Annotated[int, Duration(SECOND_MS, read_duration("12h"))]
    transient_failure_retry_count: Retries
    transient_failure_retry_interval: Annotated[int, Duration(SECOND_MS, read_duration("12h"))]
    outbound_connection_failure_retry_interval: Annotated[int, Duration(SECOND_MS, read_duration("20d"))]
    message_retry_interval: Timeout
    message_expiration_timeout: Annotated[int, Duration(read_duration("5s"), read_duration("90d"))]
    max_outbound_connections: Annotated[int, Count(1, CONNECTIONS_MAX)]


class BackPressure(Table):
    """`[back_pressure]`: from where on new mail is slowed down or refused."""

    memory_medium: Annotated[int | None, UnlimitedOr(PERCENT)]
    memory_high: Annotated[int | None, UnlimitedOr(PERCENT)]
    descriptors_medium: Annotated[int | None, UnlimitedOr(PERCENT)]
    descriptors_high: Annotated[int | None, UnlimitedOr(PERCENT)]
    queue_length_medium: Annotated[int | None, UnlimitedOr(LENGTH)]
    queue_length_high: Annotated[int | None, UnlimitedOr(LENGTH)]
    commit_latency_medium: Annotated[int | None, UnlimitedOr(LATENCY)]
    commit_latency_high: Annotated[int | None, UnlimitedOr(LATENCY)]


class Log(Table):
    """`[log]`."""

    directory: Path


class Control(Table):
    """`[control]`."""

    socket: Path
    metrics: Annotated[Endpoint, Text(read_endpoint)] | None = None


class RecipientsSource(Table):
    """Where the addresses of a domain are listed."""

    file: Path


class DeliverTo(Table):
    """Where the mail of a domain ends."""

    maildir: Path


class KeySource(Table):
    """Where a private key is."""

    file: Path


class Certificate(Table):
    """`[certificate.NAME]`."""

    chain: Annotated[Path, Field(examples=['"fullchain.pem"'])]
    key: Annotated[KeySource, Field(examples=['{ file = "private.key" }'])]


class AcceptedDomain(Table):
    """`[accepted_domain."NAME"]`."""

    type: Annotated[
        DomainType,
        Choice("authoritative", "internal_relay", "external_relay"),
        Field(examples=['"internal_relay"']),
    ]
    match_sub_domains: Switch
    default: Switch
    recipients: RecipientsSource | None = None
    deliver_to: DeliverTo | None = None


class PermissionGroup(Table):
    """`[permission_group.NAME]`."""

    members: Annotated[str, MEMBERS, Field(examples=['"users"'])]
    rights: Annotated[
        tuple[Annotated[str, RIGHT], ...], Field(max_length=64, examples=['["submit", "accept_any_sender"]'])
    ]


class ReceiveConnector(Table):
    """`[receive_connector.NAME]`: names as in Set-ReceiveConnector."""

    enabled: Switch
    usage: Annotated[str, RECEIVE_USAGE, Field(examples=['"relay"'])]
    bindings: Annotated[
        tuple[Annotated[Endpoint, Text(read_endpoint)], ...],
        Field(min_length=1, max_length=BINDINGS_MAX, examples=['["0.0.0.0:25", "[::]:25"]']),
    ]
    protocol: Annotated[str, Choice("smtp", "lmtp")]
    implicit_tls_bindings: Annotated[
        tuple[Annotated[Endpoint, Text(read_endpoint)], ...], Field(max_length=BINDINGS_MAX)
    ] = ()
    remote_ip_ranges: Annotated[
        tuple[Annotated[str, Text(read_ip_range)], ...] | None, Field(min_length=1, max_length=ITEMS_MAX)
    ] = None
    proxy_protocol_ranges: Annotated[
        tuple[Annotated[str, Text(read_ip_range)], ...], Field(max_length=ITEMS_MAX)
    ] = ()
    xclient_ranges: Annotated[
        tuple[Annotated[str, Text(read_ip_range)], ...], Field(max_length=ITEMS_MAX)
    ] = ()
    xforward_ranges: Annotated[
        tuple[Annotated[str, Text(read_ip_range)], ...], Field(max_length=ITEMS_MAX)
    ] = ()
    permission_groups: Annotated[
        tuple[Annotated[str, Text(read_connector_name)], ...],
        Field(max_length=GROUPS_MAX, examples=['["anonymous_users"]']),
    ]
    sender_domains: Annotated[
        tuple[Annotated[str, Text(read_sender_domain)], ...] | None,
        Field(min_length=1, max_length=ITEMS_MAX),
    ] = None
    fqdn: Domain | None = None
    max_message_size: Annotated[
        int,
        Size(read_size("64 KB"), MESSAGE_BYTES_MAX, "A larger message is not possible in this version."),
    ]
    max_header_size: Annotated[int, Size(read_size("1 KB"), read_size("4 MB"))]
    max_recipients_per_message: Annotated[int, Count(1, 5_000)]
    max_protocol_errors: Annotated[int, Count(1, 10_000)]
    max_hop_count: Annotated[int, Count(1, 500)]
    tarpit_interval: Annotated[int, Duration(0, read_duration("10m"))]
    auth_mechanism: tuple[Annotated[str, AUTH_MECHANISM], ...]
    max_logon_failures: Annotated[int, Count(0, 10)]
    auth_tarpit_interval: Annotated[int, Duration(0, read_duration("10m"))]
    max_inbound_connection: Annotated[int, Count(1, CONNECTIONS_MAX)]
    max_inbound_connection_per_source: Annotated[int, Count(1, CONNECTIONS_MAX)]
    max_inbound_connection_percentage_per_source: Annotated[int, Count(1, 100)]
    message_rate_limit: Annotated[tuple[int, int] | None, Text(read_rate)]
    message_rate_source: Annotated[str, RATE_SOURCE]
    connection_timeout: Timeout
    connection_inactivity_timeout: Timeout
    min_throughput: Annotated[int | None, Text(read_throughput)]
    min_throughput_grace: Annotated[int, Duration(read_duration("10s"), read_duration("10m"))]
    bare_linefeed: Annotated[BareLinefeed, Choice("reject", "normalise")]
    lenient_syntax: Switch
    submission_fixups: Switch
    tls_certificate_name: (
        Annotated[tuple[str, ...], OneOrMore(read_certificate_name, CERTIFICATES_MAX)] | None
    ) = None
    tls_minimum: Annotated[str, Choice("1.2", "1.3")]
    tls_handshake_timeout: Annotated[int, Duration(SECOND_MS, read_duration("5m"))]
    require_tls: Switch
    tls_client_certificate: Annotated[str, Choice("none", "ask")]
    pipelining_enabled: Switch
    size_enabled: Annotated[SizeMode, Choice("enabled", "disabled", "enabled_without_value")]
    eight_bit_mime_enabled: Switch
    enhanced_status_codes_enabled: Switch
    chunking_enabled: Switch
    binary_mime_enabled: Switch
    delivery_status_notification_enabled: Switch
    smtp_utf8_enabled: Switch
    limits_enabled: Switch
    mt_priority_enabled: Switch
    deliver_by_enabled: Switch
    future_release_enabled: Switch
    require_tls_extension_enabled: Switch
    reject_reserved_top_level_recipient_domains: Switch
    reject_reserved_second_level_recipient_domains: Switch
    reject_single_label_recipient_domains: Switch


class UserStore(Table):
    """`[user_store.NAME]`: who may log in."""

    file: Annotated[str, Text(read_path), Field(examples=['"users"'])]


class SendConnector(Table):
    """`[send_connector.NAME]`: names as in Set-SendConnector."""

    enabled: Switch
    usage: Annotated[str, SEND_USAGE, Field(examples=['"custom"'])]
    address_spaces: Annotated[
        tuple[Annotated[AddressSpace, Text(read_address_space)], ...],
        Field(min_length=1, max_length=ITEMS_MAX, examples=['["*"]']),
    ]
    smart_hosts: Annotated[
        tuple[Annotated[SmartHost, Text(read_smart_host)], ...], Field(max_length=SMART_HOSTS_MAX)
    ] = ()
    port: Annotated[int, Count(1, 65_535)]
    fqdn: Domain | None = None
    source_ip_address: Annotated[str, Text(read_ip)] | None = None
    max_outbound_connections_per_domain: Annotated[int, Count(1, CONNECTIONS_MAX)]
    smtp_max_messages_per_connection: Annotated[int, Count(1, 10_000)]


TABLES: Final[dict[str, type[Table]]] = {
    "server": Server,
    "spool": Spool,
    "queue": Queue,
    "back_pressure": BackPressure,
    "log": Log,
    "control": Control,
}
NAMED_TABLES: Final[dict[str, type[Table]]] = {
    "certificate": Certificate,
    "accepted_domain": AcceptedDomain,
    "permission_group": PermissionGroup,
    "receive_connector": ReceiveConnector,
    "user_store": UserStore,
    "send_connector": SendConnector,
}
INNER_TABLES: Final[dict[str, type[Table]]] = {
    "recipients": RecipientsSource,
    "deliver_to": DeliverTo,
    "key": KeySource,
}
MAIN_FILE_ONLY: Final = frozenset({"profile", "config_version", "server", "spool", "control"})
"""What a drop-in must not say, so that none can move the spool or open the control socket to others."""


def key_names() -> frozenset[str]:
    """Return the name of every table and key."""
    tables: dict[str, type[Table]] = {"": Top, **TABLES, **NAMED_TABLES, **INNER_TABLES}
    keys = {key for table in tables.values() for key in table.model_fields}
    return frozenset(keys.union(filter(None, tables)))
