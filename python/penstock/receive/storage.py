"""Whether there is room for new mail, as far as the last attempt to store some has told."""

from __future__ import annotations

from penstock.smtp import replies

__all__ = ["Storage"]


class Storage:
    """What MAIL and DATA are told while the spool takes nothing.

    Attributes:
        refusal: The reply to MAIL now, or None.
    """

    __slots__ = ("_is_poisoned", "refusal")

    def __init__(self) -> None:
        """Begin with room."""
        self.refusal: bytes | None = None
        self._is_poisoned = False

    def refused(self, reason: str) -> bytes:
        """Note why the spool did not take a message; return the reply for it.

        Args:
            reason: `disk_full`, `full`, `poisoned`, `budget` or `behind`.
        """
        if reason == "poisoned":
            self._is_poisoned = True
        if self._is_poisoned:
            # Until a restart: after a failed sync nobody knows what the disk has.
            self.refusal = replies.LOCAL_FAILURE
            return replies.LOCAL_FAILURE
        if reason in ("disk_full", "full"):
            self.refusal = replies.INSUFFICIENT_STORAGE
        return replies.INSUFFICIENT_STORAGE

    def try_again(self) -> None:
        """Let the next message see whether there is room now."""
        if not self._is_poisoned:
            self.refusal = None
