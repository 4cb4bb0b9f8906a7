from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.receive.verdicts import Verdicts

Actions = list[tuple[Any, ...]]


class Rig:
    def __init__(self, nursery: trio.Nursery, **options: Any) -> None:
        self.applied: list[Actions] = []
        self.verdicts = Verdicts(self.applied.append, **options)
        self.nursery = nursery

    async def start(self) -> None:
        await self.nursery.start(self.verdicts.run)

    def ask(self, conn: int, sleep_s: float, *, within_s: float = 10.0) -> bool:
        async def question() -> str:
            await trio.sleep(sleep_s)
            return f"answer {conn}"

        def then(answer: str | None, actions: Actions) -> None:
            actions.append((conn, answer))

        return self.verdicts.ask(conn, question, then, within_s=within_s)


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Rig:
    rig = Rig(nursery, open_max=3)
    await rig.start()
    return rig


async def test_answers_come_when_they_are_there(rig: Rig, autojump_clock: MockClock) -> None:
    assert rig.ask(1, 2.0)
    assert rig.ask(2, 1.0)
    assert rig.applied == []
    await trio.sleep(3)
    assert rig.applied == [[(2, "answer 2")], [(1, "answer 1")]]
    assert rig.ask(1, 0.0), "a connection may ask again"


async def test_an_answer_that_is_late_is_none(rig: Rig, autojump_clock: MockClock) -> None:
    assert rig.ask(1, 20.0)
    await trio.sleep(30)
    assert rig.applied == [[(1, None)]]
    assert rig.verdicts.late == 1


async def test_a_question_that_fails_costs_one_answer(rig: Rig, autojump_clock: MockClock) -> None:
    async def question() -> str:
        await trio.lowlevel.checkpoint()
        raise LookupError("no")

    assert rig.verdicts.ask(1, question, lambda answer, actions: actions.append((1, answer)), within_s=1.0)
    assert rig.ask(2, 0.5)
    await trio.sleep(1)
    assert rig.applied == [[(1, None)], [(2, "answer 2")]]
    assert rig.verdicts.failed == {"LookupError": 1}


async def test_what_a_connection_asked_that_is_gone_is_told_nobody(
    rig: Rig, autojump_clock: MockClock
) -> None:
    assert rig.ask(1, 1.0)
    rig.verdicts.forget(1)
    rig.verdicts.forget(7)
    # The same slot, another connection's question.
    assert rig.ask(1, 5.0)
    await trio.sleep(10)
    assert rig.applied == [[(1, "answer 1")]]


async def test_too_many_questions_are_not_asked(rig: Rig, autojump_clock: MockClock) -> None:
    assert [rig.ask(conn, 1.0) for conn in range(4)] == [True, True, True, False]
    assert not rig.ask(0, 1.0)
    await trio.sleep(2)
    assert rig.ask(4, 1.0)


async def test_nothing_is_asked_while_nobody_runs_it(nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    assert not rig.ask(1, 0.0)
    await wait_all_tasks_blocked()
    assert rig.applied == []
