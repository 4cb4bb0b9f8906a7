"""What a server may say: replies as they came, and the patterns of the cases.

A pattern is alternatives joined by ` or `; each is `closed`, `silence`, `garbled` (octets that are no reply),
or a reply: its code, where `x` is any digit, perhaps an enhanced status (`x.7.x`), and the word `strict`
(nothing wrong with its form). At the end of the pattern may be `~ REGEX` or `!~ REGEX` of the reply's text, a
line each without code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["Closed", "Event", "Expectation", "Garbled", "Reply", "Silent", "parse_content", "parse_reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that can be understood.

    Attributes:
        code: Three digits.
        lines: Its lines without code and separator.
        flaws: What is wrong with its form.
    """

    code: str
    lines: tuple[str, ...]
    flaws: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """The enhanced status code at the beginning of its text, or empty."""
        match = _STATUS_SENT.match(self.lines[0])
        return match[0] if match else ""

    def __str__(self) -> str:
        shown = " / ".join(self.lines)
        wrong = f" ({'; '.join(self.flaws)})" if self.flaws else ""
        return f"{self.code} {shown}"[:300] + wrong


@dataclass(frozen=True, slots=True)
class Garbled:
    """Octets that are no reply."""

    octets: bytes

    def __str__(self) -> str:
        return f"no reply but {self.octets[:100]!r}"


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ended."""

    def __str__(self) -> str:
        return "the connection was closed"


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing came in time."""

    def __str__(self) -> str:
        return "nothing came"


Event: TypeAlias = Reply | Garbled | Closed | Silent

_STATUS_SENT: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?= |$)", re.ASCII)
_ALTERNATIVE: Final = re.compile(
    r"(?P<code>[2-5x][0-9x]{2})(?: (?P<status>[245x]\.[0-9x]+\.[0-9x]+))?(?P<strict> strict)?"
)
_TEXT: Final = re.compile(r"(?P<rest>.*?)\s*(?P<operator>!?~) (?P<regex>.+)")


@dataclass(frozen=True, slots=True)
class _Alternative:
    code: re.Pattern[str]
    status: re.Pattern[str] | None
    is_strict: bool


@dataclass(frozen=True, slots=True)
class Expectation:
    """A pattern.

    Attributes:
        pattern: As it was written.
        alternatives: Replies that fit.
        takes_closed: Whether the connection may end.
        takes_silence: Whether nothing may come.
        takes_garbled: Whether octets may come that are no reply.
        text: What the text of a reply has to have, or not to have.
        text_is_wanted: Which of the two.
    """

    pattern: str
    alternatives: tuple[_Alternative, ...]
    takes_closed: bool
    takes_silence: bool
    takes_garbled: bool
    text: re.Pattern[str] | None
    text_is_wanted: bool

    @property
    def takes_reply(self) -> bool:
        """Whether there is a reply that fits."""
        return bool(self.alternatives)

    def fits(self, event: Event) -> bool:
        """Whether this is what may come."""
        if isinstance(event, Closed):
            return self.takes_closed
        if isinstance(event, Silent):
            return self.takes_silence
        if isinstance(event, Garbled):
            return self.takes_garbled
        return self._text_fits(event) and self._code_fits(event)

    def _code_fits(self, reply: Reply) -> bool:
        return any(
            alternative.code.fullmatch(reply.code)
            and (alternative.status is None or alternative.status.fullmatch(reply.status))
            and not (alternative.is_strict and reply.flaws)
            for alternative in self.alternatives
        )

    def _text_fits(self, reply: Reply) -> bool:
        if self.text is None:
            return True
        return (self.text.search("\n".join(reply.lines)) is not None) is self.text_is_wanted


def parse_reply(pattern: str) -> Expectation:
    """Read the pattern of a reply.

    Raises:
        ValueError: It is none.
    """
    rest, regex, is_wanted = _split_text(pattern)
    words = rest.split(" or ")
    alternatives = []
    for word in words:
        if word in ("closed", "silence", "garbled"):
            continue
        match = _ALTERNATIVE.fullmatch(word)
        if match is None:
            raise ValueError(f"not what a server can say: {word!r}")
        status = match["status"]
        alternatives.append(
            _Alternative(
                code=re.compile(match["code"].replace("x", "[0-9]")),
                status=None if status is None else re.compile(_status_regex(status)),
                is_strict=match["strict"] is not None,
            )
        )
    return Expectation(
        pattern=pattern,
        alternatives=tuple(alternatives),
        takes_closed="closed" in words,
        takes_silence="silence" in words,
        takes_garbled="garbled" in words,
        text=regex,
        text_is_wanted=is_wanted,
    )


def parse_content(pattern: str) -> tuple[int, re.Pattern[str] | None, bool]:
    """Read what is expected of the messages delivered: how many, and what is in each, or must not be.

    Raises:
        ValueError: It is not that.
    """
    rest, regex, is_wanted = _split_text(pattern)
    return int(rest or 1), regex, is_wanted


def _split_text(pattern: str) -> tuple[str, re.Pattern[str] | None, bool]:
    match = _TEXT.fullmatch(pattern)
    if match is None:
        return pattern, None, True
    try:
        regex = re.compile(match["regex"], re.MULTILINE | re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return match["rest"], regex, match["operator"] == "~"


def _status_regex(status: str) -> str:
    return r"\.".join("[0-9]+" if part == "x" else re.escape(part) for part in status.split("."))
