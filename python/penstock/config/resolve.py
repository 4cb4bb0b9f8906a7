"""From tables without errors to a `Config`: defaults that depend on others filled in, paths made absolute."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from penstock.config import model, settings
from penstock.config.auth_checks import TRUST
from penstock.config.checks import EVERYWHERE
from penstock.config.in_force import in_force, permission_groups
from penstock.config.tree import Node, absolute
from penstock.config.validate import Tables
from penstock.config.values import Endpoint, Refused, read_domain
from penstock.receive.pressure import RESOURCES
from penstock.receive.settings import AddressHygiene
from penstock.route.permissions import PermissionGroup
from penstock.smtp.extensions import Extensions

if TYPE_CHECKING:
    from penstock.receive.settings import RateSource

__all__ = ["Host", "ThisHost", "resolved"]

CORES_PER_IO_THREAD: Final = 2
IO_THREADS_AUTO_MAX: Final = 16

T = TypeVar("T")


class Host(Protocol):
    """What the machine says of itself, where the configuration does not."""

    def name(self) -> str:
        """Return its name, without a domain."""

    def fqdn(self) -> str:
        """Return its full name, as far as it is known. **Blocking**: may ask the DNS."""

    def cores(self) -> int:
        """Return how many cores may be used."""


class ThisHost:
    """The machine that this runs on."""

    def name(self) -> str:
        """Return its name, without a domain."""
        return socket.gethostname().partition(".")[0]

    def fqdn(self) -> str:
        """Return its full name, as far as it is known. **Blocking**: may ask the DNS."""
        return socket.getfqdn()

    def cores(self) -> int:
        """Return how many cores may be used."""
        return len(os.sched_getaffinity(0))


def resolved(files: tuple[str, ...], tree: Node, tables: Tables, host: Host) -> settings.Config:
    """Return the configuration that the tables mean.

    Args:
        files: The files that were read.
        tree: Where everything is written: relative paths begin in the folder of their file.
        tables: All of them, without errors.
        host: Stands in for what is not configured.
    """
    top, server = _there(tables.top), _there(tables.server)
    spool, log, control = _there(tables.spool), _there(tables.log), _there(tables.control)
    pressure = _there(tables.back_pressure)
    fqdn = server.fqdn or _fqdn(host)
    in_force_now = dict(in_force(tree, tables))
    groups = permission_groups(tables)
    bound = (
        binding
        for connector in in_force_now.values()
        for binding in (*connector.bindings, *connector.implicit_tls_bindings)
    )
    listeners = tuple(dict.fromkeys(bound))
    certificates = {
        name: _certificate(tree, name, certificate) for name, certificate in tables.certificates.items()
    }
    return settings.Config(
        files=files,
        profile=top.profile,
        server_name=server.name or host.name(),
        fqdn=fqdn,
        io_threads=server.io_threads or _io_threads(host.cores()),
        spool_path=absolute(tree, ("spool", "path"), spool.path),
        refuse_mail_below_bytes=spool.refuse_mail_below,
        safety_net_hold_ms=spool.safety_net_hold_time,
        safety_net_max_bytes=spool.safety_net_max_size,
        accepted_domains=tuple(
            _accepted_domain(tree, name, domain) for name, domain in tables.accepted_domains.items()
        ),
        default_domain=_default_domain(tables.accepted_domains),
        listeners=listeners,
        receive_connectors=tuple(
            _receive_connector(name, connector, fqdn, listeners, groups, certificates)
            for name, connector in in_force_now.items()
        ),
        send_connectors=tuple(
            _send_connector(name, connector, fqdn) for name, connector in tables.send_connectors.items()
        ),
        users_file=_users_file(tree, tables.user_stores),
        queue=_queue(_there(tables.queue)),
        back_pressure=tuple(
            settings.BackPressure(
                resource=resource,
                medium=getattr(pressure, f"{resource}_medium"),
                high=getattr(pressure, f"{resource}_high"),
            )
            for resource in RESOURCES
        ),
        log_directory=absolute(tree, ("log", "directory"), log.directory),
        control_socket=absolute(tree, ("control", "socket"), control.socket),
        metrics=control.metrics,
    )


def _there(table: T | None) -> T:
    if table is None:
        raise AssertionError("invariant: only tables without errors are resolved")
    return table


def _fqdn(host: Host) -> str:
    for name in (host.fqdn(), host.name()):
        try:
            return read_domain(name)
        except Refused:
            continue
    return "localhost"


def _io_threads(cores: int) -> int:
    return min(max(1, cores // CORES_PER_IO_THREAD), IO_THREADS_AUTO_MAX)


def _default_domain(domains: dict[str, model.AcceptedDomain]) -> str:
    """Return the domain that says that it is the default, or the first."""
    default = next((name for name, domain in domains.items() if domain.default), next(iter(domains), ""))
    return default.lower()


def _accepted_domain(tree: Node, name: str, domain: model.AcceptedDomain) -> settings.AcceptedDomain:
    path = ("accepted_domain", name)
    recipients_file = maildir = None
    if domain.recipients is not None:
        recipients_file = absolute(tree, (*path, "recipients", "file"), domain.recipients.file)
    if domain.deliver_to is not None:
        maildir = absolute(tree, (*path, "deliver_to", "maildir"), domain.deliver_to.maildir)
    return settings.AcceptedDomain(
        name=name.lower(),
        type=domain.type,
        match_sub_domains=domain.match_sub_domains,
        recipients_file=recipients_file,
        maildir=maildir,
    )


def _certificate(tree: Node, name: str, certificate: model.Certificate) -> settings.Certificate:
    path = ("certificate", name)
    return settings.Certificate(
        name=name,
        chain_file=absolute(tree, (*path, "chain"), certificate.chain),
        key_file=absolute(tree, (*path, "key", "file"), certificate.key.file),
    )


def _users_file(tree: Node, stores: dict[str, model.UserStore]) -> str | None:
    """Return the file of the one user store."""
    return next(
        (absolute(tree, ("user_store", name, "file"), store.file) for name, store in stores.items()), None
    )


def _receive_connector(
    name: str,
    connector: model.ReceiveConnector,
    fqdn: str,
    listeners: tuple[Endpoint, ...],
    groups: Mapping[str, PermissionGroup],
    certificates: dict[str, settings.Certificate],
) -> settings.ReceiveConnector:
    bindings = (*connector.bindings, *connector.implicit_tls_bindings)
    return settings.ReceiveConnector(
        name=name,
        usage=connector.usage,
        listeners=tuple(sorted({listeners.index(binding) for binding in bindings})),
        protocol=connector.protocol,
        implicit_tls_listeners=tuple(
            sorted({listeners.index(binding) for binding in connector.implicit_tls_bindings})
        ),
        remote_ip_ranges=connector.remote_ip_ranges or EVERYWHERE,
        proxy_protocol_ranges=connector.proxy_protocol_ranges,
        xclient_ranges=connector.xclient_ranges,
        xforward_ranges=connector.xforward_ranges,
        permission_groups=tuple(groups[group] for group in connector.permission_groups),
        sender_domains=connector.sender_domains,
        fqdn=connector.fqdn or fqdn,
        max_message_bytes=connector.max_message_size,
        max_header_bytes=connector.max_header_size,
        max_recipients_per_message=connector.max_recipients_per_message,
        max_protocol_errors=connector.max_protocol_errors,
        max_hop_count=connector.max_hop_count,
        tarpit_ms=connector.tarpit_interval,
        max_inbound_connection=connector.max_inbound_connection,
        max_inbound_connection_per_source=connector.max_inbound_connection_per_source,
        trusts_peers=TRUST in connector.auth_mechanism,
        takes_passwords="basic_auth" in connector.auth_mechanism,
        passwords_require_tls="basic_auth_require_tls" in connector.auth_mechanism,
        max_logon_failures=connector.max_logon_failures,
        auth_tarpit_ms=connector.auth_tarpit_interval,
        max_inbound_connection_percentage_per_source=connector.max_inbound_connection_percentage_per_source,
        message_rate=None if connector.message_rate_source == "none" else connector.message_rate_limit,
        message_rate_source=cast("RateSource", connector.message_rate_source),
        connection_timeout_ms=connector.connection_timeout,
        connection_inactivity_timeout_ms=connector.connection_inactivity_timeout,
        min_throughput_bytes_s=connector.min_throughput,
        min_throughput_grace_ms=connector.min_throughput_grace,
        bare_linefeed=connector.bare_linefeed,
        lenient_syntax=connector.lenient_syntax,
        submission_fixups=connector.submission_fixups,
        certificates=tuple(certificates[one] for one in connector.tls_certificate_name or ()),
        tls_minimum=connector.tls_minimum,
        tls_handshake_timeout_ms=connector.tls_handshake_timeout,
        require_tls=connector.require_tls,
        tls_client_certificate=connector.tls_client_certificate,
        extensions=_extensions(connector),
        hygiene=AddressHygiene(
            reserved_top_level=connector.reject_reserved_top_level_recipient_domains,
            reserved_second_level=connector.reject_reserved_second_level_recipient_domains,
            single_label=connector.reject_single_label_recipient_domains,
        ),
    )


def _extensions(connector: model.ReceiveConnector) -> Extensions:
    return Extensions(
        pipelining=connector.pipelining_enabled,
        delivery_status_notification=connector.delivery_status_notification_enabled,
        enhanced_status_codes=connector.enhanced_status_codes_enabled,
        eight_bit_mime=connector.eight_bit_mime_enabled,
        binary_mime=connector.binary_mime_enabled,
        chunking=connector.chunking_enabled,
        size=connector.size_enabled,
        smtp_utf8=connector.smtp_utf8_enabled,
        limits=connector.limits_enabled,
        mt_priority=connector.mt_priority_enabled,
        deliver_by=connector.deliver_by_enabled,
        future_release=connector.future_release_enabled,
        require_tls_extension=connector.require_tls_extension_enabled,
    )


def _send_connector(name: str, connector: model.SendConnector, fqdn: str) -> settings.SendConnector:
    return settings.SendConnector(
        name=name,
        enabled=connector.enabled,
        usage=connector.usage,
        address_spaces=connector.address_spaces,
        smart_hosts=tuple((host, port or connector.port) for host, port in connector.smart_hosts),
        fqdn=connector.fqdn or fqdn,
        source_ip_address=connector.source_ip_address,
        max_outbound_connections_per_domain=connector.max_outbound_connections_per_domain,
        smtp_max_messages_per_connection=connector.smtp_max_messages_per_connection,
    )


def _queue(queue: model.Queue) -> settings.Queue:
    return settings.Queue(
        glitch_retry_count=queue.queue_glitch_retry_count,
        glitch_retry_interval_ms=queue.queue_glitch_retry_interval,
        transient_failure_retry_count=queue.transient_failure_retry_count,
        transient_failure_retry_interval_ms=queue.transient_failure_retry_interval,
        outbound_connection_failure_retry_interval_ms=queue.outbound_connection_failure_retry_interval,
        message_retry_interval_ms=queue.message_retry_interval,
        message_expiration_ms=queue.message_expiration_timeout,
        max_outbound_connections=queue.max_outbound_connections,
    )
