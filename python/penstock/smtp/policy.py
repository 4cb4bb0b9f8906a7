"""What a session asks of whoever decides."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Policy"]


class Policy(Protocol):
    """Who may send what to whom; answers None, or the reply that refuses."""

    def sender(self, address: str, domain: str, /) -> bytes | None:
        """Judge a reverse-path; both are empty for the null reverse-path."""

    def recipient(self, address: str, domain: str, /) -> bytes | None:
        """Judge a forward-path."""
