"""HTTP over a Unix socket, and what its failures mean."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, Final

from penstock.errors import (
    Ambiguous,
    ControlError,
    NotFound,
    ProtocolMismatch,
    Unavailable,
)

__all__ = ["UnixConnection", "read_answer"]

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Far above the largest page: what is longer does not come from a daemon of ours."""
RETRY_S: Final = 5.0


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket; it connects when the first request is made."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: Nobody listens there, or the path cannot be used.
        """
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self.timeout)
            connecting.connect(self._path)
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting


def read_answer(response: http.client.HTTPResponse) -> dict[str, Any]:
    """Return the object that the daemon has answered, reading the response to its end.

    Raises:
        OSError, http.client.HTTPException: The connection broke.
        NotFound, Ambiguous: What was asked for.
        ValueError: The daemon refuses a parameter.
        Unavailable: It cannot answer now.
        ProtocolMismatch: It is another version, or no Penstock at all.
        ControlError: It failed, or refuses us.
    """
    body = response.read(ANSWER_BYTES_MAX + 1)
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    version = response.headers.get("Penstock-Version", "unknown")
    answer = _object(body)
    if answer is None or version == "unknown":
        raise ProtocolMismatch(version)
    if response.status == 200:
        return answer
    raise _error(response.status, answer, version)


def _object(body: bytes) -> dict[str, Any] | None:
    if len(body) > ANSWER_BYTES_MAX:
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _error(status: int, problem: Mapping[str, object], version: str) -> Exception:
    """Return the exception that RFC 9457 problem details stand for."""
    detail = str(problem.get("detail", f"HTTP status {status}"))
    kind = str(problem.get("type", "")).removeprefix("urn:penstock:")
    if kind == "not-found":
        return NotFound(str(problem.get("identity", "")))
    if kind == "ambiguous":
        candidates = problem.get("candidates")
        return Ambiguous([str(each) for each in candidates] if isinstance(candidates, list) else [])
    if status in (404, 405):
        return ProtocolMismatch(version)
    if status == 400:
        return ValueError(detail)
    if status == 503:
        retry_after_s = problem.get("retry_after_s")
        wait_s = float(retry_after_s) if isinstance(retry_after_s, int | float) else RETRY_S
        return Unavailable(wait_s, detail.rstrip("."))
    return ControlError(detail)
