"""The engine as far as control sees it: answers that a test has put there."""

from __future__ import annotations

import copy
from typing import Any

from penstock.control.identity import find_queue, split_message
from penstock.control.views import BadCursor
from penstock.errors import NotFound

AT = "2026-11-24T09:24:11.000Z"


def queue_row(number: int = 17, name: str = "m365", **given: Any) -> dict[str, Any]:
    """Return a queue as GET /v1/queues has it."""
    row = {
        "id": number,
        "identity": f"relay1\\{name}",
        "name": name,
        "connector": name,
        "type": "SmartHost",
        "status": "Retry",
        "count": 38,
        "size_bytes": 53_000_000,
        "oldest_at": "2026-11-24T09:12:08.000Z",
        "next_retry_at": "2026-11-24T09:26:00.000Z",
        "retry_count": 5,
        "last_error": "connect: timed out (4.4.1) 198.51.100.7:25",
    }
    return row | given


def message_row(queue_id: str = "0saj3v6580402", queue: str = "m365", **given: Any) -> dict[str, Any]:
    """Return a message as GET /v1/messages has it."""
    row = {
        "queue_id": queue_id,
        "identity": f"relay1\\{queue}\\{queue_id}",
        "queue": queue,
        "status": "Retry",
        "reason": "queue_retry",
        "from": "scan-3f@contoso.example",
        "subject": "Scan 0041",
        "message_id": "<41@scan.contoso.example>",
        "size_bytes": 1_468_006,
        "received_at": "2026-11-24T09:12:08.000Z",
        "expires_at": "2026-11-28T09:12:08.000Z",
        "connector": "devices",
        "peer": "10.20.3.4",
        "parameters": ["BODY=8BITMIME"],
        "changed": ["fixups", "bcc"],
        "attempts": 2,
        "next_try_at": "2026-11-24T09:26:00.000Z",
        "in_doubt": False,
        "last_error": "connect: timed out (4.4.1)",
        "recipients": [{"address": "info@contoso.example", "state": "pending", "reply": None}],
        "recipient_count": 1,
    }
    return row | given


ENTRY_KEYS = (
    *("identity", "queue", "status", "reason", "attempts", "next_try_at", "expires_at", "in_doubt"),
    *("last_error", "recipients", "recipient_count"),
)


class FakeViews:
    """Rows in memory; a cursor is the number of rows before it.

    Attributes:
        failure: Raised by every question while it is set.
    """

    def __init__(self) -> None:
        self.queue_rows = [queue_row()]
        self.message_rows = [message_row()]
        self.ready = True
        self.failure: Exception | None = None
        self.state: dict[str, Any] = {
            "server": "relay1",
            "version": "0.1.0",
            "pid": 812,
            "profile": "relay",
            "generation": 1,
            "state": "ready",
            "at": AT,
            "started_at": "2026-11-24T06:12:11.000Z",
            "listeners": [{"address": "127.0.0.1:2525", "connectors": ["apps"]}],
            "send_connectors": ["m365"],
            "sessions": 3,
            "accepted": 312,
            "delivered": 271,
            "failed": 2,
            "in_doubt": 0,
            "waiting": {
                "messages": 38,
                "queues": 1,
                "oldest_at": "2026-11-24T09:12:08.000Z",
                "ready": 0,
                "active": 0,
                "retry": 38,
                "suspended": 0,
                "unreachable": 0,
            },
            "spool": {
                "path": "/var/lib/penstock/spool",
                "free_bytes": 12 * 1024**3,
                "refuse_mail_below_bytes": 2 * 1024**3,
                "is_failed": False,
            },
            "alarms": [],
        }

    async def status(self) -> dict[str, Any]:
        self._fail()
        return copy.deepcopy(self.state)

    async def queues(self) -> dict[str, Any]:
        self._fail()
        return {"items": self.queue_rows, "complete": True, "snapshot": {"watermark": 9, "at": AT}}

    async def messages(self, *, queue: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
        self._fail()
        rows = self.message_rows
        if queue is not None and queue != "*":
            known = {row["id"]: row["name"] for row in self.queue_rows}
            name = known[find_queue(queue, "relay1", known.items())]
            rows = [row for row in rows if row["queue"] == name]
        if cursor is not None and not cursor.isdecimal():
            raise BadCursor
        begin = int(cursor or 0)
        items = rows[begin : begin + limit]
        more = begin + limit < len(rows)
        return {
            "items": items,
            "next": str(begin + limit) if more else None,
            "complete": True,
            "snapshot": {"watermark": 9, "at": AT},
        }

    async def message(self, identity: str) -> dict[str, Any]:
        self._fail()
        queue, queue_id = split_message(identity, "relay1")
        rows = [
            row
            for row in self.message_rows
            if row["queue_id"] == queue_id and (queue is None or row["queue"] == queue)
        ]
        if not rows:
            raise NotFound(identity)
        detail = {key: value for key, value in rows[0].items() if key not in ENTRY_KEYS}
        detail["entries"] = [{key: row[key] for key in ENTRY_KEYS} for row in rows]
        detail["snapshot"] = {"watermark": 9, "at": AT}
        return detail

    def is_ready(self) -> bool:
        return self.ready

    def metrics(self) -> bytes:
        self._fail()
        return b"# TYPE penstock_up gauge\npenstock_up 1.0\n"

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
