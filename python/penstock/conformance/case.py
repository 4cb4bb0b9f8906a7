r"""Cases as they are written: one rule of an RFC each, with the dialogue that tests it.

A file begins with `rfc NUMBER: title`; lines before the first case hold for all its cases. A case is::

    == 4.1.4 MUST mail-before-ehlo: MAIL without EHLO or HELO is refused
    needs: PIPELINING                 keywords that EHLO has to offer; `AUTH=PLAIN`: with that argument;
                                      IMPLICIT-TLS, SUBMISSION and LMTP say what kind of server it has to be
    lacks: CHUNKING                   keywords that it must not offer
    channel: tls                      tls: only encrypted; best: encrypted if that is offered
    S: 220                            what the server has to say next, see `expectation`
    C: MAIL FROM:<{from}>             a line that we send; lines in a row are one segment
    R: NOOP\r                         octets as they are, with Python's escapes
    B: Subject: x\r\n                 such octets behind their BDAT; L: behind one with LAST
    S: 503
    W: 0.2                            wait so many seconds; what follows is a segment of its own
    T:                                TLS handshake; `maybe`: if there is none, the rule is kept
    M: 1                              messages with {token} that were delivered; `~ REGEX`: one, with that
    N:                                a new connection
    @rcpt                             a preparation, see PREPARATIONS; that it fails says nothing of the rule
    C*3: RCPT TO:<{any}>              three times; so for S

Names in braces are replaced when the case is played; `{x:500}` is 500 times the letter x.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Final, Literal, TypeAlias

from penstock.conformance.expectation import parse_content, parse_reply
from penstock.conformance.values import NAMES, names_in, unescaped

__all__ = ["LEVELS", "PREPARATIONS", "Case", "CaseError", "Level", "Step", "all_cases", "parse"]

Level: TypeAlias = Literal["MUST", "SHOULD", "MAY"]
LEVELS: Final[tuple[Level, ...]] = ("MUST", "SHOULD", "MAY")
CHANNELS: Final = ("plain", "tls", "best")

_HEAD = re.compile(r"== (?P<section>[\w.]+) (?P<level>[A-Z]+) (?P<name>[a-z0-9-]+): (?P<rule>\S.*)")
_STEP = re.compile(r"(?P<kind>[A-Z])(?:\*(?P<count>\d+))?:(?: (?P<text>.*))?")
_SETTING = re.compile(r"(needs|lacks|channel): (.+)")
_TITLE = re.compile(r"rfc (\d+): (\S.*)")

_GREETED = ("S: 220", "C: EHLO {client}", "S: 250")
_SENDER = (*_GREETED, "C: MAIL FROM:<{from}>", "S: 250")
_RECIPIENT = (*_SENDER, "C: RCPT TO:<{rcpt}>", "S: 250 or 251")
PREPARATIONS: Final[dict[str, tuple[str, ...]]] = {
    "banner": ("S: 220",),
    "ehlo": _GREETED,
    "lhlo": ("S: 220", "C: LHLO {client}", "S: 250"),
    "lhlo-rcpt": (
        *("S: 220", "C: LHLO {client}", "S: 250", "C: MAIL FROM:<{from}>", "S: 250"),
        *("C: RCPT TO:<{rcpt}>", "S: 250 or 251"),
    ),
    "helo": ("S: 220", "C: HELO {client}", "S: 250"),
    "mail": _SENDER,
    "rcpt": _RECIPIENT,
    "data": (*_RECIPIENT, "C: DATA", "S: 354"),
    "tls": (*_GREETED, "C: STARTTLS", "S: 220", "T:", "C: EHLO {client}", "S: 250"),
    # Not a preparation of the session but the header section of a message, and the empty line.
    "header": (
        "C: From: <{from}>",
        "C: Subject: conformance {token}",
        "C: Message-ID: <{token}@{client}>",
        "C: Date: {date}",
        "C: ",
    ),
}
"""What comes before the rule that is tested."""


class CaseError(Exception):
    """A case is not written as it has to be; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a dialogue.

    Attributes:
        kind: The letter before its colon.
        text: What is behind it.
        count: How often.
        is_preparation: Whether it comes from one of PREPARATIONS.
    """

    kind: str
    text: str
    count: int = 1
    is_preparation: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One rule.

    Attributes:
        rfc: Number of the RFC.
        section: Section.
        level: How binding the rule is.
        name: Its name within the section.
        rule: What it says, in our words.
        needs: Keywords, perhaps with `=ARGUMENT`, that the server has to offer.
        lacks: Keywords that it must not offer.
        channel: `plain`: as the connection is; `tls`; `best`.
        steps: The dialogue.
    """

    rfc: int
    section: str
    level: Level
    name: str
    rule: str
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    channel: str = "plain"
    steps: tuple[Step, ...] = field(default=())

    @property
    def id(self) -> str:
        """Its name among all cases."""
        return f"{self.rfc}-{self.section}-{self.name}"

    @cached_property
    def names(self) -> frozenset[str]:
        """The names in braces that its dialogue has, and `maildir` if it looks at what was delivered."""
        found = {name for step in self.steps for name in names_in(step.text)}
        if any(step.kind == "M" for step in self.steps):
            found.add("maildir")
        return frozenset(found)


