"""Why a peer gets what it gets: its connector and the others, its rights, its limits, and what it may send.

Made of the same parts that decide when the peer comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from penstock.receive.admission import source_of
from penstock.receive.connectors import IpRange, ReceiveConnectors, parse_range
from penstock.receive.proxies import is_proxy
from penstock.receive.relay import AcceptedDomains, Identity, RelayPolicy, SenderDomains
from penstock.receive.settings import ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.storage import Storage
from penstock.route.permissions import Member, rights_of

__all__ = ["Candidate", "Explanation", "GroupHeld", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A connector on the listener.

    Attributes:
        name: Its name.
        is_chosen: Whether the peer meets it.
        reason: Why, or why not.
    """

    name: str
    is_chosen: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupHeld:
    """A permission group of the connector.

    Attributes:
        name: Its name.
        is_member: Whether the peer belongs to it.
        rights: What its members may do.
    """

    name: str
    is_member: bool
    rights: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a peer gets.

    Attributes:
        peer_ip: The peer.
        login: The name with which it authenticates, or empty.
        candidates: The connectors of the listener; at most one is chosen.
        groups: The permission groups of that one.
        rights: What the peer may do.
        limits: Names and values of the limits that it meets, as the configuration has them.
        sender: The reply to MAIL with the sender that was asked about, or None for 250.
        recipient: The reply to RCPT with the recipient that was asked about, or None for 250.
        is_proxy: Whether it has to say first whom it speaks for; the rest is about the peer itself.
    """

    peer_ip: str
    login: str
    candidates: tuple[Candidate, ...]
    groups: tuple[GroupHeld, ...] = ()
    rights: tuple[str, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    sender: str | None = None
    recipient: str | None = None
    is_proxy: bool = False

    @property
    def connector(self) -> str | None:
        """The name of the connector that the peer meets, if any."""
        return next((candidate.name for candidate in self.candidates if candidate.is_chosen), None)


def explain(
    settings: ReceiveSettings,
    listener: int,
    peer_ip: str,
    *,
    login: str = "",
    sender: tuple[str, str] | None = None,
    recipient: tuple[str, str] | None = None,
) -> Explanation:
    """Return what a peer gets on a listener. **Blocking**: reads files of recipients.

    Args:
        settings: The receiving side.
        listener: Where it connects.
        peer_ip: Its address.
        login: The name with which it authenticates.
        sender: An address and its domain in lower case; both empty for the null sender.
        recipient: The same.

    Raises:
        ValueError: The address is none.
        OSError: A file of recipients cannot be read.
    """
    peer_ip = str(ip_address(peer_ip))
    chosen = ReceiveConnectors(settings.connectors).find(listener, peer_ip)
    candidates = tuple(_candidates(settings.connectors, listener, peer_ip, chosen))
    proxied = is_proxy(settings.connectors, listener, peer_ip)
    if chosen is None:
        return Explanation(peer_ip=peer_ip, login=login, candidates=candidates, is_proxy=proxied)
    rights = rights_of(chosen.groups, is_user=bool(login), is_server=chosen.trusts_peers)
    belongs = {
        Member.ANONYMOUS: True,
        Member.USERS: bool(login),
        Member.SERVERS: chosen.trusts_peers,
    }
    domains = AcceptedDomains(settings.accepted_domains)
    policy = RelayPolicy(
        domains,
        Storage(),
        rights=rights,
        sender_domains=None if chosen.sender_domains is None else SenderDomains(chosen.sender_domains),
        identity=Identity(login, is_server=chosen.trusts_peers),
    )
    return Explanation(
        peer_ip=peer_ip,
        login=login,
        candidates=candidates,
        groups=tuple(
            GroupHeld(
                name=group.name,
                is_member=belongs[group.members],
                rights=tuple(right.word for right in group.rights),
            )
            for group in chosen.groups
        ),
        rights=tuple(right.word for right in rights),
        limits=tuple(_limits(chosen, peer_ip, login)),
        sender=_told(policy.sender(*(sender or ("", "")))),
        recipient=None if recipient is None else _told(policy.recipient(*recipient)),
        is_proxy=proxied,
    )


def _told(reply: bytes | None) -> str | None:
    return None if reply is None else reply.decode("ascii").rstrip("\r\n")


def _candidates(
    connectors: Sequence[ReceiveConnectorSettings],
    listener: int,
    peer_ip: str,
    chosen: ReceiveConnectorSettings | None,
) -> Iterator[Candidate]:
    best = None if chosen is None else _closest(chosen, peer_ip)
    for connector in connectors:
        closest = _closest(connector, peer_ip)
        if listener not in connector.listeners:
            reason = "does not listen there"
        elif closest is None:
            reason = "none of its ranges has the address"
        elif connector is chosen:
            reason = f"{closest[0]} is the closest range that has the address"
        elif best is not None and best[1].size < closest[1].size:
            reason = f"{closest[0]} has the address, but {best[0]} of {_name(chosen)} is closer"
        else:
            reason = f"{closest[0]} is as close, but {_name(chosen)} comes first"
        yield Candidate(name=connector.name, is_chosen=connector is chosen, reason=reason)


def _name(connector: ReceiveConnectorSettings | None) -> str:
    """Return a connector's name; of none nothing."""
    return "" if connector is None else connector.name


def _closest(connector: ReceiveConnectorSettings, peer_ip: str) -> tuple[str, IpRange] | None:
    """Return the closest range of a connector that has an address: its text and itself."""
    address = ip_address(peer_ip)
    here = IpRange(address.version, int(address), int(address))
    ranges = [(text, parse_range(text)) for text in connector.remote_ip_ranges]
    return min(
        ((text, span) for text, span in ranges if span.covers(here)),
        key=lambda pair: pair[1].size,
        default=None,
    )


def _limits(connector: ReceiveConnectorSettings, peer_ip: str, login: str) -> Iterator[tuple[str, str]]:
    source = source_of(peer_ip)
    yield "max_message_size", f"{connector.max_message_bytes} octets"
    yield "max_recipients_per_message", str(connector.max_recipients_per_message)
    yield "max_inbound_connection", f"{connector.max_inbound_connection} in all"
    share = connector.max_inbound_connection_percentage_per_source
    of_free = f", and {share} % of what is free" if share < 100 else ""
    most = connector.max_inbound_connection_per_source
    yield "max_inbound_connection_per_source", f"{most} of {source}{of_free}"
    if connector.message_rate is None:
        yield "message_rate_limit", "unlimited"
    else:
        messages, window_ms = connector.message_rate
        by = {"all": "all peers together", "user": login or source}.get(connector.message_rate_source, source)
        yield "message_rate_limit", f"{messages} in {window_ms // 1000} s, counted for {by}"
    yield "max_protocol_errors", str(connector.max_protocol_errors)
    yield "tarpit_interval", f"{connector.tarpit_ms / 1000:g} s before each 5yz"
    yield "connection_timeout", f"{connector.connection_timeout_ms // 1000} s"
    yield "connection_inactivity_timeout", f"{connector.connection_inactivity_timeout_ms // 1000} s"
    throughput = connector.min_throughput_bytes_s
    over = f"{throughput} octets/s over {connector.min_throughput_grace_ms // 1000} s"
    yield "min_throughput", "unlimited" if throughput is None else over
    if connector.sender_domains is not None:
        yield "sender_domains", ", ".join(connector.sender_domains)
