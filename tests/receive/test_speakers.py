"""XCLIENT and XFORWARD: who is believed what, and what holds afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.receive.passwords import hashed
from penstock.receive.receiver import Receiver
from penstock.receive.settings import ReceiveConnectorSettings, ReceiveSettings
from penstock.receive.user_edits import change
from penstock.receive.users import User
from penstock.smtp import replies
from tests.receive.test_receiver import ENVELOPE, HELLO, MAIL, Rig, Router, rcpt
from tests.support.groups import ANONYMOUS, RELAY, USERS

STORED = hashed("open sesame")
PROXY_IP = "192.0.2.9"


def xclient(**attributes: str) -> tuple[Any, ...]:
    return "XCLIENT", tuple(attributes.items())


def xforward(**attributes: str) -> tuple[Any, ...]:
    return "XFORWARD", tuple(attributes.items())


class Speaking(Rig):
    """Devices that may relay, strangers, users, and a proxy among the strangers."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        super().__init__(folder)
        users = folder / "users"
        users.touch(0o600)
        change(users, "erp", lambda _: User(name="erp", stored=STORED))
        change(users, "ups", lambda _: User(name="ups", stored=STORED, is_disabled=True))
        usual: dict[str, Any] = {"listeners": (1,), "tarpit_ms": 0}
        trusted = {"xclient_ranges": (PROXY_IP,), "xforward_ranges": (PROXY_IP,)}
        self.journal: list[tuple[str, dict[str, Any]]] = []
        self.receiver = Receiver(
            self.core,
            ReceiveSettings(
                fqdn="relay1.contoso.example",
                default_domain="contoso.example",
                accepted_domains=self.receiver._settings.accepted_domains,
                connectors=(
                    ReceiveConnectorSettings(
                        name="lan",
                        groups=(RELAY,),
                        remote_ip_ranges=("10.0.0.0/8",),
                        max_inbound_connection_per_source=1,
                        **usual,
                    ),
                    ReceiveConnectorSettings(
                        name="mx",
                        groups=(ANONYMOUS,),
                        remote_ip_ranges=("192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32"),
                        max_inbound_connection_per_source=2,
                        **{**usual, **trusted, **changed},
                    ),
                    ReceiveConnectorSettings(
                        name="people",
                        groups=(USERS,),
                        remote_ip_ranges=("198.51.100.0/24",),
                        mechanisms=("PLAIN",),
                        auth_requires_tls=True,
                        **usual,
                    ),
                ),
                users_file=str(users),
                message_expiration_ms=1000,
            ),
            Router(),
            self.accepted.append,
            lambda number: f"q{number}",
            self.pressure,
            lambda event, _at_ms, **fields: self.journal.append((event, fields)),
        )

    def value(self, name: str, *labels: str) -> float:
        samples = {(name, *labels): value for name, labels, value in self.receiver.samples()}
        return samples.get((name, *labels), 0)

    def behind(self, conn: int = 1, **told: str) -> list[tuple[Any, ...]]:
        """Connect the proxy, and have it say whom it speaks for; return the answer to that."""
        self.open(conn, PROXY_IP)
        self.say(conn, HELLO)
        return self.say(conn, [xclient(**told)])


@pytest.fixture
def rig(tmp_path: Path) -> Speaking:
    return Speaking(tmp_path)


def test_only_listed_peers_are_offered_what_they_are_believed(rig: Speaking) -> None:
    rig.open(1, PROXY_IP)
    offer = rig.say(1, HELLO)[0][1]
    assert b"250-XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT\r\n" in offer
    assert b"250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n" in offer
    rig.open(2, "192.0.2.8")
    offer = rig.say(2, HELLO)[0][1]
    assert b"XCLIENT" not in offer
    assert b"XFORWARD" not in offer


@pytest.mark.parametrize(
    "item",
    [
        xclient(ADDR="10.0.0.1"),
        xforward(ADDR="10.0.0.1"),
        ("malformed", "parameter", 3, "XCLIENT"),
        ("malformed", "argument", 8, "XFORWARD"),
    ],
)
def test_from_anybody_else_they_are_wrong_commands(rig: Speaking, item: tuple[Any, ...]) -> None:
    rig.open(1, "192.0.2.8")
    rig.say(1, HELLO)
    session = rig.receiver._connections[1].session
    assert rig.say(1, [item]) == [("reply", replies.NOT_IMPLEMENTED, 1, 0, False, "MAIL")]
    assert session.errors == 1
    # Behind it comes what is none of its business.
    assert rig.say(1, [item], early=True)[0][4] is False


