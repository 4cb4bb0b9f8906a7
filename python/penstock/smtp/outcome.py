"""What a peer's reply, or its silence, means for a recipient. The shapes are those of the boundary."""

from __future__ import annotations

from typing import Final, TypeAlias

__all__ = ["Failure", "Outcome", "Recipient", "Reply", "Verdict", "closing_text", "judge"]

Reply: TypeAlias = tuple[int, "str | None", tuple[str, ...]]
"""Code, enhanced status, lines of text."""
Recipient: TypeAlias = tuple[int, str, int, "str | None"]
"""Index in the message, address, notify bits, original recipient."""
Outcome: TypeAlias = tuple[int, str, str, str, int, str, str]
"""Index and address of the recipient, state, stage, code (0: no reply), enhanced status, text."""
Verdict: TypeAlias = tuple[str, str, int, str, str]
"""An outcome without its recipient: state, stage, code, enhanced status, text."""
Failure: TypeAlias = tuple[str, int, str, str]
"""Why a peer would not have us: stage, code (0: no reply), enhanced status, text."""

TEXT_MAX: Final = 512
"""Characters of a peer's text that are kept."""
STORAGE_EXCEEDED: Final = 552

_DIGITS: Final = "0123456789"
_STATES: Final = {2: "delivered", 4: "deferred", 5: "failed"}
_STATUSES: Final = {2: "2.0.0", 4: "4.0.0", 5: "5.0.0"}

_CLOSING_TEXTS: Final = {
    "peer": "the server closed the connection",
    "reset": "the server reset the connection",
    "idle": "no reply in time",
    "total": "no reply in time",
    "min_rate": "the server took the content too slowly",
    "local": "the connection was closed here",
    "protocol": "the server's reply is no SMTP",
}


def judge(stage: str, reply: Reply) -> Verdict:
    """Return what a reply means for the recipients it concerns.

    The first digit decides (RFC 5321 4.2.1); an enhanced status of another class is not believed.
    """
    code, status, lines = reply
    digit = code // 100
    if status is None or status[:1] != _DIGITS[digit]:
        status = _STATUSES.get(digit, "")
    state = _STATES.get(digit, "deferred")
    if code == STORAGE_EXCEEDED and stage == "rcpt":
        # RFC 5321 4.5.3.1.10: some servers mean 452 "too many recipients" by it.
        state = "deferred"
    text = lines[0] if len(lines) == 1 else " ".join(lines)
    return state, stage, code, status, text[:TEXT_MAX]


def closing_text(reason: str) -> str:
    """Say in words why a connection ended."""
    return _CLOSING_TEXTS.get(reason, "the connection broke")
