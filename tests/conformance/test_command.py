"""`penstock test conformance`: exit codes, the table, JSON, and usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli.program import run
from tests.conformance.fake import GOOD, FakeServer, answers
from tests.support.ports import free_port


def test_a_server_that_keeps_what_is_asked_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(answers(GOOD)) as server:
        assert run(["test", "conformance", f"127.0.0.1:{server.port}", "--case", "5321-3.2-ehlo"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [
        *("RFC", "CASES", "PASS", "FAIL", "NOT", "OFFERED", "NOT", "TESTABLE", "ERROR"),
        *("5321", "1", "1", "·", "·", "·", "·"),
        *("all", "1", "1", "·", "·", "·", "·"),
    ]
    assert printed.err == "1 case: 0 MUST and 0 SHOULD are not kept.\n"


def test_a_must_that_is_not_kept_ends_with_1_and_says_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(answers(GOOD)) as server:
        command = ["test", "conformance", f"127.0.0.1:{server.port}", "--case", "5321-4.1.4-nested-mail"]
        assert run(command) == 1
        assert "FAIL  5321-4.1.4-nested-mail  (RFC 5321 4.1.4, MUST)" in capsys.readouterr().out
        assert run(["--json", *command]) == 1
        (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row.pop("seconds") >= 0
    assert row == {
        "case": "5321-4.1.4-nested-mail",
        "rfc": 5321,
        "section": "4.1.4",
        "level": "MUST",
        "rule": "MAIL in a transaction is 503",
        "verdict": "fail",
        "reason": "503 was to come: 250 2.1.0 ok",
    }


def test_a_should_that_is_not_kept_ends_with_0() -> None:
    with FakeServer(answers(GOOD)) as server:
        command = ["test", "conformance", f"127.0.0.1:{server.port}", "--case", "5321-4.1.1.8-help"]
        assert run(command) == 0


def test_what_a_server_says_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(answers(GOOD | {"MAIL": b"550 \x1b[2J\r\n"})) as server:
        command = [
            "test",
            "conformance",
            f"127.0.0.1:{server.port}",
            "--case",
            "5321-4.5.5-null-reverse-path",
        ]
        assert run(command) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_a_server_that_is_not_there_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", "conformance", f"127.0.0.1:{free_port()}"]) == 3
    assert "127.0.0.1" in capsys.readouterr().err


def test_only_one_rfc_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(answers(GOOD)) as server:
        assert run(["--json", "test", "conformance", f"127.0.0.1:{server.port}", "--only", "6710"]) in (0, 1)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["rfc"] for row in rows} == {6710}


@pytest.mark.parametrize(
    "arguments",
    [
        ["127.0.0.1"],
        ["127.0.0.1:"],
        ["127.0.0.1:0"],
        ["127.0.0.1:65536"],
        [":25"],
        ["127.0.0.1:25", "--only", "1"],
        ["127.0.0.1:25", "--case", "5321-none"],
        ["127.0.0.1:25", "--recipient", "nobody"],
        ["127.0.0.1:25", "--recipient", "a b@c"],
        ["127.0.0.1:25", "--recipient", "a@b>\r\nRSET"],
        ["127.0.0.1:25", "--helo", "a b"],
        ["127.0.0.1:25", "--user", "me"],
        ["127.0.0.1:25", "--jobs", "0"],
        ["127.0.0.1:25", "--timeout", "0"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", "conformance", *arguments]) == 2
    assert "Error: " in capsys.readouterr().err


def test_a_password_that_cannot_be_read_ends_with_2(tmp_path: Path) -> None:
    command = [
        "test",
        "conformance",
        "127.0.0.1:25",
        "--user",
        "me",
        "--password-file",
        str(tmp_path / "none"),
    ]
    assert run(command) == 2
