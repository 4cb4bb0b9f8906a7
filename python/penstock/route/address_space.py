"""The address spaces of send connectors, `[type:]space[;cost]` as Exchange writes them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["ACCEPTED_DOMAINS", "COST_MAX", "EVERYTHING", "AddressSpace", "parse_address_space"]

EVERYTHING: Final = "*"
ACCEPTED_DOMAINS: Final = "--"
"""Every accepted domain, as if each had been written."""
COST_MAX: Final = 100
DOMAIN_OCTETS_MAX: Final = 255
"""RFC 5321 4.5.3.1.2."""

# As rust/core reads domains, underscores included.
_DOMAIN: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_COST: Final = re.compile(r"[0-9]{1,3}", re.ASCII)


class AddressSpace(NamedTuple):
    """Domains that a send connector is for.

    Attributes:
        space: A domain, `*.` and a domain for its sub-domains, `*` for everything, or `--` for all accepted
            domains; in lower case.
        cost: 1 to 100; of two equally close spaces the cheaper one is taken.
    """

    space: str
    cost: int = 1


def parse_address_space(text: str) -> AddressSpace:
    """Read an address space.

    >>> parse_address_space("SMTP:*.Contoso.example;5")
    AddressSpace(space='*.contoso.example', cost=5)

    Raises:
        ValueError: It is none; the message says what is wrong, in one line.
    """
    if not text.isascii():
        raise ValueError(f"{text!r} has characters outside US-ASCII")
    kind, colon, rest = text.rpartition(":")
    if colon and kind.strip().upper() != "SMTP":
        raise ValueError(f"type {kind.strip()!r} is not supported, only SMTP is")
    space, semicolon, cost_text = (part.strip() for part in rest.partition(";"))
    return AddressSpace(_space(space.lower()), _cost(cost_text) if semicolon else 1)


def _cost(text: str) -> int:
    if _COST.fullmatch(text) is None or not 1 <= int(text) <= COST_MAX:
        raise ValueError(f"cost {text!r} is not a number from 1 to {COST_MAX}")
    return int(text)


def _space(space: str) -> str:
    if space in {EVERYTHING, ACCEPTED_DOMAINS}:
        return space
    domain = space.removeprefix("*.")
    if domain.startswith("*"):
        raise ValueError(
            f"{space!r} has a wildcard that is no label of its own; write '*.{domain.lstrip('*.')}'"
        )
    if len(domain) > DOMAIN_OCTETS_MAX or _DOMAIN.fullmatch(domain) is None:
        raise ValueError(f"{space!r} is neither a domain nor '*.domain', '*' or '--'")
    return space
