from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.smtp import replies
from penstock.smtp.extensions import Extensions
from penstock.smtp.server_session import TARPIT_MAX_MS, ServerSession
from penstock.smtp.tables import GRANTS, SERVER, ServerState
from penstock.smtp.terms import ServerTerms

CONN = 7
LAST_LINE = re.compile(rb"^[2-5]\d\d .*\r\n", re.MULTILINE)

EHLO = ("EHLO", "client.example")
MAIL = ("MAIL", "me@contoso.example", "contoso.example", ())
RCPT = ("RCPT", "you@contoso.example", "contoso.example", ())
REFUSED = ("RCPT", "nobody@contoso.example", "contoso.example", ())
DATA = ("DATA",)


class Policy:
    """Knows one address that is refused, and can refuse every sender."""

    def __init__(self) -> None:
        self.sender_refusal: bytes | None = None

    def sender(self, _address: str, _domain: str, /) -> bytes | None:
        return self.sender_refusal

    def recipient(self, address: str, _domain: str, /) -> bytes | None:
        return replies.RECIPIENT_UNKNOWN if address == "nobody@contoso.example" else None

    def postmaster(self, _address: str, _domain: str, /) -> None:
        """Nothing is against it."""


def terms(**changed: Any) -> ServerTerms:
    usual: dict[str, Any] = {
        "fqdn": "relay1.contoso.example",
        "max_message_bytes": 1000,
        "max_header_bytes": 500,
        "max_recipients": 3,
        "max_protocol_errors": 5,
        "max_hops": 10,
        "tarpit_ms": 0,
        "postmaster": ("postmaster@contoso.example", "contoso.example"),
    }
    return ServerTerms(**(usual | changed))


def session(**changed: Any) -> ServerSession:
    return ServerSession(CONN, terms(**changed), Policy(), Counter())


def ask(
    server: ServerSession, *items: tuple[Any, ...], early: bool = False, answered: int = 0
) -> list[tuple[Any, ...]]:
    actions: list[tuple[Any, ...]] = []
    if server.commands(1, list(items), early, actions, answered):
        server.take(1, 99, actions)
    return actions


def test_envelope_in_one_event_gives_one_reply_and_a_take() -> None:
    server = session()
    ask(server, EHLO)
    assert ask(server, MAIL, RCPT, DATA) == [
        ("reply", CONN, 1, b"250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n", 2, 0, False),
        ("take", CONN, 1, 99, 1000, b"354 Start mail input; end with <CRLF>.<CRLF>\r\n"),
    ]


