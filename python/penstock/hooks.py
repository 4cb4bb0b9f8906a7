"""What a program that embeds the engine can say to mail while it comes in: `ReceiveHooks` and their verdicts.

A hook is asked at each event that it overrides, and the peer waits for what it says. Hooks are asked in the
order in which `open_engine` was given them. Whoever accepts passes the question on to the next; the first
verdict that is not `Accept` ends it. Our own checks come first: no hook sees what is refused in any case.

A hook that raises, that takes longer than its time, or whose verdict cannot be followed has failed: the peer
is told 451 4.3.0 at that command, so that nothing is accepted which nobody has looked at. Verdicts check
themselves when they are made, so that most mistakes show in the hook's own tests.

This module decides nothing and waits for nothing; `penstock.receive.asking` does the asking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from penstock.envelope import Recipient, Reply
from penstock.hook_views import ClientCertificate, ContentView, HeaderView, SessionView

__all__ = [
    "ADDED_OCTETS_MAX",
    "EVENTS",
    "HOOK_TIMEOUT_S",
    "TARPIT_MAX_S",
    "Accept",
    "ClientCertificate",
    "ContentView",
    "HeaderView",
    "ReceiveHooks",
    "Redirect",
    "Reject",
    "SessionView",
    "Tarpit",
    "Verdict",
]

EVENTS: Final = (
    "on_connect",
    "on_auth",
    "on_mail",
    "on_rcpt_to",
    "on_end_of_headers",
    "on_end_of_data",
)
"""In the order in which they come."""
HOOK_TIMEOUT_S: Final = 5.0
"""How long a hook may take unless somebody says otherwise."""
TARPIT_MAX_S: Final = 30.0
"""The longest that a verdict may hold back its answer."""
ADDED_OCTETS_MAX: Final = 32 * 1024
"""Octets of all header fields that hooks add to a message."""
FIELD_OCTETS_MAX: Final = 998
"""A field is one line (RFC 5322 2.1.1)."""
REPLY_TEXT_MAX: Final = 400
"""Characters of a reply's text: with its codes the line stays within 512 octets (RFC 5321 4.5.3.1.5)."""

# No name begins with a dot, so that the line needs no stuffing whatever form the content has.
_FIELD_NAME: Final = re.compile(r"[!-\-/-9;-~][!-9;-~]*")
_FIELD_VALUE: Final = re.compile(r"[\t -~]*")
_TRACE_FIELDS: Final = frozenset(("received", "return-path"))
_ENHANCED: Final = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")
_CONNECTOR: Final = re.compile(r"[A-Za-z0-9._ -]{1,64}")
_CODES: Final = range(400, 600)


@dataclass(frozen=True, slots=True, init=False)
class Accept:
    """Have nothing against it; the next hook is asked.

    There are no tags: a message has no place for them yet.

    Attributes:
        add_headers: Name and value of header fields, in US-ASCII and without line ends, which the message
            gets below our own Received field and above its own header section, in the order in which they
            were said. Those of `on_connect` and `on_auth` go to every message of the session; those of
            `on_rcpt_to` count only if the recipient does. They are stored with the message.

    Raises:
        ValueError: A name or value cannot be a header field's, or there are more than 32 KiB.
    """

    add_headers: tuple[tuple[str, str], ...] = ()
    octets: bytes = field(init=False, repr=False, compare=False)

    def __init__(self, add_headers: Iterable[tuple[str, str]] = ()) -> None:
        """Check and keep."""
        fields = tuple((name, value) for name, value in add_headers)
        octets = b"".join(_line(name, value) for name, value in fields)
        if len(octets) > ADDED_OCTETS_MAX:
            raise ValueError(f"add_headers: more than {ADDED_OCTETS_MAX} octets")
        object.__setattr__(self, "add_headers", fields)
        object.__setattr__(self, "octets", octets)


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse it.

    Attributes:
        reply: What the peer is told: a code from 400 to 599, an enhanced status of the same class, or None
            for that class's general one, and a text of one line in US-ASCII. 421 ends the connection.

    Raises:
        ValueError: It is no such reply.
    """

    reply: Reply
    octets: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check, and encode."""
        code, enhanced, text = self.reply.code, self.reply.enhanced, self.reply.text
        if type(code) is not int or code not in _CODES:
            raise ValueError("reply: a refusal has a code from 400 to 599")
        enhanced = enhanced if enhanced is not None else f"{code // 100}.0.0"
        if not _ENHANCED.fullmatch(enhanced) or enhanced[0] != str(code)[0]:
            raise ValueError("reply: its enhanced status is none, or of another class than its code")
        if not (text.isascii() and text.isprintable() and 0 < len(text) <= REPLY_TEXT_MAX):
            raise ValueError(
                f"reply: its text has to be 1 to {REPLY_TEXT_MAX} printable characters of US-ASCII"
            )
        object.__setattr__(self, "octets", f"{code} {enhanced} {text}\r\n".encode("ascii"))


