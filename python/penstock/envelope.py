"""Envelopes and receipts: what a calling program hands in and gets back.

Addresses are checked here as strictly as `rust/core` checks those of a session, so nothing that a caller
passes on unseen can become a command or a second line (RFC 5321 4.1.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NewType

from penstock.errors import InvalidEnvelope

__all__ = [
    "NOTIFY_DELAY",
    "NOTIFY_FAILURE",
    "NOTIFY_NEVER",
    "NOTIFY_SUCCESS",
    "Envelope",
    "QueueId",
    "Receipt",
    "Recipient",
    "RecipientState",
    "Reply",
]

QueueId = NewType("QueueId", str)
"""The 13 characters by which a message is known."""

# The notify bits of a recipient, as records have them (RFC 3461 4.1); 0 if it was not said.
NOTIFY_NEVER: Final = 1
NOTIFY_SUCCESS: Final = 2
NOTIFY_FAILURE: Final = 4
NOTIFY_DELAY: Final = 8

RECIPIENTS_MAX: Final = 1_000
LOCAL_PART_OCTETS_MAX: Final = 64
"""RFC 5321 4.5.3.1.1."""
PATH_OCTETS_MAX: Final = 256
"""RFC 5321 4.5.3.1.3, angle brackets included. It leaves no domain the 255 octets that one may have."""

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
_QUOTED: Final = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_LABEL: Final = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_MAILBOX: Final = re.compile(
    rf"(?P<local>{_ATOM}(?:\.{_ATOM})*|{_QUOTED})"
    rf"@(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<literal>[0-9A-Za-z:.]+)\])"
)


class RecipientState(StrEnum):
    """How far a message has come for one recipient."""

    PENDING = "pending"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    FAILED = "failed"
    EXPIRED = "expired"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a message is for.

    Attributes:
        address: A mailbox, `local-part@domain`, in US-ASCII.

    Raises:
        InvalidEnvelope: The address is none.
    """

    address: str

    def __post_init__(self) -> None:
        _check("recipient", self.address)

    @classmethod
    def received(cls, address: str) -> Recipient:
        """Return one whose address a session has checked; it may have UTF-8 (RFC 6531)."""
        recipient = object.__new__(cls)
        object.__setattr__(recipient, "address", address)
        return recipient

    @property
    def domain(self) -> str:
        """The domain or address literal, in lower case."""
        return self.address.rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True, init=False)
class Envelope:
    """Who sends a message, and to whom.

    Attributes:
        sender: The reverse-path, a mailbox in US-ASCII; None is the null one, which is never answered.
        recipients: 1 to 1000, each once.
    """

    sender: str | None
    recipients: tuple[Recipient, ...]

    def __init__(self, *, sender: str | None, recipients: Iterable[Recipient | str]) -> None:
        """Check and keep; of recipients that are given twice the first stays.

        Raises:
            InvalidEnvelope: An address is none, or there is no recipient, or there are too many.
        """
        if sender is not None:
            _check("sender", sender)
        if isinstance(recipients, str):
            # Would be taken for a sequence of one-letter addresses.
            raise InvalidEnvelope("recipients", "has to be several addresses, is one string")
        unique: dict[Recipient, None] = {}
        for index, recipient in enumerate(recipients):
            if index >= RECIPIENTS_MAX:
                raise InvalidEnvelope("recipients", f"more than {RECIPIENTS_MAX}")
            if not isinstance(recipient, Recipient):
                try:
                    recipient = Recipient(recipient)
                except InvalidEnvelope as error:
                    raise InvalidEnvelope(f"recipients[{index}]", error.reason) from None
            unique[recipient] = None
        if not unique:
            raise InvalidEnvelope("recipients", "there is none")
        object.__setattr__(self, "sender", sender)
        object.__setattr__(self, "recipients", tuple(unique))


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a message was taken: it exists only after the sync.

    Attributes:
        queue_id: What the message is known by.
        accepted_at_ms: When it was taken, Unix milliseconds.
    """

    queue_id: QueueId
    accepted_at_ms: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a peer has answered.

    Attributes:
        code: The reply code (RFC 5321 4.2).
        enhanced: The enhanced status code (RFC 3463), if it gave one.
        text: Its text as one line.
    """

    code: int
    enhanced: str | None
    text: str


def _check(field: str, address: str) -> None:
    """Refuse what is no mailbox. The message does not repeat it: it may be anything."""
    problem = _problem(address)
    if problem:
        raise InvalidEnvelope(field, problem)


def _problem(address: str) -> str:
    if not isinstance(address, str):
        return "is no text"
    if not address:
        return "is empty"
    if not address.isascii():
        return "has characters outside US-ASCII"
    if not address.isprintable():
        return "has control characters"
    if len(address) > PATH_OCTETS_MAX - len("<>"):
        return f"has more than {PATH_OCTETS_MAX - len('<>')} octets"
    mailbox = _MAILBOX.fullmatch(address)
    if mailbox is None:
        return "is no mailbox of the form local-part@domain"
    local_part, literal = mailbox.group("local", "literal")
    if len(local_part) > LOCAL_PART_OCTETS_MAX:
        return f"has a local-part of more than {LOCAL_PART_OCTETS_MAX} octets"
    if literal is not None and not _is_ip(literal):
        return "has an address literal that is no IP address"
    return ""


def _is_ip(literal: str) -> bool:
    """Whether an address literal, without its brackets, is IPv4 or IPv6 (RFC 5321 4.1.3)."""
    try:
        if literal[:5].upper() == "IPV6:":
            IPv6Address(literal[5:])
        else:
            IPv4Address(literal)
    except AddressValueError:
        return False
    return True
