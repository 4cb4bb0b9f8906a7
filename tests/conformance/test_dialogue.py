"""One case, played without sockets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.conformance.case import parse
from penstock.conformance.dialogue import (
    Action,
    Handshake,
    Look,
    Outcome,
    Pause,
    Read,
    Reconnect,
    Send,
    Verdict,
    play,
)
from penstock.conformance.expectation import Closed, Event, Garbled, Reply, Silent, parse_reply

VALUES = {
    "client": "client.test",
    "from": "me@a.test",
    "rcpt": "you@b.test",
    "token": "t1",
    "any": "r{i}@c.test",
}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def played(steps: str, *told: Any, is_secured: bool = False) -> tuple[Outcome, list[Action]]:
    """Play a case whose questions are answered in order; return the verdict and what was done."""
    case = parse(f"rfc 5321: x\n== 1 MUST a: rule\n{steps}", "x.txt")[0]
    playing = play(case, VALUES, is_secured=is_secured, now=NOW)
    answers = iter(told)
    done: list[Action] = []
    answer: Any = None
    while True:
        try:
            action = playing.send(answer)
        except StopIteration as ended:
            assert not list(answers), "the case ended before it was told everything"
            return ended.value, done
        done.append(action)
        answer = next(answers) if isinstance(action, Read | Handshake | Look) else None


def ok(code: str, *lines: str) -> Reply:
    return Reply(code, lines or ("fine",))


def test_what_came_as_expected_passes() -> None:
    outcome, done = played("S: 220\nC: NOOP\nS: 250", ok("220"), ok("250"))
    assert outcome == Outcome(Verdict.PASS)
    assert done == [Read(), Send(b"NOOP\r\n"), Read()]


def test_what_did_not_is_a_failure_that_says_both() -> None:
    outcome, _ = played("S: 220\nC: NOOP\nS: 250", ok("220"), ok("503", "5.5.1 no"))
    assert outcome == Outcome(Verdict.FAIL, "250 was to come: 503 5.5.1 no")


def test_lines_in_a_row_are_one_segment_and_a_wait_divides_them() -> None:
    _, done = played("C: NOOP\nR: RS\nW: 0.1\nR: ET\\r\\n\nS: 250", ok("250"))
    assert done == [Send(b"NOOP\r\nRS"), Pause(0.1), Send(b"ET\r\n"), Read()]


def test_a_step_is_repeated_with_its_number() -> None:
    outcome, done = played("C*2: RCPT TO:<{any}>\nS*2: 250", ok("250"), ok("452"))
    assert done[0] == Send(b"RCPT TO:<r0@c.test>\r\nRCPT TO:<r1@c.test>\r\n")
    assert "(number 2)" in outcome.reason


def test_chunks_are_counted_after_their_names_were_replaced() -> None:
    _, done = played("B: {token}\\r\\n\nL: \\x00\\xff\nS: 250", ok("250"))
    assert done[0] == Send(b"BDAT 4\r\nt1\r\nBDAT 2 LAST\r\n\x00\xff")


def test_times_are_counted_from_now() -> None:
    _, done = played("C: {utc:60}\nS: 250", ok("250"))
    assert done[0] == Send(b"2026-01-02T03:05:05Z\r\n")


def test_a_preparation_that_fails_says_nothing_of_the_rule() -> None:
    outcome, _ = played("@mail\nC: NOOP\nS: 250", ok("220"), ok("250"), ok("550", "no"))
    assert outcome.verdict is Verdict.NOT_TESTABLE
    assert "550 no" in outcome.reason


@pytest.mark.parametrize(
    ("pattern", "verdict"), [("250", Verdict.NOT_TESTABLE), ("421", Verdict.PASS), ("4xx", Verdict.PASS)]
)
def test_a_session_that_the_server_ends_is_no_failure(pattern: str, verdict: Verdict) -> None:
    assert played(f"S: {pattern}", ok("421", "busy"))[0].verdict is verdict


def test_preparations_begin_tls_where_that_is_wanted() -> None:
    outcome, done = played(
        "@mail\nC: NOOP\nS: 250",
        *(ok(code) for code in ("220", "250", "220")),
        "",
        *3 * (ok("250"),),
        is_secured=True,
    )
    assert outcome.verdict is Verdict.PASS
    assert done[3:6] == [Send(b"STARTTLS\r\n"), Read(), Handshake()]


@pytest.mark.parametrize(
    ("text", "failure", "verdict"),
    [
        ("T:", "", Verdict.PASS),
        ("T:", "no", Verdict.FAIL),
        ("T: maybe", "no", Verdict.PASS),
        ("T: maybe", "", Verdict.FAIL),
    ],
)
def test_a_handshake(text: str, failure: str, verdict: Verdict) -> None:
    told = [failure] if failure else ["", ok("500")] if "maybe" in text else [""]
    follows = "" if failure or "maybe" not in text else "\nS: silence"
    assert played(text + follows, *told)[0].verdict is verdict


@pytest.mark.parametrize(
    ("pattern", "messages", "verdict"),
    [
        ("1", ["a"], Verdict.PASS),
        ("1", [], Verdict.FAIL),
        ("1", ["a", "a"], Verdict.FAIL),
        ("0", [], Verdict.PASS),
        ("0", ["a"], Verdict.FAIL),
        ("~ ^b$", ["a\nb\nc"], Verdict.PASS),
        ("~ ^b$", ["a\nbb\nc"], Verdict.FAIL),
        ("!~ ^b$", ["a\nb\nc"], Verdict.FAIL),
        ("2 ~ a", ["a", "b"], Verdict.FAIL),
    ],
)
def test_what_was_delivered(pattern: str, messages: list[str], verdict: Verdict) -> None:
    assert played(f"M: {pattern}", messages)[0].verdict is verdict


def test_a_new_connection() -> None:
    assert played("N:\nS: 220", ok("220"))[1] == [Reconnect(), Read()]


def test_silence_is_not_waited_for_long() -> None:
    read = played("S: silence or closed", Silent())[1][0]
    assert isinstance(read, Read)
    assert read.wait_s is not None
    assert read.wait_s < 1


@pytest.mark.parametrize(
    ("pattern", "event", "fits"),
    [
        ("250", ok("250"), True),
        ("250", ok("251"), False),
        ("25x", ok("259"), True),
        ("xxx", ok("500"), True),
        ("250 or 5xx", ok("554"), True),
        ("250 2.x.x", ok("250", "2.1.0 ok"), True),
        ("250 2.1.5", ok("250", "2.1.0 ok"), False),
        ("250 2.x.x", ok("250", "ok 2.1.0"), False),
        ("250 2.x.x", ok("250", "2.1.0"), True),
        ("250 2.x.x", ok("250", "2.1.0ok"), False),
        ("250 strict", ok("250"), True),
        ("250 strict", Reply("250", ("x",), ("a flaw",)), False),
        ("250", Reply("250", ("x",), ("a flaw",)), True),
        ("250 ~ ^size", ok("250", "name", "SIZE 10"), True),
        ("250 ~ ^size", ok("250", "name"), False),
        ("250 !~ ^size", ok("250", "name", "SIZE 10"), False),
        ("250 !~ ^size", ok("250", "name"), True),
        ("closed", Closed(), True),
        ("closed", Silent(), False),
        ("silence", Silent(), True),
        ("silence", ok("250"), False),
        ("250", Closed(), False),
        ("250", Silent(), False),
        ("xxx", Garbled(b"x"), False),
        ("garbled", Garbled(b"x"), True),
    ],
)
def test_a_pattern(pattern: str, event: Event, fits: bool) -> None:
    assert parse_reply(pattern).fits(event) is fits
    assert str(event)
