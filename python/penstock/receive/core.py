"""What reception needs of the engine below."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Core"]


class Core(Protocol):
    """What is needed of `_core.Engine`."""

    def apply(self, actions: list[tuple[Any, ...]]) -> None: ...  # noqa: D102
    def draft(self, size_hint: int) -> int: ...  # noqa: D102
    def drop_draft(self, draft: int) -> None: ...  # noqa: D102
    def commit(  # noqa: D102
        self,
        draft: int,
        envelope: tuple[Any, ...],
        prepend: bytes,
        form: Any,
        cause: list[tuple[Any, ...]],
        notes: tuple[tuple[str, str], ...],
    ) -> int: ...
    def hop(self, connector: str, kind: str, destination: str) -> int: ...  # noqa: D102
    def server_limits(  # noqa: D102
        self, limits: dict[str, int], standard: tuple[bytes, bytes, int] | None = None
    ) -> int: ...
    def server_tls(  # noqa: D102
        self,
        certificates: list[tuple[bytes, bytes]],
        *,
        minimum: str,
        client_certificates: str,
        number: int | None = None,
    ) -> int: ...
