"""From the configuration to what each part has to be told: plain values, no decisions."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from penstock import _core
from penstock.config.problems import Problem
from penstock.config.settings import Config, ReceiveConnector
from penstock.config.values import Endpoint
from penstock.control.server import serve_control, serve_metrics
from penstock.deliver.settings import DeliverSettings, MaildirSettings, SendConnectorSettings, SmartHost
from penstock.errors import BindFailed, ConfigError
from penstock.hooks import ReceiveHooks
from penstock.overload import room_for_connections
from penstock.queue.retry import RetrySchedule
from penstock.receive.asking import Hooks
from penstock.receive.consulting import Consulting
from penstock.receive.pressure import Marks, Pressure
from penstock.receive.proxies import PROXY_HEADER_MS, proxies_of
from penstock.receive.rates import MessageRate
from penstock.receive.receiver import Receiver
from penstock.receive.self_test import STRANGERS_MAX
from penstock.receive.settings import (
    AcceptedDomainSettings,
    CertificateSettings,
    ReceiveConnectorSettings,
    ReceiveSettings,
    TlsSettings,
)
from penstock.route.router import Router
from penstock.route.settings import RouteConnector, RouteDomain
from penstock.smtp.sasl import MECHANISMS
from penstock.views import About, EngineViews

__all__ = [
    "about",
    "asking",
    "deliver_settings",
    "listen",
    "open_core",
    "pressure",
    "receive_settings",
    "refuse_open_relay",
    "router",
    "segment_bytes",
    "servers",
]

JOURNAL: Final = "journal.jsonl"
"""Name of the journal in the folder of the log."""

SEGMENT_BYTES: Final = (1 << 20, 64 << 20)
"""The least and the most that a segment of the spool's log has."""

SEGMENTS_ON_DISK: Final = 16
"""A file system has room for at least so many segments, or they are the smallest."""


def open_core(config: Config) -> _core.Engine:
    """Open the spool, making its folders and those of the log if they are not there.

    Raises:
        SpoolError: The spool cannot be opened.
        OSError: A folder or file cannot be made.
    """
    for folder in (os.path.dirname(config.spool_path), config.log_directory):
        os.makedirs(folder, mode=0o750, exist_ok=True)
    # On the first start the spool itself is not there yet; later it may be a mount point.
    place = config.spool_path if os.path.isdir(config.spool_path) else os.path.dirname(config.spool_path)
    disk = os.statvfs(place)
    return _core.Engine(
        spool=config.spool_path,
        io_threads=config.io_threads,
        connections_max=room_for_connections(),
        options={
            "free_min_bytes": config.refuse_mail_below_bytes,
            "segment_bytes": segment_bytes(disk.f_blocks * disk.f_frsize),
            "kept_ms": config.safety_net_hold_ms,
            "kept_max_bytes": config.safety_net_max_bytes,
        },
        journal=os.path.join(config.log_directory, JOURNAL),
    )


def listen(core: _core.Engine, config: Config, settings: ReceiveSettings) -> Iterator[tuple[str, int]]:
    """Listen where the configuration says; yield what was bound.

    Raises:
        BindFailed: An address cannot be had.
    """
    for number, endpoint in enumerate(config.listeners):
        proxies = proxies_of(settings.connectors, number)
        try:
            yield core.listen(
                number, endpoint.host, endpoint.port, proxies=proxies, proxy_header_ms=PROXY_HEADER_MS
            )
        except OSError as error:
            raise BindFailed(str(endpoint), error.errno or 0, error.strerror or str(error)) from None