def test_each_is_for_its_own_list(tmp_path: Path) -> None:
    rig = Speaking(tmp_path, xclient_ranges=())
    rig.open(1, PROXY_IP)
    offer = rig.say(1, HELLO)[0][1]
    assert b"XFORWARD" in offer
    assert b"XCLIENT" not in offer
    assert rig.say(1, [xclient(ADDR="10.0.0.1")])[0][1] == replies.NOT_IMPLEMENTED


def test_rights_limits_and_connector_are_those_of_whom_it_speaks_for(rig: Speaking) -> None:
    rig.behind(ADDR="10.0.0.1", NAME="printer.contoso.example", PORT="40000")
    connection = rig.receiver._connections[1]
    assert (connection.connector.settings.name, connection.peer_ip) == ("lan", "10.0.0.1")
    assert rig.say(1, [MAIL])[0][1] == replies.GREET_FIRST
    assert rig.say(1, HELLO)[0][5:] == ("MAIL",)
    actions = rig.say(1, [MAIL, rcpt("else@where.example"), ("DATA",)])
    assert actions[-1][0] == "take"
    rig.content(1)
    _, envelope, prepend, *_ = rig.core.commits[0]
    assert envelope[3][:2] == ("lan", "10.0.0.1")
    assert b"from client.example (printer.contoso.example [10.0.0.1])" in prepend
    assert rig.core.journalled == [{"xclient": PROXY_IP}]
    told = "ADDR=10.0.0.1 NAME=printer.contoso.example PORT=40000"
    session = connection.session_id
    assert rig.journal == [("XCLIENT", {"peer": PROXY_IP, "session": session, "told": told})]
    assert rig.value("receive_sessions", "mx") == 0
    assert rig.value("receive_sessions", "lan") == 1
    rig.receiver.closed(("closed", 1, "peer", None))
    assert rig.value("receive_sessions", "lan") == 0
    assert rig.receiver.connections == 0


def test_the_answer_is_a_banner_with_the_limits_of_the_connector(rig: Speaking) -> None:
    lan = rig.receiver._connectors["lan"]
    assert rig.behind(ADDR="10.0.0.1") == [("restart", lan.limits, lan.terms.banner)]


def test_whoever_is_not_covered_or_one_too_many_is_turned_away(rig: Speaking) -> None:
    for conn, told in enumerate(("8.8.8.8", "[UNAVAILABLE]", "IPV6:2001:db9::1")):
        assert rig.behind(conn, ADDR=told) == [("reply", replies.NO_CONNECTOR, 1, 0, True)]
        rig.receiver.closed(("closed", conn, "local", None))
    assert rig.behind(11, ADDR="10.0.0.1")[0][0] == "restart"
    too_many = rig.behind(12, ADDR="10.0.0.1")
    assert too_many == [("reply", replies.TOO_MANY_CONNECTIONS_FROM_SOURCE, 1, 0, True)]
    rig.receiver.closed(("closed", 12, "local", None))
    rig.receiver.closed(("closed", 11, "peer", None))
    assert rig.receiver.connections == 0
    assert rig.value("receive_refused_total", "lan", "per_source") == 1
    assert rig.behind(13, ADDR="10.0.0.1")[0][0] == "restart"


def test_its_own_place_is_free_for_whom_it_speaks_for(rig: Speaking) -> None:
    rig.open(2, PROXY_IP)
    # Its second connection is the last that the connector takes of it, and speaks for itself.
    assert rig.behind(1, NAME="itself.example")[0][0] == "restart"
    assert rig.receiver.connections == 2


def test_a_transaction_is_in_the_way_and_what_is_wrong_changes_nothing(rig: Speaking) -> None:
    rig.open(1, PROXY_IP)
    rig.say(1, [*HELLO])
    rig.say(1, [MAIL])
    for item in (xclient(ADDR="10.0.0.1"), xforward(ADDR="10.0.0.1")):
        assert rig.say(1, [item])[0][1] == replies.NOT_IN_TRANSACTION
    rig.say(1, [("RSET",)])
    assert rig.say(1, [xclient(ADDR="10.0.0.1", PORT="x")])[0][1] == replies.ATTRIBUTE
    assert rig.say(1, [xforward(SOURCE="x")])[0][1] == replies.ATTRIBUTE
    assert rig.receiver._connections[1].peer_ip == PROXY_IP
    assert rig.say(1, [MAIL, rcpt("else@where.example")])[0][1].endswith(replies.UNABLE_TO_RELAY)


