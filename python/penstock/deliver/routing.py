"""Mail whose next hop is not what it was when it was accepted.

At start everything that waits in Unreachable, or for a hop that the configuration does not know any more, is
routed again, page by page. Recipients that have another route now move there, each on its own; the others
stay where they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from penstock.deliver.records import Records
from penstock.deliver.seams import Core, Event, Router
from penstock.queue.entry import Entry, Recipient
from penstock.queue.scheduler import Scheduler

__all__ = ["Routing"]

PAGE: Final = 256


class Routing:
    """Looks at routes again."""

    def __init__(self, core: Core, scheduler: Scheduler, records: Records, router: Router) -> None:
        """Begin with nothing.

        Args:
            core: Has the index.
            scheduler: Is told where entries have gone.
            records: Takes what has moved.
            router: Knows the routes.
        """
        self._core = core
        self._scheduler = scheduler
        self._records = records
        self._router = router
        self._hops: deque[int] = deque()
        self._after: int | None = None
        self._asked: int | None = None
        # What has moved in this turn: to which hop, which message.
        self._moved: list[tuple[int, int]] = []

    def add(self, hop: int) -> None:
        """Have everything that waits for a hop routed again."""
        self._hops.append(hop)

    def turn(self) -> None:
        """Ask for the next page, if there is one."""
        if self._hops and self._asked is None and not self._scheduler.is_stopped:
            self._asked = self._core.request("messages", self._after, PAGE, self._hops[0])

    def answer(self, event: Event, now_ms: int) -> bool:
        """Move what has another route; return whether the request was one of ours."""
        _, number, answer = event
        if number != self._asked:
            return False
        self._asked = None
        if answer is None:
            return True
        _, self._after, rows = answer
        hop = self._hops[0]
        for row in rows:
            self._look(row, hop, now_ms)
        if self._after is None:
            self._hops.popleft()
        return True

    def move(self, entry: Entry, now_ms: int) -> list[Recipient]:
        """Move the recipients of an entry that have another route; return those that stay."""
        to: dict[int, list[int]] = {}
        stay: list[Recipient] = []
        for recipient in entry.recipients:
            hop = self._hop(recipient[1])
            if hop == entry.hop:
                stay.append(recipient)
            else:
                to.setdefault(hop, []).append(recipient[0])
        self._record(entry.queue_id, entry.hop, to, now_ms)
        return stay

    def recorded(self, lsn: int, now_ms: int) -> None:
        """Tell the queues to which entries have moved: the log has it."""
        moved, self._moved = self._moved, []
        for hop, queue_id in moved:
            self._scheduler.joined(hop, queue_id, lsn, now_ms)

    def _look(self, row: Mapping[str, Any], hop: int, now_ms: int) -> None:
        """Route the recipients of a message again that go to a hop."""
        queue = self._scheduler.queue(hop)
        if queue is not None and row["queue_id"] in queue.held:
            return
        to: dict[int, list[int]] = {}
        for entry in row["entries"]:
            if entry["hop"] == hop:
                for index in entry["recipients"]:
                    other = self._hop(row["recipients"][index]["address"])
                    if other != hop:
                        to.setdefault(other, []).append(index)
        self._record(row["queue_id"], hop, to, now_ms)

    def _record(self, queue_id: int, hop: int, to: dict[int, list[int]], now_ms: int) -> None:
        if to:
            self._records.rerouted(queue_id, hop, [(other, indexes, now_ms) for other, indexes in to.items()])
            self._moved += [(other, queue_id) for other in to]

    def _hop(self, address: str) -> int:
        key = self._router.route(address, address.rpartition("@")[2].lower()).hop
        return self._core.hop(*key)
