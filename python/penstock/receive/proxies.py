"""Which peers of a listener are proxies that speak the PROXY protocol (HAProxy), versions 1 and 2.

Who is behind a proxy is known when its header has come, and with that the connector. So the header cannot be
a matter of that connector: a listener's proxies are those of all connectors that listen there, together.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from penstock.receive.connectors import IpRange, parse_range
from penstock.receive.settings import ReceiveConnectorSettings

__all__ = ["PROXY_HEADER_MS", "is_proxy", "proxies_of"]

PROXY_HEADER_MS: Final = 5_000
"""How long the header of a proxy may take; it sends it at once."""


def proxies_of(connectors: Iterable[ReceiveConnectorSettings], listener: int) -> list[tuple[str, str]]:
    """Return the ranges of the proxies of a listener: first and last address.

    Raises:
        ValueError: A range cannot be read.
    """
    texts = (
        text
        for connector in connectors
        if listener in connector.listeners
        for text in connector.proxy_protocol_ranges
    )
    return [_ends(parse_range(text)) for text in dict.fromkeys(texts)]


def is_proxy(connectors: Iterable[ReceiveConnectorSettings], listener: int, peer_ip: str) -> bool:
    """Return whether a peer is a proxy on a listener, and has to say whom it speaks for."""
    peer = ip_address(peer_ip)
    spans = (tuple(map(ip_address, ends)) for ends in proxies_of(connectors, listener))
    return any(
        first.version == peer.version and int(first) <= int(peer) <= int(last) for first, last in spans
    )


def _ends(span: IpRange) -> tuple[str, str]:
    address = IPv4Address if span.version == 4 else IPv6Address
    return str(address(span.first)), str(address(span.last))
