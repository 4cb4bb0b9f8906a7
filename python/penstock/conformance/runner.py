"""Runs cases against a server: asks what it offers, plays what it can be asked, several at a time.

Each case has connections of its own. Threads, because all that is done is waiting.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from penstock.conformance.case import Case
from penstock.conformance.dialogue import (
    Handshake,
    Look,
    Outcome,
    Pause,
    Read,
    Reconnect,
    Send,
    Verdict,
    play,
)
from penstock.conformance.expectation import Event, Reply
from penstock.conformance.values import ASKED_FOR
from penstock.conformance.wire import Wire

__all__ = ["Offer", "Result", "Target", "Unreachable", "probe", "run"]

CONNECT_TRIES: Final = 3
"""How often a case is begun when the server cannot be reached, or says 421 at once."""
CONNECT_AGAIN_S: Final = 1.0
DELIVERY_S: Final = 10.0
"""How long to wait for a message to be delivered."""
NO_DELIVERY_S: Final = 1.5
"""How long to wait for one that must not be."""


class Unreachable(Exception):
    """The server cannot be asked what it offers; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server, and what is known of it.

    Attributes:
        host: Name or address.
        port: Port.
        is_tls: Whether TLS begins at once.
        is_submission: Whether it takes mail from users, not from servers (RFC 6409).
        is_lmtp: Whether it speaks LMTP (RFC 2033), of which the other cases know nothing.
        client: What we call ourselves.
        sender: Reverse-path.
        recipient: Somebody whose mail it takes; `postmaster`, whom every server has to know, if not told.
        relay_recipient: Somebody elsewhere; it takes mail for any local-part of that domain.
        foreign_recipient: Somebody whose mail it does not take.
        user: Somebody who may log on, and his password.
        maildir: Where mail to `recipient` is delivered.
        timeout_s: The longest wait for anything.
        jobs: Cases at a time.
    """

    host: str
    port: int
    is_tls: bool = False
    is_submission: bool = False
    is_lmtp: bool = False
    client: str = "conformance.test"
    sender: str = ""
    recipient: str = ""
    relay_recipient: str = ""
    foreign_recipient: str = ""
    user: tuple[str, str] | None = None
    maildir: Path | None = None
    timeout_s: float = 10.0
    jobs: int = 8

    def connect(self) -> Wire:
        """Open a connection; raises OSError."""
        return Wire(self.host, self.port, timeout_s=self.timeout_s, is_tls=self.is_tls)


@dataclass(frozen=True, slots=True)
class Offer:
    """What EHLO was answered with: keyword to its arguments, in plain text and after STARTTLS."""

    plain: Mapping[str, tuple[str, ...]]
    secured: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case."""

    case: Case
    outcome: Outcome
    took_s: float = field(default=0.0, compare=False)


def probe(target: Target) -> Offer:
    """Ask a server what it offers.

    Raises:
        Unreachable: There is no connection, or no SMTP on it.
    """
    try:
        with target.connect() as wire:
            _wanted(wire.read(), "220")
            plain = _ehlo(wire, target)
            if "STARTTLS" not in plain or target.is_tls:
                return Offer(plain)
            wire.send(b"STARTTLS\r\n")
            # What is wrong with its TLS, the cases find out.
            if not isinstance(answer := wire.read(), Reply) or answer.code != "220" or wire.handshake():
                return Offer(plain)
            with contextlib.suppress(Unreachable):
                return Offer(plain, _ehlo(wire, target))
            return Offer(plain)
    except OSError as error:
        raise Unreachable(f"{target.host}:{target.port}: {error.strerror or error}") from error


def _ehlo(wire: Wire, target: Target) -> dict[str, tuple[str, ...]]:
    wire.send(f"{'LHLO' if target.is_lmtp else 'EHLO'} {target.client}\r\n".encode())
    reply = _wanted(wire.read(), "250")
    words = [line.upper().split() for line in reply.lines[1:]]
    offered = {each[0]: tuple(each[1:]) for each in words if each}
    # What kind of server it is, cases ask for as if it were a keyword.
    offered |= {"IMPLICIT-TLS": ()} if target.is_tls else {}
    offered |= {"LMTP": ()} if target.is_lmtp else {}
    return offered | ({"SUBMISSION": ()} if target.is_submission else {})


def _wanted(event: Event, code: str) -> Reply:
    if not isinstance(event, Reply) or event.code != code:
        raise Unreachable(f"{code} was to come: {event}")
    return event


