"""Reports to senders that a message could not be delivered (RFC 3464, RFC 6522), marked as RFC 3834 5 asks.

A report has three parts: plain words for the person, fields for programs, and the header section of the
message. All of it is seven-bit text in short lines, whatever peers and senders wrote, so every server takes
it: a report that is refused is lost, because it has the null reverse-path (RFC 5321 4.5.5) and nobody is told
of its failure.

The same failure gives the same report, its Message-ID included: if a crash makes one to be sent twice, it can
be told that it is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.quoprimime import body_encode
from email.utils import formatdate
from typing import Final, NamedTuple

from penstock.envelope import NOTIFY_FAILURE
from penstock.queue.advice import advice
from penstock.queue.classify import Outcome

__all__ = ["HEADER_OCTETS_MAX", "Failure", "Original", "Report", "Reporter", "is_owed", "report"]

HEADER_OCTETS_MAX: Final = 64 * 1024
"""How much of the message's header section is returned."""
SUBJECT_OCTETS_MAX: Final = 200
WIDTH: Final = 76
"""Characters of a line, where it can be broken."""
LINE_OCTETS_MAX: Final = 998
"""RFC 5321 4.5.3.1.6, without CRLF."""
EXPIRED_STATUS: Final = "4.4.7"
"""RFC 3463 3.5: too old. Its class stays 4: the same message, sent anew, may well arrive."""

