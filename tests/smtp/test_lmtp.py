"""LMTP (RFC 2033): its greeting, and a reply for each recipient."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.smtp import replies
from penstock.smtp.server_session import ServerSession
from penstock.smtp.tables import GRANTS, ServerState
from tests.smtp.test_server_session import CONN, DATA, EHLO, MAIL, RCPT, REFUSED, ask, session

LHLO = ("LHLO", "client.example")
OTHER = ("RCPT", "other@contoso.example", "contoso.example", ())
QUEUED = b"250 2.6.0 x\r\n"


def lmtp(*items: tuple[Any, ...], **changed: Any) -> ServerSession:
    server = session(is_lmtp=True, **changed)
    if items:
        ask(server, *items)
    return server


def told(actions: list[tuple[Any, ...]]) -> bytes:
    (action,) = actions
    return bytes(action[3])


def test_lhlo_takes_the_place_of_ehlo_and_helo() -> None:
    server = lmtp()
    assert server.terms.banner == b"220 relay1.contoso.example LMTP Penstock\r\n"
    # RFC 2033 4.1: a positive reply to these MUST NOT be given, 500 SHOULD be.
    for greeting in (EHLO, ("HELO", "client.example")):
        assert told(ask(server, greeting)) == replies.UNRECOGNIZED
        assert server.state is ServerState.START
    assert told(ask(server, MAIL)) == replies.GREET_WITH_LHLO
    reply = told(ask(server, LHLO))
    assert reply == server.terms.ehlo
    # 5: both MUST be offered.
    assert b"PIPELINING\r\n" in reply
    assert b"ENHANCEDSTATUSCODES\r\n" in reply
    assert server.state is ServerState.GREETED


@pytest.mark.parametrize("item", [LHLO, ("malformed", "argument", 4, "LHLO")])
def test_in_smtp_lhlo_is_no_command(item: tuple[Any, ...]) -> None:
    server = session()
    assert told(ask(server, item)) == replies.UNRECOGNIZED
    assert (server.errors, server.state) == (1, ServerState.START)


def test_what_comes_behind_lhlo_ends_the_session_and_behind_ehlo_it_is_wrong_anyway() -> None:
    assert told(ask(lmtp(LHLO), LHLO, early=True)) == replies.EARLY_TALKER
    assert told(ask(lmtp(LHLO), EHLO, early=True)) == replies.UNRECOGNIZED


@pytest.mark.parametrize(
    ("items", "count"),
    [
        ([RCPT], 1),
        ([RCPT, OTHER], 2),
        ([RCPT, REFUSED, OTHER], 2),
        # RFC 2033 4.2: one for each RCPT, even if several name the same forward-path.
        ([RCPT, RCPT, OTHER], 3),
    ],
)
def test_content_is_answered_once_for_each_rcpt_that_was_accepted(
    items: list[tuple[Any, ...]], count: int
) -> None:
    server = lmtp(LHLO, MAIL, *items, DATA)
    assert server.content(2, "complete", 0, 0, [])
    actions: list[tuple[Any, ...]] = []
    server.accepted(2, 5, QUEUED, b"452 4.3.1 x\r\n", actions)
    assert actions == [("await_durable", CONN, 2, 5, QUEUED * count, b"452 4.3.1 x\r\n" * count)]
    ask(server, MAIL, *items, DATA)
    actions = []
    assert not server.content(3, "too_large", 0, 0, actions)
    assert actions == [("reply", CONN, 3, replies.CONTENT_TOO_LARGE * count, 1, 0, False)]
    assert server.accepted_rcpts == 0


def test_without_a_recipient_data_is_503() -> None:
    # RFC 2033 4.2: it MUST fail with 503 if no RCPT was successful.
    assert told(ask(lmtp(LHLO, MAIL), DATA)).startswith(b"503 ")
    assert told(ask(lmtp(LHLO, MAIL, REFUSED), DATA)).startswith(b"503 ")
    for last in (False, True):
        actions = ask(lmtp(LHLO, MAIL, REFUSED), ("BDAT", 3, last))
        assert actions == [("discard", CONN, 1, replies.NO_RECIPIENTS_LMTP, 0)]


def test_a_pipelined_session_is_answered_in_order() -> None:
    server = lmtp(LHLO)
    ok = replies.SENDER_OK + replies.RECIPIENT_OK + replies.RECIPIENT_UNKNOWN
    actions = ask(server, MAIL, RCPT, REFUSED, DATA)
    assert [action[0] for action in actions] == ["reply", "take"]
    assert actions[0][3:5] == (ok, 3)


def test_a_chunk_is_answered_once_and_the_last_for_each() -> None:
    server = lmtp(LHLO, MAIL, RCPT, OTHER)
    first, last = ("BDAT", 400, False), ("BDAT", 100, True)
    actions: list[tuple[Any, ...]] = []
    assert server.commands(1, [first], False, actions) == "BDAT"
    server.take_chunk(1, first, 5, actions)
    assert actions[-1][6] == replies.chunk_ok(400)
    assert server.commands(2, [last], False, actions) == "BDAT"
    server.take_chunk(2, last, None, actions)
    assert server.content(3, "complete", 0, 0, [])
    actions = []
    server.accepted(3, 5, QUEUED, b"", actions)
    assert actions[0][4] == QUEUED * 2


def test_a_last_chunk_that_is_refused_is_answered_for_each_also_behind_others() -> None:
    server = lmtp(LHLO, MAIL, RCPT, OTHER)
    assert ask(server, ("BDAT", 1001, True))[0][3] == replies.MESSAGE_TOO_LARGE * 2
    ask(server, MAIL, RCPT, OTHER)
    # RFC 2033 4.3: whoever pipelines waits for so many replies to the last one, whatever became of the first.
    assert ask(server, ("BDAT", 1001, False))[0][3] == replies.MESSAGE_TOO_LARGE
    assert ask(server, ("BDAT", 1, False))[0][3] == replies.NEED_MAIL
    assert ask(server, ("BDAT", 1, True))[0][3] == replies.NEED_MAIL * 2
    # The next message has nothing to do with it.
    ask(server, MAIL, RCPT)
    assert ask(server, ("BDAT", 1001, True))[0][3] == replies.MESSAGE_TOO_LARGE
    assert ask(server, ("BDAT", 1, True))[0][3] == replies.NEED_MAIL


def test_a_mail_that_was_answered_ahead_begins_anew_as_well() -> None:
    server = lmtp(LHLO, MAIL, RCPT, OTHER, grants=GRANTS)
    ask(server, ("BDAT", 1001, False))
    ask(server, MAIL, RCPT, answered=1)
    assert ask(server, ("BDAT", 1001, True))[0][3] == replies.MESSAGE_TOO_LARGE


def test_a_draft_that_cannot_be_had_is_told_for_each() -> None:
    server = lmtp(LHLO, MAIL, RCPT, OTHER)
    item = ("BDAT", 3, True)
    actions: list[tuple[Any, ...]] = []
    assert server.commands(1, [item], False, actions) == "BDAT"
    server.refuse_chunk(1, replies.INSUFFICIENT_STORAGE, item, actions)
    assert actions == [("discard", CONN, 1, replies.INSUFFICIENT_STORAGE * 2, 0)]


def test_one_recipient_that_is_named_again_and_again_is_as_many() -> None:
    server = lmtp(LHLO, MAIL, *[RCPT] * 9)
    assert server.accepted_rcpts == 3, "of which there may be three"
    assert told(ask(server, RCPT)) == replies.TOO_MANY_RECIPIENTS


@pytest.mark.parametrize(
    ("is_secure", "login", "protocol"),
    [(False, "", "LMTP"), (True, "", "LMTPS"), (False, "erp", "LMTPA"), (True, "erp", "LMTPSA")],
)
def test_received_calls_it_by_its_name(is_secure: bool, login: str, protocol: str) -> None:
    server = lmtp(LHLO)
    server.is_secure, server.login = is_secure, login
    assert server.protocol == protocol


def test_authentication_wants_lhlo_first() -> None:
    server = lmtp(mechanisms=("PLAIN",))
    assert told(ask(server, ("AUTH", "PLAIN", None))) == replies.GREET_WITH_LHLO
