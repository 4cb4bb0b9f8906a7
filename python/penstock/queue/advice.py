"""What a failure means to the person who wrote the message: one cause, one thing to do.

Told by the enhanced status (RFC 3463, RFC 5248) and, where a server gave none that says more than its code
does, by the stage of the dialogue. The server's own words stand beside it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Advice", "advice"]

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000

_CHECK_ADDRESS: Final = "Check the address for typing errors, then send the message again."
_CHECK_DOMAIN: Final = "Check what stands after the @, then send the message again."
_SMALLER: Final = "Send it again with smaller attachments, or send a link to them."
_FORWARD: Final = "Forward this report to your mail administrator."
_ANOTHER_WAY: Final = "Reach the recipient in another way."


class Advice(NamedTuple):
    """What to tell.

    Attributes:
        cause: What has happened.
        action: What to do about it.
    """

    cause: str
    action: str


# By subject and detail of the status.
_KNOWN: Final = {
    "1.1": Advice("The receiving server knows no such address.", _CHECK_ADDRESS),
    "1.2": Advice("There is no such domain, or it takes no mail.", _CHECK_DOMAIN),
    "1.3": Advice("The receiving server cannot read the address.", _CHECK_ADDRESS),
    "1.6": Advice("The mailbox has moved.", "Ask the recipient for the new address."),
    "1.10": Advice("The domain takes no mail.", _CHECK_DOMAIN),
    "2.1": Advice("The mailbox is disabled.", _ANOTHER_WAY),
    "2.2": Advice(
        "The mailbox is full.", "Tell the recipient, and send the message again when there is room."
    ),
    "2.3": Advice("The message is larger than the mailbox takes.", _SMALLER),
    "3.4": Advice("The message is larger than the receiving server takes.", _SMALLER),
    "4.4": Advice("No server is known that takes mail for this address.", _CHECK_DOMAIN),
    "4.6": Advice("The message goes round in circles between servers.", _FORWARD),
    "5.3": Advice("The message has too many recipients.", "Send it again to fewer recipients at a time."),
    "6.3": Advice(
        "The message has characters that the receiving server does not take.",
        "Send it again with an encoding for seven-bit mail, which most mail programs offer.",
    ),
    "6.7": Advice("The address has characters that the receiving server does not take.", _CHECK_ADDRESS),
}
_POLICY: Final = Advice("The rules of the receiving server forbid the message.", _FORWARD)
_REFUSED: Final = {
    "mail": Advice("The receiving server takes no mail from your address.", _FORWARD),
    "rcpt": Advice("The receiving server takes no mail for the address.", _CHECK_ADDRESS),
}
_REMOVED: Final = Advice(
    "An administrator removed the message before it was delivered.",
    "Ask the administrator of this mail system.",
)
_OTHER: Final = Advice("The receiving server refused the message for good.", _FORWARD)
_UNANSWERED: Final = Advice(
    "The receiving server never said whether it took the message.",
    "Ask the recipient whether it is there before you send it again.",
)
_LATER: Final = "Send it again later, or reach the recipient in another way."


def advice(*, state: str, stage: str, has_reply: bool, enhanced: str, waited_ms: int) -> Advice:
    """Return what to tell of a failed, expired or removed recipient.

    Args:
        state: `failed`, `expired` or `removed`.
        stage: Where it was decided.
        has_reply: Whether a server's reply decided, not its silence or we.
        enhanced: The enhanced status that it was decided by.
        waited_ms: How long the message was tried, milliseconds.
    """
    if state == "removed":
        return _REMOVED
    subject_and_detail = enhanced.partition(".")[2]
    known = _KNOWN.get(subject_and_detail)
    if state == "expired":
        if stage == "dot" and not has_reply:
            known = _UNANSWERED
        cause = f"It was tried for {_duration(waited_ms)} without success."
        return Advice(f"{cause} {known.cause}", known.action) if known else Advice(cause, _LATER)
    if known is not None:
        return known
    if subject_and_detail.startswith("7."):
        return _POLICY
    return _REFUSED.get(stage, _OTHER)


def _duration(ms: int) -> str:
    """Say how long something took, in the largest unit of which there is more than one.

    >>> _duration(4 * 86_400_000), _duration(86_400_000), _duration(90_000)
    ('4 days', '24 hours', '90 seconds')
    """
    for unit_ms, name in ((_DAY_MS, "days"), (_HOUR_MS, "hours"), (_MINUTE_MS, "minutes")):
        if ms >= 2 * unit_ms:
            return f"{ms // unit_ms} {name}"
    return f"{max(ms, 0) // 1000} seconds"
