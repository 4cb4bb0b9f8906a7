"""The addresses that exist in an authoritative domain, from a file.

One address a line, `@domain` for every address of a domain; `#` at the start of a line or after white space
begins a comment. Case means nothing. The file is read again when it has changed; while it cannot be read the
addresses known before stay in force. A line that is none of these names nobody, and is told of.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["PROBLEMS_MAX", "RecipientsFile", "plain_address"]

_Signature: TypeAlias = tuple[int, int, int]

_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")
# Loose: what it leaves out is no address in anybody's eyes (`*@domain`, `Name <address>`, a list).
_ENTRY: Final = re.compile(r'(?:(?!\*@)[^\s@<>(),:;"]+|"(?:[^"\\]|\\.)*"|)@[^\s@<>(),;"*]+')
PROBLEMS_MAX: Final = 20
"""Lines that are told of; after a few they have one cause."""


def plain_address(address: str) -> str:
    """Return an address in the form in which addresses are compared: lower case, no needless quotes.

    >>> plain_address('"J. Doe"@Contoso.Example')
    'j. doe@contoso.example'
    """
    address = address.lower()
    if not address.startswith('"'):
        return address
    local, _, domain = address.rpartition("@")
    return _QUOTED_PAIR.sub(r"\1", local[1:-1]) + "@" + domain


class RecipientsFile:
    """A set of addresses that follows its file.

    Attributes:
        path: The file.
        problem: Why the file could not be read the last time, or empty.
        lines: What is wrong with its lines.
    """

    def __init__(self, path: str) -> None:
        """Read the file.

        Raises:
            OSError: It cannot be read.
        """
        self.path = Path(path)
        self.problem = ""
        self.lines: list[str] = []
        self._addresses: frozenset[str] = frozenset()
        self._domains: frozenset[str] = frozenset()
        self._signature = self._load()

    def __contains__(self, address: str) -> bool:
        """Whether an address exists."""
        return self.names(address) or plain_address(address).rpartition("@")[2] in self._domains

    def names(self, address: str) -> bool:
        """Whether an address is listed itself, not only its whole domain."""
        return address.lower() in self._addresses or plain_address(address) in self._addresses

    def refresh(self) -> None:
        """Read the file again if it has changed. **Blocking**: a look at the file, and its size if read."""
        try:
            if _signature(os.stat(self.path)) != self._signature:
                self._signature = self._load()
            self.problem = ""
        except OSError as error:
            reason = error.strerror or str(error)
            self.problem = f"{self.path} cannot be read: {reason}. The addresses known before stay in force."

    def _load(self) -> _Signature:
        with self.path.open(encoding="utf-8", errors="replace") as file:
            # Taken before reading: what is written meanwhile is seen at the next look.
            signature = _signature(os.fstat(file.fileno()))
            said = [_COMMENT.sub("", line).strip().lower() for line in file]
        wrong = (number for number, entry in enumerate(said, 1) if entry and not _ENTRY.fullmatch(entry))
        self.lines = [
            f"{self.path}:{number}: this is no address. Write one a line, or @domain for all of a domain."
            for number in islice(wrong, PROBLEMS_MAX)
        ]
        entries = {entry for entry in said if entry}
        self._domains = frozenset(entry[1:] for entry in entries if entry.startswith("@"))
        self._addresses = frozenset(plain_address(entry) for entry in entries if not entry.startswith("@"))
        return signature


def _signature(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_size, status.st_ino
