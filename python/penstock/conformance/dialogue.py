"""Plays one case, without sockets: says what is to be done, is told what came, and comes to a verdict.

`play` is a generator. It yields actions; `Read` and `Handshake` and `Look` are answered by `send`. Who drives
it cannot influence the verdict but by what came.

What makes the matrix fair: a preparation that fails is no verdict on the rule, and a server may end any
session with 421 (RFC 5321 3.8), which is none either.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

from penstock.conformance.case import PREPARATIONS, Case, Step
from penstock.conformance.expectation import Event, Expectation, Reply, parse_content, parse_reply
from penstock.conformance.values import fill, unescaped

__all__ = ["Action", "Handshake", "Look", "Outcome", "Pause", "Read", "Reconnect", "Send", "Verdict", "play"]

SILENCE_S: Final = 0.5
"""How long nothing has to come for a silence."""


class Verdict(StrEnum):
    """What a case comes to."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    NOT_OFFERED = "not offered"
    """The server does not announce the extension."""
    NOT_TESTABLE = "not testable"
    """Something that the case needs was not there; the reason says what."""
    ERROR = "error"
    """No connection."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, and what it rests upon."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Send octets as one segment."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Read a reply; answered by an `Event`. With a time, for that long, else for the usual one."""

    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Handshake:
    """Begin TLS; answered by an empty text, or by why it failed."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close the connection and open another one."""


@dataclass(frozen=True, slots=True)
class Look:
    """Look for messages that have a text; answered by them, once there are `count` or time is over."""

    text: str
    count: int


Action: TypeAlias = Send | Read | Pause | Handshake | Reconnect | Look
_Play: TypeAlias = Generator[Action, Any, Outcome]


def play(case: Case, values: Mapping[str, str], *, is_secured: bool, now: datetime) -> _Play:
    """Play a case.

    Args:
        case: The case.
        values: What names in braces stand for; has all that the case uses.
        is_secured: Whether preparations begin TLS by STARTTLS.
        now: The time.
    """
    unsent = b""
    for step in _expanded(case.steps, is_secured=is_secured):
        if step.kind in "CRBL":
            unsent += b"".join(_octets(step, values, index, now) for index in range(step.count))
            continue
        if unsent:
            yield Send(unsent)
            unsent = b""
        if step.kind == "W":
            yield Pause(float(step.text))
        elif step.kind == "N":
            yield Reconnect()
        else:
            outcome = yield from _CHECKS[step.kind](step, values)
            if outcome is not None:
                return outcome
    if unsent:
        yield Send(unsent)
    return Outcome(Verdict.PASS)


def _expanded(steps: tuple[Step, ...], *, is_secured: bool) -> Iterator[Step]:
    for step in steps:
        if step.kind != "@":
            yield step
            continue
        lines = PREPARATIONS[step.text]
        if is_secured and lines[:3] == PREPARATIONS["ehlo"] and step.text != "tls":
            lines = (*PREPARATIONS["tls"], *lines[3:])
        for line in lines:
            kind, _, text = line.partition(":")
            yield Step(kind=kind, text=text.removeprefix(" "), is_preparation=True)


def _octets(step: Step, values: Mapping[str, str], index: int, now: datetime) -> bytes:
    text = fill(step.text, values, index, now)
    if step.kind == "C":
        return text.encode() + b"\r\n"
    octets = unescaped(text)
    if step.kind == "R":
        return octets
    return b"BDAT %d%s\r\n%s" % (len(octets), b" LAST" if step.kind == "L" else b"", octets)


_Check: TypeAlias = Generator[Action, Any, "Outcome | None"]


def _reply(step: Step, _values: Mapping[str, str]) -> _Check:
    expected = parse_reply(step.text)
    wait_s = None if expected.takes_reply else SILENCE_S if expected.takes_silence else None
    for index in range(step.count):
        event: Event = yield Read(wait_s)
        if not expected.fits(event):
            return _judged(step, expected, event, index)
    return None


def _judged(step: Step, expected: Expectation, event: Event, index: int) -> Outcome:
    """Return what a reply that was not expected means."""
    which = f" (number {index + 1})" if step.count > 1 else ""
    if step.is_preparation:
        return Outcome(
            Verdict.NOT_TESTABLE, f"{expected.pattern} was to come{which} before the rule is met: {event}"
        )
    if isinstance(event, Reply) and event.code == "421":
        return Outcome(Verdict.NOT_TESTABLE, f"the server ended the session: {event}")
    return Outcome(Verdict.FAIL, f"{expected.pattern} was to come{which}: {event}")


def _handshake(step: Step, _values: Mapping[str, str]) -> _Check:
    failure: str = yield Handshake()
    if step.is_preparation and failure:
        return Outcome(Verdict.NOT_TESTABLE, f"no TLS: {failure}")
    if not failure:
        return None
    return Outcome(Verdict.PASS if step.text == "maybe" else Verdict.FAIL, f"no TLS: {failure}")


def _messages(step: Step, values: Mapping[str, str]) -> _Check:
    count, regex, is_wanted = parse_content(step.text)
    messages: list[str] = yield Look(values["token"], count)
    if len(messages) != count:
        return Outcome(Verdict.FAIL, f"{count} were to be delivered, {len(messages)} were")
    if regex is None or all((regex.search(message) is not None) is is_wanted for message in messages):
        return None
    return Outcome(
        Verdict.FAIL, f"the message that was delivered is not `{step.text}`: {messages[0][:1500]!r}"
    )


_CHECKS: Final = {"S": _reply, "T": _handshake, "M": _messages}
