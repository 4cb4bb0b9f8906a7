"""What the delivering side has to be told; plain values, filled from the configuration by the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.queue.retry import RetrySchedule

__all__ = ["DeliverSettings", "MaildirSettings", "SendConnectorSettings", "SmartHost"]


class SmartHost(NamedTuple):
    """A host that takes our mail.

    Attributes:
        host: Its name, or its IP address without brackets.
        port: Its port.
    """

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendConnectorSettings:
    """A send connector to smart hosts.

    Attributes:
        name: Its name; connector and destination of its hop.
        smart_hosts: In the order in which they are tried; at least one.
        fqdn: What it calls itself; None for the server's name.
        source_ip_address: The address it speaks from; None for the system's choice.
        max_outbound_connections_per_domain: Connections at a time.
        smtp_max_messages_per_connection: Mail transactions of a connection; None for any number.
        connection_idle_ms: How long a connection without work is kept.
        connect_ms: How long connecting may take.
        banner_ms: How long the banner may take (RFC 5321 4.5.3.2.1).
        reply_ms: How long the reply to a command may take (4.5.3.2.2, 4.5.3.2.3).
        data_ms: How long the reply to DATA may take (4.5.3.2.4).
        block_ms: How long the peer may take nothing of what is sent (4.5.3.2.5).
        dot_ms: How long the reply to the content may take (4.5.3.2.6).
    """

    name: str
    smart_hosts: tuple[SmartHost, ...]
    fqdn: str | None = None
    source_ip_address: str | None = None
    max_outbound_connections_per_domain: int = 20
    smtp_max_messages_per_connection: int | None = 20
    connection_idle_ms: int = 2_000
    connect_ms: int = 30_000
    banner_ms: int = 300_000
    reply_ms: int = 300_000
    data_ms: int = 120_000
    block_ms: int = 180_000
    dot_ms: int = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MaildirSettings:
    """Where the mail of an authoritative domain ends.

    Attributes:
        domain: The domain, in lower case; connector and destination of its hop.
        directory: The Maildir; made if it does not exist.
        deliveries_max: Deliveries at a time: as many as share one sync of the directory.
    """

    domain: str
    directory: str
    deliveries_max: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverSettings:
    """The delivering side as a whole.

    Attributes:
        fqdn: The server's name.
        postmaster: The address that reports come from.
        connectors: Send connectors that are enabled.
        maildirs: Targets of authoritative domains.
        schedule: The retry intervals.
        max_outbound_connections: Connections in all at a time.
        message_expiration_ms: How long delivery of a report is tried.
    """

    fqdn: str
    postmaster: str
    connectors: tuple[SendConnectorSettings, ...] = ()
    maildirs: tuple[MaildirSettings, ...] = ()
    schedule: RetrySchedule = field(default_factory=RetrySchedule)
    max_outbound_connections: int = 1_000
    message_expiration_ms: int = 4 * 86_400_000
