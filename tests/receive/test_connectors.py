from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.receive.connectors import ReceiveConnectors, is_open_to_the_public, parse_range
from penstock.receive.settings import ReceiveConnectorSettings
from penstock.route.permissions import PermissionGroup, Right
from tests.support.groups import ANONYMOUS, RELAY, SERVERS


def connector(
    name: str, *ranges: str, group: PermissionGroup = ANONYMOUS, listeners: tuple[int, ...] = (1,)
) -> ReceiveConnectorSettings:
    return ReceiveConnectorSettings(name=name, groups=(group,), listeners=listeners, remote_ip_ranges=ranges)


CONNECTORS = ReceiveConnectors(
    (
        connector("any", "0.0.0.0/0", "::/0", listeners=(1, 2)),
        connector("net", "192.0.2.0/24"),
        connector("some", "192.0.2.10-192.0.2.19", "2001:db8::/32"),
        connector("host", "192.0.2.12"),
        connector("same", "192.0.2.0/24"),
        connector("other port", "192.0.2.12", listeners=(2,)),
        connector("narrow", "198.51.100.1", listeners=(3,)),
    )
)


@pytest.mark.parametrize(
    ("listener", "peer", "name"),
    [
        (1, "203.0.113.1", "any"),
        (1, "192.0.2.1", "net"),
        (1, "192.0.2.10", "some"),
        (1, "192.0.2.19", "some"),
        (1, "192.0.2.20", "net"),
        (1, "192.0.2.12", "host"),
        (1, "2001:db8::1", "some"),
        (1, "2001:db9::1", "any"),
        (2, "192.0.2.12", "other port"),
        (2, "192.0.2.10", "any"),
        (3, "198.51.100.1", "narrow"),
        (3, "198.51.100.2", None),
        (3, "::ffff:198.51.100.1", None),
        (4, "192.0.2.12", None),
    ],
)
def test_most_specific_range_of_the_listener_wins(listener: int, peer: str, name: str | None) -> None:
    for _ in range(2):
        found = CONNECTORS.find(listener, peer)
        assert (found.name if found else None) == name


@pytest.mark.parametrize(
    "text", ["", "192.0.2", "192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1", "192.0.2.0/33", "x"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("10.0.0.0/8", False),
        ("172.16.0.0/12", False),
        ("192.168.0.0/16", False),
        ("127.0.0.0/8", False),
        ("fd00::/8", False),
        ("fe80::/10", False),
        ("203.0.0.0/16", False),
        ("203.0.0.0/15", True),
        ("2001:db8::/32", False),
        ("2001:db8::/31", True),
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("10.0.0.0/7", True),
        ("0.0.0.0-255.255.255.255", True),
        ("9.255.0.0-10.255.255.255", True),
    ],
)
def test_relay_for_a_wide_public_range_is_refused(text: str, is_open: bool) -> None:
    assert is_open_to_the_public(parse_range(text)) is is_open
    if is_open:
        with pytest.raises(ValueError, match="open relay"):
            ReceiveConnectors([connector("lan", text, group=RELAY)])
    else:
        ReceiveConnectors([connector("lan", text, group=RELAY)])
    ReceiveConnectors([connector("mx", text)])


def test_peers_that_are_trusted_count_as_servers_wherever_rights_are_asked_for() -> None:
    settings = connector("hub", "10.0.0.0/8", group=SERVERS)
    trusting = replace(settings, trusts_peers=True)
    assert (settings.rights, trusting.rights) == (Right(0), SERVERS.rights)
    assert ReceiveConnectors((trusting,)).find(1, "10.1.2.3") is trusting
    with pytest.raises(ValueError, match="open relay"):
        ReceiveConnectors((replace(trusting, remote_ip_ranges=("8.0.0.0/8",)),))
