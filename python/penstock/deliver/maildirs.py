"""Delivery into Maildirs: Rust writes, off the reactors; what its end means is decided here.

A Maildir that cannot be written concerns everything that waits for it. But a message of ours that cannot be
read any more would stop all others if it were taken for that: so the hop is at fault only if nothing was
delivered since the delivery began, and the message waits as well, longer each time.
"""

from __future__ import annotations

from typing import Final

from penstock.deliver.records import Records
from penstock.deliver.seams import Action, Event
from penstock.deliver.settings import MaildirSettings
from penstock.queue.classify import Outcome
from penstock.queue.delivery_queue import DeliveryQueue
from penstock.queue.entry import Entry
from penstock.queue.scheduler import Scheduler

__all__ = ["Maildir", "Maildirs"]

NOT_WRITTEN: Final = "the mailbox could not be written"


class Maildir:
    """The Maildir of an accepted domain."""

    __slots__ = ("delivered", "queue", "settings", "under_way")

    def __init__(self, settings: MaildirSettings, queue: DeliveryQueue) -> None:
        """Begin with nothing under way.

        Args:
            settings: Where it is.
            queue: What waits for it.
        """
        self.settings = settings
        self.queue = queue
        self.under_way = 0
        self.delivered = 0


class Maildirs:
    """All deliveries into Maildirs."""

    def __init__(self, scheduler: Scheduler, records: Records) -> None:
        """Begin with nothing under way.

        Args:
            scheduler: Chooses.
            records: Takes outcomes.
        """
        self._scheduler = scheduler
        self._records = records
        self._requests = 0
        # By request: the Maildir, the entry, how much had been delivered there when it began.
        self._under_way: dict[int, tuple[Maildir, Entry, int]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no delivery is under way."""
        return not self._under_way

    def act(self, maildir: Maildir, actions: list[Action], now_ms: int) -> None:
        """Begin as many deliveries as may be under way; one, if the last one failed."""
        queue = maildir.queue
        most = 1 if queue.failures else maildir.settings.deliveries_max
        while maildir.under_way < most:
            entry = self._scheduler.begin(queue, now_ms)
            if entry is None:
                return
            self._requests += 1
            maildir.under_way += 1
            self._under_way[self._requests] = maildir, entry, maildir.delivered
            # RFC 5321 4.4: final delivery adds the reverse-path.
            prepend = f"Return-Path: <{entry.message.sender}>\r\n".encode("ascii", "replace")
            actions.append(
                (
                    "drop",
                    self._requests,
                    entry.queue_id,
                    entry.hop,
                    entry.attempts + 1,
                    maildir.settings.directory,
                    prepend,
                )
            )

    def dropped(self, event: Event, now_ms: int) -> None:
        """Record the end of a delivery."""
        _, request, is_delivered, detail = event
        maildir, entry, delivered = self._under_way.pop(request)
        queue = maildir.queue
        maildir.under_way -= 1
        self._scheduler.activate(queue)
        if is_delivered:
            maildir.delivered += 1
            if queue.failures:
                self._records.hop(self._scheduler.succeeded(queue), now_ms)
            state, status, text = "delivered", "2.0.0", ""
        elif self._records.set_aside(entry, now_ms):
            return
        else:
            if maildir.delivered == delivered:
                queue.began_ms = entry.began_ms
                fact = self._scheduler.failed(queue, detail, is_exhausted=True, now_ms=now_ms)
                self._records.hop(fact, now_ms)
            # What was wrong with which file is the queue's last error; the sender is not to read it.
            state, status, text = "deferred", "4.3.0", NOT_WRITTEN
        outcomes: list[Outcome] = [
            (recipient[0], recipient[1], state, "file", 0, status, text) for recipient in entry.recipients
        ]
        self._records.settle(
            entry,
            outcomes,
            peer="",
            session="",
            now_ms=now_ms,
            probe_ms=queue.next_retry_ms,
        )
