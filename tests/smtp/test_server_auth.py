from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.smtp import replies, server_auth, server_tls
from penstock.smtp.sasl import Password
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS, ServerState
from tests.smtp.test_server_session import CONN, DATA, EHLO, MAIL, RCPT, Policy, terms

PLAIN = ("AUTH", "PLAIN", b"\0me\0sesame")
ME = Password("me", "sesame")


def session(**changed: Any) -> ServerSession:
    usual = {"mechanisms": ("PLAIN", "LOGIN"), "auth_tarpit_ms": 5000}
    return ServerSession(CONN, terms(**(usual | changed)), Policy(), Counter())


def ask(
    server: ServerSession, *items: tuple[Any, ...], early: bool = False
) -> tuple[list[tuple[Any, ...]], Password | None]:
    actions: list[tuple[Any, ...]] = []
    given = None
    if server.commands(1, list(items), early, actions) == "AUTH":
        given = server_auth.respond(server, 1, items[-1][2], early, actions)
    return actions, given


def said(server: ServerSession, *items: tuple[Any, ...]) -> bytes:
    actions, given = ask(server, *items)
    assert given is None
    reply: bytes = actions[-1][3]
    return reply


def line(server: ServerSession, what: str, response: bytes = b"", early: bool = False) -> tuple[Any, ...]:
    actions: list[tuple[Any, ...]] = []
    assert server_auth.line(server, 2, what, response, early, actions) is None
    (action,) = actions
    assert action[1:3] == (CONN, 2)
    return (action[0], *action[3:])


def greeted(**changed: Any) -> ServerSession:
    server = session(**changed)
    ask(server, EHLO)
    return server


def accept(server: ServerSession, actions: list[tuple[Any, ...]]) -> None:
    server_auth.accept(server, 1, "me", actions, policy=server.policy, grants=server.terms.grants)


def log_in(server: ServerSession) -> tuple[Any, ...]:
    actions, given = ask(server, PLAIN)
    assert (actions, given) == ([], ME)
    accept(server, actions)
    (action,) = actions
    return action


def test_what_is_offered_is_announced() -> None:
    assert b"\r\n250-AUTH PLAIN LOGIN\r\n" in said(session(), EHLO)
    assert b"AUTH" not in said(session(mechanisms=()), EHLO)
    server = session(auth_requires_tls=True)
    assert b"AUTH" not in said(server, EHLO)
    server_tls.secured(server, 2, server.terms.under_tls({}), b"", [], policy=server.policy)
    assert b"AUTH PLAIN LOGIN" in said(server, EHLO)


def test_plain_with_an_initial_response_asks_for_a_verification() -> None:
    server = greeted()
    assert log_in(server) == ("reply", CONN, 1, replies.AUTHENTICATED, 1, 0, False)
    assert server.login == "me"


def test_commands_before_auth_are_answered_before_it() -> None:
    server = greeted()
    actions, given = ask(server, ("NOOP",), PLAIN)
    assert actions == [("reply", CONN, 1, replies.NOOP_OK, 1, 0, False)]
    assert given == ME


def test_challenges_are_base64() -> None:
    server = greeted()
    assert ask(server, ("AUTH", "PLAIN", None))[0] == [("challenge", CONN, 1, b"334 \r\n")]
    server = greeted()
    assert ask(server, ("AUTH", "LOGIN", None))[0] == [("challenge", CONN, 1, b"334 VXNlcm5hbWU6\r\n")]
    assert line(server, "response", b"me") == ("challenge", b"334 UGFzc3dvcmQ6\r\n")
    actions: list[tuple[Any, ...]] = []
    assert server_auth.line(server, 3, "response", b"sesame", False, actions) == ME
    assert not actions


@pytest.mark.parametrize(
    ("before", "changed", "reply"),
    [
        ([], {}, replies.GREET_WITH_EHLO),
        ([("HELO", "x")], {}, replies.GREET_WITH_EHLO),
        ([EHLO, MAIL], {}, replies.NOT_IN_TRANSACTION),
        ([EHLO, MAIL, RCPT], {}, replies.NOT_IN_TRANSACTION),
        ([EHLO], {"mechanisms": ()}, replies.NOT_IMPLEMENTED),
        ([EHLO], {"mechanisms": ("LOGIN",)}, replies.MECHANISM_UNKNOWN),
        ([EHLO], {"auth_requires_tls": True}, replies.ENCRYPTION_REQUIRED),
    ],
)
def test_auth_is_refused_where_it_may_not_be_said(
    before: list[tuple[Any, ...]], changed: dict[str, Any], reply: bytes
) -> None:
    server = session(**changed)
    if before:
        ask(server, *before)
    state = server.state
    assert said(server, PLAIN) == reply
    assert (server.state, server.errors, server.login) == (state, 1, "")


