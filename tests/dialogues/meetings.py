"""Random sessions where all that reception can do meets: the driver, and what it has not.

`python -m tests.dialogues.meetings --steps 1000000 --seed 7`. Hooks and logins are answered by chance, soon
or late or never; connectors differ in rights, limits and tolerances, and XCLIENT leads from one to another;
what is short changes all the time, and now and then the service stops. Beside what the driver checks must
hold:

- whoever is accepted for a recipient elsewhere may relay, by his connector or by a login that was answered;
- when everybody has left nobody is counted, nothing is asked, and no draft is left.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from penstock.hooks import Accept, Reject, Reply
from penstock.receive.actions import pending
from penstock.receive.asking import Hooks
from penstock.receive.counts import Sample
from penstock.receive.hooked import Decision
from penstock.receive.rates import MessageRate
from penstock.receive.receiver import Receiver
from penstock.receive.settings import AddressHygiene, ReceiveSettings
from penstock.route.permissions import Right
from penstock.smtp.tables import BETWEEN_TRANSACTIONS
from tests.dialogues.backends import SmartHost, settings
from tests.dialogues.driver import CANARY, LIMITS, Client, Driver, extensions, main
from tests.dialogues.script import Script
from tests.support.groups import ANONYMOUS, RELAY, SERVERS, USERS

USER, LMTP = "127.0.3.1", "127.0.5.1"
LOGIN: Final = b"AUTH PLAIN " + b64encode(b"\0me@contoso.example\0" + CANARY)
PEERS: Final = tuple(f"127.0.{nth}.1" for nth in (1, 1, 2, 3, 3, 4, 5))
ELSEWHERE: Final = "a@far.example"
STORED: Final = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
USERS_LINES: Final = f"me@contoso.example:{STORED}:\ngone@contoso.example:{STORED}:disabled\n"

EVENTS: Final = ("on_connect", "on_auth", "on_mail", "on_rcpt_to", "on_end_of_headers", "on_end_of_data")
REFUSALS: Final = tuple(
    Reject(Reply(code, None, "no " + "x" * length)).octets
    for code, length in ((450, 1), (550, 390), (421, 1))
)
FIELDS: Final = (
    *(b"", b""),
    *(Accept(fields).octets for fields in ([("X-A", "b")], [("Date", "x"), ("X-C", "y" * 900)])),
)
HOP: Final = ("out", "smart_host", "out")

SAID: Final = (
    *(b"XCLIENT ADDR=127.0.%d.%d" % (nth, last) for nth in (1, 2, 3, 4, 5) for last in (1, 9)),
    *(
        b"XCLIENT ADDR=127.0.3.1 LOGIN=me@contoso.example",
        b"XCLIENT ADDR=127.0.3.1 LOGIN=gone@contoso.example",
    ),
    *(
        b"XCLIENT LOGIN=ME@contoso.example HELO=x",
        b"XCLIENT ADDR=IPV6:::ffff:127.0.4.1 HELO=x",
        b"XCLIENT LOGIN=",
    ),
    *(LOGIN, b"AUTH PLAIN =", b"AUTH LOGIN"),
    *(
        b64encode(b"me@contoso.example"),
        b64encode(CANARY),
        b"*",
        b"LHLO x",
        b"LHLO",
        b"XFORWARD SOURCE=LOCAL",
    ),
)
CONTENTS: Final = (
    *(
        b"Bcc: x\r\n y\r\nSubject: z\r\n\r\n",
        b"BCC \t:x\n y\nTo: z\n\n.a\n..b\r\n",
        b".Bcc: x\r\n..y\r\n\r\n",
    ),
    *(b"a\n.b\r\n", b"a\n..\n.\n", b"Resent-bcc:\r\n\ta", b"Date: x\nMessage-ID: <a@b>\n\nx\r\n"),
)


class Chance:
    """Answers questions as chance has it: those of hooks, and those after passwords."""

    def __init__(self, driver: Meetings) -> None:
        self.driver = driver
        self.open: dict[int, Callable[[list[Any]], None]] = {}

    # As `Consulting`.

    async def run(self, _task_status: Any = None) -> None:
        raise AssertionError("nobody runs it")

    def asks(self, event: str) -> bool:
        return event in self.driver.asked

    async def consult(self, *_question: object, **_options: object) -> Decision:
        raise AssertionError("nobody asks hooks")

    def problems(self) -> list[str]:
        return []

    def samples(self) -> Iterator[Sample]:
        return iter(())

    def forget(self, conn: int) -> None:
        self.open.pop(conn, None)

    def put(
        self,
        connection: Any,
        _question: object,
        then: Callable[[Decision, list[Any]], None],
        actions: list[Any],
    ) -> None:
        conn = connection.session.conn
        assert conn not in self.open, "two questions of one connection"
        if self.driver.random.random() < 0.02:
            then(Decision(b"451 4.3.2 Busy\r\n"), actions)
            return
        self.open[conn] = lambda actions: then(self.decision(), actions)
        actions.append(pending(conn, connection.turn))

    def decision(self) -> Decision:
        rng = self.driver.random
        delay_ms = rng.choice((0,) * 9 + (50, 30_000))
        if rng.random() < 0.05:
            return Decision(rng.choice(REFUSALS), delay_ms)
        return Decision(None, delay_ms, rng.choice(FIELDS), rng.choice((None, HOP)))

    # As `Verdicts`.

    def ask(
        self,
        conn: int,
        _question: Callable[[], Awaitable[Any]],
        then: Callable[[Any, list[Any]], None],
        *,
        within_s: float,
    ) -> bool:
        assert conn not in self.open, "two questions of one connection"
        if self.driver.random.random() < 0.05:
            return False
        self.open[conn] = lambda actions: then(self.driver.random.choice((True, True, False, None)), actions)
        return True

    def answer(self) -> None:
        """Answer one question, if there is any."""
        if self.open:
            conn = self.driver.random.choice(list(self.open))
            actions: list[Any] = []
            self.open.pop(conn)(actions)
            self.driver.core.apply(actions)


class Watched:
    """A core that remembers which drafts it has opened, and stores nothing for whom nobody may relay."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.drafts: set[int] = set()
        self.may_relay: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def draft(self, size_hint: int) -> int:
        draft: int = self._core.draft(size_hint)
        self.drafts.add(draft)
        return draft

    def commit(self, draft: int, envelope: Any, *rest: Any) -> int:
        connector, recipients, notes = envelope[3][0], envelope[8], rest[-1]
        if any(address == ELSEWHERE for address, *_ in recipients):
            has_login = any(name == "login" for name, _ in notes)
            assert connector in self.may_relay or (connector == "users" and has_login), connector
        ticket: int = self._core.commit(draft, envelope, *rest)
        return ticket


