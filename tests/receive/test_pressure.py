from __future__ import annotations

import pytest

from penstock.receive.pressure import (
    DELAYED_POLLS_MAX,
    RESOURCES,
    Change,
    Level,
    Marks,
    Pressure,
)
from penstock.receive.storage import Storage
from penstock.smtp import replies

LOW, MEDIUM, HIGH = Level.LOW, Level.MEDIUM, Level.HIGH


def pressure(resource: str, medium: float, high: float) -> Pressure:
    return Pressure({resource: Marks(medium=medium, high=high)})


@pytest.mark.parametrize(
    ("resource", "marks", "readings"),
    [
        (
            "memory",
            (72, 75),
            [
                *((71.9, LOW), (72, MEDIUM), (71, MEDIUM), (70.5, LOW), (74.9, MEDIUM), (75, HIGH)),
                # Falling: to medium a third above its mark, not at once; to low below it.
                *((74, HIGH), (73, HIGH), (72.9, MEDIUM), (70.4, LOW), (100, HIGH), (0, LOW)),
            ],
        ),
        (
            "queue_length",
            (10_000, 15_000),
            [(9_999, LOW), (10_000, MEDIUM), (2_000, MEDIUM), (1_999, LOW), (15_000, HIGH), (9_999, MEDIUM)],
        ),
        ("commit_latency", (2_000, 10_000), [(1_999, LOW), (2_000, MEDIUM), (1_000, MEDIUM), (999, LOW)]),
        ("descriptors", (80, 90), [(80, MEDIUM), (76, MEDIUM), (75.9, LOW), (90, HIGH), (83.2, MEDIUM)]),
    ],
)
def test_levels_rise_at_their_marks_and_fall_below_them(
    resource: str, marks: tuple[float, float], readings: list[tuple[float, Level]]
) -> None:
    watched = pressure(resource, *marks)
    seen = []
    for value, _ in readings:
        watched.poll({resource: value})
        seen.append((value, watched.levels()[resource]))
    assert seen == readings


def test_only_changes_are_told() -> None:
    watched = pressure("memory", 72, 75)
    assert watched.poll({"memory": 10}) == []
    assert watched.poll({"memory": 72}) == [Change("memory", LOW, MEDIUM, 72)]
    assert watched.poll({"memory": 73}) == []
    assert watched.poll({"memory": 99}) == [Change("memory", MEDIUM, HIGH, 99)]
    assert watched.poll({}) == []
    assert watched.poll({"memory": 0}) == [Change("memory", HIGH, LOW, 0)]


@pytest.mark.parametrize("resource", ["memory", "descriptors"])
def test_what_cannot_wait_is_refused_at_once(resource: str) -> None:
    watched = pressure(resource, 72, 75)
    watched.poll({resource: 72})
    assert (watched.refuses_others, watched.refuses_all, watched.delay_ms) == (True, False, 0)
    watched.poll({resource: 75})
    assert (watched.refuses_others, watched.refuses_all, watched.delay_ms) == (True, True, 0)
    watched.poll({resource: 1})
    assert (watched.refuses_others, watched.refuses_all, watched.delay_ms) == (False, False, 0)


@pytest.mark.parametrize("resource", ["queue_length", "commit_latency"])
def test_what_can_wait_waits_longer_and_longer_and_is_refused_in_the_end(resource: str) -> None:
    watched = pressure(resource, 100, 200)
    delays = []
    for _ in range(12):
        watched.poll({resource: 100})
        delays.append(watched.delay_ms)
    assert delays == [10_000, 15_000, 20_000, 25_000, 30_000, 35_000, 40_000, 45_000, 50_000, *[55_000] * 3]
    assert not watched.refuses_others
    for _ in range(DELAYED_POLLS_MAX - 12):
        watched.poll({resource: 100})
    assert not watched.refuses_others
    watched.poll({resource: 100})
    assert watched.refuses_others
    watched.poll({resource: 1})
    assert (watched.refuses_others, watched.delay_ms) == (False, 0)
    watched.poll({resource: 200})
    assert watched.refuses_others, "high waits for nothing"
    assert not watched.refuses_all, "connections are not what is short"


def test_what_has_no_marks_is_not_looked_at() -> None:
    watched = Pressure({})
    assert watched.poll(dict.fromkeys(RESOURCES, 1e9)) == []
    assert (watched.refuses_others, watched.refuses_all, watched.delay_ms) == (False, False, 0)


def test_our_own_servers_are_heard_longer() -> None:
    watched = pressure("memory", 72, 75)
    storage = Storage(watched)
    refusals = []
    for value in (0, 72, 75, 72.5, 0):
        watched.poll({"memory": value})
        storage.look()
        refusals.append((storage.others.refusal, storage.servers.refusal))
    short = replies.INSUFFICIENT_STORAGE
    assert refusals == [(None, None), (short, None), (short, short), (short, None), (None, None)]


def test_room_on_the_disk_does_not_end_the_pressure() -> None:
    watched = pressure("memory", 72, 75)
    storage = Storage(watched)
    watched.poll({"memory": 72})
    storage.refused("disk_full")
    assert storage.servers.refusal == replies.INSUFFICIENT_STORAGE
    storage.try_again()
    assert (storage.others.refusal, storage.servers.refusal) == (replies.INSUFFICIENT_STORAGE, None)
    storage.refused("poisoned")
    assert storage.others.refusal == storage.servers.refusal == replies.LOCAL_FAILURE