def segment_bytes(disk_bytes: int) -> int:
    """Return how long segments of the spool's log are on a file system of this size.

    Space comes back, and is set aside for outcomes, a segment at a time: a small file system has to have room
    for several.
    """
    least, most = SEGMENT_BYTES
    whole = 1 << 20
    return max(least, min(most, disk_bytes // SEGMENTS_ON_DISK // whole * whole))


def receive_settings(config: Config) -> ReceiveSettings:
    """Return what reception has to know."""
    return ReceiveSettings(
        fqdn=config.fqdn,
        default_domain=config.default_domain,
        accepted_domains=tuple(
            AcceptedDomainSettings(
                name=domain.name,
                type=domain.type,
                match_sub_domains=domain.match_sub_domains,
                recipients=domain.recipients_file,
            )
            for domain in config.accepted_domains
        ),
        connectors=tuple(
            ReceiveConnectorSettings(
                name=connector.name,
                groups=connector.permission_groups,
                trusts_peers=connector.trusts_peers,
                listeners=connector.listeners,
                is_lmtp=connector.protocol == "lmtp",
                remote_ip_ranges=connector.remote_ip_ranges,
                proxy_protocol_ranges=connector.proxy_protocol_ranges,
                xclient_ranges=connector.xclient_ranges,
                xforward_ranges=connector.xforward_ranges,
                fqdn=connector.fqdn,
                sender_domains=connector.sender_domains,
                max_message_bytes=connector.max_message_bytes,
                max_header_bytes=connector.max_header_bytes,
                max_recipients_per_message=connector.max_recipients_per_message,
                max_protocol_errors=connector.max_protocol_errors,
                mechanisms=tuple(MECHANISMS) if connector.takes_passwords else (),
                auth_requires_tls=connector.passwords_require_tls,
                max_logon_failures=connector.max_logon_failures,
                auth_tarpit_ms=connector.auth_tarpit_ms,
                max_hop_count=connector.max_hop_count,
                tarpit_ms=connector.tarpit_ms,
                max_inbound_connection=connector.max_inbound_connection,
                max_inbound_connection_per_source=connector.max_inbound_connection_per_source,
                max_inbound_connection_percentage_per_source=(
                    connector.max_inbound_connection_percentage_per_source
                ),
                message_rate=None if connector.message_rate is None else MessageRate(*connector.message_rate),
                message_rate_source=connector.message_rate_source,
                connection_timeout_ms=connector.connection_timeout_ms,
                connection_inactivity_timeout_ms=connector.connection_inactivity_timeout_ms,
                min_throughput_bytes_s=connector.min_throughput_bytes_s,
                min_throughput_grace_ms=connector.min_throughput_grace_ms,
                tls=_tls_settings(connector),
                tls_handshake_timeout_ms=connector.tls_handshake_timeout_ms,
                submission_fixups=connector.submission_fixups,
                lenient_syntax=connector.lenient_syntax,
                bare_linefeed=connector.bare_linefeed,
                extensions=connector.extensions,
                hygiene=connector.hygiene,
            )
            for connector in config.receive_connectors
        ),
        users_file=config.users_file,
        message_expiration_ms=config.queue.message_expiration_ms,
    )


def asking(
    hooks: Sequence[ReceiveHooks],
    core: _core.Engine,
    routes: Router,
    timeout_s: float,
    journal: Callable[..., None],
    now_ms: Callable[[], int],
) -> Hooks | None:
    """Return what asks hooks; None if there are none.

    Raises:
        TypeError: One is no hook.
        ValueError: Two have the same name, or there is no such time.
    """
    consulting = Consulting(
        hooks, core.apply, timeout_s=timeout_s, through=routes.through, journal=journal, now_ms=now_ms
    )
    return Hooks(consulting, core) if hooks else None


def refuse_open_relay(config: Config, receiver: Receiver) -> None:
    """Let nobody start an open relay, whatever the single rules of the configuration have overlooked.

    Raises:
        ConfigError: Strangers could send to domains that are not ours.
    """
    found = receiver.open_to()
    if len(found) <= STRANGERS_MAX:
        return
    peer_ip, recipient = found[0]
    message = (
        f"Open relay: of the addresses that are tried all over the Internet {len(found)} could send to other "
        f"domains, {peer_ip} to {recipient} for one. "
        "Make the ranges of the connectors on which anybody may relay smaller."
    )
    place = config.files[0]
    problem = Problem(code="C120", file=place, line=0, column=0, path="receive_connector", message=message)
    raise ConfigError([problem])


def pressure(config: Config) -> Pressure:
    """Return what watches over the resources that have marks."""
    return Pressure(
        {
            each.resource: Marks(medium=each.medium, high=each.high if each.high is not None else math.inf)
            for each in config.back_pressure
            if each.medium is not None
        }
    )


def about(config: Config, bound: Sequence[tuple[str, int]], *, started_ms: int, generation: int) -> About:
    """Return what does not change while the engine runs.

    Args:
        config: The configuration.
        bound: Address and port of each listener.
        started_ms: When it was started.
        generation: Of the configuration.
    """
    behind: dict[int, list[str]] = {number: [] for number in range(len(config.listeners))}
    for connector in config.receive_connectors:
        for number in connector.listeners:
            behind[number].append(connector.name)
    return About(
        server=config.server_name,
        version=version("penstock"),
        profile=config.profile,
        generation=generation,
        started_ms=started_ms,
        listeners=tuple(
            {"address": str(Endpoint(*bound[number])), "connectors": names}
            for number, names in behind.items()
        ),
        send_connectors=tuple(connector.name for connector in config.send_connectors if connector.enabled),
        spool=config.spool_path,
        refuse_mail_below_bytes=config.refuse_mail_below_bytes,
    )


def _tls_settings(connector: ReceiveConnector) -> TlsSettings | None:
    if not connector.certificates:
        return None
    return TlsSettings(
        certificates=tuple(
            CertificateSettings(name=one.name, chain=one.chain_file, key=one.key_file)
            for one in connector.certificates
        ),
        minimum=connector.tls_minimum,
        client_certificate=connector.tls_client_certificate,
        is_required=connector.require_tls,
        implicit_listeners=connector.implicit_tls_listeners,
    )


def router(config: Config) -> Router:
    """Return the router of a configuration."""
    return Router(
        (
            RouteDomain(name=domain.name, type=domain.type, match_sub_domains=domain.match_sub_domains)
            for domain in config.accepted_domains
        ),
        (
            RouteConnector(
                name=connector.name, enabled=connector.enabled, address_spaces=connector.address_spaces
            )
            for connector in config.send_connectors
        ),
    )


def servers(config: Config, views: EngineViews) -> Iterator[Callable[..., Awaitable[None]]]:
    """Yield what answers operators: each runs for ever, and says when it is there."""
    if config.control_socket:
        yield partial(serve_control, Path(config.control_socket), views, version=version("penstock"))
    if config.metrics is not None:
        yield partial(
            serve_metrics,
            config.metrics.host,
            config.metrics.port,
            views,
            version=version("penstock"),
            names=(config.server_name, config.fqdn),
        )


def deliver_settings(config: Config) -> DeliverSettings:
    """Return what delivery has to know."""
    queue = config.queue
    return DeliverSettings(
        fqdn=config.fqdn,
        postmaster=f"postmaster@{config.default_domain or config.fqdn}",
        connectors=tuple(_send_connectors(config)),
        maildirs=tuple(
            MaildirSettings(domain=domain.name, directory=domain.maildir)
            for domain in config.accepted_domains
            if domain.maildir is not None
        ),
        schedule=RetrySchedule(
            queue_glitch_retry_count=queue.glitch_retry_count,
            queue_glitch_retry_interval_ms=queue.glitch_retry_interval_ms,
            transient_failure_retry_count=queue.transient_failure_retry_count,
            transient_failure_retry_interval_ms=queue.transient_failure_retry_interval_ms,
            outbound_connection_failure_retry_interval_ms=queue.outbound_connection_failure_retry_interval_ms,
            message_retry_interval_ms=queue.message_retry_interval_ms,
        ),
        max_outbound_connections=queue.max_outbound_connections,
        message_expiration_ms=queue.message_expiration_ms,
    )


def _send_connectors(config: Config) -> Iterator[SendConnectorSettings]:
    for connector in config.send_connectors:
        if connector.enabled:
            yield SendConnectorSettings(
                name=connector.name,
                smart_hosts=tuple(SmartHost(host, port) for host, port in connector.smart_hosts),
                fqdn=connector.fqdn,
                source_ip_address=connector.source_ip_address,
                max_outbound_connections_per_domain=connector.max_outbound_connections_per_domain,
                smtp_max_messages_per_connection=connector.smtp_max_messages_per_connection,
            )