def run(
    target: Target, cases: Sequence[Case], offer: Offer, *, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Result]:
    """Yield the result of each case, in their order.

    Args:
        target: The server.
        cases: What to ask.
        offer: What it offers, from `probe`.
        progress: Called with the number of cases done, from this thread.
    """
    values = _values(target, offer)
    with ThreadPoolExecutor(target.jobs) as pool:
        pending = [pool.submit(_result, target, case, offer, values) for case in cases]
        try:
            for done, future in enumerate(pending, 1):
                result = future.result()
                progress(done)
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _values(target: Target, offer: Offer) -> dict[str, str]:
    recipient = target.recipient or "postmaster"
    local, _, domain = target.recipient.rpartition("@")
    sender = target.sender or f"conformance@{domain or target.client}"
    relay_local, _, relay_domain = target.relay_recipient.rpartition("@")
    values = {
        "client": target.client,
        "from": sender,
        "from_domain": sender.rpartition("@")[2],
        "rcpt": recipient,
        "rcpt2": "postmaster",
        "rcpt_local": local,
        "rcpt_domain": domain,
        "upper_domain": domain.upper(),
        "relay": target.relay_recipient,
        "relay_domain": relay_domain,
        "any": f"{relay_local}-{{i}}@{relay_domain}" if relay_domain else "",
        "foreign": target.foreign_recipient,
        "maildir": str(target.maildir or ""),
        "date": email.utils.format_datetime(datetime.now(UTC)),
    }
    if target.user is not None:
        name, password = target.user
        values |= {
            "user": name,
            "auth_plain": _base64(f"\0{name}\0{password}"),
            "auth_user": _base64(name),
            "auth_password": _base64(password),
        }
    size = offer.plain.get("SIZE", ())
    if size and size[0].isdigit() and int(size[0]):
        values |= {"size": size[0], "oversize": str(int(size[0]) + 1)}
    return values


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _result(target: Target, case: Case, offer: Offer, values: Mapping[str, str]) -> Result:
    begun = time.monotonic()
    is_secured = case.channel != "plain" and not target.is_tls and "STARTTLS" in offer.plain
    outcome = _excused(target, case, offer, values)
    if outcome is None:
        token = f"t{secrets.token_hex(12)}"
        outcome = _played(target, case, {**values, "token": token}, is_secured=is_secured)
    return Result(case, outcome, time.monotonic() - begun)


def _excused(target: Target, case: Case, offer: Offer, values: Mapping[str, str]) -> Outcome | None:
    """Return why a case cannot be asked of this server, or None."""
    if target.is_lmtp and "LMTP" not in case.needs:
        return Outcome(Verdict.NOT_OFFERED, "SMTP")
    if case.channel == "tls" and not target.is_tls and "STARTTLS" not in offer.plain:
        return Outcome(Verdict.NOT_OFFERED, "STARTTLS")
    is_secured = case.channel != "plain" and offer.secured is not None
    offered = offer.secured if is_secured and offer.secured is not None else offer.plain
    missing = [need for need in case.needs if not _has(offered, need)]
    if missing:
        return Outcome(Verdict.NOT_OFFERED, ", ".join(missing))
    if there := [keyword for keyword in case.lacks if _has(offered, keyword)]:
        return Outcome(Verdict.NOT_TESTABLE, f"the server offers {', '.join(there)}")
    unknown = {ASKED_FOR.get(name) for name in case.names if name in ASKED_FOR and not values.get(name)}
    if unknown:
        return Outcome(Verdict.NOT_TESTABLE, f"needs {', '.join(sorted(filter(None, unknown)))}")
    if case.names & {"size", "oversize"} and "size" not in values:
        return Outcome(Verdict.NOT_TESTABLE, "SIZE is offered without a limit")
    return None


def _has(offered: Mapping[str, tuple[str, ...]], need: str) -> bool:
    keyword, _, argument = need.partition("=")
    return keyword in offered and (not argument or argument in offered[keyword])


def _played(target: Target, case: Case, values: Mapping[str, str], *, is_secured: bool) -> Outcome:
    outcome = Outcome(Verdict.ERROR)
    for attempt in range(CONNECT_TRIES):
        if attempt:
            time.sleep(CONNECT_AGAIN_S * attempt)
        try:
            outcome = _once(target, case, values, is_secured=is_secured)
        except OSError as error:
            outcome = Outcome(Verdict.ERROR, str(error.strerror or error))
            continue
        if not _is_busy(outcome):
            break
    return outcome


def _is_busy(outcome: Outcome) -> bool:
    return (
        outcome.verdict is Verdict.NOT_TESTABLE
        and outcome.reason.startswith("220 ")
        and ": 421 " in outcome.reason
    )


def _once(target: Target, case: Case, values: Mapping[str, str], *, is_secured: bool) -> Outcome:
    """Play a case on connections of its own; raises OSError if there is none."""
    play_through = play(case, values, is_secured=is_secured, now=datetime.now(UTC))
    wire = target.connect()
    answer: object = None
    try:
        while True:
            action = play_through.send(answer)
            answer = None
            if isinstance(action, Send):
                wire.send(action.octets)
            elif isinstance(action, Read):
                answer = wire.read(action.wait_s)
            elif isinstance(action, Pause):
                time.sleep(action.seconds)
            elif isinstance(action, Handshake):
                answer = wire.handshake()
            elif isinstance(action, Reconnect):
                wire.close()
                wire = target.connect()
            else:
                answer = list(_delivered(target, action))
    except StopIteration as ended:
        outcome: Outcome = ended.value
        return outcome
    finally:
        wire.close()


def _delivered(target: Target, action: Look) -> Iterable[str]:
    """Return the messages that have the text, once there are as many as are waited for."""
    assert target.maildir is not None, "invariant: the case was excused without one"
    wanted = action.text.encode()
    deadline = time.monotonic() + (DELIVERY_S if action.count else NO_DELIVERY_S)
    seen: dict[str, bytes] = {}
    while True:
        for folder in ("new", "cur"):
            for path in (target.maildir / folder).glob("*"):
                if path.name not in seen:
                    with contextlib.suppress(OSError):
                        seen[path.name] = path.read_bytes()
        found = [content for content in seen.values() if wanted in content]
        if (action.count and len(found) >= action.count) or time.monotonic() > deadline:
            return [content.decode("latin-1").replace("\r\n", "\n") for content in found]
        time.sleep(0.1)
