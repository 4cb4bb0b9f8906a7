"""A deliverer between a core that writes down what it is told, and a peer that tests play."""

from __future__ import annotations

import itertools
from typing import Any

from penstock.deliver.addresses import Addresses
from penstock.deliver.deliverer import Deliverer
from penstock.deliver.settings import DeliverSettings, MaildirSettings, SendConnectorSettings, SmartHost
from penstock.errors import DraftRefused
from penstock.queue.entry import Recipient
from penstock.queue.retry import RetrySchedule

NOW_MS = 1_763_951_400_000
DAY_MS = 86_400_000
SCHEDULE = RetrySchedule()
PARAMS = (None, None, False)
RELAY, DROP, UNREACHABLE, OLD, POISON = 1, 2, 3, 4, 5
"""Numbers of the hops: a send connector, a Maildir, none, one that the configuration does not know, and
Poison."""
KEYS = {
    RELAY: ("relay", "smart_host", "relay"),
    DROP: ("ours.example", "maildir", "ours.example"),
    UNREACHABLE: ("", "unreachable", ""),
    OLD: ("gone", "smart_host", "gone"),
    POISON: ("", "poison", "damaged"),
}
HEADER = b"Subject: hello\r\nMessage-ID: <1@a.example>\r\n"
EXTENSIONS = ("mx.example", "PIPELINING", "SIZE 1000", "8BITMIME")


class Fresh:
    """A message that has just become durable."""

    def __init__(self, queue_id: int, sender: str, entries: list[tuple[int, list[Recipient], int, int, int]]):
        self.queue_id = queue_id
        self.lsn = queue_id
        self.sender = sender
        self.received_ms = NOW_MS
        self.size = 100
        self.flags = 0
        self.params: tuple[int | None, str | None, bool] = PARAMS
        self.entries = entries


class Core:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.limits: list[dict[str, int]] = []
        self.dials: list[tuple[int, str, int, str | None]] = []
        self.facts: list[tuple[Any, ...]] = []
        self.appends = 0
        self.requests: dict[int, tuple[Any, ...]] = {}
        self.commits: dict[int, tuple[Any, ...]] = {}
        self.drafts: dict[int, bytes] = {}
        self.refusal = ""
        self.suspended: list[tuple[int, str, str, int]] = []
        self.room = 1 << 30
        self.lsn = 1_000
        self._numbers = itertools.count(1)

    def hop(self, *key: str) -> int:
        return next(number for number, known in KEYS.items() if known == key)

    def client_limits(self, limits: dict[str, int]) -> int:
        self.limits.append(limits)
        return len(self.limits) - 1

    def dial(self, ip: str, port: int, source: str | None, limits: int) -> int:
        conn = 100 + len(self.dials)
        self.dials.append((conn, ip, port, source))
        assert limits < len(self.limits)
        return conn

    def draft(self, size_hint: int) -> int:
        if self.refusal:
            raise DraftRefused(self.refusal)
        draft = 5_000 + next(self._numbers)
        self.drafts[draft] = b""
        assert size_hint > 0
        return draft

    def write_draft(self, draft: int, chunk: bytes) -> bool:
        if len(self.drafts[draft]) + len(chunk) > self.room:
            return False
        self.drafts[draft] += chunk
        return True

    def drop_draft(self, draft: int) -> None:
        del self.drafts[draft]

    def commit(
        self,
        draft: int,
        envelope: tuple[Any, ...],
        prepend: bytes,
        form: str,
        cause: list[tuple[Any, ...]],
        notes: tuple[tuple[str, str], ...],
    ) -> int:
        assert (prepend, form, notes) == (b"", "plain", ())
        ticket = next(self._numbers)
        self.commits[ticket] = draft, envelope, self.drafts.pop(draft), cause
        return ticket

    def append(self, facts: list[tuple[Any, ...]]) -> int:
        assert facts
        self.appends += 1
        self.lsn += len(facts)
        self.facts += facts
        return self.lsn

    def suspended_queues(self) -> list[tuple[int, str, str, int]]:
        return self.suspended

    def request(self, kind: str, *arguments: Any) -> int:
        number = next(self._numbers)
        self.requests[number] = (kind, *arguments)
        return number

    def asked(self, kind: str) -> list[int]:
        """Return the numbers of unanswered requests of a kind."""
        return [number for number, (other, *_) in self.requests.items() if other == kind]


