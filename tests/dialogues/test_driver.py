"""Short runs of the driver, each with a new seed; long ones are `python -m tests.dialogues.driver`."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialogues.driver import Driver
from tests.dialogues.meetings import Meetings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("penstock._core") is None, reason="penstock._core is not built"
)

STEPS = 20_000
SEED_OF_TEETH = 3


@pytest.fixture
def driver(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Driver]:
    seed = getattr(request, "param", None) or random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    driver = Driver(tmp_path, seed)
    yield driver
    driver.close()


def test_random_sessions_do_no_harm(driver: Driver) -> None:
    driver.run(STEPS)
    assert driver.known > STEPS // 100, "hardly anything was in order"


def test_random_sessions_do_no_harm_where_all_of_reception_meets(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    meetings = Meetings(tmp_path, seed)
    try:
        meetings.run(STEPS)
        assert meetings.known > 0, "nothing was in order"
    finally:
        meetings.close()


def test_a_right_that_nobody_has_given_is_seen(tmp_path: Path) -> None:
    meetings = Meetings(tmp_path, SEED_OF_TEETH)
    for connector in meetings.receiver._connectors.values():
        connector.policy._may_relay = True
    try:
        with pytest.raises(AssertionError, match=r"internet|users|lmtp"):
            meetings.run(STEPS)
    finally:
        meetings.close()


@pytest.mark.parametrize("driver", [SEED_OF_TEETH], indirect=True)
def test_what_is_raised_ends_the_run_and_names_the_octets(driver: Driver) -> None:
    commands = driver.receiver.commands

    def fails_at_vrfy(event: Any, actions: list[Any], now_ms: int) -> None:
        if any(item[0] == "VRFY" for item in event[3]):
            raise KeyError("VRFY")
        commands(event, actions, now_ms)

    driver.receiver.commands = fails_at_vrfy  # type: ignore[method-assign]
    with pytest.raises(KeyError) as raised:
        driver.run(STEPS)
    assert "VRFY <a@b>" in raised.value.__notes__[0]


@pytest.mark.parametrize("driver", [SEED_OF_TEETH], indirect=True)
def test_a_message_that_nobody_heard_of_is_missed(driver: Driver) -> None:
    received = driver.receiver.content

    def accepts_twice(event: Any, actions: list[Any], now_ms: int) -> None:
        received(event, actions, now_ms)
        driver.known += 1

    driver.receiver.content = accepts_twice  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        driver.run(STEPS)


@pytest.mark.parametrize("driver", [SEED_OF_TEETH], indirect=True)
def test_a_state_that_nothing_leads_to_is_seen(driver: Driver) -> None:
    commands = driver.receiver.commands

    def forgets(event: Any, actions: list[Any], now_ms: int) -> None:
        commands(event, actions, now_ms)
        connection = driver.receiver._connections.get(event[1])
        if connection is not None and connection.session.state == "closed":
            connection.session.state = connection.session.state.__class__("greeted")

    driver.receiver.commands = forgets  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        driver.run(STEPS)