class Meetings(Driver):
    """The receiving side with all that it can do."""

    peers = PEERS
    others = (*Driver.others, *SAID)
    contents = (*Driver.contents, *CONTENTS)
    added_max = 10_000

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        rng = self.random
        self.asked = frozenset(event for event in EVENTS if rng.random() < 0.7)
        self.core = Watched(self.core)
        self.chance = Chance(self)
        (folder / "users").write_text(USERS_LINES, encoding="ascii")
        (folder / "users").chmod(0o600)
        hooks: Any = Hooks(self.chance, self.core) if self.asked else None  # type: ignore[arg-type]
        self.receiver = Receiver(
            self.core,
            self._settings(folder),
            SmartHost(),
            self.accepted.append,
            self._module.format_queue_id,
            hooks=hooks,
        )
        self.core.may_relay = {
            name
            for name, connector in self.receiver._connectors.items()
            if Right.ACCEPT_ANY_RECIPIENT in connector.settings.rights
        }
        self.receiver._authentication._verdicts = self.chance  # type: ignore[assignment]

    def _settings(self, folder: Path) -> ReceiveSettings:
        given = settings(Script("meetings", settings=LIMITS, extensions=extensions()), folder)
        lan, internet = given.connectors
        trusted = ("127.0.1.0/24", "127.0.3.1")
        made = (
            replace(lan, xclient_ranges=trusted, xforward_ranges=trusted, submission_fixups=True),
            replace(
                internet,
                lenient_syntax=True,
                bare_linefeed="normalise",
                hygiene=AddressHygiene(reserved_top_level=False, single_label=True),
                min_throughput_bytes_s=10,
                min_throughput_grace_ms=5_000,
            ),
            replace(
                internet,
                name="users",
                groups=(USERS,),
                remote_ip_ranges=("127.0.3.0/24",),
                xclient_ranges=trusted,
                mechanisms=("PLAIN", "LOGIN"),
                auth_tarpit_ms=100,
                message_rate=MessageRate(50, 60_000),
                message_rate_source="user",
                lenient_syntax=True,
                bare_linefeed="normalise",
                submission_fixups=True,
            ),
            replace(
                lan,
                name="servers",
                groups=(SERVERS,),
                remote_ip_ranges=("127.0.4.0/24",),
                trusts_peers=True,
                max_message_bytes=2_000,
                max_inbound_connection=2,
            ),
            replace(
                lan,
                name="lmtp",
                groups=(self.random.choice((ANONYMOUS, RELAY)),),
                remote_ip_ranges=("127.0.5.0/24",),
                xforward_ranges=("127.0.5.0/24",),
                is_lmtp=True,
                bare_linefeed="normalise",
            ),
        )
        return replace(given, connectors=made, users_file=str(folder / "users"))

    def step_of(self, client: Client) -> None:
        rng = self.random
        chance = rng.random()
        if chance < 0.002:
            self.press()
        elif chance < 0.0025:
            self.stop()
            return
        super().step_of(client)
        while self.chance.open and rng.random() < 0.8:
            self.chance.answer()
            if rng.random() < 0.9:
                self.rest()
        self.listen_to(client)

    def connect(self) -> Client:
        client = super().connect()
        if client.peer_ip == USER and self.random.random() < 0.9:
            client.queue.append(LOGIN + b"\r\n")
        return client

    def saying(self, client: Client) -> bytes:
        said = super().saying(client)
        is_lmtp = client.peer_ip == LMTP and self.random.random() < 0.98
        if self.random.random() < 0.3:
            said = said.replace(b"<a@fabrikam.example>", b"<%s>" % ELSEWHERE.encode())
        return said.replace(b"EHLO", b"LHLO") if is_lmtp else said

    def press(self) -> None:
        """Have things run short, or not."""
        rng, pressure = self.random, self.receiver._pressure
        pressure.delay_ms = rng.choice((0, 0, 10_000, 55_000))
        pressure.refuses_all = rng.random() < 0.1
        pressure.refuses_others = pressure.refuses_all or rng.random() < 0.2
        self.receiver.press()

    def stop(self) -> None:
        """Have the service stop, and begin again."""
        self.receiver.drain()
        actions: list[Any] = []
        self.receiver.dismiss_idle(actions)
        self.core.apply(actions)
        for _ in range(self.random.randrange(8)):
            client = self.random.choice(self.clients)
            if client.queue:
                client.peer.send(client.queue.pop(0))
            self.chance.answer()
            self.rest()
        for client in self.clients:
            self.listen_to(client)
            self.leave(client)
        self.pass_ms(LIMITS["connection_timeout_ms"])
        assert self.receiver.is_idle
        self.leave_no_trace()
        self.receiver._door.is_draining = False
        self.clients[:] = [self.connect() for _ in self.clients]

    def handle_events(self, now_ms: int) -> bool:
        events = self.core.poll(256)
        actions: list[Any] = []
        for event in events:
            kind = event[0]
            if kind == "content":
                self.core.drafts.add(event[3])
            if kind in ("closed", "committed", "commit_failed"):
                getattr(self.receiver, kind)(event)
            elif kind != "checkpoint":
                getattr(self.receiver, kind)(event, actions, now_ms)
        self.core.apply(actions)
        return bool(events)

    def lines(self) -> Iterable[bytes]:
        if self.random.random() < 0.08:
            yield self.random.choice(SAID) + b"\r\n"
        yield from super().lines()

    def check(self) -> None:
        for connection in self.receiver._connections.values():
            session, settings = connection.session, connection.connector.settings
            assert session.terms.is_lmtp == settings.is_lmtp
            in_transaction = session.state not in BETWEEN_TRANSACTIONS
            assert not (in_transaction and session.terms.requires_authentication and not session.login)
        super().check()

    def leave_no_trace(self) -> None:
        """Check that nothing is left when everybody has left."""
        door, core = self.receiver._door, self.core
        assert not self.chance.open
        assert not door._admission._of_source
        assert not any(door._admission._of_connector.values())
        assert all(counts.sessions == 0 for counts in door.counts())
        assert not self.receiver._refused
        assert not self.receiver._closed_unseen
        assert not self.receiver._committing
        reader = core.draft_reader()
        for draft in core.drafts:
            try:
                reader.read(draft, 0, 1)
            except LookupError:
                continue
            raise AssertionError(f"draft {draft} is left")
        core.drafts.clear()


if __name__ == "__main__":
    sys.exit(main(Meetings))