def all_cases() -> list[Case]:
    """Return the whole matrix, by RFC and in the order of its files."""
    found: list[Case] = []
    folder = resources.files("penstock.conformance") / "cases"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".txt"):
            found += parse(file.read_text(encoding="utf-8"), file.name)
    return sorted(found, key=lambda case: case.rfc)


def parse(text: str, file: str) -> list[Case]:
    """Return the cases of one file.

    Raises:
        CaseError: A line is not as the format wants it, or two cases have one name.
    """
    reader = _Reader(file)
    for number, line in enumerate(text.splitlines(), 1):
        try:
            reader.line(line)
        except ValueError as error:
            raise CaseError(f"{file}:{number}: {error}: {line!r}") from error
    return reader.cases()


class _Reader:
    """Reads a file line by line."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._rfc = 0
        self._defaults: dict[str, str] = {}
        self._heads: list[dict[str, str]] = []
        self._settings: list[dict[str, str]] = []
        self._steps: list[list[Step]] = []

    def line(self, line: str) -> None:
        """Take the next line."""
        if not line.strip() or line.startswith("#"):
            return
        if title := _TITLE.fullmatch(line):
            self._rfc = int(title[1])
        elif setting := _SETTING.fullmatch(line):
            (self._settings[-1] if self._settings else self._defaults)[setting[1]] = setting[2]
        elif line.startswith("=="):
            self._begin(line)
        elif not self._steps:
            raise ValueError("a step before the first case")
        else:
            self._steps[-1] += _steps(line)

    def _begin(self, line: str) -> None:
        head = _HEAD.fullmatch(line)
        if head is None:
            raise ValueError("not `== SECTION LEVEL name: rule`")
        if head["level"] not in LEVELS:
            raise ValueError(f"a level is one of {', '.join(LEVELS)}")
        if not self._rfc:
            raise ValueError("`rfc NUMBER: title` comes first")
        self._heads.append(head.groupdict())
        self._settings.append({})
        self._steps.append([])

    def cases(self) -> list[Case]:
        """Return what was read."""
        found = [
            self._case(head, {**self._defaults, **settings}, tuple(steps))
            for head, settings, steps in zip(self._heads, self._settings, self._steps, strict=True)
        ]
        seen: set[str] = set()
        for case in found:
            if case.id in seen:
                raise CaseError(f"{self._file}: {case.id} is there twice")
            seen.add(case.id)
            if not any(step.kind in "SMT" and not step.is_preparation for step in case.steps):
                raise CaseError(f"{self._file}: {case.id} expects nothing")
        return found

    def _case(self, head: dict[str, str], settings: dict[str, str], steps: tuple[Step, ...]) -> Case:
        channel = settings.get("channel", "plain")
        if channel not in CHANNELS:
            raise CaseError(f"{self._file}: a channel is one of {', '.join(CHANNELS)}: {channel}")
        level = next(level for level in LEVELS if level == head["level"])
        return Case(
            rfc=self._rfc,
            section=head["section"],
            level=level,
            name=head["name"],
            rule=head["rule"],
            needs=_words(settings.get("needs", "")),
            lacks=_words(settings.get("lacks", "")),
            channel=channel,
            steps=steps,
        )


def _words(text: str) -> tuple[str, ...]:
    """Return the words between commas; `none` takes back what the file says for all."""
    words = tuple(word.strip().upper() for word in text.split(",") if word.strip())
    return () if words == ("NONE",) else words


def _steps(line: str) -> Iterator[Step]:
    if line.startswith("@"):
        name = line[1:]
        if name not in PREPARATIONS:
            raise ValueError(f"a preparation is one of {', '.join(PREPARATIONS)}")
        yield Step(kind="@", text=name, is_preparation=True)
        return
    match = _STEP.fullmatch(line)
    if match is None or match["kind"] not in "CRBLSWTMN":
        raise ValueError("not a step")
    kind, text = match["kind"], match["text"] or ""
    _check(kind, text)
    yield Step(kind=kind, text=text, count=int(match["count"] or 1))


def _check(kind: str, text: str) -> None:
    """Raise ValueError if the text of a step cannot be used when the case is played."""
    unknown = names_in(text) - NAMES
    if unknown:
        raise ValueError(f"nothing is called {', '.join(sorted(unknown))}")
    if kind == "S":
        parse_reply(text)
    elif kind == "M":
        parse_content(text)
    elif kind in "RBL":
        unescaped(text)
    elif kind == "W":
        float(text)
    elif kind == "T" and text not in ("", "maybe"):
        raise ValueError("a handshake is made, or `maybe`")
