from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from penstock.receive.relay import AcceptedDomains, RelayPolicy
from penstock.receive.settings import AcceptedDomainSettings, AddressHygiene
from penstock.receive.storage import Storage
from penstock.smtp import replies

OK = None
NO_RELAY = replies.UNABLE_TO_RELAY
UNKNOWN = replies.RECIPIENT_UNKNOWN
ROUTED = replies.ROUTED_ADDRESS


@pytest.fixture
def domains(tmp_path: Path) -> AcceptedDomains:
    path = tmp_path / "recipients"
    path.write_text("you@own.example\nyou@sub.own.example\n", encoding="utf-8")
    wide = tmp_path / "wide"
    wide.write_text("@wide.example\nlist%old@wide.example\n", encoding="utf-8")
    return AcceptedDomains(
        (
            AcceptedDomainSettings(
                name="own.example", type="authoritative", match_sub_domains=True, recipients=str(path)
            ),
            AcceptedDomainSettings(name="relay.own.example", type="internal_relay", match_sub_domains=True),
            AcceptedDomainSettings(name="far.example", type="external_relay"),
            AcceptedDomainSettings(name="any.example", type="authoritative"),
            AcceptedDomainSettings(name="wide.example", type="internal_relay", recipients=str(wide)),
        )
    )


@pytest.mark.parametrize(
    ("address", "anonymous", "trusted"),
    [
        ("you@own.example", OK, OK),
        ("YOU@own.example", OK, OK),
        ("you@sub.own.example", OK, OK),
        ("nobody@own.example", UNKNOWN, UNKNOWN),
        ("nobody@sub.own.example", UNKNOWN, UNKNOWN),
        ("postmaster@own.example", OK, OK),
        ("POSTmaster@sub.own.example", OK, OK),
        ('"postmaster"@own.example', OK, OK),
        ("nobody@relay.own.example", OK, OK),
        ("nobody@deep.relay.own.example", OK, OK),
        ("nobody@far.example", OK, OK),
        ("nobody@sub.far.example", NO_RELAY, OK),
        ("nobody@any.example", OK, OK),
        ("nobody@elsewhere.example", NO_RELAY, OK),
        ("nobody@example", NO_RELAY, OK),
        ("nobody@notown.example", NO_RELAY, OK),
        ("nobody@own.example.elsewhere", NO_RELAY, OK),
        ("nobody@[192.0.2.1]", NO_RELAY, OK),
        ("postmaster@elsewhere.example", NO_RELAY, OK),
        ("a%elsewhere.example@far.example", ROUTED, OK),
        ("elsewhere.example!a@far.example", ROUTED, OK),
        ('"a@elsewhere.example"@far.example', ROUTED, OK),
        ("a%b@any.example", OK, OK),
        ("a%elsewhere.example@own.example", UNKNOWN, UNKNOWN),
        ("nobody@wide.example", OK, OK),
        ("postmaster@wide.example", OK, OK),
        ("a%elsewhere.example@wide.example", ROUTED, OK),
        ("elsewhere.example!a@wide.example", ROUTED, OK),
        ('"a@elsewhere.example"@wide.example', ROUTED, OK),
        ('"a\\@elsewhere.example"@wide.example', ROUTED, OK),
        # Whoever lists an address by name means it.
        ("LIST%old@wide.example", OK, OK),
    ],
)
def test_recipients(
    domains: AcceptedDomains, address: str, anonymous: bytes | None, trusted: bytes | None
) -> None:
    domain = address.rpartition("@")[2]
    assert RelayPolicy(domains, Storage(), may_relay=False).recipient(address, domain) == anonymous
    assert RelayPolicy(domains, Storage(), may_relay=True).recipient(address, domain) == trusted


def test_senders_wait_while_the_disk_is_full(domains: AcceptedDomains) -> None:
    storage = Storage()
    policy = RelayPolicy(domains, storage, may_relay=False)
    assert policy.sender("me@own.example", "own.example") is None
    assert storage.refused("budget") == storage.refused("behind") == replies.INSUFFICIENT_STORAGE
    assert policy.sender("", "") is None
    assert storage.refused("disk_full") == replies.INSUFFICIENT_STORAGE
    assert policy.sender("", "") == replies.INSUFFICIENT_STORAGE
    storage.try_again()
    assert policy.sender("", "") is None


def test_failed_spool_stays_failed(domains: AcceptedDomains) -> None:
    storage = Storage()
    policy = RelayPolicy(domains, storage, may_relay=False)
    assert storage.refused("poisoned") == replies.LOCAL_FAILURE
    storage.try_again()
    assert storage.refused("disk_full") == replies.LOCAL_FAILURE
    assert policy.sender("", "") == replies.LOCAL_FAILURE


@pytest.mark.parametrize(
    ("domain", "refusal"),
    [
        ("a.test", replies.RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL),
        ("test", replies.RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL),
        ("own.example", replies.RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL),
        ("a.invalid", replies.RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL),
        ("localhost", replies.RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL),
        ("example.com", replies.RECIPIENT_DOMAIN_RESERVED),
        ("a.b.example.net", replies.RECIPIENT_DOMAIN_RESERVED),
        ("example.org", replies.RECIPIENT_DOMAIN_RESERVED),
        ("printer", replies.RECIPIENT_DOMAIN_SINGLE_LABEL),
        ("example.de", None),
        ("myexample.com", None),
        ("atest", replies.RECIPIENT_DOMAIN_SINGLE_LABEL),
        ("[192.0.2.1]", None),
        ("[ipv6:::1]", None),
    ],
)
def test_domains_that_nobody_can_have_are_refused_where_that_is_asked(
    domains: AcceptedDomains, domain: str, refusal: bytes | None
) -> None:
    all_of_it = AddressHygiene(reserved_top_level=True, reserved_second_level=True, single_label=True)
    policy = RelayPolicy(domains, Storage(), may_relay=True, hygiene=all_of_it)
    assert policy.recipient(f"you@{domain}", domain) == refusal
    for off in ("reserved_top_level", "reserved_second_level", "single_label"):
        policy = RelayPolicy(domains, Storage(), may_relay=True, hygiene=replace(all_of_it, **{off: False}))
        is_off = _OFF.get(refusal) == off and not (off == "reserved_top_level" and "." not in domain)
        assert (policy.recipient(f"you@{domain}", domain) is None) is (is_off or refusal is None)


_OFF = {
    replies.RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL: "reserved_top_level",
    replies.RECIPIENT_DOMAIN_RESERVED: "reserved_second_level",
    replies.RECIPIENT_DOMAIN_SINGLE_LABEL: "single_label",
}
