"""What is asked of a client, whatever it is."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 120


class Refused(Exception):
    """A client did not bring its message across; the text is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A message to be sent.

    Attributes:
        port: The daemon's on 127.0.0.1, or of what stands before it.
        tls: Whether the client must insist on STARTTLS, and verify the certificate; else it must not use it.
        path: The message, with CRLF.
        root: Who vouches for the certificate, which is mail.example's.
    """

    port: int
    tls: bool
    path: Path
    root: Path

    @property
    def trusted(self) -> str:
        """The root for our own programs; "-" to go without TLS."""
        return str(self.root) if self.tls else "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client, and how it is told to send.

    Attributes:
        name: As the table has it.
        missing: Why it cannot be had here; None if it can.
        version: What it calls itself.
        sending: Sends while it is entered, or has sent by then; what has a queue goes on until it is left.
            Raises Refused.
        alters: What it is known to do to a body by a mistake of its own.
        note: What the mistake is, and who knows of it.
    """

    name: str
    missing: Callable[[], str | None]
    version: Callable[[], str]
    sending: Callable[[Job], AbstractContextManager[None]]
    alters: Callable[[bytes], bytes] = bytes
    note: str = ""


def said(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """Return the first line that a program prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    return next(iter((done.stdout or done.stderr).splitlines()), "")


def command(
    build: Callable[[Job], Sequence[str]],
    *,
    environment: Callable[[], dict[str, str]] = lambda: dict(os.environ),
    reads_standard_input: bool = False,
) -> Callable[[Job], AbstractContextManager[None]]:
    """Return the `sending` of a client that is one command and ends when it has sent."""

    @contextlib.contextmanager
    def sending(job: Job) -> Iterator[None]:
        with job.path.open("rb") if reads_standard_input else contextlib.nullcontext() as message:
            try:
                done = subprocess.run(
                    list(build(job)),
                    env=environment(),
                    stdin=message or subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise Refused(f"it did not end within {TIMEOUT_S} s") from None
        if done.returncode != 0:
            raise Refused(f"exit {done.returncode}: {done.stdout[-4000:].decode('utf-8', 'replace')}")
        yield

    return sending