_UNPRINTABLE: Final = re.compile(r"[^ -~]")
# Octets other than those of text in lines.
_UNCLEAN: Final = re.compile(rb"[^\t\r\n -~]|\r(?!\n)|(?<!\r)\n")
_SUBJECT: Final = re.compile(rb"^subject[ \t]*:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID: Final = re.compile(
    rb"^message-id[ \t]*:\s*(<[!-;=?-~]{3,250}>)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)


class Failure(NamedTuple):
    """A recipient whom the message does not reach.

    Attributes:
        outcome: What was decided, `failed`, `expired` or `removed`.
        notify: The recipient's notify bits.
        original: The recipient as the sender first named it, `type;address` (RFC 3461 4.2), if it said.
        peer: The server that decided; empty if none was reached.
        attempted_ms: When the last attempt ended, Unix milliseconds; 0 if there was none.
    """

    outcome: Outcome
    notify: int
    original: str | None
    peer: str
    attempted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The message that could not be delivered.

    Attributes:
        queue_id: What operators know it by.
        sender: Its reverse-path; empty for the null one.
        received_ms: When it was accepted, Unix milliseconds.
        received_from: What the peer that brought it called itself; empty if it came by no peer.
        header: The beginning of its content, at least the header section or `HEADER_OCTETS_MAX` octets.
    """

    queue_id: str
    sender: str
    received_ms: int
    received_from: str
    header: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports.

    Attributes:
        fqdn: The name of this server.
        postmaster: The address of whoever looks after it.
    """

    fqdn: str
    postmaster: str


class Report(NamedTuple):
    """A message to be sent with the null reverse-path.

    Attributes:
        recipient: To whom: the sender of the original.
        content: Its content in plain form: CRLF line ends, dots as they are.
        message_id: Its Message-ID field.
        subject: Its Subject field.
    """

    recipient: str
    content: bytes
    message_id: str
    subject: str


def is_owed(sender: str, notify: int) -> bool:
    """Whether a sender is to be told of a recipient's failure.

    The null reverse-path is never answered; a sender that says nothing is told of failures (RFC 3461 4.1).

    Args:
        sender: The reverse-path.
        notify: The recipient's notify bits.
    """
    return sender != "" and (notify == 0 or notify & NOTIFY_FAILURE != 0)


def report(
    original: Original, failures: Iterable[Failure], *, reporter: Reporter, now_ms: int
) -> Report | None:
    """Write the report on a message, or return None when its sender is owed none.

    Args:
        original: The message.
        failures: Recipients whom it does not reach, and of whom there was no report yet.
        reporter: Who reports.
        now_ms: Current Unix time, milliseconds.
    """
    owed = [failure for failure in failures if is_owed(original.sender, failure.notify)]
    if not owed:
        return None
    # A recipient fails once, so a recipient's number and its message's id name one report.
    name = f"{original.queue_id}.{owed[0].outcome[0]}"
    header = _header_section(original.header)
    subject = _subject(header)
    message_id = f"<{name}.failed@{reporter.fqdn}>"
    parts = [
        ("Content-Type: text/plain; charset=us-ascii", _text(original, owed, reporter, now_ms)),
        ("Content-Type: message/delivery-status", _status(original, owed, reporter)),
    ]
    if header:
        parts.append(_returned(header))
    boundary = _boundary(name, parts)
    lines = [
        f"Date: {_date(now_ms)}",
        f"From: Mail Delivery System <{reporter.postmaster}>",
        f"To: <{_printable(original.sender)}>",
        *_folded("Subject", subject),
        f"Message-ID: {message_id}",
        *_references(header),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        "",
    ]
    for fields, body in parts:
        lines += (f"--{boundary}", fields, "", body)
    lines += (f"--{boundary}--", "")
    return Report(original.sender, "\r\n".join(lines).encode("ascii"), message_id, subject)


def _text(original: Original, failures: Sequence[Failure], reporter: Reporter, now_ms: int) -> str:
    """Return the part for the person: recipients that failed alike are named together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for failure in failures:
        _, address, state, stage, code, enhanced, _ = failure.outcome
        waited_ms = now_ms - original.received_ms
        told = advice(state=state, stage=stage, has_reply=code != 0, enhanced=enhanced, waited_ms=waited_ms)
        alike.setdefault((*told, _said(failure)), []).append(_printable(address))
    lines = [f"This is the mail system of {reporter.fqdn}.", ""]
    opening = f"Your message of {_date(original.received_ms)} was not delivered to:"
    for (cause, action, said), addresses in alike.items():
        lines += (opening, "", *(f"    {address}" for address in addresses), "")
        lines += (*_wrapped(cause), *_wrapped(action), "", *_wrapped(said, "    "), "")
        opening = "Nor was it delivered to:"
    closing = (
        "Recipients who are not named here are not concerned. What follows is for mail administrators, who "
        f"know the message by the number {_printable(original.queue_id)}."
    )
    return "\r\n".join((*lines, *_wrapped(closing), ""))


def _said(failure: Failure) -> str:
    """Return what was decided by: the server's words, or ours."""
    _, _, _, _, code, enhanced, text = failure.outcome
    peer = _printable(failure.peer)
    if code:
        return f"{peer or 'The server'} answered: {_reply(code, enhanced, text)}"
    return f"{peer}: {_printable(text)}" if peer else _printable(text)


def _reply(code: int, enhanced: str, text: str) -> str:
    return " ".join(word for word in (str(code), _printable(enhanced), _printable(text)) if word)


def _status(original: Original, failures: Sequence[Failure], reporter: Reporter) -> str:
    """Return the part for programs (RFC 3464 2)."""
    fields = [f"Reporting-MTA: dns; {reporter.fqdn}"]
    if original.received_from:
        fields += _folded("Received-From-MTA", f"dns; {original.received_from}")
    fields.append(f"Arrival-Date: {_date(original.received_ms)}")
    fields.append(f"X-Penstock-Queue-ID: {_printable(original.queue_id)}")
    groups = [fields, *(_recipient(failure) for failure in failures)]
    return "\r\n\r\n".join("\r\n".join(group) for group in groups) + "\r\n"


def _recipient(failure: Failure) -> list[str]:
    _, address, state, _, code, enhanced, text = failure.outcome
    fields = []
    if failure.original is not None:
        fields.append(f"Original-Recipient: {_printable(failure.original)}")
    fields.append(f"Final-Recipient: rfc822; {_printable(address)}")
    fields.append("Action: failed")
    status = EXPIRED_STATUS if state == "expired" else _printable(enhanced) or "5.0.0"
    fields.append(f"Status: {status}")
    if failure.peer:
        fields += _folded("Remote-MTA", f"dns; {failure.peer}")
    if code:
        fields += _folded("Diagnostic-Code", f"smtp; {_reply(code, enhanced, text)}")
    elif text:
        fields += _folded("Diagnostic-Code", f"X-Penstock; {text}")
    if failure.attempted_ms:
        fields.append(f"Last-Attempt-Date: {_date(failure.attempted_ms)}")
    return fields


def _returned(header: bytes) -> tuple[str, str]:
    """Return the part with the message's header section, encoded if it is not clean text."""
    fields = "Content-Type: text/rfc822-headers"
    if _UNCLEAN.search(header) is None and len(max(header.split(b"\r\n"), key=len)) <= LINE_OCTETS_MAX:
        return fields, header.decode("ascii")
    # RFC 6522 4: header sections that are not legal seven-bit text may be quoted-printable.
    encoded = body_encode(header.decode("latin-1"), maxlinelen=WIDTH, eol="\r\n")
    return f"{fields}\r\nContent-Transfer-Encoding: quoted-printable", encoded


def _header_section(content: bytes) -> bytes:
    """Return the header section that content begins with, in whole lines as far as it is returned."""
    if content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    header = content if end < 0 else content[: end + 2]
    if len(header) > HEADER_OCTETS_MAX:
        end = header.rfind(b"\r\n", 0, HEADER_OCTETS_MAX)
        header = header[: end + 2 if end >= 0 else HEADER_OCTETS_MAX]
    return header if header.endswith(b"\r\n") or not header else header + b"\r\n"


def _subject(header: bytes) -> str:
    """Return the subject of the report: that of the message if it is plain text, encoded words included."""
    found = _SUBJECT.search(header)
    subject = b" ".join(found[1].split()) if found else b""
    if subject and len(subject) <= SUBJECT_OCTETS_MAX and _UNCLEAN.search(subject) is None:
        return f"Undeliverable: {subject.decode('ascii')}"
    return "Undeliverable message"


def _references(header: bytes) -> list[str]:
    """Return the fields by which mail programs show the report beside the message."""
    found = _MESSAGE_ID.search(header)
    if found is None:
        return []
    message_id = found[1].decode("ascii")
    return [f"In-Reply-To: {message_id}", f"References: {message_id}"]


def _boundary(name: str, parts: Sequence[tuple[str, str]]) -> str:
    """Return a boundary that is in none of the parts."""
    boundary, attempt = f"=_{name}", 0
    while any(boundary in body for _, body in parts):
        attempt += 1
        boundary = f"=_{name}_{attempt}"
    return boundary


def _date(ms: int) -> str:
    """Return a time in UTC (RFC 5322 3.3)."""
    return formatdate(ms // 1000).replace("-0000", "+0000")


def _printable(text: str) -> str:
    """Replace what is no printable US-ASCII character: nobody's text ends a line, or rules a terminal."""
    return _UNPRINTABLE.sub("?", text)


def _folded(name: str, value: str) -> Iterator[str]:
    """Yield the lines of a field."""
    return _broken(f"{name}: {value}", "", " ")


def _wrapped(text: str, indent: str = "") -> Iterator[str]:
    """Yield the lines of a paragraph."""
    return _broken(text, indent, indent)


def _broken(text: str, first: str, then: str) -> Iterator[str]:
    """Yield lines of `WIDTH` characters at most, but for words that are longer; those are cut at need."""
    line, indent = "", first
    for word in _printable(text).split():
        if line and len(indent) + len(line) + 1 + len(word) > WIDTH:
            yield indent + line
            line, indent = "", then
        line = f"{line} {word}" if line else word[: LINE_OCTETS_MAX - len(then)]
    yield indent + line
