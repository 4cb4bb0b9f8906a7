from __future__ import annotations

from ipaddress import ip_address

import pytest

from penstock.receive.connectors import ReceiveConnectors
from penstock.receive.relay import AcceptedDomains, RelayPolicy
from penstock.receive.self_test import STRANGERS_MAX, open_to, relay_forms, strangers
from penstock.receive.settings import AcceptedDomainSettings, ReceiveConnectorSettings
from penstock.receive.storage import Storage
from penstock.route.permissions import PermissionGroup, Right, rights_of
from tests.support.groups import ANONYMOUS, RELAY, SERVERS, USERS

OURS = "contoso.example"
DOMAINS = AcceptedDomains(
    (
        AcceptedDomainSettings(name=OURS, type="authoritative"),
        AcceptedDomainSettings(name="partner.example", type="internal_relay"),
    )
)


def found(*connectors: tuple[PermissionGroup, tuple[str, ...]], ours: str = OURS) -> list[tuple[str, str]]:
    settings = [
        ReceiveConnectorSettings(
            name=f"c{number}", groups=(group,), listeners=(1, 2), remote_ip_ranges=ranges
        )
        for number, (group, ranges) in enumerate(connectors)
    ]
    ranges = ReceiveConnectors(settings)

    def policy_of(listener: int, peer_ip: str) -> RelayPolicy | None:
        connector = ranges.find(listener, peer_ip)
        if connector is None:
            return None
        return RelayPolicy(DOMAINS, Storage(), rights=rights_of(connector.groups))

    return open_to((1, 2), policy_of, DOMAINS, ours)


def test_strangers_are_from_everywhere_and_nowhere_private() -> None:
    tried = list(strangers())
    assert len(tried) == len(set(tried)) > 300
    assert all(ip_address(peer_ip).is_global for peer_ip in tried)
    assert len({peer_ip.partition(".")[0] for peer_ip in tried if ":" not in peer_ip}) > 200


def test_forms_are_seventeen_and_each_has_its_domain() -> None:
    forms = list(relay_forms(OURS))
    assert len(set(forms)) == 17
    assert all(address.lower().endswith("@" + domain) for address, domain in forms)


@pytest.mark.parametrize("group", [ANONYMOUS, USERS, SERVERS])
@pytest.mark.parametrize("ours", [OURS, "partner.example"])
def test_who_takes_mail_for_his_domains_alone_is_closed(group: PermissionGroup, ours: str) -> None:
    assert found((group, ("0.0.0.0/0", "::/0")), ours=ours) == []


def test_a_relay_for_listed_networks_is_closed() -> None:
    listed = (RELAY, ("10.0.0.0/8", "192.0.2.0/24", "8.8.0.0/16", "fd00::/8"))
    assert len(found((ANONYMOUS, ("0.0.0.0/0", "::/0")), listed)) <= STRANGERS_MAX


def test_many_ranges_that_are_small_each_are_an_open_relay_together() -> None:
    everywhere = tuple(f"{a}.{b}.0.0/16" for a in range(1, 31) for b in range(256))
    strange = found((RELAY, everywhere))
    assert len(strange) > STRANGERS_MAX
    assert strange[0][1] == "user@relay-test.invalid"


def test_without_the_right_to_submit_nothing_is_open() -> None:
    mute = PermissionGroup("mute", RELAY.members, Right.ACCEPT_ANY_RECIPIENT)
    everywhere = tuple(f"{a}.{b}.0.0/16" for a in range(1, 31) for b in range(256))
    assert found((mute, everywhere)) == []
