from __future__ import annotations

from pathlib import Path

import pytest

from penstock.receive.rates import MessageRate, MessageRates
from penstock.receive.relay import AcceptedDomains, Identity, RelayPolicy, SenderDomains
from penstock.receive.settings import AcceptedDomainSettings
from penstock.receive.storage import Storage
from penstock.route.permissions import Right
from penstock.smtp import replies

OK = None
ANONYMOUS = Right.SUBMIT | Right.ACCEPT_ANY_SENDER | Right.ACCEPT_AUTHORITATIVE_DOMAIN_SENDER
TRUSTED = ANONYMOUS | Right.ACCEPT_ANY_RECIPIENT
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
    assert RelayPolicy(domains, Storage(), rights=ANONYMOUS).recipient(address, domain) == anonymous
    assert RelayPolicy(domains, Storage(), rights=TRUSTED).recipient(address, domain) == trusted


def test_senders_wait_while_the_disk_is_full(domains: AcceptedDomains) -> None:
    storage = Storage()
    policy = RelayPolicy(domains, storage, rights=ANONYMOUS)
    assert policy.sender("me@own.example", "own.example") is None
    assert storage.refused("budget") == storage.refused("behind") == replies.INSUFFICIENT_STORAGE
    assert policy.sender("", "") is None
    assert storage.refused("disk_full") == replies.INSUFFICIENT_STORAGE
    assert policy.sender("", "") == replies.INSUFFICIENT_STORAGE
    storage.try_again()
    assert policy.sender("", "") is None


def test_failed_spool_stays_failed(domains: AcceptedDomains) -> None:
    storage = Storage()
    policy = RelayPolicy(domains, storage, rights=ANONYMOUS)
    assert storage.refused("poisoned") == replies.LOCAL_FAILURE
    storage.try_again()
    assert storage.refused("disk_full") == replies.LOCAL_FAILURE
    assert policy.sender("", "") == replies.LOCAL_FAILURE


FREE = ANONYMOUS
USER = Right.SUBMIT | Right.ACCEPT_ANY_RECIPIENT


def domain_of(address: str) -> str:
    return address.rpartition("@")[2].lower()


@pytest.mark.parametrize(
    ("rights", "login", "sender", "reply"),
    [
        (Right(0), "", "me@elsewhere.example", replies.SUBMISSION_NOT_ALLOWED),
        (Right(0), "", "", replies.SUBMISSION_NOT_ALLOWED),
        (FREE, "", "you@own.example", OK),
        (FREE, "", "", OK),
        # Anybody's address but ours: who is outside cannot pretend to be inside.
        (Right.SUBMIT | Right.ACCEPT_ANY_SENDER, "", "me@elsewhere.example", OK),
        (Right.SUBMIT | Right.ACCEPT_ANY_SENDER, "", "you@own.example", replies.SENDER_NOT_ALLOWED),
        (Right.SUBMIT | Right.ACCEPT_ANY_SENDER, "", "you@deep.own.example", replies.SENDER_NOT_ALLOWED),
        (Right.SUBMIT | Right.ACCEPT_ANY_SENDER, "", "you@far.example", OK),
        (Right.SUBMIT | Right.ACCEPT_AUTHORITATIVE_DOMAIN_SENDER, "", "any@own.example", OK),
        (
            Right.SUBMIT | Right.ACCEPT_AUTHORITATIVE_DOMAIN_SENDER,
            "",
            "a@b.example",
            replies.SENDER_NOT_ALLOWED,
        ),
        # A user is himself.
        (USER, "you@own.example", "YOU@Own.Example", OK),
        (USER, "you@own.example", '"you"@own.example', OK),
        (USER, "you@own.example", "", OK),
        (USER, "you@own.example", "other@own.example", replies.SENDER_NOT_ALLOWED),
        (USER, "erp", "erp@own.example", OK),
        (USER, "ERP", "erp@relay.own.example", OK),
        (USER, "erp", "erp@elsewhere.example", replies.SENDER_NOT_ALLOWED),
        (USER, "erp", "x.erp@own.example", replies.SENDER_NOT_ALLOWED),
        (USER, "", "you@own.example", replies.SENDER_NOT_ALLOWED),
        (USER | FREE, "erp", "other@elsewhere.example", OK),
    ],
)
def test_senders_by_right(
    domains: AcceptedDomains, rights: Right, login: str, sender: str, reply: bytes | None
) -> None:
    policy = RelayPolicy(domains, Storage(), rights=rights, identity=Identity(login))
    assert policy.sender(sender, domain_of(sender)) == reply
    assert policy.is_plain == (FREE in rights)


def test_sender_domains_bind_all_but_the_null_sender(domains: AcceptedDomains) -> None:
    only = SenderDomains(("contoso.example", "*.fabrikam.example"))
    policy = RelayPolicy(domains, Storage(), rights=TRUSTED, sender_domains=only)
    assert not policy.is_plain
    for sender, is_taken in [
        ("a@contoso.example", True),
        ("a@sub.contoso.example", False),
        ("a@notcontoso.example", False),
        ("a@fabrikam.example", False),
        ("a@x.fabrikam.example", True),
        ("a@xfabrikam.example", False),
        ("a@[192.0.2.1]", False),
        ("", True),
    ]:
        expected = None if is_taken else replies.SENDER_DOMAIN_REFUSED
        assert policy.sender(sender, domain_of(sender)) == expected, sender
    nobody = RelayPolicy(domains, Storage(), rights=TRUSTED, sender_domains=SenderDomains(("b.example",)))
    assert nobody.sender("a@contoso.example", "contoso.example") == replies.SENDER_DOMAIN_REFUSED


def test_a_message_that_is_refused_for_its_sender_is_not_counted(domains: AcceptedDomains) -> None:
    rates = MessageRates(MessageRate(1, 60_000))
    only = SenderDomains(("contoso.example",))
    shared = RelayPolicy(domains, Storage(), rights=TRUSTED, sender_domains=only, rates=rates)
    one = shared.with_identity(Identity(rate_key="192.0.2.1"), TRUSTED)
    two = shared.with_identity(Identity(rate_key="192.0.2.2"), TRUSTED)
    assert one.sender("a@b.example", "b.example") == replies.SENDER_DOMAIN_REFUSED
    assert one.sender("a@contoso.example", "contoso.example") is None
    assert one.sender("a@contoso.example", "contoso.example") == replies.TOO_MANY_MESSAGES
    assert two.sender("a@contoso.example", "contoso.example") is None
