"""Changes to a file of users, each as a whole or not at all.

The new file is written beside the old one, synced, and put in its place, with mode 600 and its owner;
comments and lines that are not understood stay. Whoever changes it holds a lock on its folder meanwhile.

**Durability**: when a change returns it survives power loss.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.receive.users import FILE_OCTETS_MAX, Problem, User, read_line

__all__ = ["change", "users_in"]


def users_in(path: Path) -> list[User]:
    """Return the users of a file, in its order; lines that cannot be used are left out.

    Raises:
        OSError: It cannot be read.
    """
    return [user for _, user in _lines(path) if user is not None]


def change(path: Path, name: str, edit: Callable[[User | None], User | None]) -> None:
    """Change one user.

    Args:
        path: The file; made if it is not there.
        name: The user, in lower case.
        edit: Told the user, or None if there is none; returns the user as it is to be, or None for none. What
            it raises leaves the file as it is.

    Raises:
        OSError: The file cannot be read or written.
        Problem: It is too large.
    """
    # What a link leads to is changed, and not the link.
    path = path.resolve()
    with _locked(path.parent):
        try:
            status = path.stat()
        except FileNotFoundError:
            lines: list[tuple[str, User | None]] = []
            status = None
        else:
            lines = list(_lines(path))
        old = next((user for _, user in lines if user is not None and user.name == name), None)
        new = edit(old)
        texts: list[str] = []
        for line, user in lines:
            if user is None or user.name != name:
                texts.append(line)
            elif new is not None:
                texts.append(new.line())
                new = None
        if new is not None:
            texts.append(new.line())
        _replace(path, "".join(f"{text}\n" for text in texts).encode(errors="surrogateescape"), status)


def _lines(path: Path) -> Iterator[tuple[str, User | None]]:
    """Yield each line without its end, with the user that it has, if it can be used."""
    with path.open("rb") as file:
        octets = file.read(FILE_OCTETS_MAX + 1)
    if len(octets) > FILE_OCTETS_MAX:
        raise Problem(f"{path} has more than {FILE_OCTETS_MAX} octets")
    text = octets.decode(errors="surrogateescape").removesuffix("\n")
    for line in text.split("\n") if text else ():
        try:
            yield line, read_line(line)
        except Problem:
            yield line, None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        # The name of the new file, too, has to last.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, octets: bytes, status: os.stat_result | None) -> None:
    # mkstemp gives it mode 600 from the start.
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            if status is not None and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
