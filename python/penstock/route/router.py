"""Each recipient's next hop, from its domain.

An authoritative domain is its own next hop. Mail for every other domain, relay domains included, goes to the
send connector whose address space is closest: the domain itself, then the longest `*.parent`, then `*`. Of
equally close ones the cheapest wins, then the first in the file. Where nothing fits, mail waits in
Unreachable.

What names a hop is the same as long as the configuration names the same things, so that mail in the spool
finds its hop again after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from penstock.route.address_space import ACCEPTED_DOMAINS, EVERYTHING
from penstock.route.settings import RouteConnector, RouteDomain

__all__ = ["UNREACHABLE", "HopKey", "Route", "Router"]

HopKey: TypeAlias = tuple[str, str, str]
"""Connector, kind, destination."""

DOMAINS_REMEMBERED_MAX: Final = 10_000


class Route(NamedTuple):
    """Where a recipient's mail goes.

    Attributes:
        hop: The next hop. Its kind is `maildir` (connector and destination are the accepted domain),
            `smart_host` (both are the send connector) or `unreachable` (both are empty).
    """

    hop: HopKey


UNREACHABLE: Final = Route(("", "unreachable", ""))


class Router:
    """Finds next hops. It remembers those of the last domains it was asked for."""

    __slots__ = ("_domains", "_remembered", "_routes", "_sub_domains", "_through")

    def __init__(self, domains: Iterable[RouteDomain], connectors: Iterable[RouteConnector]) -> None:
        """Lay out what the configuration says.

        Args:
            domains: All accepted domains, relay domains too: they are exceptions within a wider domain.
            connectors: Send connectors, in the order of the file.
        """
        # An accepted domain, or its sub-domains, to its own next hop; None if that is a connector's business.
        self._domains: dict[str, Route | None] = {}
        self._sub_domains: dict[str, Route | None] = {}
        accepted: list[str] = []
        for domain in domains:
            name = domain.name.lower()
            own = Route((name, "maildir", name)) if domain.type == "authoritative" else None
            self._domains[name] = own
            accepted.append(name)
            if domain.match_sub_domains:
                self._sub_domains[name] = own
                accepted.append("*." + name)
        connectors = list(connectors)
        self._through = {
            connector.name: Route((connector.name, "smart_host", connector.name))
            for connector in connectors
            if connector.enabled
        }
        self._routes = {
            space: self._through[connector] for space, connector in _cheapest(connectors, accepted).items()
        }
        self._remembered: dict[str, Route] = {}

    def through(self, connector: str) -> Route | None:
        """Return the way through a send connector, whatever it is for; None if it is not in force."""
        return self._through.get(connector)

    def route(self, _address: str, domain: str, /) -> Route:
        """Return the next hop of a recipient; there always is one, if only Unreachable.

        Args:
            domain: The recipient's domain or address literal.
        """
        route = self._remembered.get(domain)
        if route is None:
            if len(self._remembered) >= DOMAINS_REMEMBERED_MAX:
                self._remembered.clear()
            route = self._remembered[domain] = self._find(domain.lower())
        return route

    def _find(self, domain: str) -> Route:
        own = self._accepted(domain)
        if own is not None:
            return own
        route = self._routes.get(domain)
        if route is not None:
            return route
        for parent in _parents(domain):
            route = self._routes.get("*." + parent)
            if route is not None:
                return route
        return self._routes.get(EVERYTHING, UNREACHABLE)

    def _accepted(self, domain: str) -> Route | None:
        """Return an authoritative domain's next hop; the closest accepted domain decides."""
        if domain in self._domains:
            return self._domains[domain]
        for parent in _parents(domain):
            if parent in self._sub_domains:
                return self._sub_domains[parent]
        return None


def _cheapest(connectors: Iterable[RouteConnector], accepted: list[str]) -> dict[str, str]:
    """Return the connector of each address space."""
    found: dict[str, tuple[int, str]] = {}
    for connector in connectors:
        if not connector.enabled:
            continue
        for space, cost in connector.address_spaces:
            for one in accepted if space == ACCEPTED_DOMAINS else [space]:
                best = found.get(one)
                if best is None or cost < best[0]:
                    found[one] = (cost, connector.name)
    return {space: name for space, (_, name) in found.items()}


def _parents(domain: str) -> Iterator[str]:
    """Yield the domains that a domain lies in, the closest first. An address literal lies in none."""
    if domain.startswith("["):
        return
    _, dot, parent = domain.partition(".")
    while dot:
        yield parent
        _, dot, parent = parent.partition(".")
