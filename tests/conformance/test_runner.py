"""The runner and its sockets, against servers that are right, wrong, silent or gone."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from penstock.conformance.case import all_cases, parse
from penstock.conformance.dialogue import Outcome, Verdict
from penstock.conformance.expectation import Closed, Event, Garbled, Reply, Silent
from penstock.conformance.runner import CONNECT_TRIES, Target, Unreachable, probe, run
from penstock.conformance.wire import REPLY_BYTES_MAX, REPLY_LINE_MAX, REPLY_LINES_MAX, Wire
from tests.conformance.fake import GOOD, FakeServer, Session, answers
from tests.support.ports import free_port


def verdicts(session: Session, steps: str, **target: object) -> list[Outcome]:
    """Play cases of one RFC against a server; return what they come to."""
    cases = parse(f"rfc 5321: x\n{steps}", "x.txt")
    with FakeServer(session) as server:
        asked = Target(host="127.0.0.1", port=server.port, **{"timeout_s": 1.0, **target})  # type: ignore[arg-type]
        return [result.outcome for result in run(asked, cases, probe(asked))]


def one(session: Session, steps: str, **target: object) -> Outcome:
    return verdicts(session, f"== 1 MUST a: rule\n{steps}\n", **target)[0]


def test_a_server_that_keeps_the_rules_passes_and_one_that_does_not_fails() -> None:
    right = "== 1 MUST a: rule\n@data\n@header\nC: body\nC: .\nS: 250 2.x.x strict\n"
    wrong = "== 1 MUST b: rule\n@ehlo\nC: RCPT TO:<{rcpt}>\nS: 503\n"
    passed, failed = verdicts(answers(GOOD), right + wrong)
    assert passed == Outcome(Verdict.PASS)
    assert failed == Outcome(Verdict.FAIL, "503 was to come: 250 2.1.5 ok")


def test_the_matrix_itself_finds_a_server_that_takes_everything_wanting() -> None:
    with FakeServer(answers(dict.fromkeys((*GOOD, "VRFY", "HELP"), b"250 yes\r\n"))) as server:
        target = Target(host="127.0.0.1", port=server.port, timeout_s=1.0)
        cases = [case for case in all_cases() if case.rfc == 5321 and case.section.startswith("4.1.4")]
        found = {result.case.name: result.outcome.verdict for result in run(target, cases, probe(target))}
    assert found["mail-before-ehlo"] is Verdict.FAIL
    assert found["nested-mail"] is Verdict.FAIL
    assert found["noop-before-ehlo"] is Verdict.PASS


def test_an_extension_that_is_not_announced_is_not_asked_for() -> None:
    case = "needs: {}\n@ehlo\nC: NOOP\nS: 599"
    assert one(answers(GOOD), case.format("CHUNKING")) == Outcome(Verdict.NOT_OFFERED, "CHUNKING")
    assert one(answers(GOOD), case.format("PIPELINING")).verdict is Verdict.FAIL
    offers = GOOD | {"EHLO": b"250-fake\r\n250 AUTH PLAIN LOGIN\r\n"}
    assert one(answers(offers), case.format("AUTH=LOGIN")).verdict is Verdict.FAIL
    assert one(answers(offers), case.format("AUTH=XOAUTH2")).verdict is Verdict.NOT_OFFERED
    assert one(answers(GOOD), case.format("SUBMISSION")).verdict is Verdict.NOT_OFFERED
    assert one(answers(GOOD), case.format("SUBMISSION"), is_submission=True).verdict is Verdict.FAIL


def test_a_server_of_lmtp_is_greeted_so_and_asked_of_lmtp_alone() -> None:
    lmtp = {verb: reply for verb, reply in GOOD.items() if verb != "EHLO"} | {"LHLO": GOOD["EHLO"]}
    case = "needs: {}\n@lhlo\nC: NOOP\nS: 599"
    assert one(answers(lmtp), case.format("LMTP"), is_lmtp=True).verdict is Verdict.FAIL
    assert one(answers(lmtp), case.format("PIPELINING"), is_lmtp=True) == Outcome(Verdict.NOT_OFFERED, "SMTP")
    assert one(answers(GOOD), case.format("LMTP")) == Outcome(Verdict.NOT_OFFERED, "LMTP")


def test_what_is_only_for_servers_without_it_is_not_testable_with_it() -> None:
    outcome = one(answers(GOOD), "lacks: PIPELINING\nS: 220")
    assert outcome == Outcome(Verdict.NOT_TESTABLE, "the server offers PIPELINING")


def test_tls_that_is_not_offered() -> None:
    assert one(answers(GOOD), "channel: tls\nS: 220").verdict is Verdict.NOT_OFFERED
    assert one(answers(GOOD), "channel: best\nS: 220").verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("{any}", "--relay-recipient"),
        ("{rcpt_domain}", "--recipient"),
        ("{foreign}", "--foreign-recipient"),
        ("{auth_plain}", "--user"),
    ],
)
def test_what_nobody_told_is_named(text: str, option: str) -> None:
    outcome = one(answers(GOOD), f"S: 220\nC: {text}\nS: 500")
    assert outcome == Outcome(Verdict.NOT_TESTABLE, f"needs {option}")


def test_what_is_delivered_needs_a_maildir() -> None:
    assert one(answers(GOOD), "S: 220\nM: 1") == Outcome(Verdict.NOT_TESTABLE, "needs --maildir")


def test_what_is_delivered_is_found_by_its_token(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "other").write_bytes(b"another message\r\n")

    def deliver(peer: socket.socket) -> None:
        peer.sendall(b"220 x\r\n")
        token = peer.makefile("rb").readline()
        (tmp_path / "new" / token.decode().strip()).write_bytes(b"A: b\r\n\r\n" + token)
        peer.sendall(b"250 x\r\n")

    offers = answers(GOOD)
    seen: list[socket.socket] = []

    def session(peer: socket.socket) -> None:
        # The first connection asks what is offered.
        seen.append(peer)
        (offers if len(seen) == 1 else deliver)(peer)

    case = "S: 220\nC: {token}\nS: 250\nM: ~ ^A: b$"
    assert one(session, case, maildir=tmp_path) == Outcome(Verdict.PASS)


def test_the_limit_of_size_is_asked_for() -> None:
    assert one(answers(GOOD), "S: 220\nC: X {size} {oversize}\nS: 5xx").verdict is Verdict.PASS
    unlimited = GOOD | {"EHLO": b"250-x\r\n250 SIZE 0\r\n"}
    assert one(answers(unlimited), "S: 220\nC: {size}\nS: 5xx").verdict is Verdict.NOT_TESTABLE


def test_a_name_and_a_password_are_sent_as_plain_wants_them() -> None:
    session = answers(GOOD | {"AG1LAHNLY3JLDA==": b"299 that\r\n"})
    assert one(session, "S: 220\nC: {auth_plain}\nS: 299", user=("me", "secret")).verdict is Verdict.PASS


def test_a_server_that_hangs_is_a_failure_after_the_time() -> None:
    def session(peer: socket.socket) -> None:
        peer.sendall(b"220 x\r\n")
        lines = peer.makefile("rb")
        while line := lines.readline():
            if line.startswith(b"EHLO"):
                peer.sendall(b"250 x\r\n")

    begun = time.monotonic()
    outcome = one(session, "@ehlo\nC: NOOP\nS: 250", timeout_s=0.3)
    assert outcome == Outcome(Verdict.FAIL, "250 was to come: nothing came")
    assert time.monotonic() - begun < 5


def test_a_server_that_closes_is_a_failure_unless_it_may() -> None:
    def session(peer: socket.socket) -> None:
        peer.sendall(b"220 x\r\n")
        lines = peer.makefile("rb")
        lines.readline()
        peer.sendall(b"250 x\r\n")
        lines.readline()

    failed, passed = verdicts(
        session,
        "== 1 MUST a: rule\n@ehlo\nC: NOOP\nS: 250\n== 1 MUST b: rule\n@ehlo\nC: NOOP\nS: 250 or closed\n",
    )
    assert failed == Outcome(Verdict.FAIL, "250 was to come: the connection was closed")
    assert passed == Outcome(Verdict.PASS)


def test_a_server_that_is_busy_is_asked_again_and_then_is_not_testable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.conformance.runner.CONNECT_AGAIN_S", 0.01)
    offers = answers(GOOD)
    connections: list[int] = []

    def session(peer: socket.socket) -> None:
        connections.append(1)
        if len(connections) == 1:
            offers(peer)
        else:
            peer.sendall(b"421 4.3.2 busy\r\n")

    outcome = one(session, "@ehlo\nC: NOOP\nS: 250")
    assert outcome.verdict is Verdict.NOT_TESTABLE
    assert "421 4.3.2 busy" in outcome.reason
    assert len(connections) == 1 + CONNECT_TRIES


def test_results_come_in_the_order_of_the_cases_with_progress() -> None:
    steps = "".join(
        f"== 1 MUST a{number}: rule\n{'W: 0.2' if not number else ''}\nS: 220\n" for number in range(9)
    )
    cases = parse(f"rfc 5321: x\n{steps}", "x.txt")
    told: list[int] = []
    with FakeServer(answers(GOOD)) as server:
        target = Target(host="127.0.0.1", port=server.port, jobs=4)
        results = list(run(target, cases, probe(target), progress=told.append))
    assert [result.case for result in results] == cases
    assert told == list(range(1, 10))


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        probe(Target(host="127.0.0.1", port=free_port(), timeout_s=1.0))


@pytest.mark.parametrize("banner", [b"554 no\r\n", b"HTTP/1.1 400 Bad Request\r\n", b""])
def test_a_port_without_smtp_is_unreachable(banner: bytes) -> None:
    def session(peer: socket.socket) -> None:
        peer.sendall(banner)

    with FakeServer(session) as server, pytest.raises(Unreachable):
        probe(Target(host="127.0.0.1", port=server.port, timeout_s=1.0))


def test_a_port_without_tls_is_unreachable_with_it() -> None:
    with FakeServer(answers(GOOD)) as server, pytest.raises(Unreachable, match="TLS"):
        probe(Target(host="127.0.0.1", port=server.port, timeout_s=1.0, is_tls=True))


def test_a_server_that_goes_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.conformance.runner.CONNECT_AGAIN_S", 0.01)
    with FakeServer(answers(GOOD)) as server:
        target = Target(host="127.0.0.1", port=server.port, timeout_s=1.0)
        offer = probe(target)
    (result,) = run(target, parse("rfc 1: x\n== 1 MUST a: rule\nS: 220", "x.txt"), offer)
    assert result.outcome.verdict is Verdict.ERROR


def heard(octets: bytes) -> Event:
    """Return what is read of a server that says some octets and closes."""

    def session(peer: socket.socket) -> None:
        peer.sendall(octets)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)

    with (
        FakeServer(session) as server,
        Wire("127.0.0.1", server.port, timeout_s=2.0, is_tls=False) as wire,
    ):
        return wire.read()


@pytest.mark.parametrize(
    ("octets", "event"),
    [
        (b"250 ok\r\n", Reply("250", ("ok",))),
        (b"250\r\n", Reply("250", ("",))),
        (b"250 \r\n", Reply("250", ("",))),
        (b"250-a\r\n250-\r\n250 c\r\n", Reply("250", ("a", "", "c"))),
        (b"250-a\r\n", Garbled(b"250- and no more")),
        (b"250 ok\n", Reply("250", ("ok",), ("a line does not end with CRLF",))),
        (b"250-a\r\n251 b\r\n", Reply("251", ("a", "b"), ("lines with different codes",))),
        (b"250 a\x1b[2J\r\n", Reply("250", ("a\x1b[2J",), ("control characters",))),
        (b"150 ok\r\n", Garbled(b"150 ok\r\n")),
        (b"25 ok\r\n", Garbled(b"25 ok\r\n")),
        (b"250ok\r\n", Garbled(b"250ok\r\n")),
        (b"\r\n", Garbled(b"\r\n")),
        (b"250 ok", Garbled(b"250 ok")),
        (b"", Closed()),
    ],
)
def test_a_reply(octets: bytes, event: Event) -> None:
    assert heard(octets) == event


def test_a_line_of_a_reply_at_its_limit_and_one_past_it() -> None:
    longest = b"250 " + b"x" * (REPLY_LINE_MAX - 6) + b"\r\n"
    assert heard(longest) == Reply("250", ("x" * (REPLY_LINE_MAX - 6),))
    longer = heard(b"250 " + b"x" * (REPLY_LINE_MAX - 5) + b"\r\n")
    assert isinstance(longer, Reply)
    assert longer.flaws == (f"a line of {REPLY_LINE_MAX + 1} octets",)


def test_a_reply_without_end_is_not_read_for_ever() -> None:
    assert isinstance(heard(b"250-x\r\n" * (REPLY_LINES_MAX + 1)), Garbled)
    assert isinstance(heard(b"250-x\r\n" * (REPLY_LINES_MAX - 1) + b"250 x\r\n"), Reply)
    assert isinstance(heard(b"x" * (REPLY_BYTES_MAX + 20_000)), Garbled)


def test_nothing_is_silence() -> None:
    with (
        FakeServer(lambda peer: (peer.recv(1), None)[1]) as server,
        Wire("127.0.0.1", server.port, timeout_s=2.0, is_tls=False) as wire,
    ):
        begun = time.monotonic()
        assert wire.read(0.1) == Silent()
        assert time.monotonic() - begun < 1
