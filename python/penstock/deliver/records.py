"""Outcomes on their way to the log.

Every attempt ends here, once: `settle` takes one outcome per recipient and turns them into one fact. Facts of
a turn go to the log together. Where a sender is to be told of a failure, the fact waits for the report and
goes with it (see `reports`); until that is durable the entry counts as under way.
"""

from __future__ import annotations

from typing import Final

from penstock.deliver.reports import Reports, Unreported
from penstock.deliver.seams import Core, Fact, Means
from penstock.queue.classify import Outcome, settle
from penstock.queue.dsn import is_owed
from penstock.queue.entry import Entry
from penstock.queue.retry import RetrySchedule
from penstock.queue.scheduler import HopFact, Scheduler

__all__ = ["Records"]

DELIVERED: Final = "delivered"
IN_DOUBT: Final = "in_doubt"
POISON: Final = ("", "poison", "damaged")
"""The hop of what was set aside because its stored content is damaged."""


class Records:
    """What is to be written to the log in this turn."""

    def __init__(
        self,
        core: Core,
        scheduler: Scheduler,
        schedule: RetrySchedule,
        reports: Reports,
        names: dict[int, tuple[str, str]],
        means: Means,
    ) -> None:
        """Begin with nothing.

        Args:
            core: Has the log.
            scheduler: Is told what becomes of entries.
            schedule: The retry intervals.
            reports: Takes what a sender is to be told of.
            names: Connector and destination of each hop that is served, for counters and journal.
            means: Counters, journal, chance.
        """
        self._core = core
        self._scheduler = scheduler
        self._schedule = schedule
        self._reports = reports
        self._names = names
        self._means = means
        self._facts: list[Fact] = []
        # Messages whose stored content cannot be read; few, or the disk is of no use any more.
        self._damaged: set[int] = set()

    def damaged(self, queue_id: int) -> None:
        """Note that the stored content of a message is damaged: no attempt can succeed."""
        self._damaged.add(queue_id)

    def set_aside(self, entry: Entry, now_ms: int, outcomes: list[Outcome] | None = None) -> bool:
        """Set an entry aside as Poison if its content is damaged; return whether it was.

        It is no outcome: nobody is told that the message has failed, and it is not tried again. It waits for
        an operator, who may have the content elsewhere.

        Args:
            entry: One that is under way, and was not delivered.
            now_ms: Current Unix time, milliseconds.
            outcomes: What its attempt came to, if it told.
        """
        if entry.queue_id not in self._damaged:
            return False
        # What is set aside may come back with its content whole, and is judged anew then.
        self._damaged.discard(entry.queue_id)
        if any(outcome[2] in (DELIVERED, IN_DOUBT) for outcome in outcomes or ()):
            # This attempt had the whole content: another reading of it has failed.
            return False
        indexes = [recipient[0] for recipient in entry.recipients]
        self.rerouted(entry.queue_id, entry.hop, [(self._core.hop(*POISON), indexes, now_ms)])
        self._scheduler.settle(entry, None, now_ms=now_ms)
        connector, destination = self._names[entry.hop]
        self._means.journal(
            "POISON",
            now_ms,
            queue_id=self._means.format_queue_id(entry.queue_id),
            connector=connector,
            destination=destination,
            cause="damaged",
        )
        return True

    def settle(
        self,
        entry: Entry,
        outcomes: list[Outcome],
        *,
        peer: str,
        session: str,
        now_ms: int,
        probe_ms: int | None = None,
    ) -> None:
        """Record the end of an attempt.

        Args:
            entry: One that is under way.
            outcomes: One per recipient; not changed any more.
            peer: With whom.
            session: In which session.
            now_ms: Current Unix time, milliseconds.
            probe_ms: When its hop is tried again, if the hop was at fault.
        """
        attempt = entry.attempts + 1
        for outcome in outcomes:
            if outcome[2] != DELIVERED:
                break
        else:
            self._facts.append(("settled", entry.queue_id, entry.hop, attempt, None, outcomes, peer, session))
            self._scheduler.settle(entry, None, now_ms=now_ms)
            return
        if self.set_aside(entry, now_ms, outcomes):
            return
        if any(outcome[2] == IN_DOUBT for outcome in outcomes):
            self._means.count("queue_in_doubt_total", self._names[entry.hop][0])
        again_ms = self._schedule.next_attempt_ms(
            attempts=attempt,
            expires_ms=entry.expires_ms,
            began_ms=entry.began_ms,
            now_ms=now_ms,
            jitter=self._means.jitter(),
            probe_ms=probe_ms,
        )
        outcomes, due_ms, reported = settle(outcomes, again_ms=again_ms)
        fact = ("settled", entry.queue_id, entry.hop, attempt, due_ms, outcomes, peer, session)
        self._write(entry, fact, reported, now_ms)

    def expire(self, entry: Entry, *, stage: str, error: str, now_ms: int) -> None:
        """Record that an entry was given up without an attempt.

        Args:
            entry: One that is under way.
            stage: `queue` if its hop cannot be reached, `route` if there is none.
            error: Why it was not delivered in time.
            now_ms: Current Unix time, milliseconds.
        """
        outcomes: list[Outcome] = [
            (recipient[0], recipient[1], "expired", stage, 0, "4.4.7", error)
            for recipient in entry.recipients
        ]
        fact = ("settled", entry.queue_id, entry.hop, 0, None, outcomes, "", "")
        self._write(entry, fact, outcomes, now_ms)

    def rerouted(self, queue_id: int, hop: int, to: list[tuple[int, list[int], int]]) -> None:
        """Record that recipients of an entry go elsewhere.

        Args:
            queue_id: The message.
            hop: Where they were going.
            to: Hop, recipients by index, due time.
        """
        self._facts.append(("routed", queue_id, hop, to))

    def hop(self, fact: HopFact | None, now_ms: int) -> None:
        """Record the new state of a queue, if it has one."""
        if fact is None:
            return
        self._facts.append(fact)
        _, hop, state, last_error, next_retry_ms, _ = fact
        connector, destination = self._names[hop]
        self._means.journal(
            "QUEUE",
            now_ms,
            connector=connector,
            destination=destination,
            status=state.capitalize(),
            last_error=last_error or None,
            next_retry_ms=next_retry_ms or None,
        )

    def write(self) -> int | None:
        """Hand this turn's facts to the log; return the number of the last one, None if there was none.

        **Durability**: they survive the process; a sync begins within some 10 ms.
        """
        if not self._facts:
            return None
        facts, self._facts = self._facts, []
        lsn = self._core.append(facts)
        self._scheduler.recorded(lsn)
        return lsn

    def _write(self, entry: Entry, fact: Fact, failed: list[Outcome], now_ms: int) -> None:
        """Write a fact, or have it written with the report that is owed for it."""
        sender = entry.message.sender
        notify = {recipient[0]: recipient[2] for recipient in entry.recipients} if failed else {}
        if any(is_owed(sender, notify[outcome[0]]) for outcome in failed):
            self._reports.add(Unreported(entry, fact, failed, now_ms))
            return
        if failed:
            self._means.count("dsn_total", "suppressed")
            reference = self._means.format_queue_id(entry.queue_id)
            self._means.journal("DSN", now_ms, reference=reference, kind="suppressed")
        self._facts.append(fact)
        self._scheduler.settle(entry, fact[4], now_ms=now_ms)
