"""Exceptions without the nursery that they came through."""

from __future__ import annotations

import trio

__all__ = ["bare"]


def bare(group: BaseExceptionGroup[BaseException], from_body: BaseException | None) -> BaseException:
    """Return what the caller is to see: its own exception, or the only one there is, without the nursery."""
    if from_body is not None and not isinstance(from_body, trio.Cancelled):
        return from_body
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
