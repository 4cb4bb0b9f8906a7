"""Everything that Penstock raises, arranged by who must act.

- `ConfigError`, `SpoolError`, `BindFailed`, `CertificateFailed`: the operator.
- `SubmissionError`: the calling program; the same call again cannot help.
- `Unavailable`: nobody; the same call again will help after a while. Nothing was stored.
- `NotFound`, `Ambiguous`, `QueryRefused`: who asked.
- `ControlError`: the user of a client, or whoever runs the daemon.
- `Misuse`: the calling program has a bug.

A remote refusal is a value, never an exception. `str()` of each is one line; none contains message content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = [
    "Ambiguous",
    "BackPressure",
    "BindFailed",
    "CertificateFailed",
    "CertificateUnusable",
    "ConfigError",
    "ContentRefused",
    "ControlError",
    "DraftRefused",
    "EngineClosed",
    "EngineStopping",
    "InvalidEnvelope",
    "Misuse",
    "NotFound",
    "PenstockError",
    "Problem",
    "ProtocolMismatch",
    "QueryRefused",
    "SpoolDamaged",
    "SpoolError",
    "SpoolFailed",
    "SpoolFormat",
    "SpoolFull",
    "SpoolLocked",
    "SubmissionError",
    "Unavailable",
    "Unreachable",
]


class PenstockError(Exception):
    """The root of all."""

    def __str__(self) -> str:
        """Return one printable line, whatever the reasons of others contain."""
        text = super().__str__()
        return text if text.isprintable() else " ".join(_printable(text).split())


class Problem(Protocol):
    """What is wrong with a configuration, in one place."""

    @property
    def severity(self) -> str:
        """`error`, or `warning` for what does not block."""


class ConfigError(PenstockError):
    """A configuration was refused; nothing was started or changed.

    Attributes:
        problems: Everything that is wrong with it, warnings included, in the order in which to print it.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        warnings = sum(problem.severity == "warning" for problem in problems)
        text = f"configuration refused: {_count(len(problems) - warnings, 'error')}"
        super().__init__(f"{text}, {_count(warnings, 'warning')}" if warnings else text)
        self.problems = tuple(problems)


class CertificateUnusable(PenstockError):
    """A certificate cannot be used, in the words of what reads it; `CertificateFailed` says so to operators.

    Attributes:
        number: Which one of those that were given, from 0.
        part: `chain` or `key`.
        reason: What is wrong with that.
    """

    def __init__(self, number: int, part: str, reason: str) -> None:
        super().__init__(f"certificate {number}, {part}: {reason}")
        self.number = number
        self.part = part
        self.reason = reason


class CertificateFailed(PenstockError):
    """A file with a certificate or its key cannot be used.

    Attributes:
        file: The file.
        reason: What is wrong with it.
        is_exposed: Whether that is that others can read a key.
    """

    def __init__(self, file: str, reason: str, *, is_exposed: bool = False) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason
        self.is_exposed = is_exposed


class SubmissionError(PenstockError):
    """A message cannot be taken as it is; nothing was stored."""


class InvalidEnvelope(SubmissionError):
    """An envelope cannot be what the caller means.

    Attributes:
        field: Which part of it: `sender`, `recipients` or, counted from 0, `recipients[2]`.
        reason: What is wrong with that.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class ContentRefused(SubmissionError):
    """Content cannot be taken as it is.

    Attributes:
        kind: `too_large`; `bad_line_ending` for a CR or LF that is not part of a CRLF; `no_final_crlf`.
        limit: Octets that would be taken, if that is what it is about.
    """

    def __init__(self, kind: str, limit: int | None = None) -> None:
        super().__init__(f"content refused: {kind}" + ("" if limit is None else f" (the limit is {limit})"))
        self.kind = kind
        self.limit = limit


class Unavailable(PenstockError):
    """Nothing was stored; the same call will do after a while.

    Attributes:
        retry_after_s: How long to wait, seconds.
    """

    def __init__(self, retry_after_s: float, reason: str = "no mail is taken now") -> None:
        super().__init__(f"{reason}; try again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class SpoolFull(Unavailable):
    """The disk has no room for new mail."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s, "the disk of the spool is full")


