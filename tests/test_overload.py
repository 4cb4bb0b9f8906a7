"""Readings come from where they are said to come, and lead to what is said to follow."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from penstock.overload import Overload, memory_limit_bytes, room_for_connections
from penstock.receive.pressure import Marks, Pressure


class Told:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.acted = 0

    def journal(self, event: str, now_ms: int, /, **fields: Any) -> None:
        self.events.append({"event": event, "at": now_ms, **fields})

    def act(self) -> None:
        self.acted += 1


async def test_readings_are_taken_every_two_seconds(autojump_clock: trio.testing.MockClock) -> None:
    told = Told()
    queue = [("queue_messages", ("delivery", "ready"), 3.0), ("queues", ("ready",), 900.0)]
    syncs = {"sum": 0.0, "count": 0.0}

    def core() -> list[tuple[str, tuple[str, ...], float]]:
        return [
            ("spool_sync_seconds_sum", ("0",), syncs["sum"]),
            ("spool_sync_seconds_bucket", ("0", "0.1"), 0.0),
            ("spool_sync_seconds_bucket", ("0", "+Inf"), syncs["count"]),
        ]

    overload = Overload(
        Pressure(
            {"queue_length": Marks(medium=10, high=20), "commit_latency": Marks(medium=500, high=1_000)}
        ),
        core_samples=core,
        queue_samples=lambda: list(queue),
        act=told.act,
        journal=told.journal,
        now_ms=lambda: 7,
    )
    # Reading in a thread would look idle to this clock, which would then run ahead.
    autojump_clock.autojump_threshold = 0.2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(overload.run)
        await trio.sleep(1)
        assert (told.acted, told.events) == (1, [])
        queue.append(("queue_messages", ("delivery", "retry"), 17.0))
        await trio.sleep(2)
        assert told.acted == 2
        # A hundred syncs of 700 ms; that there were none before says nothing about these.
        syncs.update(sum=70.0, count=100.0)
        await trio.sleep(2)
        syncs.update(sum=70.1, count=110.0)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert told.events == [
        {
            "event": "PRESSURE",
            "at": 7,
            "resource": resource,
            "before": before,
            "now": now,
            "reading": reading,
        }
        for resource, before, now, reading in (
            ("queue_length", "low", "high", 20),
            ("commit_latency", "low", "medium", 700),
            ("commit_latency", "medium", "low", 10),
        )
    ]
    assert list(overload.samples()) == [
        ("pressure_level", ("queue_length",), 2.0),
        ("pressure_level", ("commit_latency",), 0.0),
    ]
    assert [name for name, _ in overload.alarms()] == ["back_pressure_queue_length"]


def test_what_the_process_has_is_a_share_of_what_it_may_have() -> None:
    overload = Overload(
        Pressure({}),
        core_samples=list,
        queue_samples=list,
        act=lambda: None,
        journal=lambda *_: None,
        now_ms=lambda: 0,
    )
    readings = overload._of_process()
    assert 0 < readings["memory"] < 100
    before = readings["descriptors"]
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    try:
        assert overload._of_process()["descriptors"] > before > 0
    finally:
        for number in opened:
            os.close(number)


def test_the_limit_of_a_control_group_counts_if_it_is_the_smaller_one(tmp_path: Path) -> None:
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal:        1000 kB\nMemFree: 1 kB\n", encoding="ascii")
    assert memory_limit_bytes(limit, info) == 1_024_000
    for text, bytes_ in (("max\n", 1_024_000), ("4096\n", 4096), ("999999999999\n", 1_024_000)):
        limit.write_text(text, encoding="ascii")
        assert memory_limit_bytes(limit, info) == bytes_


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(20, 10), (100, 50), (256, 192), (1024, 768), (20_000, 18_976), (1 << 20, 50_000), (-1, 50_000)],
)
def test_descriptors_are_kept_back(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert room_for_connections() == connections


async def test_without_a_descriptor_to_count_them_there_are_none_left(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    overload = Overload(
        Pressure({"descriptors": Marks(medium=80, high=90)}),
        core_samples=list,
        queue_samples=list,
        act=told.act,
        journal=told.journal,
        now_ms=lambda: 7,
    )

    def too_many(_: object) -> list[str]:
        raise OSError(24, "Too many open files")

    autojump_clock.autojump_threshold = 0.2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(overload.run)
        await trio.sleep(1)
        with monkeypatch.context() as patched:
            patched.setattr(os, "listdir", too_many)
            await trio.sleep(2)
        assert told.events == [
            {
                "event": "PRESSURE",
                "at": 7,
                "resource": "descriptors",
                "before": "low",
                "now": "high",
                "reading": 100,
            }
        ]
        nursery.cancel_scope.cancel()
