"""What operators see: the index's rows joined with what is going on in memory, in their words.

Nothing is decided here and nothing is kept. Everything that is stored is asked of the index, so a listing is
exact at its snapshot; what delivery is doing at this moment is asked of delivery.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias

from penstock.control.identity import find_queue, split_message
from penstock.control.views import (
    Alarm,
    BadCursor,
    Entry,
    EntryStatus,
    Listener,
    Message,
    MessageItem,
    QueueItem,
    QueueStatus,
    QueueType,
    Reason,
    Snapshot,
    State,
    Status,
)
from penstock.deliver.views import HopView
from penstock.errors import NotFound
from penstock.smtp.parameters import changed, spoken

__all__ = ["DISK_LOW", "About", "Delivering", "EngineViews", "Now"]

HopRow: TypeAlias = tuple[Any, ...]
MessageRow: TypeAlias = Mapping[str, Any]

RECIPIENTS_LISTED_MAX: Final = 10
"""Recipients of an entry that a listing shows; a detail shows all."""

_TYPES: Final[dict[str, QueueType]] = {
    "smart_host": "SmartHost",
    "maildir": "Maildir",
    "unreachable": "Unreachable",
    "poison": "Poison",
}
UNREACHABLE: Final = "Unreachable"
POISON: Final = "Poison"
_CAUSES: Final = {"damaged": "the stored content is damaged"}
"""Why something was set aside, by the destination of its hop."""
DISK_LOW: Final = "disk_low"
"""Name of the problem that stands while mail is refused for lack of room."""


class Delivering(Protocol):
    """What is asked of delivery."""

    def view(self, hop: int) -> HopView | None:
        """Return what is being done about a next hop; None if nothing is."""

    def is_active(self, queue_id: int, hop: int) -> bool:
        """Return whether an attempt is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What does not change while the engine runs.

    Attributes:
        server: First part of identities.
        version: Version of Penstock.
        profile: Profile of the configuration.
        generation: Its generation.
        started_ms: When the engine was started, Unix milliseconds.
        listeners: Addresses with the connectors behind them.
        send_connectors: Those that are enabled.
        spool: Directory of the spool.
        refuse_mail_below_bytes: Free space under which new mail is refused.
    """

    server: str
    version: str
    profile: str
    generation: int
    started_ms: int
    listeners: tuple[Listener, ...]
    send_connectors: tuple[str, ...]
    spool: str
    refuse_mail_below_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What does change.

    Attributes:
        state: In operators' words.
        sessions: Incoming connections.
        samples: Counters and gauges by name and labels.
        problems: What needs an operator: a short stable name and a sentence each.
    """

    state: State
    sessions: int
    samples: Mapping[tuple[str, tuple[str, ...]], float]
    problems: tuple[tuple[str, str], ...]