class Undecided(Policy):
    """Has to find out about each recipient first."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[bytes | None] = []

    def recipient(self, _address: str, _domain: str, /) -> bytes | None:
        return self.answers.pop() if self.answers else b""


def test_session_stops_where_its_policy_does_not_answer_and_is_told_the_rest_again() -> None:
    server, policy, actions = session(), Undecided(), list[tuple[Any, ...]]()
    server.policy = policy
    ask(server, EHLO)
    items = [MAIL, ("NOOP",), RCPT, RCPT, ("RSET",)]
    assert server.commands(1, items, False, actions) == "RCPT"
    assert actions == [("reply", CONN, 1, b"250 2.1.0 Sender OK\r\n250 2.0.0 OK\r\n", 2, 0, False)]
    assert (server.behind, server.state, server.recipients) == (2, ServerState.SENDER, {})
    policy.answers, actions = [replies.RECIPIENT_UNKNOWN], []
    items = items[-1 - server.behind :]
    assert server.commands(1, items, False, actions) == "RCPT"
    assert actions == [("reply", CONN, 1, replies.RECIPIENT_UNKNOWN, 1, 0, False)]
    assert (server.behind, server.state) == (1, ServerState.UNACCEPTED)
    policy.answers, actions = [None], []
    assert server.commands(1, items[-1 - server.behind :], False, actions) == ""
    assert actions == [("reply", CONN, 1, b"250 2.1.5 Recipient OK\r\n250 2.0.0 Resetting\r\n", 2, 0, False)]


@pytest.mark.parametrize("early", [False, True])
def test_first_command_of_an_event_may_be_the_one_that_waits(early: bool) -> None:
    server, actions = session(), list[tuple[Any, ...]]()
    server.policy = Undecided()
    ask(server, EHLO, MAIL)
    assert server.commands(1, [RCPT, DATA], early, actions) == "RCPT"
    assert (server.behind, actions) == (1, [])
    server.policy = Policy()
    assert server.commands(1, [RCPT, DATA], early, actions) == "DATA"
    assert actions == [("reply", CONN, 1, replies.RECIPIENT_OK, 1, 0, False)]


@pytest.mark.parametrize("command", [MAIL, RCPT])
def test_a_policy_that_says_421_has_the_last_word(command: tuple[Any, ...]) -> None:
    class Closing(Policy):
        def sender(self, _address: str, _domain: str, /) -> bytes | None:
            return b"421 4.7.0 bye\r\n" if command is MAIL else None

        def recipient(self, _address: str, _domain: str, /) -> bytes | None:
            return b"421 4.7.0 bye\r\n"

    server = session()
    server.policy = Closing()
    ask(server, EHLO)
    ((_, _, _, said, answers, _, close),) = ask(server, MAIL, RCPT, ("NOOP",))
    assert (said.endswith(b"421 4.7.0 bye\r\n"), answers, close) == (True, 3, True)
    assert server.state is ServerState.CLOSED


def test_data_alone_gives_a_take_alone() -> None:
    server = session()
    ask(server, EHLO, MAIL, RCPT)
    assert [action[0] for action in ask(server, DATA)] == ["take"]
    assert server.state is ServerState.CONTENT


def test_same_address_counts_once() -> None:
    server = session(max_recipients=2)
    ask(server, EHLO, MAIL, RCPT, RCPT)
    assert list(server.recipients) == ["you@contoso.example"]


def test_bare_postmaster_goes_to_the_default_domain_whatever_the_policy() -> None:
    server = session()
    ask(server, EHLO, MAIL, ("RCPT", "Postmaster", "", ()))
    assert server.recipients == {"postmaster@contoso.example": "contoso.example"}


def test_recipients_of_a_message_are_not_those_of_the_next() -> None:
    server = session()
    ask(server, EHLO, MAIL, RCPT, DATA)
    first = server.recipients
    assert server.content(2, "complete", 0, 0, [])
    server.accepted(2, 1, b"250\r\n", b"452\r\n", [])
    ask(server, MAIL)
    assert first == {"you@contoso.example": "contoso.example"}
    assert server.recipients == {}


@pytest.mark.parametrize("verb", ["EHLO", "HELO", "RSET"])
def test_transaction_is_forgotten(verb: str) -> None:
    server = session()
    ask(server, EHLO, MAIL, RCPT)
    ask(server, (verb, "client.example") if verb != "RSET" else (verb,))
    assert server.recipients == {}
    assert server.state is ServerState.GREETED


def test_parameters_of_one_mail_are_not_those_of_the_next() -> None:
    server = session()
    ask(server, EHLO, ("MAIL", "", "", (("SIZE", "500"), ("BODY", "8bitmime"))), ("RSET",))
    ask(server, MAIL)
    assert (server.size_declared, server.is_eight_bit) == (0, False)


@pytest.mark.parametrize(
    ("status", "received", "header_bytes", "reply", "closes"),
    [
        ("too_large", 0, 0, replies.CONTENT_TOO_LARGE, False),
        ("bad_line_ending", 0, 0, replies.CONTENT_BAD_LINE_ENDING, True),
        ("starved", 0, 0, replies.INSUFFICIENT_STORAGE, False),
        ("complete", 11, 0, replies.CONTENT_TOO_MANY_HOPS, False),
        ("complete", 0, 501, replies.CONTENT_HEADER_TOO_LARGE, False),
    ],
)
def test_content_is_refused(
    status: str, received: int, header_bytes: int, reply: bytes, closes: bool
) -> None:
    server = session()
    ask(server, EHLO, MAIL, RCPT, DATA)
    actions: list[tuple[Any, ...]] = []
    assert not server.content(2, status, received, header_bytes, actions)
    assert actions == [("reply", CONN, 2, reply, 1, 0, closes)]
    assert server.state is (ServerState.CLOSED if closes else ServerState.GREETED)


def test_limits_themselves_are_allowed() -> None:
    server = session()
    ask(server, EHLO, ("MAIL", "", "", (("SIZE", "1000"),)), RCPT, DATA)
    assert server.content(2, "complete", 10, 500, [])


def test_refused_data_closes_when_its_content_is_here_already() -> None:
    server = session()
    ask(server, EHLO)
    assert ask(server, MAIL, REFUSED, DATA, early=True)[0][6] is True
    other = session()
    ask(other, EHLO)
    assert ask(other, MAIL, REFUSED, DATA)[0][6] is False


@pytest.mark.parametrize("early", [False, True])
def test_data_refused_by_the_owner(early: bool) -> None:
    server = session()
    ask(server, EHLO, MAIL, RCPT)
    actions: list[tuple[Any, ...]] = []
    assert server.commands(1, [DATA], early, actions)
    server.refuse_data(1, replies.INSUFFICIENT_STORAGE, early, actions)
    assert actions == [("reply", CONN, 1, replies.INSUFFICIENT_STORAGE, 1, 0, early)]
    assert server.state is (ServerState.CLOSED if early else ServerState.GREETED)


def test_accepted_data_may_have_its_content_behind_it() -> None:
    server = session()
    ask(server, EHLO)
    assert [action[0] for action in ask(server, MAIL, RCPT, DATA, early=True)] == ["reply", "take"]


def test_each_refusal_is_delayed_and_all_together_within_bounds() -> None:
    server = session(tarpit_ms=5000, max_protocol_errors=100)
    ask(server, EHLO)
    assert ask(server, MAIL)[0][5] == 0
    assert ask(server, REFUSED)[0][5] == 5000
    assert ask(server, RCPT, REFUSED, REFUSED)[0][5] == 10_000
    assert ask(server, *[REFUSED] * 64)[0][5] == TARPIT_MAX_MS


def test_temporary_refusals_are_not_delayed() -> None:
    server = session(tarpit_ms=5000, max_recipients=0)
    ask(server, EHLO, MAIL)
    assert ask(server, RCPT) == [("reply", CONN, 1, replies.TOO_MANY_RECIPIENTS, 1, 0, False)]


def test_refused_recipients_are_no_protocol_errors() -> None:
    server = session(max_protocol_errors=0)
    ask(server, EHLO, MAIL)
    assert ask(server, *[REFUSED] * 50)[0][6] is False


def test_error_beyond_the_limit_ends_the_session_and_leaves_the_rest_unread() -> None:
    server = session(max_protocol_errors=1)
    ask(server, EHLO)
    unknown = ("unknown", "GET")
    assert ask(server, ("NOOP",), unknown, unknown, ("NOOP",)) == [
        ("reply", CONN, 1, replies.NOOP_OK + replies.UNRECOGNIZED + replies.TOO_MANY_ERRORS, 4, 0, True)
    ]
    assert server.state is ServerState.CLOSED


@pytest.mark.parametrize("verb", ["GET", "POST", "CONNECT", "PRI"])
def test_other_protocol_ends_the_session_at_once(verb: str) -> None:
    server = session(max_protocol_errors=10_000)
    assert ask(server, ("unknown", verb), ("unknown", "HOST:"), EHLO, MAIL) == [
        ("reply", CONN, 1, replies.TOO_MANY_ERRORS, 4, 0, True)
    ]
    assert server.state is ServerState.CLOSED


def test_first_line_with_octets_that_no_command_has_ends_the_session() -> None:
    for kind in ("nul", "not_ascii"):
        server = session()
        assert ask(server, ("malformed", kind, 3, None), EHLO)[0][3:] == (replies.TOO_MANY_ERRORS, 2, 0, True)


def test_whoever_has_greeted_is_forgiven_such_words() -> None:
    server = session()
    ask(server, EHLO)
    assert ask(server, ("unknown", "GET"), ("malformed", "nul", 3, None))[0][6] is False


def test_eof_without_commands_closes() -> None:
    server = session()
    assert ask(server) == [("reply", CONN, 1, b"", 0, 0, True)]


def granting(**changed: Any) -> ServerSession:
    return session(grants=GRANTS, **changed)


@pytest.mark.parametrize(
    ("items", "grant"),
    [
        ([EHLO], "MAIL"),
        ([("HELO", "client.example")], "MAIL"),
        ([EHLO, ("NOOP",)], "MAIL"),
        ([EHLO, ("unknown", "XYZZY")], "MAIL"),
        ([EHLO, MAIL], None),
        ([EHLO, MAIL, ("RSET",)], "MAIL"),
        ([EHLO, MAIL, REFUSED], None),
        ([EHLO, MAIL, REFUSED, DATA], "MAIL"),
        ([EHLO, MAIL, RCPT], "DATA"),
        ([EHLO, MAIL, RCPT, REFUSED], "DATA"),
        ([EHLO, MAIL, RCPT, MAIL], "DATA"),
        ([EHLO, MAIL, RCPT, EHLO], "MAIL"),
        ([EHLO, ("MAIL", "", "", (("RET", "HDRS"),))], None),
        ([("NOOP",)], None),
        ([EHLO, ("QUIT",)], None),
    ],
)
def test_reply_grants_what_is_next_in_order(items: list[tuple[Any, ...]], grant: str | None) -> None:
    (action,) = ask(granting(), *items)
    assert action[7:] == (() if grant is None else (grant,))
    (action,) = ask(session(), *items)
    assert len(action) == 7, "nothing is granted where there are no standard replies"


def test_states_whose_replies_grant() -> None:
    for state, verb in GRANTS.items():
        assert SERVER[state][verb][0] in (ServerState.SENDER, ServerState.CONTENT)


def test_reply_in_front_of_a_take_grants_nothing() -> None:
    server = granting()
    ask(server, EHLO)
    reply, take = ask(server, MAIL, RCPT, DATA)
    assert (reply[0], len(reply), take[0]) == ("reply", 7, "take")


def test_verdict_on_content_grants_a_mail_if_it_is_the_commit_that_speaks() -> None:
    for server, grant in ((granting(), ("MAIL",)), (session(), ())):
        ask(server, EHLO, MAIL, RCPT, DATA)
        actions: list[tuple[Any, ...]] = []
        assert server.content(2, "complete", 0, 0, actions)
        server.accepted(2, 1, b"250\r\n", b"452\r\n", actions)
        assert actions == [("await_durable", CONN, 2, 1, b"250\r\n", b"452\r\n", *grant)]
        ask(server, MAIL, RCPT, DATA)
        server.refuse_content(3, replies.CONTENT_TOO_LARGE, actions)
        assert len(actions[1]) == 7


def test_answered_mail_counts_as_said_but_is_not_answered_again() -> None:
    server = granting()
    ask(server, EHLO, ("MAIL", "", "", (("SIZE", "7"), ("BODY", "8BITMIME"))), ("RSET",))
    mail = ("MAIL", "me@contoso.example", "contoso.example", (("BODY", "7bit"), ("SIZE", "900")))
    assert ask(server, mail, RCPT, answered=1) == [
        ("reply", CONN, 1, replies.RECIPIENT_OK, 1, 0, False, "DATA")
    ]
    assert (server.sender, server.size_declared, server.is_eight_bit) == ("me@contoso.example", 900, False)
    assert (server.state, server.errors) == (ServerState.RECIPIENTS, 0)
    # A DATA that was answered is known by its content.
    actions: list[tuple[Any, ...]] = []
    assert server.content(2, "complete", 0, 0, actions)
    server.accepted(2, 1, b"250\r\n", b"452\r\n", actions)
    assert server.state is ServerState.GREETED
    ask(server, MAIL, RCPT, answered=1)
    assert (server.size_declared, server.is_eight_bit) == (0, False)


@pytest.mark.parametrize(
    ("item", "reply", "state"),
    [
        (("QUIT",), terms().goodbye, ServerState.CLOSED),
        (("RSET",), replies.RESET_OK, ServerState.GREETED),
        (MAIL, replies.BAD_SEQUENCE, ServerState.SENDER),
        (EHLO, terms().ehlo, ServerState.GREETED),
        (DATA, replies.NEED_RECIPIENT, ServerState.SENDER),
        (REFUSED, replies.RECIPIENT_UNKNOWN, ServerState.UNACCEPTED),
        (("malformed", "path", 9, "RCPT"), replies.MALFORMED_OF_VERB["RCPT", "path"], ServerState.SENDER),
    ],
)
def test_whatever_follows_an_answered_mail_follows_a_mail(
    item: tuple[Any, ...], reply: bytes, state: ServerState
) -> None:
    caught_up, told = granting(), granting()
    for server in (caught_up, told):
        ask(server, EHLO)
    ask(told, MAIL)
    (action,) = ask(caught_up, MAIL, item, answered=1)
    assert [action] == ask(told, item)
    assert action[3:5] == (reply, 1)
    assert caught_up.state is told.state is state


def test_envelope_behind_an_answered_mail_gives_a_take() -> None:
    server = granting()
    ask(server, EHLO)
    reply, take = ask(server, MAIL, RCPT, DATA, answered=1)
    assert reply == ("reply", CONN, 1, replies.RECIPIENT_OK, 1, 0, False)
    assert take[0] == "take"
    server = granting()
    ask(server, EHLO)
    (reply,) = ask(server, MAIL, REFUSED, DATA, answered=1, early=True)
    assert reply[3:] == (replies.RECIPIENT_UNKNOWN + replies.NO_VALID_RECIPIENTS, 2, 0, True)


def test_sender_of_an_answered_mail_is_not_judged_again() -> None:
    server = granting()
    ask(server, EHLO)
    policy = server.policy
    assert isinstance(policy, Policy)
    policy.sender_refusal = replies.INSUFFICIENT_STORAGE
    assert ask(server, MAIL, RCPT, answered=1)[0][3] == replies.RECIPIENT_OK
    ask(server, ("RSET",))
    assert ask(server, MAIL)[0][3] == replies.INSUFFICIENT_STORAGE


ADDRESSES = st.sampled_from(
    [
        ("you@contoso.example", "contoso.example"),
        ("nobody@contoso.example", "contoso.example"),
        ("Postmaster", ""),
    ]
)
PARAMS = st.lists(
    st.tuples(
        st.sampled_from(["SIZE", "BODY", "RET", "X"]),
        st.sampled_from([None, "0", "999", "1001", "7BIT", "8BITMIME", "BINARYMIME", "x" * 30]),
    ),
    max_size=2,
).map(tuple)
ITEMS = st.one_of(
    st.sampled_from(["DATA", "RSET", "NOOP", "QUIT", "STARTTLS"]).map(lambda verb: (verb,)),
    st.sampled_from(["XCLIENT", "XFORWARD"]).map(lambda verb: (verb, (("ADDR", "192.0.2.1"),))),
    st.tuples(st.just("BDAT"), st.sampled_from([0, 400, 1000, 1001, 2**64 - 1]), st.booleans()),
    st.just(("AUTH", "PLAIN", b"\0me\0secret")),
    st.tuples(
        st.sampled_from(["EHLO", "LHLO", "HELO", "VRFY", "EXPN", "HELP", "unknown"]), st.text(max_size=5)
    ),
    st.tuples(st.sampled_from(["MAIL", "RCPT"]), ADDRESSES, st.one_of(st.just(()), PARAMS)).map(
        lambda t: (t[0], *t[1], t[2])
    ),
    st.tuples(
        st.just("malformed"),
        st.sampled_from([*replies.MALFORMED, "new"]),
        st.just(0),
        st.sampled_from(["", "MAIL", "RCPT", "DATA"]),
    ),
)
ENDS_EVENT = ("EHLO", "DATA", "BDAT", "AUTH", "STARTTLS", "XCLIENT", "QUIT")


CHUNKED = [EHLO, MAIL, RCPT]


def chunk(server: ServerSession, size: int, *, last: bool = False) -> list[tuple[Any, ...]]:
    """Say BDAT, and have its draft at hand if it is in order."""
    actions: list[tuple[Any, ...]] = []
    item = ("BDAT", size, last)
    if server.commands(1, [item], False, actions) == "BDAT":
        server.take_chunk(1, item, None if server.has_chunks else 5, actions)
    return actions


def test_chunks_go_into_one_draft_and_the_last_is_the_content() -> None:
    server = session()
    ask(server, *CHUNKED)
    ok = b"250 2.0.0 400 octets received\r\n"
    assert chunk(server, 400) == [("take_chunk", CONN, 1, 5, 1000, False, ok)]
    assert (server.state, server.is_chunked) == (ServerState.CHUNKS, True)
    assert chunk(server, 600, last=True) == [("take_chunk", CONN, 1, None, 1000, False, b"")]
    assert server.state is ServerState.CONTENT
    assert server.content(2, "complete", 0, 0, [])
    server.accepted(2, 3, b"250 2.6.0 x\r\n", b"452 4.3.1 x\r\n", [])
    assert (server.state, server.is_chunked) == (ServerState.GREETED, False)


def test_chunks_are_refused_when_their_sum_is_over_the_limit_and_so_are_those_behind() -> None:
    server = session()
    ask(server, *CHUNKED)
    chunk(server, 400)
    assert chunk(server, 601) == [("discard", CONN, 1, replies.MESSAGE_TOO_LARGE, 0)]
    # RFC 3030 2: whoever pipelines has sent more of them already, which is no error of his.
    for _ in range(10):
        assert chunk(server, 1, last=True) == [("discard", CONN, 1, replies.NEED_MAIL, 0)]
    assert server.errors == 0
    ask(server, MAIL, RCPT)
    assert chunk(server, 1000, last=True)[0][0] == "take_chunk"


@pytest.mark.parametrize(
    ("items", "reply"),
    [
        ([], replies.GREET_FIRST),
        ([EHLO], replies.NEED_MAIL),
        ([EHLO, MAIL], replies.NEED_RECIPIENT),
        ([EHLO, MAIL, REFUSED], replies.NO_VALID_RECIPIENTS),
        ([("HELO", "x"), MAIL, RCPT], replies.NOT_IMPLEMENTED),
    ],
)
def test_bdat_out_of_order_is_refused_and_its_chunk_passed_over(
    items: list[tuple[Any, ...]], reply: bytes
) -> None:
    server = session()
    if items:
        ask(server, *items)
    expected = replies.NOT_IMPLEMENTED if not items else reply
    assert chunk(server, 7) == [("discard", CONN, 1, expected, 0)]


def test_bdat_is_refused_where_chunking_is_not_offered() -> None:
    server = session(extensions=Extensions(chunking=False))
    ask(server, *CHUNKED)
    assert chunk(server, 7) == [("discard", CONN, 1, replies.NOT_IMPLEMENTED, 0)]
    assert b"CHUNKING" not in server.terms.ehlo


@pytest.mark.parametrize("end", [("RSET",), EHLO, ("HELO", "x"), ("QUIT",)])
def test_what_ends_a_transaction_between_chunks_has_its_draft_forgotten(end: tuple[Any, ...]) -> None:
    server = session()
    ask(server, *CHUNKED)
    chunk(server, 1)
    actions = ask(server, end)
    assert [action[0] for action in actions] == ["forget", "reply"]
    assert not server.has_chunks
    assert [action[0] for action in ask(server, ("NOOP",))] == ["reply"]


def test_data_and_recipients_are_out_of_order_between_chunks() -> None:
    server = session()
    ask(server, *CHUNKED)
    chunk(server, 1)
    for item in (DATA, RCPT, MAIL):
        assert ask(server, item)[0][3].startswith(b"503 ")
        assert server.state is ServerState.CHUNKS


def test_bare_line_end_in_chunks_does_not_close() -> None:
    server = session()
    ask(server, *CHUNKED)
    chunk(server, 1, last=True)
    actions: list[tuple[Any, ...]] = []
    assert not server.content(2, "bad_line_ending", 0, 0, actions)
    assert actions == [("reply", CONN, 2, replies.CONTENT_BAD_LINE_ENDING, 1, 0, False)]
    assert server.state is ServerState.GREETED


def test_binary_content_needs_bdat() -> None:
    server = granting(extensions=Extensions(binary_mime=True))
    binary = ("MAIL", "", "", (("BODY", "BINARYMIME"),))
    (action,) = ask(server, EHLO, binary, RCPT)
    assert len(action) == 7
    assert ask(server, DATA)[0][3] == replies.BAD_SEQUENCE
    assert ask(server, RCPT)[0][3] == replies.NEED_MAIL
    ask(server, binary, RCPT)
    assert chunk(server, 1)[0][5] is True


def test_replies_have_no_enhanced_status_where_none_is_offered() -> None:
    server = granting(extensions=Extensions(enhanced_status_codes=False))
    (action,) = ask(server, EHLO, MAIL, REFUSED, RCPT)
    assert (
        action[3] == server.terms.ehlo + b"250 Sender OK\r\n550 Recipient not found\r\n250 Recipient OK\r\n"
    )
    assert chunk(server, 1)[0][6] == b"250 1 octets received\r\n"
    assert chunk(server, 1000)[0][3] == b"552 Message size exceeds fixed maximum message size\r\n"
    ask(server, MAIL, RCPT)
    chunk(server, 1, last=True)
    actions: list[tuple[Any, ...]] = []
    server.accepted(2, 3, b"250 2.6.0 x\r\n", b"452 4.3.1 y\r\n", actions)
    assert actions[0][4:6] == (b"250 x\r\n", b"452 y\r\n")


def test_utf8_addresses_need_smtputf8() -> None:
    server = session(extensions=Extensions(smtp_utf8=True))
    umlaut = ("MAIL", "j\xf6rg@contoso.example", "contoso.example")
    ask(server, EHLO)
    assert ask(server, (*umlaut, ()))[0][3] == replies.UTF8_NOT_ASKED
    assert ask(server, (*umlaut, (("SMTPUTF8", None),)))[0][3] == replies.SENDER_OK
    assert (
        ask(server, ("RCPT", "\u4e2d@contoso.example", "contoso.example", ()))[0][3] == replies.RECIPIENT_OK
    )
    ask(server, ("RSET",), MAIL)
    assert (
        ask(server, ("RCPT", "\u4e2d@contoso.example", "contoso.example", ()))[0][3] == replies.UTF8_NOT_ASKED
    )


def test_reports_asked_for_are_of_their_recipient_and_transaction() -> None:
    server = session(extensions=Extensions(delivery_status_notification=True))
    asked = ("RCPT", "you@contoso.example", "contoso.example", (("NOTIFY", "NEVER"),))
    ask(server, EHLO, MAIL, asked)
    assert server.reports == {"you@contoso.example": (1, None)}
    ask(server, RCPT)
    assert server.reports == {"you@contoso.example": (0, None)}
    ask(server, ("RSET",))
    assert server.reports == {}


class Sessions(RuleBasedStateMachine):
    """Any commands in any order: one answer each, in order, and only the states of the table.

    What was granted is used, now and then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy()
        self.server = ServerSession(CONN, terms(grants=GRANTS), self.policy, Counter())
        self.turn = 0
        self.closed = False
        self.granted = ""

    @invariant()
    def closing_and_state_agree(self) -> None:
        assert self.closed is (self.server.state is ServerState.CLOSED)
        assert (self.server.state is ServerState.CONTENT) <= bool(self.server.recipients)
        assert len(self.server.recipients) <= 3
        assert self.server.has_chunks is (self.server.state is ServerState.CHUNKS) or self.closed
        assert self.server.errors <= 6

    @precondition(lambda self: not self.closed and self.server.state is not ServerState.CONTENT)
    @rule(
        items=st.lists(ITEMS, min_size=1, max_size=8),
        early=st.booleans(),
        refused=st.booleans(),
        draft=st.booleans(),
        answered=st.booleans(),
    )
    def commands(
        self, items: list[tuple[Any, ...]], early: bool, refused: bool, draft: bool, answered: bool
    ) -> None:
        for index, item in enumerate(items):
            if item[0] in ENDS_EVENT:
                items = items[: index + 1]
                break
        self.policy.sender_refusal = replies.INSUFFICIENT_STORAGE if refused else None
        before = self.server.state
        self.turn += 1
        actions: list[tuple[Any, ...]] = []
        if answered and self.granted == "MAIL":
            before = ServerState.SENDER
            wants_draft = self.server.commands(self.turn, [MAIL, *items], early, actions, 1)
        else:
            wants_draft = self.server.commands(self.turn, list(items), early, actions)
        if wants_draft:
            assert items[-1][0] == wants_draft
            if wants_draft == "BDAT":
                assert self.server.has_chunks is (self.server.state is ServerState.CHUNKS)
                if self.server.has_chunks or draft:
                    self.server.take_chunk(
                        self.turn, items[-1], None if self.server.has_chunks else 5, actions
                    )
                else:
                    self.server.refuse_chunk(self.turn, replies.LOCAL_FAILURE, items[-1], actions)
            elif draft:
                self.server.take(self.turn, 5, actions)
            else:
                self.server.refuse_data(self.turn, replies.LOCAL_FAILURE, early, actions)
        self.check(actions, len(items))
        if len(items) == 1 and not self.closed:
            allowed = SERVER[before].get(items[0][0], (before, before))
            if items[0][0] == "BDAT" and ServerState.CHUNKS in allowed:
                allowed = (*allowed, ServerState.CONTENT)
            assert self.server.state in allowed

    @precondition(lambda self: self.server.state is ServerState.CONTENT or self.granted == "DATA")
    @rule(
        status=st.sampled_from(["complete", "complete", "too_large", "bad_line_ending", "nul", "starved"]),
        received=st.integers(0, 12),
    )
    def content(self, status: str, received: int) -> None:
        self.turn += 1
        actions: list[tuple[Any, ...]] = []
        if self.server.content(self.turn, status, received, 0, actions):
            assert not actions
            self.server.accepted(self.turn, 3, b"250 2.6.0 x\r\n", b"452 4.3.1 x\r\n", actions)
            assert [action[0] for action in actions] == ["await_durable"]
            self.granted = actions[0][6]
        else:
            self.check(actions, 1)

    @precondition(lambda self: self.closed)
    @rule()
    def connect_again(self) -> None:
        self.server = ServerSession(CONN, terms(grants=GRANTS), self.policy, Counter())
        self.closed = False

    def check(self, actions: list[tuple[Any, ...]], count: int) -> None:
        answered = 0
        for action in actions:
            assert action[1:3] == (CONN, self.turn)
            assert not self.closed, "nothing is said after the last reply"
            self.granted = ""
            if action[0] in ("take", "take_chunk", "discard", "forget"):
                answered += action[0] != "forget"
                continue
            _, _, _, data, answers, _, closes, *grant = action
            if grant:
                (self.granted,) = grant
                assert SERVER[self.server.state][self.granted][0] is not self.server.state
            answered += answers
            lines = len(LAST_LINE.findall(data))
            assert lines <= answers if closes else lines == answers
            self.closed = closes
        assert answered == count


TestSessions = Sessions.TestCase