def test_auth_is_said_once() -> None:
    server = greeted()
    log_in(server)
    assert said(server, PLAIN) == replies.ALREADY_AUTHENTICATED
    assert server.login == "me"


def test_a_login_brings_another_policy() -> None:
    server = greeted()
    other = Policy()
    other.sender_refusal = replies.UNABLE_TO_RELAY
    server_auth.accept(server, 1, "me", [], policy=other, grants={})
    assert said(server, MAIL) == replies.UNABLE_TO_RELAY


def test_a_second_ehlo_keeps_the_login() -> None:
    server = greeted()
    log_in(server)
    ask(server, EHLO)
    assert server.login == "me"
    assert said(server, MAIL) == replies.SENDER_OK


def test_an_encrypted_connection_may_log_in_where_that_is_required() -> None:
    server = session(auth_requires_tls=True)
    server.is_secure = True
    ask(server, EHLO)
    log_in(server)
    assert server.protocol == "ESMTPSA"


@pytest.mark.parametrize(
    ("is_secure", "login", "greeting", "protocol"),
    [
        (False, "", "EHLO", "ESMTP"),
        (False, "me", "EHLO", "ESMTPA"),
        (True, "", "EHLO", "ESMTPS"),
        (True, "me", "EHLO", "ESMTPSA"),
        (True, "me", "HELO", "SMTP"),
        (False, "", "HELO", "SMTP"),
    ],
)
def test_protocol_is_named_by_rfc_3848(is_secure: bool, login: str, greeting: str, protocol: str) -> None:
    server = session()
    ask(server, (greeting, "x"))
    server.is_secure, server.login = is_secure, login
    assert server.protocol == protocol


def test_mail_needs_a_login_where_it_is_required() -> None:
    server = greeted(requires_authentication=True, grants=GRANTS)
    actions, _ = ask(server, MAIL, RCPT, DATA)
    assert [len(action) for action in actions] == [7], "nothing is granted to a peer that has not logged in"
    assert actions[0][3] == replies.AUTHENTICATION_REQUIRED + replies.NEED_MAIL * 2
    assert len(ask(server, ("RSET",))[0][0]) == 7
    assert log_in(server)[-1] == "MAIL"
    assert said(server, MAIL) == replies.SENDER_OK


def test_a_response_that_is_given_up_or_cannot_be_read() -> None:
    for what, reply in [
        ("cancel", replies.AUTH_CANCELLED),
        ("base64", replies.MALFORMED["base64"]),
        ("line_too_long", replies.MALFORMED_OF_VERB["AUTH", "line_too_long"]),
        ("nul", replies.MALFORMED["nul"]),
        ("new", replies.MALFORMED["syntax"]),
    ]:
        server = greeted()
        ask(server, ("AUTH", "PLAIN", None))
        assert line(server, what) == ("reply", reply, 1, 0, False)
        assert (server.exchange, server.errors, server.logon_failures) == (None, 1, 0)
        log_in(server)


def test_giving_up_too_often_ends_the_session() -> None:
    server = greeted(max_protocol_errors=2)
    for expected in [replies.AUTH_CANCELLED, replies.AUTH_CANCELLED, replies.TOO_MANY_ERRORS]:
        ask(server, ("AUTH", "PLAIN", None))
        assert line(server, "cancel")[1] == expected
    assert server.state is ServerState.CLOSED


@pytest.mark.parametrize("initial", [b"\0me\0sesame", None])
def test_what_comes_behind_auth_ends_the_session(initial: bytes | None) -> None:
    server = greeted()
    actions, given = ask(server, ("AUTH", "PLAIN", initial), early=True)
    assert (actions, given) == ([("reply", CONN, 1, replies.EARLY_TALKER, 1, 0, True)], None)
    assert server.state is ServerState.CLOSED


@pytest.mark.parametrize("what", ["response", "cancel", "base64"])
def test_what_comes_behind_a_response_ends_the_session(what: str) -> None:
    server = greeted()
    ask(server, ("AUTH", "PLAIN", None))
    assert line(server, what, b"\0me\0sesame", early=True) == ("reply", replies.EARLY_TALKER, 1, 0, True)
    assert (server.state, server.exchange) == (ServerState.CLOSED, None)


def refuse(server: ServerSession) -> tuple[Any, ...]:
    actions, given = ask(server, PLAIN)
    assert given == ME
    server_auth.refuse(server, 1, actions)
    return actions[0]


def test_the_third_failure_ends_the_session_and_each_is_held_back() -> None:
    server = greeted(max_logon_failures=3)
    for _ in range(2):
        assert refuse(server)[3:] == (replies.AUTHENTICATION_FAILED, 1, 5000, False)
    assert refuse(server)[3:] == (replies.TOO_MANY_LOGON_FAILURES, 1, 5000, True)
    assert server.state is ServerState.CLOSED
    assert server.refusals == {("AUTH", ord("5")): 2, ("AUTH", ord("4")): 1}