class EngineViews:
    """Answers the control API."""

    def __init__(
        self,
        about: About,
        *,
        ask: Callable[..., Awaitable[Any]],
        delivering: Delivering,
        now: Callable[[], Now],
        now_ms: Callable[[], int],
        metrics: Callable[[], bytes],
        format_queue_id: Callable[[int], str],
        parse_queue_id: Callable[[str], int],
    ) -> None:
        """Join the sources.

        Args:
            about: What does not change.
            ask: Asks the index; see `questions`.
            delivering: What is going on in delivery.
            now: What does change.
            now_ms: Unix time in milliseconds.
            metrics: Prometheus' text.
            format_queue_id: Writes a queue id as operators see it.
            parse_queue_id: Reads it; raises ValueError.
        """
        self._about = about
        self._ask = ask
        self._delivering = delivering
        self._now = now
        self._now_ms = now_ms
        self._metrics = metrics
        self._format = format_queue_id
        self._parse = parse_queue_id

    async def status(self) -> Status:
        """Return the state of the whole."""
        rows = (await self._ask("hops"))[1]
        about, now, now_ms = self._about, self._now(), self._now_ms()
        samples = now.samples
        oldest = min((row[6] for row in rows if row[4]), default=None)
        results = {
            result: _total(samples, "delivery_recipients_total", result)
            for result in ("delivered", "failed", "expired")
        }
        return {
            "server": about.server,
            "version": about.version,
            "pid": os.getpid(),
            "profile": about.profile,
            "generation": about.generation,
            "state": now.state,
            "at": _time(now_ms),
            "started_at": _time(about.started_ms),
            "listeners": list(about.listeners),
            "send_connectors": list(about.send_connectors),
            "sessions": now.sessions,
            "accepted": _total(samples, "messages_accepted_total"),
            "delivered": results["delivered"],
            "failed": results["failed"] + results["expired"],
            "in_doubt": _total(samples, "queue_in_doubt_total"),
            "waiting": {
                "messages": sum(row[4] for row in rows),
                "queues": sum(1 for row in rows if row[4]),
                "oldest_at": None if oldest is None else _time(oldest),
                "ready": _total(samples, "queue_messages", "ready"),
                "active": _total(samples, "queue_messages", "active"),
                "retry": _total(samples, "queue_messages", "retry"),
                "suspended": _total(samples, "queue_messages", "suspended"),
                "unreachable": sum(row[4] for row in rows if row[2] == "unreachable"),
            },
            "spool": {
                "path": about.spool,
                "free_bytes": _total(samples, "spool_free_bytes"),
                "refuse_mail_below_bytes": about.refuse_mail_below_bytes,
                "is_failed": bool(_total(samples, "spool_failed")),
            },
            "alarms": [Alarm(name=name, message=message) for name, message in now.problems],
        }

    async def queues(self) -> Mapping[str, Any]:
        """Return all queues that hold something."""
        watermark, rows = await self._ask("hops")
        items = [self._queue(row) for row in rows if row[4]]
        return {"items": items, "complete": True, "snapshot": self._snapshot(watermark)}

    async def messages(self, *, queue: str | None, limit: int, cursor: str | None) -> Mapping[str, Any]:
        """Return a page of messages, one item per message and queue."""
        _, hops = await self._ask("hops")
        hop = None
        if queue is not None and queue != "*":
            hop = find_queue(queue, self._about.server, ((row[0], _name(row)) for row in hops))
        after = None
        if cursor is not None:
            try:
                after = self._parse(cursor)
            except ValueError:
                raise BadCursor(cursor) from None
        watermark, following, rows = await self._ask("messages", after, limit, hop)
        items: list[MessageItem] = []
        by_number = {row[0]: row for row in hops}
        last = None
        for row in rows:
            entries = [entry for entry in row["entries"] if hop is None or entry["hop"] == hop]
            # A message's entries stay on one page; a page is longer than asked for only if one message is.
            if items and len(items) + len(entries) > limit:
                following = last
                break
            last = row["queue_id"]
            message = self._message(row)
            items.extend(
                {**message, **self._entry(row, entry, by_number, RECIPIENTS_LISTED_MAX)} for entry in entries
            )
        return {
            "items": items,
            "next": None if following is None or last is None else self._format(last),
            "complete": True,
            "snapshot": self._snapshot(watermark),
        }

    async def message(self, identity: str) -> Mapping[str, Any]:
        """Return one message, with all its entries or the one that is meant."""
        queue, text = split_message(identity, self._about.server)
        try:
            queue_id = self._parse(text)
        except ValueError:
            raise NotFound(identity) from None
        _, hops = await self._ask("hops")
        watermark, row = await self._ask("message", queue_id)
        if row is None:
            raise NotFound(identity)
        entries = row["entries"]
        if queue is not None:
            hop = find_queue(queue, self._about.server, ((one[0], _name(one)) for one in hops))
            entries = [entry for entry in entries if entry["hop"] == hop]
            if not entries:
                raise NotFound(identity)
        by_number = {one[0]: one for one in hops}
        return {
            **self._message(row),
            "entries": [self._entry(row, entry, by_number, None) for entry in entries],
            "snapshot": self._snapshot(watermark),
        }

    def is_ready(self) -> bool:
        """Return whether mail is taken."""
        now = self._now()
        return now.state == "ready" and not any(name == DISK_LOW for name, _ in now.problems)

    def metrics(self) -> bytes:
        """Return Prometheus' text."""
        return self._metrics()

    def _snapshot(self, watermark: int) -> Snapshot:
        return {"watermark": watermark, "at": _time(self._now_ms())}

    def _queue(self, row: HopRow) -> QueueItem:
        number, connector, kind, _, count, size, oldest_ms, _, _, last_error, next_retry_ms, failures, _ = row
        view = self._delivering.view(number)
        status: QueueStatus = "Ready"
        if kind == "poison":
            status = "Suspended"
        elif view is not None:
            status, failures, last_error = view.status, view.failures, view.last_error
            next_retry_ms = view.next_retry_ms
        name = _name(row)
        return {
            "id": number,
            "identity": f"{self._about.server}\\{name}",
            "name": name,
            "connector": connector if kind in ("smart_host", "domain") else None,
            "type": _TYPES[kind],
            "status": status,
            "count": count,
            "size_bytes": size,
            "oldest_at": _time(oldest_ms) if count else None,
            "next_retry_at": _time(next_retry_ms) if status == "Retry" and next_retry_ms else None,
            "retry_count": failures,
            "last_error": last_error or None,
        }

    def _message(self, row: MessageRow) -> Message:
        return {
            "queue_id": self._format(row["queue_id"]),
            "from": row["sender"],
            "subject": row["subject"] or None,
            "message_id": row["message_id"] or None,
            "size_bytes": row["size"],
            "received_at": _time(row["received_ms"]),
            "connector": row["connector"] or None,
            "peer": row["peer"] or None,
            "parameters": spoken(row["params"]),
            "changed": changed(row["params"]),
        }

    def _entry(
        self, row: MessageRow, entry: Mapping[str, Any], hops: Mapping[int, HopRow], most: int | None
    ) -> Entry:
        hop = entry["hop"]
        name = _name(hops[hop]) if hop in hops else entry["destination"] or UNREACHABLE
        status, reason, next_ms = self._standing(row["queue_id"], entry)
        ours = [row["recipients"][index] for index in entry["recipients"]]
        replies = [_reply(recipient) for recipient in ours]
        view = self._delivering.view(hop)
        last_error = next((reply for reply in replies if reply), None)
        if entry["kind"] == "poison":
            last_error = _CAUSES.get(entry["destination"], entry["destination"])
        elif last_error is None and view is not None and reason == "queue_retry":
            last_error = view.last_error or None
        return {
            "identity": f"{self._about.server}\\{name}\\{self._format(row['queue_id'])}",
            "queue": name,
            "status": status,
            "reason": reason,
            "attempts": entry["attempts"],
            "next_try_at": None if next_ms is None else _time(next_ms),
            "expires_at": _time(entry["expires_ms"]),
            "in_doubt": entry["in_doubt"],
            "last_error": last_error,
            "recipients": [
                {
                    "address": recipient["address"],
                    "state": _STATES.get(recipient["state"], recipient["state"]),
                    "reply": reply,
                }
                for recipient, reply in zip(ours[:most], replies, strict=False)
            ],
            "recipient_count": len(ours),
        }

    def _standing(self, queue_id: int, entry: Mapping[str, Any]) -> tuple[EntryStatus, Reason, int | None]:
        """Return an entry's status, what holds it, and when it is tried next."""
        hop, due_ms = entry["hop"], entry["due_ms"]
        if self._delivering.is_active(queue_id, hop):
            return "Active", "active", None
        if entry["suspended"] is not None:
            return "Suspended", "message_suspended", None
        if entry["kind"] == "unreachable":
            return "Retry", "unreachable", None
        if entry["kind"] == "poison":
            return "Suspended", "poison", None
        view = self._delivering.view(hop)
        if view is not None and view.status == "Suspended":
            return "Suspended", "queue_suspended", None
        if view is not None and view.status == "Retry":
            return "Retry", "queue_retry", view.next_retry_ms
        if due_ms > self._now_ms():
            return "Retry", "in_doubt" if entry["in_doubt"] else "message_retry", due_ms
        is_limited = view is not None and view.is_at_limit
        return "Ready", "limit_connections" if is_limited else "ready", due_ms


_STATES: Final = {"deferred": "pending", "in_doubt": "pending"}


def _name(row: HopRow) -> str:
    """Return a queue's name: its destination, which is the connector for smart hosts."""
    _, connector, kind, destination, *_ = row
    if kind in ("unreachable", "poison"):
        return POISON if kind == "poison" else UNREACHABLE
    return str(connector if kind == "smart_host" else destination)


def _reply(recipient: Mapping[str, Any]) -> str | None:
    """Return a recipient's last reply as one line."""
    if recipient["state"] == "pending":
        return None
    parts: Iterable[str] = (
        str(recipient["code"]) if recipient["code"] else "",
        recipient["enhanced"],
        recipient["text"],
    )
    return " ".join(part for part in parts if part) or None


def _total(samples: Mapping[tuple[str, tuple[str, ...]], float], name: str, label: str | None = None) -> int:
    """Add up a metric over its labels, or over those samples that have one of them."""
    return int(
        sum(
            value
            for (other, labels), value in samples.items()
            if other == name and (label is None or label in labels)
        )
    )


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
