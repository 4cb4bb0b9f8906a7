"""Sends a message by a client and compares what has come, octet for octet."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.clients import messages
from tests.clients.recorder import Recorder
from tests.clients.sending import Client, Job, Refused
from tests.support import certificates
from tests.support.daemon import Daemon, Settings
from tests.support.ports import free_port

KINDS = tuple(messages.MESSAGES)
ARRIVE_TIMEOUT_S = 60.0
_ACCEPTED = re.compile(rb"^penstock_messages_accepted_total{[^}]*} (\S+)", re.MULTILINE)
_PROTOCOL = re.compile(rb"\nReceived: from [^\n]*(?:\n[ \t][^\n]*)*? with (\S+) id ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one message.

    Attributes:
        fault: What went wrong; empty if all is well.
        protocol: What our Received field calls it, e.g. ESMTPS.
        used: Without TLS, what the client's commands show: EHLO, parameters of MAIL, DATA or CHUNKING.
        dialogue: Without TLS, the beginning of what was said.
    """

    fault: str = ""
    protocol: str = ""
    used: tuple[str, ...] = ()
    dialogue: str = ""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Daemon]:
    """Run a daemon that offers STARTTLS and has a Maildir for the recipient."""
    chain, key = certificates.install(folder, "mail")
    extra = {
        **certificates.table("mail", chain, key),
        "receive_connector.apps": ['tls_certificate_name = "mail"'],
    }
    with Daemon(folder / "daemon", Settings(extra=extra, metrics_port=free_port())) as daemon:
        yield daemon


def attempt(client: Client, daemon: Daemon, folder: Path, *, tls: bool, kind: str) -> Outcome:
    """Have a client send one message."""
    path = messages.write(folder, kind)
    before = _empty(daemon)
    with contextlib.ExitStack() as stack:
        # Of what is said in TLS there is nothing to see.
        recorder = None if tls else stack.enter_context(Recorder(daemon.port))
        job = Job(port=recorder.port if recorder else daemon.port, tls=tls, path=path, root=certificates.ROOT)
        fault, kept = "", b""
        try:
            with client.sending(job):
                kept = _wait(daemon)
        except (Refused, RuntimeError, OSError) as error:
            # A server that does not start or does not take the message is this client's fault alone.
            fault = str(error)
        else:
            fault = difference(client.alters(messages.body(path.read_bytes())), messages.body(kept))
            if (copies := _accepted(daemon) - before) != 1:
                fault = f"{copies} copies came"
    found = _PROTOCOL.search(b"\n" + kept)
    protocol = found[1].decode() if found else ""
    if not fault and protocol.endswith("S") is not tls:
        fault = f"it came as {protocol or 'nobody knows what'}"
    return Outcome(
        fault=fault,
        protocol=protocol,
        used=tuple(recorder.used()) if recorder else (),
        dialogue=recorder.dialogue() if recorder else "",
    )


def difference(sent: bytes, kept: bytes) -> str:
    """Return where two bodies part; empty if they do not."""
    if sent == kept:
        return ""
    pairs = zip(sent, kept, strict=False)
    at = next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(sent), len(kept)))
    around = slice(max(0, at - 20), at + 20)
    return (
        f"the body differs at octet {at} of {len(sent)} ({len(kept)} came):"
        f" {sent[around]!r} became {kept[around]!r}"
    )


def _accepted(daemon: Daemon) -> int:
    """Return how many messages it has said 250 to."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{daemon.settings.metrics_port}/metrics", timeout=10
    ) as page:
        found = _ACCEPTED.search(page.read())
    return int(float(found[1])) if found else 0


def _empty(daemon: Daemon) -> int:
    """Take away what earlier attempts have left, once all of it is there; return how many were accepted."""
    count = _accepted(daemon)
    with contextlib.suppress(TimeoutError):
        daemon.wait_journal("DELIVER", count)
    for path in _arrived(daemon):
        path.unlink()
    return count


def _arrived(daemon: Daemon) -> list[Path]:
    return list((daemon.drop / "new").glob("*"))


def _wait(daemon: Daemon) -> bytes:
    """Return the message that has come.

    Raises:
        TimeoutError: None came in time.
    """
    deadline = time.monotonic() + ARRIVE_TIMEOUT_S
    while True:
        for path in _arrived(daemon):
            return path.read_bytes()
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came within {ARRIVE_TIMEOUT_S:.0f} s")
        time.sleep(0.02)
