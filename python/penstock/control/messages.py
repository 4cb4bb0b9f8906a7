"""Requests and responses of the control API, and how a request's target is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import trio

__all__ = ["Refused", "Request", "Response", "json_response", "problem", "read_target"]

QUERY_FIELDS_MAX: Final = 16
ROWS_PER_TURN: Final = 100
"""Rows encoded before others get a turn of the loop: some 0.5 ms."""

_PERCENT_NOT_HEX: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Refused(Exception):
    """A request is answered with a problem.

    Attributes:
        response: The answer.
    """

    def __init__(self, status: int, kind: str, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.response = problem(status, kind, detail, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked.

    Attributes:
        method: `GET`, `HEAD`, or whatever else the peer has sent.
        path: Segments, decoded; () for `/`.
        query: Parameters, decoded.
        host: Authority from the target or `Host`, or None.
        origin: `Origin`, or None.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is answered."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def read_target(target: str) -> tuple[str | None, tuple[str, ...], dict[str, str]]:
    """Return authority if there is one, path and query of a request's target.

    A separator inside a segment comes as %2F or %5C, so decoding follows splitting and happens once.

    Raises:
        Refused: It cannot be read in exactly one way.
    """
    authority = None
    if target[:7].lower() == "http://":
        authority, slash, rest = target[7:].partition("/")
        target = slash + rest
    if not target.startswith("/") or "#" in target or _PERCENT_NOT_HEX.search(target):
        raise Refused(400, "bad-target", "The request's target cannot be read.")
    raw_path, _, raw_query = target.partition("?")
    try:
        path = tuple(unquote(segment, errors="strict") for segment in raw_path[1:].split("/"))
        pairs = parse_qsl(
            raw_query,
            keep_blank_values=True,
            strict_parsing=bool(raw_query),
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError:
        raise Refused(400, "bad-target", "The request's target cannot be read.") from None
    query = dict(pairs)
    if len(query) < len(pairs):
        raise Refused(400, "bad-parameter", "A parameter is given twice.")
    if not all(text.isprintable() for text in (*path, *query, *query.values())):
        raise Refused(400, "bad-target", "The request's target has characters that cannot be printed.")
    return authority, (() if path == ("",) else path), query


async def json_response(value: Mapping[str, Any], status: int = 200) -> Response:
    """Return an object as JSON; a long list of `items` is encoded in several turns of the loop."""
    items = value.get("items")
    if not isinstance(items, list) or len(items) <= ROWS_PER_TURN:
        return Response(status=status, content_type="application/json", body=_encode(value))
    rows = []
    for begin in range(0, len(items), ROWS_PER_TURN):
        rows.append(_encode(items[begin : begin + ROWS_PER_TURN])[1:-2])
        await trio.lowlevel.checkpoint()
    rest = _encode({key: other for key, other in value.items() if key != "items"})
    body = b'{"items":[%b]%b%b' % (b",".join(rows), b"," if len(value) > 1 else b"", rest[1:])
    return Response(status=status, content_type="application/json", body=body)


def problem(status: int, kind: str, detail: str, **fields: Any) -> Response:
    """Return an error as RFC 9457 problem details.

    Args:
        status: HTTP's status code.
        kind: Last part of `type`, `urn:penstock:KIND`.
        detail: One sentence for people.
        **fields: Extension members; `retry_after_s` becomes Retry-After as well.
    """
    members = {
        "type": f"urn:penstock:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **fields,
    }
    retry_after_s = fields.get("retry_after_s")
    return Response(
        status=status,
        content_type="application/problem+json",
        body=_encode(members),
        headers=() if retry_after_s is None else (("Retry-After", str(max(1, round(retry_after_s)))),),
    )


def _encode(value: Any) -> bytes:
    """Return ASCII, so that nothing in it steers a terminal, and a line feed for those who read it there."""
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
