"""What the end of an attempt means: for the next hop, for what is left of the entry, for the sender.

What a reply means for one recipient the session has judged already. Here its outcomes are taken together:

- A connection that breaks, or a 421 (RFC 5321 3.8), at MAIL or RCPT and with no answer for any recipient is
  the next hop's trouble and moves its next try; so is a Maildir that cannot be written. A connection that
  could not be made or greeted is always the next hop's; it has no outcomes and does not come here.
- A connection that had served before, and is found dead when it is used again, says nothing about anybody:
  peers close what is idle. The entry is tried again at once, on another connection.
- Everything else concerns the entry alone, however its recipients fared; other mail to that hop goes on.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, TypeAlias

__all__ = ["Fault", "Outcome", "Settlement", "fault", "settle"]

Outcome: TypeAlias = tuple[int, str, str, str, int, str, str]
"""Index and address of the recipient, state, stage, code (0: no reply), enhanced status, text."""

SERVICE_CLOSING: Final = 421

_UNSETTLED: Final = frozenset(("deferred", "in_doubt"))
_REPORTED: Final = frozenset(("failed", "expired"))
_NO_ANSWER: Final = (0, SERVICE_CLOSING)
_STAGES_OF_HOPS: Final = ("mail", "rcpt", "file")


class Fault(Enum):
    """Whose trouble an attempt has met."""

    ENTRY = "entry"
    """The entry's alone, if there was any; the next hop does its work."""
    HOP = "hop"
    """The next hop's: its next try moves, and the entry goes with it (`RetrySchedule.next_attempt_ms`)."""
    CONNECTION = "connection"
    """The connection's: forget its outcomes, try again at once on another."""


class Settlement(NamedTuple):
    """What an attempt leaves behind.

    Attributes:
        outcomes: What is to be recorded, one per recipient.
        due_ms: When to try the recipients that are left again; None if none is.
        reported: The outcomes that the sender is to be told of.
    """

    outcomes: list[Outcome]
    due_ms: int | None
    reported: list[Outcome]


def fault(outcomes: list[Outcome], *, is_reused: bool) -> Fault:
    """Say whose trouble an attempt has met.

    Args:
        outcomes: One per recipient, at least one, as the session gave them.
        is_reused: Whether the connection had served an earlier mail transaction.
    """
    _, _, state, stage, code, _, _ = first = outcomes[0]
    if state != "deferred" or stage not in _STAGES_OF_HOPS or code not in _NO_ANSWER:
        return Fault.ENTRY
    # A recipient that was refused by itself has an outcome of its own.
    if any(outcome[2:] != first[2:] for outcome in outcomes):
        return Fault.ENTRY
    return Fault.CONNECTION if is_reused and stage == "mail" else Fault.HOP


def settle(outcomes: list[Outcome], *, again_ms: int | None) -> Settlement:
    """Draw the sum of an attempt.

    Args:
        outcomes: One per recipient.
        again_ms: When recipients that have neither got their mail nor failed are tried again, Unix
            milliseconds; None when the message has expired. They become `expired` then; their last reply
            stays theirs.
    """
    if again_ms is None:
        outcomes = [
            (*outcome[:2], "expired", *outcome[3:]) if outcome[2] in _UNSETTLED else outcome
            for outcome in outcomes
        ]
    due_ms = again_ms if any(outcome[2] in _UNSETTLED for outcome in outcomes) else None
    return Settlement(outcomes, due_ms, [outcome for outcome in outcomes if outcome[2] in _REPORTED])
