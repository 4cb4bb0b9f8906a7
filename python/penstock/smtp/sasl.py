"""Authentication as a dialogue (RFC 4422): what each mechanism asks, and what it makes of the responses.

A mechanism is told the decoded responses of one client, one at a time, and says what comes next. It verifies
nothing: what has been claimed, and the proof of it, are for whoever knows the users. Its steps are the same
whether or not a user exists.

To add a mechanism, give it to `MECHANISMS`; if it ends in something else than a password, add a step.
"""

from __future__ import annotations

import stringprep
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol, TypeAlias

__all__ = [
    "FIELD_OCTETS_MAX",
    "MECHANISMS",
    "Challenge",
    "Failed",
    "Login",
    "Mechanism",
    "Password",
    "Plain",
    "Step",
    "prepared",
]

FIELD_OCTETS_MAX: Final = 255
"""The longest name or password, in octets of UTF-8 (RFC 4616 2 asks for this much)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server has something to say, and awaits a response."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Password:
    """The client has said who it is and has given a password, which is still to be verified.

    Attributes:
        login: The name, prepared; not empty.
        password: The password, prepared; not empty. It never appears in a `repr`.
    """

    login: str
    password: str = field(repr=False)


class Failed(Enum):
    """The exchange has come to nothing, whoever the client is."""

    REFUSED = "refused"
    """What it said is not what the mechanism asks for, or asks for another's rights."""


Step: TypeAlias = "Challenge | Password | Failed"


class Mechanism(Protocol):
    """One exchange with one client, by the rules of one mechanism."""

    def respond(self, response: bytes | None, /) -> Step:
        """Take a response and return the next step.

        Args:
            response: What the client says, decoded; None if it began without an initial response.
        """


class Plain:
    """PLAIN (RFC 4616): name and password in one response."""

    __slots__ = ()

    def respond(self, response: bytes | None, /) -> Step:
        """Ask for the response if there is none, with a challenge of nothing; read it."""
        if response is None:
            return Challenge(b"")
        fields = response.split(b"\0")
        if len(fields) != 3:
            return Failed.REFUSED
        as_whom, login, password = (_text(octets) for octets in fields)
        if as_whom is None or not login or not password:
            return Failed.REFUSED
        # To act as somebody else is a right that nobody has.
        return Password(login, password) if as_whom in ("", login) else Failed.REFUSED


class Login:
    """LOGIN (draft-murchison-sasl-login, never an RFC): what printers and Exchange's clients speak.

    Clients look at the position of a challenge, some at its words, so these are the usual ones. An initial
    response is the name.
    """

    __slots__ = ("_is_asked", "_login")

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._is_asked = False
        self._login: str | None = None

    def respond(self, response: bytes | None, /) -> Step:
        """Ask for the name, then for the password."""
        if response is None:
            return Challenge(b"Username:")
        text = _text(response)
        if not self._is_asked:
            # A name that cannot be one is found out at the end, as one that does not exist would be.
            self._is_asked = True
            self._login = text
            return Challenge(b"Password:")
        if not self._login or not text:
            return Failed.REFUSED
        return Password(self._login, text)


MECHANISMS: Final[Mapping[str, Callable[[], Mechanism]]] = {"PLAIN": Plain, "LOGIN": Login}
"""By name, in the order in which they are offered."""


def prepared(text: str) -> str | None:
    """Return a name or password in the form in which they are compared (SASLprep, RFC 4013), or None.

    What somebody types may have been composed in another way on another keyboard. None means that it has
    characters that have no place in a name or password.

    >>> prepared("I\u00adX")
    'IX'
    >>> prepared("\u2168")
    'IX'
    """
    if text.isascii():
        return text if text.isprintable() else None
    mapped = (
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    normal = unicodedata.normalize("NFKC", "".join(mapped))
    if any(_is_prohibited(character) for character in normal) or not _is_of_one_direction(normal):
        return None
    return normal


def _text(octets: bytes) -> str | None:
    """Return a field of a response, prepared, or None if it is none."""
    if len(octets) > FIELD_OCTETS_MAX or b"\0" in octets:
        return None
    try:
        return prepared(octets.decode())
    except UnicodeDecodeError:
        return None


_PROHIBITED: Final = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)
"""RFC 4013 2.3 and 2.5, the latter because what is stored must never change its meaning."""


def _is_prohibited(character: str) -> bool:
    return any(is_in_table(character) for is_in_table in _PROHIBITED)


def _is_of_one_direction(text: str) -> bool:
    """RFC 3454 6: text written from right to left begins and ends so, and has nothing of the other kind."""
    if not any(stringprep.in_table_d1(character) for character in text):
        return True
    return (
        stringprep.in_table_d1(text[0])
        and stringprep.in_table_d1(text[-1])
        and not any(stringprep.in_table_d2(character) for character in text)
    )
