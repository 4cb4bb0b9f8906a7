"""Whether new mail is taken, as the last attempt to store some has told, and as resources are short."""

from __future__ import annotations

from penstock.receive.pressure import Pressure
from penstock.smtp import replies

__all__ = ["Room", "Storage"]


class Room:
    """What MAIL and RCPT are told.

    Attributes:
        refusal: The reply to them now, or None.
    """

    __slots__ = ("refusal",)

    def __init__(self) -> None:
        """Begin with room."""
        self.refusal: bytes | None = None


class Storage:
    """What MAIL, RCPT and DATA are told while nothing is taken.

    Attributes:
        servers: What our own servers are told.
        others: What everybody else is told.
    """

    __slots__ = ("_is_poisoned", "_pressure", "_spool", "others", "servers")

    def __init__(self, pressure: Pressure | None = None) -> None:
        """Begin with room.

        Args:
            pressure: Whether resources are short.
        """
        self.servers, self.others = Room(), Room()
        self._pressure = pressure
        # What the spool has said.
        self._spool: bytes | None = None
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
            self._spool = replies.LOCAL_FAILURE
        elif reason in ("disk_full", "full"):
            self._spool = replies.INSUFFICIENT_STORAGE
        self.look()
        return self._spool if self._is_poisoned and self._spool else replies.INSUFFICIENT_STORAGE

    def try_again(self) -> None:
        """Let the next message see whether there is room now."""
        if not self._is_poisoned:
            self._spool = None
            self.look()

    def look(self) -> None:
        """Take note of what is short."""
        pressure = self._pressure
        short = replies.INSUFFICIENT_STORAGE if pressure is not None else None
        self.servers.refusal = self._spool or (short if pressure and pressure.refuses_all else None)
        is_refused = pressure is not None and (pressure.refuses_all or pressure.refuses_others)
        self.others.refusal = self._spool or (short if is_refused else None)
