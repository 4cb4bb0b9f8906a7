"""What the names in braces of a case stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["ASKED_FOR", "NAMES", "fill", "names_in", "unescaped"]

ASKED_FOR: Final = {
    "rcpt_local": "--recipient",
    "rcpt_domain": "--recipient",
    "upper_domain": "--recipient",
    "any": "--relay-recipient",
    "relay": "--relay-recipient",
    "relay_domain": "--relay-recipient",
    "foreign": "--foreign-recipient",
    "user": "--user",
    "auth_plain": "--user",
    "auth_user": "--user",
    "auth_password": "--user",
    "maildir": "--maildir",
}
"""What only the caller can know, and the option by which he says it."""

NAMES: Final = frozenset(ASKED_FOR) | {
    *("client", "from", "from_domain", "rcpt", "rcpt2", "token", "date", "i"),
    *("x", "utc", "size", "oversize"),
}
"""`x:N`: N letters; `utc:N`: the time N seconds from now; `size`: what SIZE announces; `oversize`: 1 more."""

_NAME = re.compile(r"\{([a-z][a-z_0-9]*)(?::([^}]*))?\}")


def names_in(text: str) -> frozenset[str]:
    """Return the names in braces."""
    return frozenset(match[1] for match in _NAME.finditer(text))


def fill(text: str, values: Mapping[str, str], index: int, now: datetime) -> str:
    """Return a text with the names replaced.

    Args:
        text: As it stands in the case.
        values: What names stand for.
        index: How often the step was repeated before, for `{i}` and `{any}`.
        now: The time, for `{utc:N}`.
    """

    def replace(match: re.Match[str]) -> str:
        name, argument = match[1], match[2]
        if name == "x":
            return "x" * int(argument)
        if name == "utc":
            at = now.astimezone(UTC) + timedelta(seconds=int(argument))
            return at.strftime("%Y-%m-%dT%H:%M:%SZ")
        if name == "i":
            return str(index)
        return values[name].replace("{i}", str(index))

    return _NAME.sub(replace, text)


def unescaped(text: str) -> bytes:
    r"""Return the octets of a text with Python's escapes, such as `\r`, `\x00`."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
