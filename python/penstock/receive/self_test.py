"""Whether this server is an open relay, tried at its start with the forms by which others try it.

The rules of the configuration look at each range by itself. Here the connectors as they are built are asked
what strangers would get: addresses all over the Internet, each with the recipients that relay tests use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from penstock.receive.relay import ROUTING_CHARACTERS, AcceptedDomains, RelayPolicy
from penstock.route.permissions import Right

__all__ = ["STRANGERS_MAX", "open_to", "relay_forms", "strangers"]

FOREIGN: Final = "relay-test.invalid"
"""A domain that nobody can have accepted (RFC 6761 6.4)."""

STRANGERS_MAX: Final = 2
"""So many strangers may relay: an operator's own network can hold one of the addresses that are tried."""

_SPREAD: Final = 0x9E3779B1
"""Steps of this size (the golden ratio) reach all parts of what they go through."""


def strangers() -> Iterator[str]:
    """Yield public addresses, one of each IPv4 /8 and as many of the IPv6 space that is in use."""
    for number in range(1, 224):
        address = IPv4Address((number << 24) | (number * _SPREAD & 0xFFFFFF))
        if address.is_global:
            yield str(address)
    for number in range(224):
        address6 = IPv6Address((0x2 << 124) | ((number * _SPREAD & 0x1FFFFFFF) << 96) | number)
        if address6.is_global:
            yield str(address6)


def relay_forms(ours: str) -> Iterator[tuple[str, str]]:
    """Yield recipients, each with its domain, that a server for `ours` must not send on for strangers."""
    name = "user"
    for address in (
        f"{name}@{FOREIGN}",
        f'"{name}@{FOREIGN}"@{FOREIGN}',
        f"{name}%other.invalid@{FOREIGN}",
        f"other.invalid!{name}@{FOREIGN}",
        f"postmaster@{FOREIGN}",
        f"{name}@[192.0.2.1]",
        f"{name}@[IPv6:2001:db8::1]",
        f"{name}@sub.{FOREIGN}",
        f"{name}%{FOREIGN}@{ours}",
        f"{FOREIGN}!{name}@{ours}",
        f'"{name}@{FOREIGN}"@{ours}',
        f'"{name}%{FOREIGN}"@{ours}',
        f"{name}%{FOREIGN}@[192.0.2.1]",
        f"{FOREIGN}!{name}@[192.0.2.1]",
        f"{FOREIGN}!{name}%other.invalid@{ours}",
        f"{name}@{ours}.{FOREIGN}",
        f"{name}@{FOREIGN}.{ours}.invalid",
    ):
        yield address, address.rpartition("@")[2].lower()


def open_to(
    listeners: Iterable[int],
    policy_of: Callable[[int, str], RelayPolicy | None],
    domains: AcceptedDomains,
    ours: str,
) -> list[tuple[str, str]]:
    """Return who could relay, as (address of a peer, recipient), once for each peer.

    Args:
        listeners: Where peers come in.
        policy_of: The policy of a peer without a name, by listener and address; None if it is turned away.
        domains: Those that are ours.
        ours: The name of one of them, or of the server.
    """
    forms = [
        (address, domain) for address, domain in relay_forms(ours) if _would_leave(domains, address, domain)
    ]
    found = {}
    for listener in listeners:
        for peer_ip in strangers():
            policy = policy_of(listener, peer_ip)
            if policy is None or Right.SUBMIT not in policy.rights:
                continue
            for address, domain in forms:
                if policy.recipient(address, domain) is None:
                    found[peer_ip] = address
                    break
    return list(found.items())


def _would_leave(domains: AcceptedDomains, address: str, domain: str) -> bool:
    """Whether mail to a recipient, once it is taken, would go on to somebody else."""
    accepted = domains.find(domain)
    if accepted is None:
        return True
    return not accepted.is_authoritative and not ROUTING_CHARACTERS.isdisjoint(address.rpartition("@")[0])
