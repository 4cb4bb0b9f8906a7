from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.route.address_space import AddressSpace, parse_address_space

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("text", "space", "cost"),
    [
        ("*", "*", 1),
        ("--", "--", 1),
        ("contoso.example", "contoso.example", 1),
        ("Contoso.EXAMPLE", "contoso.example", 1),
        ("*.contoso.example", "*.contoso.example", 1),
        ("SMTP:contoso.example;1", "contoso.example", 1),
        ("smtp:*;100", "*", 100),
        ("*;10", "*", 10),
        (" SMTP : contoso.example ; 7 ", "contoso.example", 7),
        ("SMTP:--;2", "--", 2),
        ("localhost", "localhost", 1),
        ("my_host.example", "my_host.example", 1),
        (f"{'a' * 63}.example", f"{'a' * 63}.example", 1),
        ("*.example", "*.example", 1),
    ],
)
def test_literal_examples(text: str, space: str, cost: int) -> None:
    assert parse_address_space(text) == AddressSpace(space, cost)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither"),
        ("SMTP:", "neither"),
        (";1", "neither"),
        ("*contoso.example", "write '*.contoso.example'"),
        ("*.*.example", "write '*.example'"),
        ("**", "wildcard"),
        ("*.", "neither"),
        ("contoso.*", "neither"),
        ("---", "neither"),
        (".contoso.example", "neither"),
        ("contoso.example.", "neither"),
        ("contoso..example", "neither"),
        ("-contoso.example", "neither"),
        ("contoso-.example", "neither"),
        ("a@contoso.example", "neither"),
        ("con toso.example", "neither"),
        ("[192.0.2.1]", "neither"),
        ("[IPv6:2001:db8::1]", "type"),
        ("10.0.0.0/8", "neither"),
        ("münchen.example", "US-ASCII"),
        ("\N{KELVIN SIGN}.example", "US-ASCII"),
        (f"{'a' * 64}.example", "neither"),
        (".".join(["a" * 63] * 4) + ".b", "neither"),
        ("X400:c=US;1", "type 'X400' is not supported"),
        (":contoso.example", "type '' is not supported"),
        ("contoso.example;", "cost ''"),
        ("contoso.example;0", "cost '0'"),
        ("contoso.example;101", "cost '101'"),
        ("contoso.example;1000", "cost '1000'"),
        ("contoso.example;-1", "cost '-1'"),
        ("contoso.example;1.5", "cost '1.5'"),
        ("contoso.example;one", "cost 'one'"),
        ("contoso.example;1;2", "cost '1;2'"),
    ],
)
def test_what_is_no_address_space_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        parse_address_space(text)
    assert str(caught.value).isprintable()


@given(st.sampled_from(["", "SMTP:", "smtp:"]), st.sampled_from(["", "*."]), DOMAIN, st.integers(1, 100))
def test_what_is_written_is_read_again(kind: str, wildcard: str, domain: str, cost: int) -> None:
    written = f"{kind}{wildcard}{domain.upper()};{cost}"
    assert parse_address_space(written) == AddressSpace(wildcard + domain, cost)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        space, cost = parse_address_space(text)
    except ValueError:
        return
    assert parse_address_space(f"{space};{cost}") == (space, cost)
