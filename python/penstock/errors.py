"""Everything that Penstock raises, arranged by who must act.

A remote refusal is a value, never an exception. `str()` of each is one line; none contains message content.
"""

from __future__ import annotations

__all__ = [
    "DraftRefused",
    "PenstockError",
    "SpoolDamaged",
    "SpoolError",
    "SpoolFailed",
    "SpoolFormat",
    "SpoolLocked",
]


class PenstockError(Exception):
    """The root of all."""


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
        super().__init__(f"the spool is in use by process {pid}")
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