class BackPressure(Unavailable):
    """Mail comes faster than it can be stored.

    Attributes:
        resource: What is short: `budget` (too much half-received mail) or `behind` (the index has to catch
            up).
    """

    def __init__(self, resource: str, retry_after_s: float) -> None:
        super().__init__(retry_after_s, f"too much mail at once: {resource}")
        self.resource = resource


class EngineStopping(Unavailable):
    """The engine is on its way down; its successor will take the message."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s, "the engine is stopping")


class DraftRefused(PenstockError):
    """The spool takes no new message now.

    Attributes:
        reason: `budget` (too much half-received mail), `behind` (the index has to catch up), `disk_full` or
            `poisoned` (a sync failed; only a restart helps).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the spool takes no new message now: {reason}")
        self.reason = reason


class SpoolError(PenstockError):
    """The operator must act."""


class SpoolLocked(SpoolError):
    """Another process has the spool.

    Attributes:
        pid: That process, or 0 if it is not known.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(f"the spool is in use by {f'process {pid}' if pid else 'another process'}")
        self.pid = pid


class SpoolFormat(SpoolError):
    """The spool was written by a newer version; nothing was touched.

    Attributes:
        found: Its format.
        supported: The newest format that this version reads.
    """

    def __init__(self, found: int, supported: int) -> None:
        super().__init__(f"the spool has format {found}, this version reads up to {supported}")
        self.found = found
        self.supported = supported


class SpoolFailed(SpoolError):
    """The spool's disk failed.

    Attributes:
        path: What could not be read, written or synced.
        errno: The system's error number.
    """

    def __init__(self, path: str, errno: int) -> None:
        super().__init__(f"{path}: error {errno}")
        self.path = path
        self.errno = errno


class SpoolDamaged(SpoolError):
    """The spool's files contradict each other.

    Attributes:
        report: What was found.
    """

    def __init__(self, report: str) -> None:
        super().__init__(report)
        self.report = report


class BindFailed(PenstockError):
    """A listener cannot have its address.

    Attributes:
        address: The address and port.
        errno: The system's error number.
    """

    def __init__(self, address: str, errno: int, reason: str = "") -> None:
        super().__init__(f"cannot listen on {address}: {reason or f'error {errno}'}")
        self.address = address
        self.errno = errno


class NotFound(PenstockError):
    """There is no such queue or message.

    Attributes:
        identity: What was asked for.
    """

    def __init__(self, identity: str) -> None:
        super().__init__(f"not found: {identity}")
        self.identity = identity


class Ambiguous(PenstockError):
    """An identity fits several things.

    Attributes:
        candidates: Their full identities.
    """

    def __init__(self, candidates: Sequence[str]) -> None:
        super().__init__(f"ambiguous, could be {' or '.join(candidates)}")
        self.candidates = tuple(candidates)


class QueryRefused(PenstockError):
    """A query cannot be asked; nothing was looked at.

    Attributes:
        at: Where in it: a way through the filter such as `and[2].not`, or `select`, `sort`, `cursor`,
            `limit`,
            `by`, `top`; empty for the whole filter.
        what: What is wrong there.
    """

    def __init__(self, at: str, what: str) -> None:
        super().__init__(f"query refused: {at}: {what}" if at else f"query refused: {what}")
        self.at = at
        self.what = what


class ControlError(PenstockError):
    """A client and the daemon did not come together."""


class Unreachable(ControlError):
    """No daemon answers.

    Attributes:
        socket: Where it was sought.
        is_forbidden: Whether it may be there, but not for this user.
    """

    def __init__(self, socket: str, reason: str = "", *, is_forbidden: bool = False) -> None:
        super().__init__(f"no daemon answers at {socket}" + (f": {reason}" if reason else ""))
        self.socket = socket
        self.is_forbidden = is_forbidden


class ProtocolMismatch(ControlError):
    """The daemon speaks another version of the control protocol.

    Attributes:
        server_version: The daemon's version.
    """

    def __init__(self, server_version: str) -> None:
        super().__init__(f"the daemon has version {server_version}, which this client does not understand")
        self.server_version = server_version


class Misuse(PenstockError, RuntimeError):
    """The calling program has a bug."""


class EngineClosed(Misuse):
    """The engine has been closed."""

    def __init__(self) -> None:
        super().__init__("the engine is closed")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
