"""How cases are written, and what holds for all that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.conformance.case import Case, CaseError, all_cases, parse
from penstock.conformance.values import names_in

CASES = all_cases()
ROOT = Path(__file__).resolve().parents[2]

EXAMPLE = """\
rfc 5321: Simple Mail Transfer Protocol
needs: PIPELINING

# A comment.
== 4.1.4 MUST mail-first: what it says: all of it
needs: SIZE, auth=plain
channel: tls
@ehlo
C*3: MAIL FROM:<{from}>
S: 503 5.5.1 or closed
== 4.1.4 SHOULD other: something else
S: 220
"""


def test_a_case_is_read_with_what_its_file_says_for_all() -> None:
    first, second = parse(EXAMPLE, "x.txt")
    assert (first.id, first.rfc, first.section, first.level) == (
        "5321-4.1.4-mail-first",
        5321,
        "4.1.4",
        "MUST",
    )
    assert first.rule == "what it says: all of it"
    assert (first.needs, first.channel) == (("SIZE", "AUTH=PLAIN"), "tls")
    assert [(step.kind, step.count) for step in first.steps] == [("@", 1), ("C", 3), ("S", 1)]
    assert (second.needs, second.channel) == (("PIPELINING",), "plain")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("S: 220", "before the first case"),
        ("== 1 MUST a: rule\nS: 220", "comes first"),
        ("rfc 1: x\n== 1 MUST: rule", "not `=="),
        ("rfc 1: x\n== 1 SHALL a: rule", "a level is one of"),
        ("rfc 1: x\n== 1 MUST a: rule\nS: 2200", "not what a server can say"),
        ("rfc 1: x\n== 1 MUST a: rule\nS: 220 ~ (", "not a regular expression"),
        ("rfc 1: x\n== 1 MUST a: rule\nX: 220", "not a step"),
        ("rfc 1: x\n== 1 MUST a: rule\nC: {nobody}\nS: 220", "nothing is called nobody"),
        ("rfc 1: x\n== 1 MUST a: rule\nW: long", "could not convert"),
        ("rfc 1: x\n== 1 MUST a: rule\nR: \\x4\nS: 220", "unicodeescape"),
        ("rfc 1: x\n== 1 MUST a: rule\nT: perhaps", "`maybe`"),
        ("rfc 1: x\n== 1 MUST a: rule\n@breakfast", "a preparation is one of"),
        ("rfc 1: x\n== 1 MUST a: rule\nC: NOOP", "expects nothing"),
        ("rfc 1: x\n== 1 MUST a: rule\nchannel: pigeon\nS: 220", "a channel is one of"),
        ("rfc 1: x\n== 1 MUST a: rule\nS: 220\n== 1 MUST a: rule\nS: 220", "there twice"),
    ],
)
def test_what_is_not_a_case_is_refused_with_its_place(wrong: str, why: str) -> None:
    with pytest.raises(CaseError, match=re.escape(why)) as refused:
        parse(wrong, "x.txt")
    assert "x.txt" in str(refused.value)


def test_there_are_250_rules_and_no_dialogue_is_there_twice() -> None:
    assert len(CASES) >= 250
    seen: dict[object, Case] = {}
    for case in CASES:
        key = (case.steps, case.needs, case.lacks, case.channel)
        assert key not in seen, f"{case.id} and {seen[key].id} are the same dialogue"
        seen[key] = case


def test_ids_are_of_one_case_each() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


def test_every_rfc_of_the_matrix_is_in_the_table_of_rfcs() -> None:
    listed = set(re.findall(r"\| RFC (\d+) \|", (ROOT / "RFCS.md").read_text(encoding="utf-8")))
    assert {str(case.rfc) for case in CASES} <= listed


def test_every_file_of_cases_is_named_for_its_rfc() -> None:
    folder = ROOT / "python" / "penstock" / "conformance" / "cases"
    for path in folder.iterdir():
        assert {f"rfc{case.rfc}.txt" for case in parse(path.read_text(encoding="utf-8"), path.name)} == {
            path.name
        }


def test_names_in_braces_are_not_marks_of_an_address() -> None:
    assert names_in("a!#$%&'*+-/=?^_`{|}~b@{from_domain}") == {"from_domain"}