def test_what_comes_behind_it_ends_the_connection(rig: Speaking) -> None:
    rig.open(1, PROXY_IP)
    rig.say(1, HELLO)
    actions = rig.say(1, [("NOOP",), xclient(ADDR="10.0.0.1")], early=True)
    assert actions == [("reply", replies.EARLY_TALKER, 2, 0, True)]


def test_commands_before_it_are_answered_first(rig: Speaking) -> None:
    rig.open(1, PROXY_IP)
    rig.say(1, HELLO)
    actions = rig.say(1, [("NOOP",), xclient(ADDR="10.0.0.1")])
    assert [action[0] for action in actions] == ["reply", "restart"]
    assert actions[0][1:4] == (replies.NOOP_OK, 1, 0)


def test_helo_and_proto_stand_for_the_greeting(rig: Speaking) -> None:
    assert rig.behind(ADDR="10.0.0.1", HELO="printer", PROTO="SMTP")[0][0] == "restart"
    rig.say(1, ENVELOPE)
    rig.content(1)
    assert b"from printer ([10.0.0.1])" in rig.core.commits[0][2]
    assert b" with SMTP id" in rig.core.commits[0][2]
    # Whoever greets again is called so.
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE)
    rig.content(1)
    assert b"from client.example ([10.0.0.1])" in rig.core.commits[1][2]
    assert b" with ESMTP id" in rig.core.commits[1][2]


def test_what_was_told_holds_until_another_address_is(rig: Speaking) -> None:
    rig.behind(NAME="first.example", HELO="first")
    assert rig.say(1, [xclient(ADDR="10.0.0.1")])[0][0] == "restart"
    connection = rig.receiver._connections[1]
    assert connection.peer_literal == "first.example [10.0.0.1]"
    assert connection.session.greeting == "first"
    rig.say(1, [xclient(ADDR="10.0.0.2")])
    assert (connection.peer_literal, connection.session.greeting) == ("[10.0.0.2]", "")
    # The right is that of whoever has connected, not of whom it speaks for.
    assert rig.say(1, [xclient(ADDR="IPV6:2001:db8::7")])[0][0] == "restart"
    assert connection.peer_literal == "[IPv6:2001:db8::7]"


def test_a_login_is_told_by_the_command_that_has_it_and_by_no_other(rig: Speaking) -> None:
    offered = b"250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n"
    assert rig.behind(ADDR="198.51.100.1")[0][0] == "restart"
    assert offered in rig.say(1, HELLO)[0][1]
    assert rig.say(1, [MAIL])[0][1] == replies.AUTHENTICATION_REQUIRED
    assert rig.say(1, [xclient(LOGIN="ERP")])[0][0] == "restart"
    session = rig.receiver._connections[1].session
    assert session.login == "erp"
    rig.say(1, HELLO)
    assert rig.say(1, [MAIL])[0][1] != replies.AUTHENTICATION_REQUIRED
    rig.say(1, [("RSET",)])
    # A new client on the same connection is nobody's user.
    rig.say(1, [xclient(ADDR="198.51.100.2")])
    assert session.login == ""
    rig.say(1, HELLO)
    assert rig.say(1, [MAIL])[0][1] == replies.AUTHENTICATION_REQUIRED
    assert rig.say(1, [xclient(LOGIN="erp")])[0][0] == "restart"
    rig.say(1, [xclient(LOGIN="[UNAVAILABLE]")])
    assert session.login == ""


def test_a_login_that_could_not_log_in_there_is_refused(rig: Speaking) -> None:
    for conn, told in enumerate(
        (
            {"ADDR": "198.51.100.1", "LOGIN": "nobody"},
            {"ADDR": "198.51.100.1", "LOGIN": "ups"},
            {"ADDR": "10.0.0.1", "LOGIN": "erp"},
            {"ADDR": "8.8.8.8", "LOGIN": "erp"},
            {"LOGIN": "erp"},
        )
    ):
        assert rig.behind(conn, **told) == [("reply", replies.NOT_AUTHORIZED, 1, 0, False)], told
        connection = rig.receiver._connections[conn]
        assert (connection.peer_ip, connection.session.login) == (PROXY_IP, "")
        rig.receiver.closed(("closed", conn, "peer", None))
    assert rig.receiver.connections == 0
    assert rig.journal == []


