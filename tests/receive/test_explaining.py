from __future__ import annotations

from pathlib import Path

import pytest

from penstock.receive.explaining import Explanation, explain
from penstock.receive.rates import MessageRate
from penstock.receive.settings import AcceptedDomainSettings, ReceiveConnectorSettings, ReceiveSettings
from tests.support.groups import ANONYMOUS, RELAY, USERS


@pytest.fixture
def settings(tmp_path: Path) -> ReceiveSettings:
    recipients = tmp_path / "recipients"
    recipients.write_text("you@contoso.example\n", encoding="utf-8")
    return ReceiveSettings(
        fqdn="relay1.contoso.example",
        default_domain="contoso.example",
        accepted_domains=(
            AcceptedDomainSettings(name="contoso.example", type="authoritative", recipients=str(recipients)),
        ),
        connectors=(
            ReceiveConnectorSettings(
                name="internet",
                groups=(ANONYMOUS, USERS),
                listeners=(1,),
                remote_ip_ranges=("0.0.0.0/0", "::/0"),
                message_rate=MessageRate(30, 60_000),
                message_rate_source="user",
            ),
            ReceiveConnectorSettings(
                name="devices",
                groups=(RELAY,),
                listeners=(1, 2),
                remote_ip_ranges=("10.0.0.0/8", "10.1.0.0/16"),
                sender_domains=("contoso.example",),
                max_inbound_connection_percentage_per_source=2,
            ),
            ReceiveConnectorSettings(
                name="copy", groups=(RELAY,), listeners=(1,), remote_ip_ranges=("10.1.0.0/16",)
            ),
        ),
    )


def reasons(found: Explanation) -> dict[str, str]:
    return {one.name: one.reason for one in found.candidates}


def test_every_candidate_has_a_reason_of_its_own(settings: ReceiveSettings) -> None:
    found = explain(settings, 1, "10.1.2.3")
    assert found.connector == "devices"
    assert reasons(found) == {
        "internet": "0.0.0.0/0 has the address, but 10.1.0.0/16 of devices is closer",
        "devices": "10.1.0.0/16 is the closest range that has the address",
        "copy": "10.1.0.0/16 is as close, but devices comes first",
    }
    elsewhere = explain(settings, 2, "192.0.2.1")
    assert elsewhere.connector is None
    assert reasons(elsewhere) == {
        "internet": "does not listen there",
        "devices": "none of its ranges has the address",
        "copy": "does not listen there",
    }
    assert (elsewhere.rights, elsewhere.limits, elsewhere.groups) == ((), (), ())


def test_rights_and_verdicts_are_those_of_the_session(settings: ReceiveSettings) -> None:
    far = ("me@far.example", "far.example")
    outside = explain(settings, 1, "192.0.2.1", recipient=far)
    assert [(group.name, group.is_member) for group in outside.groups] == [
        ("anonymous_users", True),
        ("authenticated_users", False),
    ]
    assert "accept_any_recipient" not in outside.rights
    assert outside.recipient == "550 5.7.54 Unable to relay recipient in non-accepted domain"
    user = explain(settings, 1, "192.0.2.1", login="erp", recipient=far)
    assert "accept_any_recipient" in user.rights
    assert (user.sender, user.recipient) == (None, None)
    unknown = explain(settings, 1, "192.0.2.1", recipient=("x@contoso.example", "contoso.example"))
    assert unknown.recipient == "550 5.1.1 Recipient not found"
    device = explain(settings, 1, "10.1.2.3", sender=far)
    assert device.sender == "550 5.7.1 Mail from this domain is not taken here"


def test_limits_say_for_whom_they_count(settings: ReceiveSettings) -> None:
    limits = dict(explain(settings, 1, "2001:db8:1:2::9", login="erp").limits)
    assert limits["max_inbound_connection_per_source"] == "20 of 2001:db8:1:2::/64"
    assert limits["message_rate_limit"] == "30 in 60 s, counted for erp"
    assert limits["min_throughput"] == "unlimited"
    assert dict(explain(settings, 1, "192.0.2.1").limits)["message_rate_limit"].endswith("for 192.0.2.1")
    device = dict(explain(settings, 2, "10.9.9.9").limits)
    assert device["max_inbound_connection_per_source"] == "20 of 10.9.9.9, and 2 % of what is free"
    assert device["message_rate_limit"] == "unlimited"
    assert device["sender_domains"] == "contoso.example"


def test_an_address_that_is_none_is_said(settings: ReceiveSettings) -> None:
    with pytest.raises(ValueError, match=r"10\.1\.2"):
        explain(settings, 1, "10.1.2")