def test_failures_are_not_counted_where_they_are_not_limited() -> None:
    server = greeted(max_logon_failures=0, auth_tarpit_ms=0)
    for _ in range(20):
        assert refuse(server)[3:] == (replies.AUTHENTICATION_FAILED, 1, 0, False)
    log_in(server)


def test_what_cannot_be_verified_now_is_no_failure() -> None:
    server = greeted(max_logon_failures=1)
    for _ in range(3):
        actions, _ = ask(server, PLAIN)
        server_auth.put_off(server, 1, actions)
        assert actions[0][3:] == (replies.AUTHENTICATION_UNAVAILABLE, 1, 0, False)
    assert server.logon_failures == 0


def test_who_has_logged_in_is_never_held_back() -> None:
    server = greeted(tarpit_ms=700)
    assert ask(server, ("VRFX",))[0][0][5] == 700
    log_in(server)
    assert ask(server, ("VRFX",))[0][0][5] == 0


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        ("<>", True),
        ("e+3Dmc2@example.com", True),
        ("x" * 500, True),
        ("x" * 501, False),
        ("e+3dmc2", False),
        ("e+3", False),
        ("a+b", False),
        ("a=b", False),
        ("", False),
        (None, False),
    ],
)
def test_auth_of_mail_is_taken_where_it_is_well_formed_and_offered(value: str | None, is_taken: bool) -> None:
    params = (("SIZE", "5"), ("AUTH", value))
    mail = (*MAIL[:3], params)
    assert (said(greeted(), mail) == replies.SENDER_OK) is is_taken
    assert said(greeted(mechanisms=()), mail) == replies.PARAMETER_UNKNOWN


RESPONSES = st.one_of(st.sampled_from([b"", b"me", b"sesame", b"\0me\0sesame"]), st.binary(max_size=20))
OTHERS = st.sampled_from([EHLO, ("HELO", "x"), MAIL, RCPT, ("RSET",), ("NOOP",), ("unknown", "X")])


class Exchanges(RuleBasedStateMachine):
    """Exchanges in any order among other commands: one answer each, nobody logs in without being accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.connect_again()

    def connect_again(self) -> None:
        self.server = greeted(max_logon_failures=3)
        self.given: Password | None = None
        self.is_accepted = False

    @invariant()
    def login_follows_from_acceptance(self) -> None:
        assert bool(self.server.login) is self.is_accepted
        assert self.server.logon_failures <= 3
        assert (self.server.exchange is None) or self.server.state is not ServerState.CLOSED

    def settle(self, actions: list[tuple[Any, ...]], given: Password | None, items: int) -> None:
        assert [action[1] for action in actions] == [CONN] * len(actions)
        answers = sum(1 if action[0] == "challenge" else action[4] for action in actions)
        assert answers == items - (given is not None) or self.server.state is ServerState.CLOSED
        self.given = given
        if self.server.state is ServerState.CLOSED:
            assert actions[-1][6]
            self.connect_again()

    @precondition(lambda self: self.server.exchange is None and self.given is None)
    @rule(
        items=st.lists(OTHERS, max_size=2),
        mechanism=st.sampled_from(["PLAIN", "LOGIN", "NTLM"]),
        initial=st.one_of(st.none(), RESPONSES),
        early=st.sampled_from([False, False, False, True]),
    )
    def begin(self, items: list[tuple[Any, ...]], mechanism: str, initial: bytes | None, early: bool) -> None:
        items = [*items, ("AUTH", mechanism, initial)]
        self.settle(*ask(self.server, *items, early=early), len(items))

    @precondition(lambda self: self.server.exchange is not None)
    @rule(
        what=st.sampled_from(["response", "response", "cancel", "base64", "line_too_long"]),
        response=RESPONSES,
        early=st.sampled_from([False, False, False, True]),
    )
    def answer(self, what: str, response: bytes, early: bool) -> None:
        actions: list[tuple[Any, ...]] = []
        given = server_auth.line(self.server, 1, what, response, early, actions)
        self.settle(actions, given, 1)

    @precondition(lambda self: self.given is not None)
    @rule(verdict=st.sampled_from(["accept", "refuse", "put off"]))
    def verify(self, verdict: str) -> None:
        actions: list[tuple[Any, ...]] = []
        if verdict == "accept":
            self.is_accepted = True
            accept(self.server, actions)
        elif verdict == "refuse":
            server_auth.refuse(self.server, 1, actions)
        else:
            server_auth.put_off(self.server, 1, actions)
        self.settle(actions, None, 1)


TestExchanges = Exchanges.TestCase