def test_starttls_behind_it_keeps_whom_it_speaks_for(rig: Speaking) -> None:
    rig.behind(ADDR="10.0.0.1")
    rig.tell("tls_up", 1, "1.3", "TLS_AES_128_GCM_SHA256", None, None, False)
    assert b"250-XCLIENT" in rig.say(1, HELLO)[0][1]
    assert rig.say(1, [MAIL, rcpt("else@where.example"), ("DATA",)])[-1][0] == "take"
    rig.content(1)
    tls = "1.3 TLS_AES_128_GCM_SHA256"
    assert rig.core.journalled == [{"xclient": PROXY_IP, "tls": tls}]
    rig.say(1, [xclient(ADDR="10.0.0.2")])
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE)
    rig.content(1)
    assert rig.core.journalled[1] == {"xclient": PROXY_IP, "tls": tls}
    assert b" with ESMTPS id" in rig.core.commits[1][2]


def test_a_proxy_before_the_peer_that_speaks_is_remembered(rig: Speaking) -> None:
    rig.open(1, PROXY_IP, proxy="192.0.2.77")
    rig.say(1, [xclient(ADDR="10.0.0.1")])
    rig.say(1, HELLO)
    rig.say(1, ENVELOPE)
    rig.content(1)
    assert rig.core.journalled == [{"proxy": "192.0.2.77", "xclient": PROXY_IP}]


def test_no_grant_is_given_with_the_banner(rig: Speaking) -> None:
    rig.open(1, PROXY_IP)
    assert rig.say(1, HELLO)[0][5] == "MAIL"
    assert len(rig.say(1, [xclient(ADDR="10.0.0.1", HELO="printer")])[0]) == 3
    # The next answer has those of the connector that holds now.
    assert rig.say(1, [("NOOP",)])[0][5] == "MAIL"


def test_xforward_is_written_down_and_forgotten_with_the_message(rig: Speaking) -> None:
    rig.open(1, PROXY_IP)
    rig.say(1, HELLO)
    told = {"NAME": "spike.example", "ADDR": "8.8.8.8", "HELO": "[UNAVAILABLE]", "SOURCE": "LOCAL"}
    assert rig.say(1, [xforward(**told)]) == [("reply", replies.NOOP_OK, 1, 0, False, "MAIL")]
    rig.say(1, [xforward(IDENT="3CF6B2AAE8", HELO="spike")])
    # It decides nothing.
    assert rig.say(1, [MAIL, rcpt("else@where.example")])[0][1].endswith(replies.UNABLE_TO_RELAY)
    assert rig.say(1, [rcpt("you@contoso.example"), ("DATA",)])[-1][0] == "take"
    rig.content(1)
    _, envelope, prepend, *_ = rig.core.commits[0]
    assert envelope[3][1] == PROXY_IP
    lines = ["XFORWARD", "NAME=spike.example", "ADDR=8.8.8.8", "HELO=spike", "SOURCE=LOCAL"]
    comment = "\r\n\t".join([*lines, "IDENT=3CF6B2AAE8"])
    assert f"from client.example ([{PROXY_IP}])\r\n\t({comment})\r\n\tby ".encode() in prepend
    note = "NAME=spike.example ADDR=8.8.8.8 HELO=spike SOURCE=LOCAL IDENT=3CF6B2AAE8"
    assert rig.core.journalled == [{"xforward": note}]
    rig.say(1, ENVELOPE)
    rig.content(1)
    assert rig.core.journalled[1] == {}


@pytest.mark.parametrize("item", [("RSET",), HELLO[0]])
def test_xforward_is_forgotten_with(rig: Speaking, item: tuple[Any, ...]) -> None:
    rig.open(1, PROXY_IP)
    rig.say(1, HELLO)
    rig.say(1, [xforward(ADDR="8.8.8.8")])
    rig.say(1, [item])
    rig.say(1, ENVELOPE)
    rig.content(1)
    assert rig.core.journalled == [{}]
