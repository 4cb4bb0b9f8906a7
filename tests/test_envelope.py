from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.envelope import RECIPIENTS_MAX, Envelope, QueueId, Receipt, Recipient
from penstock.errors import InvalidEnvelope

LOCAL_64 = "a" * 64
DOMAIN_189 = ".".join(["b" * 63, "b" * 62, "b" * 62])
"""With LOCAL_64 it makes an address of 254 octets, which is a path of 256."""

GOOD = [
    "a@b",
    "First.Last+tag@Example.COM",
    "!#$%&'*+-/=?^_`{|}~@b.c",
    "root@my_host.1-2.3",
    '""@b',
    '"a b"@b',
    r'"a\"@\\>"@b',
    "a@[192.0.2.1]",
    "a@[IPv6:2001:DB8::1]",
    "a@[ipv6:::ffff:192.0.2.1]",
    f"{LOCAL_64}@b",
    f"a@{'b' * 63}.c",
    f"{LOCAL_64}@{DOMAIN_189}",
]
BAD = [
    "",
    "a",
    "postmaster",
    "@b",
    "a@",
    "a@@b",
    "a b@c",
    ".a@b",
    "a.@b",
    "a..b@c",
    "a@.b",
    "a@b.",
    "a@b..c",
    "a@-b",
    "a@b-",
    "a@b/c",
    "<a@b>",
    "a@b>",
    " a@b",
    "a@b ",
    "A <a@b>",
    "a@b,c@d",
    "a@b, c@d",
    "@x.example:a@b",
    '"a@b',
    '"a"b@c',
    'a"b"@c',
    '"a\\"@b',
    "a(c)@b",
    "a@[]",
    "a@[192.0.2]",
    "a@[192.0.2.256]",
    "a@[192.0.2.01]",
    "a@[2001:db8::1]",
    "a@[IPv6:2001:db8::1%eth0]",
    "a@[IPv6:]",
    "a@[IPv7:x]",
    "a@[192.0.2.1",
    f"{LOCAL_64}a@b",
    f"a@{'b' * 64}.c",
    f"{LOCAL_64}@{DOMAIN_189}c",
    "ä@b",
    "a@münchen.example",
    "a@b\N{FULLWIDTH FULL STOP}c",
]


@pytest.mark.parametrize("address", GOOD)
def test_mailboxes_are_taken_as_they_are(address: str) -> None:
    envelope = Envelope(sender=address, recipients=[address])
    assert envelope.sender == address
    assert envelope.recipients == (Recipient(address),)


@pytest.mark.parametrize("address", BAD)
def test_what_is_no_mailbox_is_refused_by_its_place(address: str) -> None:
    makers: dict[str, Callable[[], object]] = {
        "recipient": lambda: Recipient(address),
        "sender": lambda: Envelope(sender=address, recipients=["a@b"]),
        "recipients[1]": lambda: Envelope(sender=None, recipients=["a@b", address]),
    }
    for field, make in makers.items():
        with pytest.raises(InvalidEnvelope) as caught:
            make()
        assert caught.value.field == field
        assert caught.value.reason
        # What it refuses it does not repeat.
        assert len(address) < 4 or address not in str(caught.value)


@pytest.mark.parametrize("octet", [*range(0x20), 0x7F, 0x80, 0x85, 0xA0, 0x2028, 0x202E])
def test_control_characters_are_refused_wherever_they_stand(octet: int) -> None:
    for address in ("{}a@b", "a{}@b", '"{}"@b', "a@b{}", "a@{}b", "a@[192.0.2.1{}]", '"\\{}"@b', "a@b{}c"):
        with pytest.raises(InvalidEnvelope):
            Recipient(address.format(chr(octet)))
        with pytest.raises(InvalidEnvelope):
            Envelope(sender=address.format(chr(octet)), recipients=["a@b"])


@given(st.text(max_size=300))
def test_no_text_that_is_taken_can_be_more_than_one_path(text: str) -> None:
    try:
        Recipient(text)
    except InvalidEnvelope as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    assert re.fullmatch(r"[ -~]{3,254}", text)
    local_part, _, domain = text.rpartition("@")
    assert len(local_part) <= 64
    assert not set(domain) & set(' <>"@,;')
    assert local_part.startswith('"') or not set(local_part) & set(' <>"@,;')


MAILBOX = st.builds(
    "{}@{}".format,
    st.from_regex(
        r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-z]{1,20})?|\"([ a-z@<>]|\\[ -~]){0,20}\"", fullmatch=True
    ),
    st.from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?){0,5}", fullmatch=True),
)


@given(MAILBOX)
def test_every_mailbox_of_the_grammar_is_taken(address: str) -> None:
    assert Recipient(address).domain == address[address.rindex("@") + 1 :]


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("A@Contoso.Example", "contoso.example"),
        ('"a@x"@B', "b"),
        ("a@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
    ],
)
def test_the_domain_is_in_lower_case(address: str, domain: str) -> None:
    assert Recipient(address).domain == domain


def test_the_null_reverse_path_is_none_and_nothing_else() -> None:
    assert Envelope(sender=None, recipients=["a@b"]).sender is None
    with pytest.raises(InvalidEnvelope, match="sender: is empty"):
        Envelope(sender="", recipients=["a@b"])
    with pytest.raises(InvalidEnvelope, match="sender"):
        Envelope(sender="<>", recipients=["a@b"])


def test_recipients_may_be_given_in_either_form_and_once_each() -> None:
    envelope = Envelope(sender=None, recipients=["b@c", Recipient("a@b"), "a@b", "A@b", Recipient("b@c")])
    assert envelope.recipients == (Recipient("b@c"), Recipient("a@b"), Recipient("A@b"))


def test_recipients_are_counted() -> None:
    def some(count: int) -> Iterable[str]:
        return (f"r{number}@b" for number in range(count))

    assert len(Envelope(sender=None, recipients=some(RECIPIENTS_MAX)).recipients) == RECIPIENTS_MAX
    with pytest.raises(InvalidEnvelope, match="recipients: more than 1000"):
        Envelope(sender=None, recipients=some(RECIPIENTS_MAX + 1))
    with pytest.raises(InvalidEnvelope, match="recipients: there is none"):
        Envelope(sender=None, recipients=[])


@pytest.mark.parametrize("wrong", [b"a@b", None, 7, ("a@b",)])
def test_what_is_no_text_is_no_address(wrong: object) -> None:
    with pytest.raises(InvalidEnvelope, match=re.escape("recipients[0]: is no text")):
        Envelope(sender=None, recipients=[cast(Any, wrong)])
    if wrong is not None:
        with pytest.raises(InvalidEnvelope, match="sender: is no text"):
            Envelope(sender=cast(Any, wrong), recipients=["a@b"])


def test_one_string_is_not_taken_for_many_recipients() -> None:
    with pytest.raises(InvalidEnvelope, match="one string"):
        Envelope(sender=None, recipients="a@b")


def test_envelopes_are_values() -> None:
    envelope = Envelope(sender="a@b", recipients=["c@d"])
    assert envelope == Envelope(sender="a@b", recipients=(Recipient("c@d"),))
    assert len({envelope, copy.copy(envelope), pickle.loads(pickle.dumps(envelope))}) == 1
    assert Receipt(QueueId("0saj3v6580402"), 1) == Receipt(QueueId("0saj3v6580402"), 1)
    with pytest.raises(AttributeError):
        envelope.sender = None  # type: ignore[misc]
