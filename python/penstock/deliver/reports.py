"""Reports to senders, each stored as one with the outcome that causes it.

For a failed recipient the original's header section is asked for, the report is written and committed with
the fact of the failure as its cause: after a crash there are both or there is neither. Until then the entry
is under way, and nothing of it is lost: what cannot be stored now (a full disk) is tried again. Only the
outcomes are kept meanwhile, not the reports; when too many wait nothing new is begun, so that their number is
bounded by that of the attempts under way.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from penstock.deliver.seams import Core, Event, Fact, HopKey, Means, Router
from penstock.deliver.settings import DeliverSettings
from penstock.errors import DraftRefused
from penstock.queue.classify import Outcome
from penstock.queue.dsn import HEADER_OCTETS_MAX, Failure, Original, Report, Reporter, report
from penstock.queue.entry import Entry, StoredMessage
from penstock.queue.scheduler import Scheduler

__all__ = ["Reports", "Unreported"]

AT_A_TIME_MAX: Final = 32
"""Reports that are being written or committed."""
WAITING_MAX: Final = 256
"""Outcomes without a report at which nothing new is begun."""
AGAIN_MS: Final = 1_000
"""How long to wait when a report could not be stored."""
CHUNK_OCTETS: Final = 64 * 1024
PRIORITY_NORMAL: Final = 1


class Unreported(NamedTuple):
    """An outcome whose report is not durable.

    Attributes:
        entry: Whose.
        fact: The outcome, as it goes to the log.
        failed: The part of it that the sender is to be told of.
        ended_ms: When the attempt ended, Unix milliseconds.
    """

    entry: Entry
    fact: Fact
    failed: list[Outcome]
    ended_ms: int


class Reports:
    """What senders are still to be told."""

    def __init__(
        self,
        core: Core,
        scheduler: Scheduler,
        settings: DeliverSettings,
        router: Router,
        means: Means,
    ) -> None:
        """Begin with nothing.

        Args:
            core: Stores reports.
            scheduler: Is told when an outcome is durable, and takes the report.
            settings: Who reports.
            router: Finds the way to senders.
            means: Counters, journal, what is known of content.
        """
        self._core = core
        self._scheduler = scheduler
        self._reporter = Reporter(fqdn=settings.fqdn, postmaster=settings.postmaster)
        self._expiration_ms = settings.message_expiration_ms
        self._router = router
        self._means = means
        self._waiting: deque[Unreported] = deque()
        self._asked: dict[int, Unreported] = {}
        self._committing: dict[int, tuple[Unreported, Entry, StoredMessage]] = {}
        self._again_ms = 0

    @property
    def pending(self) -> int:
        """How many outcomes wait for their report to be durable."""
        return len(self._waiting) + len(self._asked) + len(self._committing)

    @property
    def have_room(self) -> bool:
        """Whether there is room for outcomes that can as well wait."""
        return self.pending < WAITING_MAX // 2

    def add(self, unreported: Unreported) -> None:
        """Take an outcome that a sender is to be told of."""
        self._waiting.append(unreported)
        if self.pending >= WAITING_MAX:
            self._scheduler.hold(True)

    def turn(self, now_ms: int) -> int | None:
        """Begin with the next reports; return when there is more to do, Unix milliseconds."""
        if not self._waiting:
            return None
        if now_ms < self._again_ms <= now_ms + AGAIN_MS:
            return self._again_ms
        while self._waiting and len(self._asked) + len(self._committing) < AT_A_TIME_MAX:
            unreported = self._waiting.popleft()
            number = self._core.request("header", unreported.entry.queue_id, HEADER_OCTETS_MAX)
            self._asked[number] = unreported
        return None

    def answer(self, event: Event, now_ms: int) -> bool:
        """Write the report whose header section has come; return whether the request was one of ours."""
        _, number, header = event
        unreported = self._asked.pop(number, None)
        if unreported is None:
            return False
        # What cannot be read is reported without.
        made = self.report(unreported, header or b"", now_ms)
        if not self._commit(unreported, made, now_ms):
            self._later(unreported, now_ms)
        return True

    def committed(self, event: Event, now_ms: int) -> bool:
        """Settle what is durable now; return whether the ticket was one of ours."""
        _, ticket, _, lsn = event
        found = self._committing.pop(ticket, None)
        if found is None:
            return False
        (entry, fact, _, _), own, message = found
        self._scheduler.settle(entry, fact[4], now_ms=now_ms, lsn=lsn)
        message.lsn = lsn
        self._scheduler.accept(own)
        if self.have_room:
            self._scheduler.hold(False)
        self._means.count("dsn_total", "failed")
        self._means.journal(
            "DSN",
            now_ms,
            queue_id=self._means.format_queue_id(message.queue_id),
            reference=self._means.format_queue_id(entry.queue_id),
            kind="failed",
        )
        return True

    def commit_failed(self, event: Event, now_ms: int) -> bool:
        """Try a report that was not stored again later; return whether the ticket was one of ours."""
        found = self._committing.pop(event[1], None)
        if found is None:
            return False
        self._later(found[0], now_ms)
        return True

    def _later(self, unreported: Unreported, now_ms: int) -> None:
        self._waiting.append(unreported)
        self._again_ms = now_ms + AGAIN_MS

    def report(self, unreported: Unreported, header: bytes, now_ms: int) -> Report:
        """Write a report that is owed; `header` is the beginning of the message's content."""
        entry, fact, failed, ended_ms = unreported
        recipients = {recipient[0]: recipient for recipient in entry.recipients}
        original = Original(
            queue_id=self._means.format_queue_id(entry.queue_id),
            sender=entry.message.sender,
            received_ms=entry.message.received_ms,
            received_from="",
            header=header,
        )
        failures = []
        for outcome in failed:
            _, _, notify, named = recipients[outcome[0]]
            failures.append(Failure(outcome, notify, named, fact[6], ended_ms if fact[3] else 0))
        made = report(original, failures, reporter=self._reporter, now_ms=now_ms)
        if made is None:
            raise AssertionError("invariant: only what is owed a report is added")
        return made

    def draft(self, made: Report, now_ms: int) -> tuple[Entry, StoredMessage, tuple[Any, ...]] | None:
        """Put a report into a draft, whose number is its queue id; return None if there is no room now."""
        content = made.content
        try:
            draft = self._core.draft(len(content))
        except DraftRefused:
            return None
        for start in range(0, len(content), CHUNK_OCTETS):
            if not self._core.write_draft(draft, content[start : start + CHUNK_OCTETS]):
                self._core.drop_draft(draft)
                return None
        flags = self._means.content_flags(content)
        params = (None, None, False)
        key: HopKey = self._router.route(made.recipient, made.recipient.rpartition("@")[2].lower()).hop
        hop, expires_ms = self._core.hop(*key), now_ms + self._expiration_ms
        envelope = (
            now_ms,
            "",
            params,
            ("", "", "", ""),
            len(content),
            flags,
            made.message_id,
            made.subject,
            [(made.recipient, 0, None)],
            [(hop, [0], PRIORITY_NORMAL, now_ms, expires_ms)],
        )
        message = StoredMessage(draft, 0, "", now_ms, len(content), flags, params)
        return Entry(message, hop, [(0, made.recipient, 0, None)], expires_ms), message, envelope

    def _commit(self, unreported: Unreported, made: Report, now_ms: int) -> bool:
        """Hand a report to the writer; return False if there is no room for it now."""
        drafted = self.draft(made, now_ms)
        if drafted is None:
            return False
        own, message, envelope = drafted
        ticket = self._core.commit(own.queue_id, envelope, b"", "plain", [unreported.fact], ())
        self._committing[ticket] = unreported, own, message
        return True
