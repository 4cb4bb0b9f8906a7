"""Passwords as they are stored: Argon2id, in the form in which everybody writes it.

`$argon2id$v=19$m=19456,t=2,p=1$salt$digest`. New ones get OWASP's first choice of parameters, 19 MiB and two
passes in one lane: some 25 ms of one core. RFC 9106's low-memory profile (64 MiB, three passes, four lanes)
is five times that, and four threads at a time, for each message of a printer that logs in for each. What a
file may ask for is bounded, so that no line of it can take the machine's memory.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from typing import Final

from penstock.smtp.sasl import FIELD_OCTETS_MAX, prepared

__all__ = ["NEW_PARAMETERS", "PasswordRefused", "hashed", "matches", "parameters_of", "unknowable"]

MEMORY_KIB: Final = 19_456
PASSES: Final = 2
LANES: Final = 1
SALT_OCTETS: Final = 16
DIGEST_OCTETS: Final = 32

MEMORY_KIB_RANGE: Final = (7_168, 65_536)
"""From the least that OWASP names to RFC 9106's low-memory profile."""
PASSES_RANGE: Final = (1, 10)
LANES_RANGE: Final = (1, 4)
PASSWORD_CHARACTERS_MIN: Final = 8
"""NIST SP 800-63B; what is shorter is guessed even against Argon2id."""

_STORED: Final = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{0,6}),t=([1-9]\d{0,2}),p=([1-9]\d?)"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})",
    re.ASCII,
)


class PasswordRefused(ValueError):
    """A password cannot be taken; the text says why, and not what it is."""


def hashed(password: str) -> str:
    """Return how a password is stored. **Blocking**: some 25 ms of a core.

    Raises:
        PasswordRefused: It is too short, too long, or has characters that nobody could log in with.
    """
    from argon2.low_level import Type, hash_secret

    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise PasswordRefused(f"a password has at least {PASSWORD_CHARACTERS_MIN} characters")
    normal = prepared(password)
    if normal is None:
        raise PasswordRefused("a password has no control characters and none that look like nothing")
    octets = normal.encode()
    if len(octets) > FIELD_OCTETS_MAX:
        raise PasswordRefused(f"a password has at most {FIELD_OCTETS_MAX} octets")
    salt = secrets.token_bytes(SALT_OCTETS)
    return hash_secret(octets, salt, PASSES, MEMORY_KIB, LANES, DIGEST_OCTETS, Type.ID).decode()


def parameters_of(stored: str) -> tuple[int, int, int] | None:
    """Return memory in KiB, passes and lanes of what is stored, or None if that is not to be used."""
    found = _STORED.fullmatch(stored)
    if found is None:
        return None
    memory, passes, lanes = (int(number) for number in found.groups()[:3])
    for number, (least, most) in (
        (memory, MEMORY_KIB_RANGE),
        (passes, PASSES_RANGE),
        (lanes, LANES_RANGE),
    ):
        if not least <= number <= most:
            return None
    # 4n + 1 digits are no base64 of anything.
    return None if any(len(text) % 4 == 1 for text in found.groups()[3:]) else (memory, passes, lanes)


def unknowable(parameters: tuple[int, int, int]) -> str:
    """Return what is stored of a password that nobody knows, ourselves included."""
    memory, passes, lanes = parameters
    salt, digest = (
        b64encode(secrets.token_bytes(octets)).rstrip(b"=").decode()
        for octets in (SALT_OCTETS, DIGEST_OCTETS)
    )
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${digest}"


NEW_PARAMETERS: Final = (MEMORY_KIB, PASSES, LANES)
"""The parameters of new passwords."""


def matches(stored: str, password: str) -> bool:
    """Whether a password, prepared, is the one that is stored. **Blocking**: some 25 ms; releases the GIL."""
    from argon2.exceptions import VerificationError
    from argon2.low_level import Type, verify_secret

    try:
        return verify_secret(stored.encode(), password.encode(), Type.ID)
    except VerificationError:
        return False
