"""What operators see of delivery, in their words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from penstock.queue.delivery_queue import DeliveryQueue

__all__ = ["HopView", "QueueStatus", "samples", "view"]

QueueStatus: TypeAlias = Literal["Active", "Connecting", "Ready", "Retry", "Suspended"]
Sample: TypeAlias = tuple[str, tuple[str, ...], float]

STATUSES: Final[tuple[QueueStatus, ...]] = ("Active", "Connecting", "Ready", "Retry", "Suspended")
_HELD_UP: Final = {"Retry": "retry", "Suspended": "suspended"}
"""What all entries of a queue are in because the queue is."""
_MESSAGES: Final = (
    *(("delivery", status) for status in ("active", "ready", "retry", "suspended")),
    ("unreachable", "retry"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HopView:
    """What delivery is doing about a next hop.

    Attributes:
        status: In operators' words.
        connections: Connections, whatever they do.
        next_retry_ms: When it is tried again, Unix milliseconds; None unless it is in Retry.
        failures: Tries that failed in a row.
        last_error: Why the last one failed; empty if none did.
        is_at_limit: Whether it has as many connections as it may have.
    """

    status: QueueStatus
    connections: int
    next_retry_ms: int | None
    failures: int
    last_error: str
    is_at_limit: bool


def view(queue: DeliveryQueue) -> HopView:
    """Return what is being done about a queue's hop."""
    return HopView(
        status=_status(queue),
        connections=queue.connections,
        next_retry_ms=queue.next_retry_ms,
        failures=queue.failures,
        last_error=queue.last_error,
        is_at_limit=queue.is_served and queue.connections >= queue.slots_max,
    )


def samples(queues: Iterable[DeliveryQueue], connections: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
    """Yield gauges.

    Args:
        queues: All queues.
        connections: Connections by connector and state.
    """
    statuses = Counter(dict.fromkeys(STATUSES, 0))
    messages = Counter(dict.fromkeys(_MESSAGES, 0))
    for queue in queues:
        if not queue.is_served:
            messages["unreachable", "retry"] += queue.count
            continue
        status = _status(queue)
        if queue.count:
            statuses[status] += 1
        active = min(queue.under_way, queue.count)
        messages["delivery", "active"] += active
        waiting = queue.count - active
        suspended = min(queue.suspended, waiting)
        messages["delivery", "suspended"] += suspended
        waiting -= suspended
        if status in _HELD_UP:
            messages["delivery", _HELD_UP[status]] += waiting
            continue
        # What is neither in memory nor due in the index has been put off.
        ready = waiting if queue.has_more else min(len(queue.ready), waiting)
        messages["delivery", "ready"] += ready
        messages["delivery", "retry"] += waiting - ready
    for known, number in statuses.items():
        yield "queues", (known.lower(),), float(number)
    for labels, number in messages.items():
        yield "queue_messages", labels, float(number)
    for labels, number in connections.items():
        yield "delivery_connections", labels, float(number)


def _status(queue: DeliveryQueue) -> QueueStatus:
    if queue.is_suspended:
        return "Suspended"
    if queue.next_retry_ms is not None:
        return "Retry"
    if not queue.is_served:
        return "Ready"
    if queue.under_way:
        return "Active"
    return "Connecting" if queue.opening and not queue.up else "Ready"
