"""How problems read, for people and for programs."""

from __future__ import annotations

import json

import pytest

from penstock.config.problems import Problem
from penstock.config.render import as_json, as_text, headline


def problem(code: str = "C101", **fields: object) -> Problem:
    known: dict[str, object] = {
        "file": "/etc/penstock/penstock.toml",
        "line": 14,
        "column": 1,
        "path": "queue.mesage_retry_interval",
        "message": "Unknown key. Did you mean message_retry_interval?",
        "fix": 'message_retry_interval = "1m"',
        "source_line": 'mesage_retry_interval = "1m"',
        "width": 21,
    }
    return Problem(code=code, **(known | fields))  # type: ignore[arg-type]


def test_problem_shows_its_line_a_mark_the_rule_and_what_to_write() -> None:
    assert as_text([problem()]) == (
        "error C101  /etc/penstock/penstock.toml:14:1   queue.mesage_retry_interval\n"
        '    14 | mesage_retry_interval = "1m"\n'
        "       | ^^^^^^^^^^^^^^^^^^^^^\n"
        "  Unknown key. Did you mean message_retry_interval?\n"
        '  write:  message_retry_interval = "1m"'
    )


def test_problem_of_a_whole_file_has_no_line() -> None:
    whole = problem("C114", line=0, column=0, path="", source_line="", fix=None, message="Permission denied.")
    assert as_text([whole]) == "error C114  /etc/penstock/penstock.toml\n  Permission denied."


def test_lines_of_a_fix_stand_below_each_other() -> None:
    assert as_text([problem(fix="a = 1\nb = 2")]).endswith("\n  write:  a = 1\n          b = 2")


def test_mark_stays_below_what_is_meant_beside_tabs_and_control_characters() -> None:
    text = as_text([problem(source_line="\t\x1b[31mname = x", column=7, width=4, fix=None)])
    assert text.split("\n")[1:3] == ["    14 |  ?[31mname = x", "       |       ^^^^"]


def test_long_line_is_cut_around_what_is_meant() -> None:
    text = as_text([problem(source_line="a" * 5_000 + "HERE" + "b" * 5_000, column=5_001, width=4)])
    _, shown, mark, *_ = text.split("\n")
    assert len(shown) < 140
    assert shown[mark.index("^") : mark.rindex("^") + 1] == "HERE"


@pytest.mark.parametrize("column", [1, 28, 29, 200])
@pytest.mark.parametrize("width", [1, 21, 5_000])
def test_mark_never_leaves_its_line(column: int, width: int) -> None:
    _, shown, mark, *_ = as_text([problem(column=column, width=width)]).split("\n")
    assert len(mark) <= max(len(shown), column + 9)


def test_text_is_bounded() -> None:
    text = as_text([problem()] * 1_000)
    assert text.count("error C101") == 50
    assert text.endswith("\n\nand 950 more")


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        (["C101", "C120", "C202"], "configuration refused: 2 errors, 1 warning."),
        (["C101"], "configuration refused: 1 error."),
        (["C202", "C203", "C301"], "configuration accepted: 2 warnings, 1 note."),
        ([], "configuration accepted."),
    ],
)
def test_headline_counts(codes: list[str], text: str) -> None:
    assert headline([problem(code) for code in codes]) == text


def test_json_is_one_line_with_a_fixed_order() -> None:
    line = as_json(problem(message="é\n"))
    assert "\n" not in line
    assert list(json.loads(line).items()) == [
        ("code", "C101"),
        ("severity", "error"),
        ("file", "/etc/penstock/penstock.toml"),
        ("line", 14),
        ("column", 1),
        ("path", "queue.mesage_retry_interval"),
        ("message", "é\n"),
        ("fix", 'message_retry_interval = "1m"'),
    ]


def test_json_of_a_whole_file_has_no_line() -> None:
    fields = json.loads(as_json(problem("C114", line=0, column=0, fix=None)))
    assert (fields["line"], fields["column"], fields["fix"]) == (None, None, None)
