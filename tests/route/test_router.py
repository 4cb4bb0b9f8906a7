from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.route.address_space import AddressSpace, parse_address_space
from penstock.route.router import DOMAINS_REMEMBERED_MAX, HopKey, Router
from penstock.route.settings import DomainType, RouteConnector, RouteDomain

UNREACHABLE = ("", "unreachable", "")


def domain(name: str, type_: DomainType = "authoritative", *, sub: bool = False) -> RouteDomain:
    return RouteDomain(name=name, type=type_, match_sub_domains=sub)


def connector(name: str, *spaces: str, enabled: bool = True) -> RouteConnector:
    parsed = tuple(parse_address_space(space) for space in spaces)
    return RouteConnector(name=name, enabled=enabled, address_spaces=parsed)


def smart_host(name: str) -> HopKey:
    return (name, "smart_host", name)


def maildir(name: str) -> HopKey:
    return (name, "maildir", name)


def hop(router: Router, name: str) -> HopKey:
    return router.route(f"somebody@{name}", name).hop


ROUTER = Router(
    (
        domain("Own.example", sub=True),
        domain("cloud.own.example", "internal_relay", sub=True),
        domain("lab.cloud.own.example"),
        domain("partner.example", "external_relay"),
        domain("only.example"),
    ),
    (
        connector("off", "fabrikam.example", "*", enabled=False),
        connector("internet", "*;10"),
        connector("m365", "SMTP:cloud.own.example;1", "*.cloud.own.example"),
        connector("relays", "--;5"),
        connector("dear", "fabrikam.example;20", "*.fabrikam.example"),
        connector("cheap", "fabrikam.example;3", "*.mail.fabrikam.example;90"),
        connector("same", "fabrikam.example;3"),
    ),
)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("own.example", maildir("own.example")),
        ("OWN.Example", maildir("own.example")),
        ("deep.sub.own.example", maildir("own.example")),
        ("only.example", maildir("only.example")),
        ("sub.only.example", smart_host("internet")),
        ("notown.example", smart_host("internet")),
        # The closest accepted domain decides, whatever its type.
        ("cloud.own.example", smart_host("m365")),
        ("a.cloud.own.example", smart_host("m365")),
        ("lab.cloud.own.example", maildir("lab.cloud.own.example")),
        ("b.lab.cloud.own.example", smart_host("m365")),
        ("partner.example", smart_host("relays")),
        ("sub.partner.example", smart_host("internet")),
        # The cheapest, then the first in the file; a closer space beats a cheaper one.
        ("fabrikam.example", smart_host("cheap")),
        ("a.fabrikam.example", smart_host("dear")),
        ("mail.fabrikam.example", smart_host("dear")),
        ("a.mail.fabrikam.example", smart_host("cheap")),
        ("elsewhere.example", smart_host("internet")),
        ("localhost", smart_host("internet")),
        ("[192.0.2.1]", smart_host("internet")),
        ("[ipv6:2001:db8::1]", smart_host("internet")),
    ],
)
def test_next_hop(name: str, key: HopKey) -> None:
    assert hop(ROUTER, name) == key
    assert hop(ROUTER, name) == key


def test_without_a_route_mail_is_unreachable() -> None:
    assert hop(Router((), ()), "elsewhere.example") == UNREACHABLE
    off = Router((domain("partner.example", "external_relay"),), (connector("off", "*", enabled=False),))
    assert hop(off, "partner.example") == UNREACHABLE
    assert hop(Router((), (connector("x", "*.example"),)), "example") == UNREACHABLE


def test_address_literals_go_by_the_widest_space_alone() -> None:
    # No address space can name a part of a literal, even if it looks like a domain's end.
    router = Router(
        (domain("2.1]", sub=True),),
        (RouteConnector(name="odd", address_spaces=(AddressSpace("*.0.2.1]"),)),),
    )
    assert hop(router, "[192.0.2.1]") == UNREACHABLE


def test_all_accepted_domains_mean_their_sub_domains_where_those_are_accepted() -> None:
    router = Router(
        (domain("a.example", "internal_relay", sub=True), domain("b.example", "internal_relay")),
        (connector("all", "--"),),
    )
    assert [hop(router, name) for name in ("a.example", "x.a.example", "b.example", "x.b.example")] == [
        smart_host("all"),
        smart_host("all"),
        smart_host("all"),
        UNREACHABLE,
    ]


def test_memory_for_routes_is_bounded_and_answers_stay_right() -> None:
    router = Router((), (connector("x", "*.odd.example"),))
    for number in range(DOMAINS_REMEMBERED_MAX + 10):
        name = f"n{number}.{'odd' if number % 2 else 'even'}.example"
        assert hop(router, name) == (smart_host("x") if number % 2 else UNREACHABLE)
    assert len(router._remembered) <= DOMAINS_REMEMBERED_MAX


LABELS = st.sampled_from(["a", "b", "c"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SPACES = st.one_of(st.sampled_from(["*", "--"]), NAMES, NAMES.map("*.{}".format))
CONNECTORS = st.lists(
    st.tuples(
        st.booleans(), st.lists(st.builds(AddressSpace, SPACES, st.integers(1, 3)), min_size=1, max_size=4)
    ),
    max_size=5,
).map(
    lambda drawn: [
        RouteConnector(name=f"c{number}", enabled=enabled, address_spaces=tuple(spaces))
        for number, (enabled, spaces) in enumerate(drawn)
    ]
)
DOMAINS = st.lists(
    st.builds(
        RouteDomain,
        name=NAMES,
        type=st.sampled_from(["authoritative", "internal_relay", "external_relay"]),
        match_sub_domains=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda accepted: accepted.name,
)


def closeness(space: str, name: str) -> int:
    """Return how close a space is to a domain: labels that it fixes; 0 if it does not fit."""
    if space == "*":
        return 1
    if space.startswith("*."):
        return 1 + space.count(".") if name.endswith(space[1:]) else 0
    return 1_000 if space == name else 0


def naive(domains: list[RouteDomain], connectors: list[RouteConnector], name: str) -> HopKey:
    """Say the rules once more: everything is compared with everything."""
    accepted: list[tuple[str, RouteDomain]] = []
    for domain_ in domains:
        accepted.append((domain_.name, domain_))
        if domain_.match_sub_domains:
            accepted.append((f"*.{domain_.name}", domain_))
    fitting = [(closeness(space, name), domain_) for space, domain_ in accepted if closeness(space, name)]
    if fitting:
        closest = max(fitting, key=lambda pair: pair[0])[1]
        if closest.type == "authoritative":
            return maildir(closest.name)
    offers = [
        (-closeness(space, name), cost, order, one.name)
        for order, one in enumerate(connectors)
        if one.enabled
        for written, cost in one.address_spaces
        for space in ([space for space, _ in accepted] if written == "--" else [written])
        if closeness(space, name)
    ]
    return smart_host(min(offers)[3]) if offers else UNREACHABLE


@given(DOMAINS, CONNECTORS, st.lists(NAMES, min_size=1, max_size=5))
def test_routes_are_those_of_the_naive_model(
    domains: list[RouteDomain], connectors: list[RouteConnector], names: list[str]
) -> None:
    router = Router(domains, connectors)
    for name in names:
        assert hop(router, name) == naive(domains, connectors, name)
