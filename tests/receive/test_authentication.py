from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from penstock.receive import authentication
from penstock.receive.authentication import Authentication
from penstock.receive.connections import Connection, Connector
from penstock.receive.passwords import hashed
from penstock.receive.rates import MessageRate
from penstock.receive.relay import AcceptedDomains
from penstock.receive.settings import ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.storage import Storage
from penstock.receive.user_edits import change
from penstock.receive.users import User
from penstock.receive.verdicts import Verdicts
from penstock.smtp import replies
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS
from tests.smtp.test_server_session import EHLO
from tests.support.groups import ANONYMOUS, USERS

NOW_MS = 1_763_951_400_000
RIGHT = b"\0erp\0open sesame"
STORED = hashed("open sesame")


class Rig:
    """Sessions, users, and a count of verifications."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "users"
        self.path.touch(0o600)
        self.put(User(name="erp", stored=STORED))
        self.put(User(name="ups", stored=STORED, is_disabled=True))
        self.connections: dict[int, Connection] = {}
        self.applied: list[tuple[Any, ...]] = []
        self.verified: list[tuple[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.verdicts = Verdicts(self.applied.extend, **options)
        self.authentication = Authentication(str(self.path), self.verdicts, cores=2, matches=self.matches)

    def put(self, user: User) -> None:
        change(self.path, user.name, lambda _: user)

    def matches(self, stored: str, password: str) -> bool:
        self.gate.wait(20)
        self.verified.append((stored, password))
        return stored == STORED and password == "open sesame"

    def session(self, conn: int = 1, **changed: Any) -> ServerSession:
        usual: dict[str, Any] = {"groups": (ANONYMOUS, USERS), "auth_tarpit_ms": 0}
        settings = ReceiveConnectorSettings(
            name="apps",
            listeners=(1,),
            remote_ip_ranges=("10.0.0.0/8",),
            mechanisms=("PLAIN", "LOGIN"),
            **(usual | changed),
        )
        server = ReceiveSettings(
            fqdn="relay1.contoso.example", default_domain="", accepted_domains=(), connectors=(settings,)
        )
        connector = Connector(settings, server, AcceptedDomains(()), Storage(), 0, None, GRANTS)
        return self.connect(conn, connector)

    def connect(self, conn: int, connector: Connector) -> ServerSession:
        connection = self.connections[conn] = Connection(conn, connector, "10.0.0.1", "1")
        connection.session.commands(1, [EHLO], False, [])
        return connection.session

    def auth(self, server: ServerSession, response: bytes, now_ms: int = NOW_MS) -> list[tuple[Any, ...]]:
        actions: list[tuple[Any, ...]] = []
        assert server.commands(2, [("AUTH", "PLAIN", response)], False, actions) == "AUTH"
        self.authentication.began(self.connections[server.conn], 2, response, False, actions, now_ms)
        return actions

    async def replies(self, count: int = 1) -> list[bytes]:
        with trio.fail_after(20):
            while len(self.applied) < count:  # noqa: ASYNC110
                await trio.sleep(0.001)
        said = [action[3] for action in self.applied]
        self.applied.clear()
        return said


@pytest.fixture
async def rig(tmp_path: Path, nursery: trio.Nursery) -> Rig:
    rig = Rig(tmp_path)
    await nursery.start(rig.verdicts.run)
    return rig


async def test_a_right_password_is_taken_after_it_was_verified(rig: Rig) -> None:
    server = rig.session()
    assert rig.auth(server, RIGHT) == []
    assert server.login == ""
    assert await rig.replies() == [replies.AUTHENTICATED]
    assert server.login == "erp"


@pytest.mark.parametrize(
    "response",
    [b"\0erp\0open sesamf", b"\0nobody\0open sesame", b"\0ups\0open sesame", b"\0UPS\0wrong"],
)
async def test_every_failure_costs_one_verification_and_sounds_alike(rig: Rig, response: bytes) -> None:
    server = rig.session()
    assert rig.auth(server, response) == []
    assert await rig.replies() == [replies.AUTHENTICATION_FAILED]
    assert len(rig.verified) == 1
    assert len(rig.verified[0][0]) == len(STORED)
    assert server.login == ""


async def test_case_means_nothing_in_a_name(rig: Rig) -> None:
    server = rig.session()
    rig.auth(server, b"\0ERP\0open sesame")
    assert await rig.replies() == [replies.AUTHENTICATED]
    assert server.login == "erp"


async def test_a_password_that_was_right_a_moment_ago_is_recognised(rig: Rig) -> None:
    rig.auth(rig.session(), RIGHT)
    await rig.replies()
    for now_ms in (NOW_MS, NOW_MS + authentication.RECENT_MS - 1):
        server = rig.session()
        assert [action[3] for action in rig.auth(server, RIGHT, now_ms)] == [replies.AUTHENTICATED]
        assert server.login == "erp"
    assert len(rig.verified) == 1
    for now_ms in (NOW_MS + authentication.RECENT_MS, NOW_MS - 1_000):
        assert rig.auth(rig.session(), RIGHT, now_ms) == []
        assert await rig.replies() == [replies.AUTHENTICATED]
    assert len(rig.verified) == 3


async def test_a_wrong_password_is_verified_each_time(rig: Rig) -> None:
    rig.auth(rig.session(), RIGHT)
    await rig.replies()
    for _ in range(2):
        assert rig.auth(rig.session(), b"\0erp\0open sesamf") == []
        assert await rig.replies() == [replies.AUTHENTICATION_FAILED]
    assert len(rig.verified) == 3


@pytest.mark.parametrize(
    "changed",
    [
        User(name="erp", stored=hashed("another one")),
        User(name="erp", stored=STORED, is_disabled=True),
        User(name="erp", stored=STORED, created="2026-11-24"),
    ],
)
async def test_a_change_of_a_users_line_ends_what_was_recognised(rig: Rig, changed: User) -> None:
    rig.auth(rig.session(), RIGHT)
    await rig.replies()
    rig.put(changed)
    rig.authentication.refresh()
    assert rig.auth(rig.session(), RIGHT) == []
    is_right = changed.stored == STORED and not changed.is_disabled
    assert await rig.replies() == [replies.AUTHENTICATED if is_right else replies.AUTHENTICATION_FAILED]


async def test_a_user_who_changes_during_the_verification_is_refused(rig: Rig) -> None:
    rig.gate.clear()
    rig.auth(rig.session(), RIGHT)
    rig.put(User(name="erp", stored=STORED, is_disabled=True))
    rig.authentication.refresh()
    rig.gate.set()
    assert await rig.replies() == [replies.AUTHENTICATION_FAILED]


async def test_what_is_recognised_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "RECENT_MAX", 2)
    for name in ("a", "b", "c"):
        rig.put(User(name=name, stored=STORED))
    rig.authentication.refresh()
    for name in (b"a", b"b", b"c"):
        rig.auth(rig.session(), b"\0" + name + b"\0open sesame")
        await rig.replies()
    assert rig.auth(rig.session(), b"\0c\0open sesame") != []
    assert rig.auth(rig.session(), b"\0a\0open sesame") == []
    await rig.replies()


async def test_beyond_what_may_wait_a_client_is_told_to_come_again(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    rig = Rig(tmp_path, open_max=2)
    await nursery.start(rig.verdicts.run)
    rig.gate.clear()
    answers = [rig.auth(rig.session(conn), RIGHT) for conn in range(3)]
    assert answers[:2] == [[], []]
    assert answers[2][0][3] == replies.AUTHENTICATION_UNAVAILABLE
    rig.gate.set()
    assert await rig.replies(2) == [replies.AUTHENTICATED] * 2


async def test_a_verification_that_takes_too_long_is_put_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "VERIFY_WITHIN_S", 0.05)
    rig.gate.clear()
    server = rig.session()
    rig.auth(server, RIGHT)
    assert await rig.replies() == [replies.AUTHENTICATION_UNAVAILABLE]
    rig.gate.set()
    assert (server.login, server.logon_failures) == ("", 0)


async def test_a_session_that_was_told_to_leave_is_told_nothing_more(rig: Rig) -> None:
    rig.gate.clear()
    server = rig.session()
    rig.auth(server, RIGHT)
    actions: list[tuple[Any, ...]] = []
    server.shut_down(2, 0, actions)
    rig.gate.set()
    other = rig.session(2)
    rig.auth(other, RIGHT)
    assert await rig.replies() == [replies.AUTHENTICATED]
    assert (server.login, other.login) == ("", "erp")


async def test_the_loop_goes_on_while_many_are_verified(rig: Rig) -> None:
    rig.gate.clear()
    servers = [rig.session(conn) for conn in range(200)]
    for server in servers:
        assert rig.auth(server, RIGHT) == []
    plain = rig.session(1000)
    actions: list[tuple[Any, ...]] = []
    plain.commands(9, [("NOOP",)], False, actions)
    assert actions[0][3] == replies.NOOP_OK
    assert not rig.applied
    rig.gate.set()
    assert await rig.replies(200) == [replies.AUTHENTICATED] * 200


async def test_login_is_verified_line_by_line(rig: Rig) -> None:
    server = rig.session()
    actions: list[tuple[Any, ...]] = []
    server.commands(2, [("AUTH", "LOGIN", None)], False, actions)
    rig.authentication.began(rig.connections[1], 2, None, False, actions, NOW_MS)
    for turn, response in ((3, b"erp"), (4, b"open sesame")):
        event = ("auth_line", 1, turn, "response", response, False)
        rig.authentication.line(rig.connections[1], event, actions, NOW_MS)
    assert [action[0] for action in actions] == ["challenge", "challenge"]
    assert await rig.replies() == [replies.AUTHENTICATED]


FOREIGN = ("RCPT", "far@elsewhere.test", "elsewhere.test", ())


def told(server: ServerSession, *items: tuple[Any, ...]) -> bytes:
    actions: list[tuple[Any, ...]] = []
    server.commands(9, list(items), False, actions)
    said: bytes = actions[-1][3]
    return said


def mail(address: str) -> tuple[Any, ...]:
    return ("MAIL", address, address.rpartition("@")[2], ())


async def test_a_user_has_the_rights_of_users(rig: Rig) -> None:
    server = rig.session()
    assert told(server, mail("me@x.example"), FOREIGN).endswith(replies.UNABLE_TO_RELAY)
    told(server, ("RSET",))
    rig.auth(server, RIGHT)
    await rig.replies()
    assert told(server, mail("me@x.example"), FOREIGN) == replies.SENDER_OK + replies.RECIPIENT_OK


async def test_where_only_users_may_send_a_login_is_asked_for(rig: Rig) -> None:
    server = rig.session(groups=(USERS,))
    assert told(server, mail("erp@contoso.example")) == replies.AUTHENTICATION_REQUIRED
    rig.put(User(name="erp@contoso.example", stored=STORED))
    rig.authentication.refresh()
    told(server, ("RSET",))
    rig.auth(server, b"\0erp@contoso.example\0open sesame")
    (reply,) = await rig.replies()
    assert reply == replies.AUTHENTICATED
    assert told(server, mail("boss@contoso.example")) == replies.SENDER_NOT_ALLOWED
    told(server, ("RSET",))
    assert told(server, mail("erp@contoso.example"), FOREIGN) == replies.SENDER_OK + replies.RECIPIENT_OK


async def test_messages_of_a_user_are_counted_by_the_login(rig: Rig) -> None:
    rate = {"message_rate": MessageRate(1, 60_000), "message_rate_source": "user"}
    for name in ("a", "b"):
        rig.put(User(name=name, stored=STORED))
    rig.authentication.refresh()
    server = rig.session(**rate)
    sessions = [rig.connect(conn, rig.connections[1].connector) for conn in (2, 3, 4)]
    for session, name in zip(sessions, (b"a", b"a", b"b"), strict=True):
        if not rig.auth(session, b"\0" + name + b"\0open sesame"):
            await rig.replies()
    said = [told(session, mail("me@x.example")) for session in sessions]
    assert said == [replies.SENDER_OK, replies.TOO_MANY_MESSAGES, replies.SENDER_OK]
    assert told(server, mail("me@x.example")) == replies.SENDER_OK, "without a login the address counts"
