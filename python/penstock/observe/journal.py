"""The journal's cold lines: what happens too seldom to be written in Rust.

One JSON object per line, the same shape as Rust's: `at` (RFC 3339, UTC, milliseconds), `event`, then
fields. Texts are printable ASCII with escapes, so that nothing a peer sent can forge a line or steer a
terminal. The names of events are a closed set, documented with their fields in docs/journal.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["EVENTS", "Journal", "line"]

EDITS = frozenset({"SUSPEND", "RESUME", "REMOVE", "REDIRECT", "EXPIRE", "PRIORITISE", "RETRY"})
"""What operators do."""
EVENTS = EDITS | {
    *("START", "STOP", "QUEUE", "INDOUBT", "DSN", "HOOK", "POISON", "PRESSURE", "PROXY", "XCLIENT")
}


class Journal:
    """Writes lines through a function that takes text, such as the core's `log`."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def event(self, event: str, now_ms: int, /, **fields: str | int | None) -> None:
        """Write one event; fields that are None are left out.

        Raises:
            ValueError: The event is not one of EVENTS (caller bug).
        """
        if event not in EVENTS:
            raise ValueError(f"not a journal event: {event}")
        self._write(line(event, now_ms, **fields))


def line(event: str, now_ms: int, **fields: str | int | None) -> str:
    """Return one line with its line feed."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    given = {key: value for key, value in fields.items() if value is not None}
    text = json.dumps({"at": at.replace("+00:00", "Z"), "event": event, **given}, separators=(",", ":"))
    # The one control character that JSON allows as it is.
    return text.replace("\x7f", "\\u007f") + "\n"
