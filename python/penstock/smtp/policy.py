"""What a session asks of whoever decides."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Policy"]


class Policy(Protocol):
    """Who may send what to whom.

    Answers None, or the reply that refuses; or nothing (`b""`) if the owner of the session has to find out
    first. `commands` then stops at that command, and is called again with it and those behind it.
    """

    def sender(self, address: str, domain: str, /) -> bytes | None:
        """Judge a reverse-path; both are empty for the null reverse-path."""

    def recipient(self, address: str, domain: str, /) -> bytes | None:
        """Judge a forward-path."""

    def postmaster(self, address: str, domain: str, /) -> bytes | None:
        """Judge the bare `<Postmaster>` (RFC 5321 4.5.1), by the address it stands for."""
