"""What routing has to be told; plain values, filled from the configuration by the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from penstock.route.address_space import AddressSpace

__all__ = ["DomainType", "RouteConnector", "RouteDomain"]

DomainType: TypeAlias = Literal["authoritative", "internal_relay", "external_relay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDomain:
    """An accepted domain.

    Attributes:
        name: The domain.
        type: `authoritative` if its mail ends here, in the domain's own target; the mail of other types goes
            on through a send connector.
        match_sub_domains: Whether its sub-domains are meant, too.
    """

    name: str
    type: DomainType
    match_sub_domains: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConnector:
    """A send connector to smart hosts.

    Attributes:
        name: Its name.
        enabled: Whether mail may be routed to it.
        address_spaces: The domains it is for.
    """

    name: str
    enabled: bool = True
    address_spaces: tuple[AddressSpace, ...]
