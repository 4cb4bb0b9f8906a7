from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from penstock.smtp import replies
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS, ServerState
from tests.smtp.test_server_session import DATA, EHLO, MAIL, RCPT, Policy, ask, terms

STARTTLS = ("STARTTLS",)


def session(**changed: Any) -> ServerSession:
    usual: dict[str, Any] = {"offers_tls": True, "grants": GRANTS}
    return ServerSession(7, terms(**(usual | changed)), Policy(), Counter())


def start(server: ServerSession, *items: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    actions: list[tuple[Any, ...]] = []
    assert server.commands(1, [*items, STARTTLS], False, actions) == "STARTTLS"
    server.start_tls(1, 3, actions)
    return actions


def secure(server: ServerSession, banner: bytes = b"") -> list[tuple[Any, ...]]:
    actions: list[tuple[Any, ...]] = []
    server.secured(2, server.terms.under_tls(GRANTS), banner, actions)
    return actions


def test_starttls_is_offered_in_plain_text_alone() -> None:
    offering = terms(offers_tls=True)
    assert b"250-STARTTLS\r\n" in offering.ehlo
    assert b"STARTTLS" not in offering.under_tls(GRANTS).ehlo
    assert terms().ehlo == offering.under_tls(GRANTS).ehlo


def test_starttls_is_answered_and_everything_forgotten() -> None:
    server = session()
    ask(server, EHLO, MAIL, RCPT)
    assert start(server) == [("start_tls", 7, 1, 3, replies.START_TLS)]
    known = (server.state, server.greeting, server.is_extended, server.sender, server.recipients)
    assert known == (ServerState.START, "", False, "", {})
    assert secure(server) == [("reply", 7, 2, b"", 1, 0, False)]
    assert ask(server, MAIL)[0][3] == replies.GREET_FIRST
    assert ask(server, EHLO)[0][3] == server.terms.ehlo


def test_commands_before_starttls_are_answered_first() -> None:
    answers = start(session(), EHLO, ("NOOP",))
    assert [(answer[0], answer[4]) for answer in answers[:1]] == [("reply", 2)]
    assert [answer[0] for answer in answers[1:]] == ["start_tls"]


def test_banner_of_a_connection_that_began_with_tls() -> None:
    server = session()
    assert secure(server, server.terms.banner) == [("reply", 7, 2, server.terms.banner, 1, 0, False)]


def test_starttls_twice_is_refused() -> None:
    server = session()
    start(server)
    secure(server)
    ask(server, EHLO)
    assert ask(server, STARTTLS)[0][3] == replies.TLS_ACTIVE


def test_starttls_that_is_not_offered_is_not_implemented() -> None:
    server = session(offers_tls=False)
    assert ask(server, EHLO, STARTTLS)[0][3].endswith(replies.NOT_IMPLEMENTED)
    assert ask(server, STARTTLS, early=True)[0][6] is False, "commands behind it are commands"


def test_starttls_with_parameters_is_an_error() -> None:
    malformed = ("malformed", "argument", 9, "STARTTLS")
    assert ask(session(), malformed)[0][3] == replies.MALFORMED["argument"]


@pytest.mark.parametrize("before", [(), (EHLO,), (EHLO, ("NOOP",))])
def test_what_comes_behind_starttls_ends_the_session(before: tuple[tuple[Any, ...], ...]) -> None:
    server = session()
    (action,) = ask(server, *before, STARTTLS, early=True)
    assert (action[3], action[6]) == (replies.EARLY_TALKER, True)
    assert server.state is ServerState.CLOSED


def test_mail_needs_tls_where_that_is_required_and_is_not_granted() -> None:
    server = session(requires_tls=True)
    (action,) = ask(server, EHLO)
    assert len(action) == 7, "no grant"
    (action,) = ask(server, MAIL, RCPT, DATA)
    assert action[3].startswith(replies.TLS_REQUIRED)
    assert server.recipients == {}
    start(server)
    secure(server)
    assert ask(server, EHLO)[0][7] == "MAIL"
    assert ask(server, MAIL)[0][3] == replies.SENDER_OK