class Route:
    def __init__(self, *hop: str) -> None:
        self.hop = hop[0], hop[1], hop[2]


class Router:
    """Own mail into a Maildir, mail for `nowhere.example` nowhere, all other to the relay."""

    def __init__(self) -> None:
        self.unreachable = {"nowhere.example"}

    def route(self, _address: str, domain: str, /) -> Route:
        if domain == "ours.example":
            return Route(*KEYS[DROP])
        return Route(*KEYS[UNREACHABLE if domain in self.unreachable else RELAY])


class Rig:
    """A deliverer that has started, and everything around it."""

    def __init__(
        self,
        *,
        hosts: tuple[str, ...] = ("192.0.2.1",),
        rows: tuple[tuple[Any, ...], ...] = (),
        started: bool = True,
        **connector: Any,
    ) -> None:
        self.core = Core()
        self.router = Router()
        self.counts: list[tuple[str, ...]] = []
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.now_ms = NOW_MS
        self.turns = itertools.count(2)
        self.actions: list[tuple[Any, ...]] = []
        self.deadline: int | None = None
        self.answers: dict[str, Addresses] = {}
        self.wakes = 0
        self.seen: dict[int, int] = {}
        settings = DeliverSettings(
            fqdn="relay1.ours.example",
            postmaster="postmaster@ours.example",
            connectors=(
                SendConnectorSettings(
                    name="relay", smart_hosts=tuple(SmartHost(host, 25) for host in hosts), **connector
                ),
            ),
            maildirs=(MaildirSettings(domain="ours.example", directory="/drop", deliveries_max=3),),
        )
        self.deliverer = Deliverer(
            self.core,
            settings,
            self.router,
            self.resolve,
            wake=self.wake,
            count=lambda *what: self.counts.append(what),
            journal=lambda event, _now_ms, **fields: self.lines.append((event, fields)),
            format_queue_id=lambda queue_id: f"Q{queue_id}",
            content_flags=lambda content: 16 * (not content.isascii()),
            jitter=lambda: 0.0,
        )
        if started:
            self.start(*rows)

    async def resolve(self, host: str) -> Addresses:
        return self.answers[host]

    def wake(self) -> None:
        self.wakes += 1

    def start(self, *rows: tuple[Any, ...]) -> None:
        self.deliverer.start(self.now_ms)
        self.answer("hops", (self.core.lsn, list(rows)))
        self.turn()
        for number in self.core.asked("expired"):
            self.answer_number(number, (self.core.lsn, True, None, []))

    def accept(
        self, *addresses: str, queue_id: int = 1, hop: int = RELAY, sender: str = "me@a.example"
    ) -> None:
        recipients: list[Recipient] = [(index, address, 0, None) for index, address in enumerate(addresses)]
        entries = [(hop, recipients, 1, self.now_ms, self.now_ms + 2 * DAY_MS)]
        self.deliverer.accepted(Fresh(queue_id, sender, entries))

    def turn(self) -> list[tuple[Any, ...]]:
        """Have a turn; return what was done since the last one, without connection turns."""
        self.deadline = self.deliverer.turn(self.actions, self.now_ms)
        actions, self.actions = self.actions, []
        return [action if action[0] == "drop" else (action[0], action[1], *action[3:]) for action in actions]

    def pass_time(self, ms: int) -> list[tuple[Any, ...]]:
        self.now_ms += ms
        return self.turn()

    # Events.

    def tell(self, kind: str, *rest: Any) -> None:
        getattr(self.deliverer, kind)((kind, *rest), self.actions, self.now_ms)

    def say(self, conn: int, *texts: str | tuple[str, ...]) -> None:
        """Have the peer answer: "250 2.1.0 ok", or the lines of an answer to EHLO."""
        replies: list[tuple[int, str | None, tuple[str, ...]]] = []
        for text in texts:
            if isinstance(text, tuple):
                replies.append((250, None, text))
                continue
            code, _, rest = text.partition(" ")
            status, _, words = rest.partition(" ")
            enhanced = status.count(".") == 2
            replies.append((int(code), status if enhanced else None, (words if enhanced else rest,)))
        first = self.seen.get(conn, 0)
        self.seen[conn] = first + len(replies)
        self.tell("replies", conn, next(self.turns), first, replies)

    def greet(self, conn: int, *extensions: str) -> None:
        """Have a connection come up and the peer greet us."""
        self.tell("connected", conn, 1, "192.0.2.9")
        self.say(conn, "220 mx.example")
        self.say(conn, extensions or EXTENSIONS)

    def take(self, conn: int, text: str = "250 2.6.0 queued") -> None:
        """Have the peer take a message."""
        self.say(conn, "250 ok", "250 ok", "354 go")
        self.say(conn, text)

    def close(self, conn: int, reason: str = "peer", content: str = "none", seen: int | None = None) -> None:
        self.tell("client_closed", conn, reason, self.seen.get(conn, 0) if seen is None else seen, content)

    def answer(self, kind: str, payload: Any) -> tuple[Any, ...]:
        """Answer the only open request of a kind; return its arguments."""
        (number,) = self.core.asked(kind)
        return self.answer_number(number, payload)

    def answer_number(self, number: int, payload: Any) -> tuple[Any, ...]:
        _, *arguments = self.core.requests.pop(number)
        assert self.deliverer.answer(("answer", number, payload), self.actions, self.now_ms)
        return tuple(arguments)

    def refill(
        self, *rows: tuple[Any, ...], complete: bool = True, next_due_ms: int | None = None
    ) -> tuple[Any, ...]:
        return self.answer("refill", (self.core.lsn, complete, next_due_ms, list(rows)))

    def settled(self) -> list[tuple[Any, ...]]:
        """Return the outcomes that were written, as (queue id, attempt, due, states)."""
        return [
            (fact[1], fact[3], fact[4], tuple(outcome[2] for outcome in fact[5]))
            for fact in self.core.facts
            if fact[0] == "settled"
        ]

    def hop_facts(self) -> list[tuple[Any, ...]]:
        return [fact for fact in self.core.facts if fact[0] == "hop"]


def row(
    queue_id: int,
    *addresses: str,
    hop: int = RELAY,
    attempts: int = 0,
    expires_ms: int = NOW_MS + 2 * DAY_MS,
    sender: str = "me@a.example",
) -> tuple[Any, ...]:
    """Return an entry as the index tells it."""
    recipients = [(index, address, 0, None) for index, address in enumerate(addresses or ("you@b.example",))]
    return (
        *(queue_id, hop, 1, 0, NOW_MS, attempts, expires_ms, NOW_MS, sender, recipients),
        *(100, 0, "wire", "<1@a.example>", PARAMS, False, 1, None),
    )


def hop_row(
    hop: int,
    *,
    count: int = 1,
    state: str = "ready",
    due_ms: int | None = NOW_MS,
    failures: int = 0,
    suspended: int = 0,
) -> tuple[Any, ...]:
    """Return a hop as the index tells it."""
    error, next_retry_ms = ("refused", NOW_MS + DAY_MS) if state == "retry" else ("", 0)
    return (hop, *KEYS[hop], count, 100, NOW_MS, due_ms, state, error, next_retry_ms, failures, suspended)
