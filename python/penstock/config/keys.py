"""Kinds of keys, for the model: what each takes, and how pydantic is told."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from penstock.config.values import Refused, format_duration, format_size, quoted, read_duration, read_size

__all__ = [
    "AutoOr",
    "Choice",
    "Count",
    "Duration",
    "Flag",
    "Kind",
    "Moment",
    "OneOrMore",
    "Size",
    "Text",
    "UnlimitedOr",
    "Version",
    "wrong_type",
]


class Moment(str):
    """A date or time of TOML. No key takes one; people write 00:05:00 without quotes."""

    __slots__ = ()


_TYPE_NAMES: Final[dict[type, str]] = {
    str: "a text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    tuple: "a list",
    dict: "a table",
    Moment: "a date or time",
}


def wrong_type(wanted: type, value: object, fix: str | None = None) -> Refused:
    """Return the refusal of a value of another type than the one that is wanted."""
    if wanted is str and isinstance(value, Moment):
        fix = quoted(value)
    return Refused("C105", f"This has to be {_TYPE_NAMES[wanted]}, not {_TYPE_NAMES[type(value)]}.", fix)


class Kind(ABC):
    """What a key takes."""

    @abstractmethod
    def read(self, value: object) -> object:
        """Return the plain value.

        Raises:
            Refused: This key cannot have it.
        """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Let pydantic read the value with `read` alone."""

        def validate(value: object) -> object:
            try:
                return self.read(value)
            except Refused as refused:
                context = {"message": refused.message, "fix": refused.fix}
                raise PydanticCustomError(refused.code, "{message}", context) from None

        return core_schema.no_info_plain_validator_function(validate)


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """A text that a function reads."""

    reader: Callable[[str], object]

    def read(self, value: object) -> object:
        """Return what the function makes of it."""
        if type(value) is not str:
            raise wrong_type(str, value)
        return self.reader(value)


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    """True or false."""

    def read(self, value: object) -> bool:
        """Return it."""
        if not isinstance(value, bool):
            meant = value.lower() if isinstance(value, str) else ""
            raise wrong_type(bool, value, meant if meant in {"true", "false"} else None)
        return value


@dataclass(frozen=True, slots=True)
class Count(Kind):
    """A whole number within limits."""

    minimum: int
    maximum: int

    def read(self, value: object) -> int:
        """Return it."""
        if type(value) is not int:
            meant = value if isinstance(value, str) and value.isascii() and value.isdecimal() else None
            raise wrong_type(int, value, meant)
        if not self.minimum <= value <= self.maximum:
            raise Refused("C106", f"This has to be a number from {self.minimum} to {self.maximum}.")
        return value


@dataclass(frozen=True, slots=True)
class Version(Kind):
    """The number of a format, of which one is known."""

    known: int

    def read(self, value: object) -> int:
        """Return it."""
        if type(value) is not int:
            raise wrong_type(int, value)
        if value != self.known:
            raise Refused("C109", f"This version reads format {self.known} only.", str(self.known))
        return value


@dataclass(frozen=True, slots=True)
class AutoOr(Kind):
    """A whole number within limits, or "auto"; None stands for the latter."""

    count: Count

    def read(self, value: object) -> int | None:
        """Return the number, or None."""
        return None if value == "auto" else self.count.read(value)


@dataclass(frozen=True, slots=True)
class UnlimitedOr(Kind):
    """A limit, or "unlimited"; None stands for the latter."""

    limit: Kind

    def read(self, value: object) -> object:
        """Return the limit, or None."""
        return None if value == "unlimited" else self.limit.read(value)


@dataclass(frozen=True, slots=True)
class Duration(Kind):
    """A duration within limits; milliseconds."""

    minimum_ms: int
    maximum_ms: int

    def read(self, value: object) -> int:
        """Return the milliseconds."""
        if type(value) is int:
            raise Refused("C104", "A duration needs a unit: say ms, s, m, h or d.")
        if type(value) is not str:
            raise wrong_type(str, value)
        value_ms = read_duration(value)
        if not self.minimum_ms <= value_ms <= self.maximum_ms:
            shortest, longest = format_duration(self.minimum_ms), format_duration(self.maximum_ms)
            raise Refused("C106", f"This has to be from {shortest} to {longest}.")
        return value_ms


@dataclass(frozen=True, slots=True)
class Size(Kind):
    """A size within limits; octets.

    Attributes:
        minimum_bytes: The smallest.
        maximum_bytes: The largest.
        reason: Why nothing larger is possible, if that needs to be said.
    """

    minimum_bytes: int
    maximum_bytes: int
    reason: str = ""

    def read(self, value: object) -> int:
        """Return the octets."""
        if type(value) is int:
            raise Refused("C104", "A size needs a unit: say B, KB or MB.")
        if type(value) is not str:
            raise wrong_type(str, value)
        value_bytes = read_size(value)
        if not self.minimum_bytes <= value_bytes <= self.maximum_bytes:
            message = (
                f"This has to be from {format_size(self.minimum_bytes)} to {format_size(self.maximum_bytes)}."
            )
            raise Refused("C106", f"{message} {self.reason}".rstrip())
        return value_bytes


@dataclass(frozen=True, slots=True)
class OneOrMore(Kind):
    """A text, or a list of some, each of which a function reads."""

    reader: Callable[[str], str]
    maximum: int

    def read(self, value: object) -> tuple[str, ...]:
        """Return what the function makes of each."""
        values = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(values) <= self.maximum:
            raise Refused("C106", f"The list must have 1 to {self.maximum} items.")
        read = []
        for one in values:
            if type(one) is not str:
                raise wrong_type(str, one)
            read.append(self.reader(one))
        return tuple(read)


class Choice(Kind):
    """One of several words; Exchange's spelling of them is read, too: case and `_` mean nothing."""

    __slots__ = ("_later", "_words")

    def __init__(self, *words: str, later: dict[str, str] | None = None) -> None:
        """Take the words.

        Args:
            words: What is possible.
            later: What is known but not possible in this version, and what it needs.
        """
        self._words = {_folded(word): word for word in words}
        self._later = {_folded(word): (word, needs) for word, needs in (later or {}).items()}

    @property
    def words(self) -> tuple[str, ...]:
        """What is possible."""
        return tuple(self._words.values())

    def read(self, value: object) -> str:
        """Return the word in our spelling."""
        if type(value) is not str:
            raise wrong_type(str, value)
        word = self._words.get(_folded(value))
        if word is not None:
            return word
        later = self._later.get(_folded(value))
        if later is not None:
            raise Refused("C109", f"{later[0]} is not possible in this version: it needs {later[1]}.")
        close = difflib.get_close_matches(_folded(value), self._words, n=1)
        meant = quoted(self._words[close[0]]) if close else None
        raise Refused("C107", f"This has to be {_either(self.words)}.", meant)


def _folded(word: str) -> str:
    return word.replace("_", "").lower()


def _either(words: tuple[str, ...]) -> str:
    *others, last = (quoted(word) for word in words)
    return f"{', '.join(others)} or {last}" if others else last
