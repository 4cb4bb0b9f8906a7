"""Who may log in, from a file: one user a line, `name:password:flags`.

The password is an Argon2id hash (`passwords`), the flags are `created=2026-11-24` and `disabled`, with commas
between them. `#` at the start of a line begins a comment. Case means nothing in a name. The file is read
again when it has changed; while it cannot be read, or others than its owner could read it, the users known
before stay. A line that cannot be used is told of and leaves its user out, and only that one.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from penstock.receive.passwords import NEW_PARAMETERS, parameters_of, unknowable

__all__ = ["FILE_OCTETS_MAX", "Problem", "User", "UserFile", "exposure", "read_line", "read_name"]

FILE_OCTETS_MAX: Final = 4 << 20
"""Some 30,000 users; more would hold up the event loop when they are read."""
LINE_CHARACTERS_MAX: Final = 1_024
NAME_CHARACTERS_MAX: Final = 128
PROBLEMS_MAX: Final = 20
"""Lines that are told of; after a few they have one cause."""

_Signature: TypeAlias = tuple[int, int, int, int, int]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*", re.ASCII)
_CREATED: Final = re.compile(r"created=(\d{4}-\d{2}-\d{2})", re.ASCII)


class Problem(ValueError):
    """A name or line cannot be used; the text says why, and has no secret in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who may log in.

    Attributes:
        name: In lower case.
        stored: The hash of the password; it never appears in a `repr`.
        created: The day, as 2026-11-24, or empty if it is not known.
        is_disabled: Whether logging in is refused for now.
    """

    name: str
    stored: str
    created: str = ""
    is_disabled: bool = False

    def __repr__(self) -> str:
        """Leave the hash out."""
        return f"User({self.name})"

    def line(self) -> str:
        """Return the user's line, without its end."""
        flags = [f"created={self.created}"] if self.created else []
        flags += ["disabled"] if self.is_disabled else []
        return f"{self.name}:{self.stored}:{','.join(flags)}"


def read_name(text: str) -> str:
    """Return a user's name in lower case.

    Raises:
        Problem: It is none.
    """
    if len(text) > NAME_CHARACTERS_MAX or _NAME.fullmatch(text) is None:
        raise Problem(
            f"a user's name has 1 to {NAME_CHARACTERS_MAX} letters, digits, dots, hyphens, underscores, plus "
            "or at signs, and begins with a letter or digit"
        )
    return text.lower()


def read_line(line: str) -> User | None:
    """Return the user of a line without its end; None for a comment or an empty line.

    Raises:
        Problem: It is no line of a user file.
    """
    if not line.strip() or line.startswith("#"):
        return None
    if len(line) > LINE_CHARACTERS_MAX:
        raise Problem(f"a line has at most {LINE_CHARACTERS_MAX} characters")
    fields = line.strip().split(":")
    if len(fields) not in (2, 3):
        raise Problem("a line has the form name:password:flags")
    user = User(name=read_name(fields[0]), stored=fields[1])
    if parameters_of(user.stored) is None:
        raise Problem("the password is no Argon2id hash, or asks for more, or less, than is allowed")
    for flag in filter(None, fields[2].split(",") if len(fields) == 3 else ()):
        created = _CREATED.fullmatch(flag)
        if created is not None:
            user = replace(user, created=created[1])
        elif flag == "disabled":
            user = replace(user, is_disabled=True)
        else:
            # It could be one that says that this user may not log in.
            raise Problem("a flag is neither created=DATE nor disabled")
    return user


def exposure(status: os.stat_result) -> str:
    """Return why a file of secrets is not one, or nothing."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    # Root cannot tell here as whom Penstock will run, and may read whatever it is.
    if os.geteuid() != 0 and status.st_uid not in (0, os.geteuid()):
        return "belongs neither to root nor to the user that Penstock runs as"
    if status.st_mode & 0o077:
        return "can be read or changed by others than its owner (chmod 600)"
    return ""


class UserFile:
    """The users that follow their file.

    Attributes:
        path: The file.
        users: By name.
        stand_in: What stands for the password of a user who does not exist; to verify it takes as long as
            most.
    """

    def __init__(self, path: str) -> None:
        """Read the file.

        Raises:
            OSError: It cannot be read.
            Problem: Others than its owner could read it, or it is too large.
        """
        self.path = Path(path)
        self.users: dict[str, User] = {}
        self.stand_in = ""
        self._problem = ""
        self._lines: list[str] = []
        self._signature = self._load()

    def refresh(self) -> None:
        """Read the file again if it has changed. **Blocking**: a look at the file, and its size if read."""
        try:
            if _signature(os.stat(self.path)) != self._signature:
                self._signature = self._load()
            self._problem = ""
        except (OSError, Problem) as error:
            self._problem = str(error)

    def problems(self) -> Iterator[str]:
        """Yield what an operator should know."""
        if self._problem:
            yield self._problem
        yield from self._lines

    def _load(self) -> _Signature:
        with self.path.open("rb") as file:
            # Taken before reading: what is written meanwhile is seen at the next look.
            status = os.fstat(file.fileno())
            exposed = exposure(status)
            if exposed:
                raise Problem(f"{self.path} {exposed}")
            octets = file.read(FILE_OCTETS_MAX + 1)
        if len(octets) > FILE_OCTETS_MAX:
            raise Problem(f"{self.path} has more than {FILE_OCTETS_MAX} octets")
        users: dict[str, User] = {}
        problems: list[str] = []
        for number, line in enumerate(octets.decode(errors="replace").split("\n"), 1):
            try:
                user = read_line(line)
                if user is not None and users.setdefault(user.name, user) is not user:
                    raise Problem("the user is there already; the first line counts")
            except Problem as problem:
                problems.append(f"{self.path}:{number}: {problem}")
        self.users = users
        self._lines = problems[:PROBLEMS_MAX]
        most = Counter(parameters_of(user.stored) for user in users.values()).most_common(1)
        self.stand_in = unknowable((most[0][0] if most else None) or NEW_PARAMETERS)
        return _signature(status)


def _signature(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode
