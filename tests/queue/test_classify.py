from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.queue.classify import Fault, Outcome, fault, settle

DUE = 1_763_951_400_000


def outcome(
    state: str, stage: str, code: int = 0, enhanced: str = "4.4.2", text: str = "x", index: int = 0
) -> Outcome:
    return (index, f"r{index}@fabrikam.example", state, stage, code, enhanced, text)


@pytest.mark.parametrize(
    ("state", "stage", "code", "first_use", "later_use"),
    [
        ("deferred", "mail", 421, Fault.HOP, Fault.CONNECTION),
        ("deferred", "mail", 0, Fault.HOP, Fault.CONNECTION),
        ("deferred", "rcpt", 421, Fault.HOP, Fault.HOP),
        ("deferred", "rcpt", 0, Fault.HOP, Fault.HOP),
        ("deferred", "file", 0, Fault.HOP, Fault.HOP),
        ("deferred", "mail", 451, Fault.ENTRY, Fault.ENTRY),
        ("deferred", "mail", 452, Fault.ENTRY, Fault.ENTRY),
        ("deferred", "rcpt", 450, Fault.ENTRY, Fault.ENTRY),
        ("deferred", "rcpt", 552, Fault.ENTRY, Fault.ENTRY),
        ("deferred", "data", 421, Fault.ENTRY, Fault.ENTRY),
        ("deferred", "data", 0, Fault.ENTRY, Fault.ENTRY),
        ("deferred", "dot", 421, Fault.ENTRY, Fault.ENTRY),
        ("deferred", "dot", 0, Fault.ENTRY, Fault.ENTRY),
        ("in_doubt", "dot", 0, Fault.ENTRY, Fault.ENTRY),
        ("delivered", "dot", 250, Fault.ENTRY, Fault.ENTRY),
        ("delivered", "file", 0, Fault.ENTRY, Fault.ENTRY),
        ("failed", "mail", 550, Fault.ENTRY, Fault.ENTRY),
        # What this peer cannot take was never sent to it.
        ("failed", "mail", 0, Fault.ENTRY, Fault.ENTRY),
        ("failed", "rcpt", 550, Fault.ENTRY, Fault.ENTRY),
    ],
)
def test_whose_trouble_it_is(state: str, stage: str, code: int, first_use: Fault, later_use: Fault) -> None:
    for count in (1, 3):
        outcomes = [outcome(state, stage, code, index=index) for index in range(count)]
        assert fault(outcomes, is_reused=False) is first_use
        assert fault(outcomes, is_reused=True) is later_use


@pytest.mark.parametrize("is_reused", [False, True])
def test_a_hop_that_answered_for_a_recipient_is_not_at_fault(is_reused: bool) -> None:
    broken = [outcome("deferred", "rcpt", index=index) for index in range(2)]
    refused = outcome("failed", "rcpt", 550, "5.1.1", "no such user", index=2)
    put_off = outcome("deferred", "rcpt", 450, "4.2.1", "later", index=2)
    for answered in (refused, put_off):
        assert fault([*broken, answered], is_reused=is_reused) is Fault.ENTRY
        assert fault([answered, *broken], is_reused=is_reused) is Fault.ENTRY


def test_recipients_that_are_left_are_due_again() -> None:
    outcomes = [
        outcome("delivered", "dot", 250, index=0),
        outcome("deferred", "rcpt", 450, index=1),
        outcome("failed", "rcpt", 550, index=2),
    ]
    settlement = settle(outcomes, again_ms=DUE)
    assert settlement.outcomes == outcomes
    assert settlement.due_ms == DUE
    assert settlement.reported == [outcomes[2]]


def test_recipients_that_are_left_expire_and_keep_their_last_reply() -> None:
    put_off = outcome("deferred", "rcpt", 450, "4.7.1", "greylisted", index=1)
    unknown = outcome("in_doubt", "dot", 0, "4.4.2", "the connection broke", index=3)
    outcomes = [
        outcome("delivered", "dot", 250, index=0),
        put_off,
        outcome("failed", "rcpt", 550, index=2),
        unknown,
    ]
    settlement = settle(outcomes, again_ms=None)
    expired = [(*one[:2], "expired", *one[3:]) for one in (put_off, unknown)]
    assert settlement.outcomes == [outcomes[0], expired[0], outcomes[2], expired[1]]
    assert settlement.due_ms is None
    assert settlement.reported == [expired[0], outcomes[2], expired[1]]


STATES = st.sampled_from(["delivered", "relayed", "deferred", "failed", "in_doubt", "removed"])


@given(st.lists(STATES, min_size=1, max_size=6), st.sampled_from([None, DUE]))
def test_an_entry_is_finished_exactly_when_nobody_is_left(states: list[str], again_ms: int | None) -> None:
    outcomes = [outcome(state, "dot", index=index) for index, state in enumerate(states)]
    settlement = settle(outcomes, again_ms=again_ms)
    after = [one[2] for one in settlement.outcomes]
    assert [one[:2] for one in settlement.outcomes] == [one[:2] for one in outcomes]
    assert (settlement.due_ms is None) == (not {"deferred", "in_doubt"} & set(after))
    assert settlement.due_ms in {None, again_ms}
    assert [one[2] for one in settlement.reported] == [s for s in after if s in {"failed", "expired"}]
    assert ("expired" in after) == (again_ms is None and bool({"deferred", "in_doubt"} & set(states)))