@dataclass(frozen=True, slots=True)
class Redirect:
    """Take a recipient, and send its mail through a certain send connector, whatever the routing would say.

    For `on_rcpt_to` alone. A connector that does not exist, or is not enabled, is a failure of the hook.

    Attributes:
        connector: The send connector's name.

    Raises:
        ValueError: No connector could have this name.
    """

    connector: str

    def __post_init__(self) -> None:
        """Check."""
        if not _CONNECTOR.fullmatch(self.connector):
            raise ValueError("connector: not a name of a connector")


@dataclass(frozen=True, slots=True)
class Tarpit:
    """Hold the answer back.

    What is accepted by it is stored, and what is refused by it counted, as without; all replies to commands
    that came together are held back 30 s at most.

    Attributes:
        seconds: How long, more than 0 and at most 30.
        then: The verdict; no other hook is asked.

    Raises:
        ValueError: It is too long, or nothing.
    """

    seconds: float
    then: Accept | Reject | Redirect = field(default_factory=Accept)

    def __post_init__(self) -> None:
        """Check."""
        if not 0 < self.seconds <= TARPIT_MAX_S:
            raise ValueError(f"seconds: has to be more than 0 and at most {TARPIT_MAX_S:g}")
        if not isinstance(self.then, Accept | Reject | Redirect):
            raise ValueError("then: has to be Accept, Reject or Redirect")


Verdict: TypeAlias = Accept | Reject | Tarpit | Redirect

_ACCEPT: Final = Accept()


class ReceiveHooks:
    """Override what you want to be asked; what is not overridden costs nothing.

    Each method is a coroutine that runs in the engine's Trio loop, one per session at a time and many at
    once. It has `hook_timeout_s` (5 s unless `open_engine` is told otherwise); then it is cancelled, as it is
    when its connection breaks. It must not block: use `trio.to_thread.run_sync` for what does.

    **Durability**: what was accepted is not stored yet. After a verdict on the content the message still has
    to be written, which may fail; the peer is told then, hooks are not.

    Attributes:
        name: What metrics and the journal call it; the class's name unless it is set.
    """

    name: str = ""

    async def on_connect(self, session: SessionView) -> Verdict:
        """A peer has connected, and has not been greeted. A refusal ends the connection."""
        return _ACCEPT

    async def on_auth(self, session: SessionView, login: str) -> Verdict:
        """A peer has proved that it is `login`. A 5yz counts as a failed authentication."""
        return _ACCEPT

    async def on_mail(self, session: SessionView, sender: str | None) -> Verdict:
        """MAIL is in order; None is the null reverse-path."""
        return _ACCEPT

    async def on_rcpt_to(self, session: SessionView, recipient: Recipient) -> Verdict:
        """RCPT is in order. The bare `<Postmaster>` comes with the domain that it is for."""
        return _ACCEPT

    async def on_end_of_headers(self, session: SessionView, headers: HeaderView) -> Verdict:
        """The content is complete; this is its header section.

        It comes when the whole content has, before `on_end_of_data`: net takes content without waiting for
        anybody, so a refusal saves no octets.
        """
        return _ACCEPT

    async def on_end_of_data(self, session: SessionView, content: ContentView) -> Verdict:
        """The content is complete, and nothing is stored. A refusal drops it."""
        return _ACCEPT


def _line(name: str, value: str) -> bytes:
    """Return a header field with its CRLF."""
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError("add_headers: not a name of a header field")
    if name.lower() in _TRACE_FIELDS:
        raise ValueError(f"add_headers: {name} is for those who carry a message")
    if not _FIELD_VALUE.fullmatch(value):
        raise ValueError(f"add_headers: {name} has control characters, or such as are not US-ASCII")
    line = f"{name}: {value}"
    if len(line) > FIELD_OCTETS_MAX:
        raise ValueError(f"add_headers: {name} has more than {FIELD_OCTETS_MAX} octets")
    return line.encode("ascii") + b"\r\n"
