"""Queries as an embedding program asks them: real core, real files."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import penstock
from penstock.engine import open_engine
from penstock.errors import EngineStopping, QueryRefused, SpoolFailed, SpoolLocked, Unavailable
from penstock.queries import (
    EVERYTHING,
    Filter,
    MessageProperty,
    QueueProperty,
    Sort,
    among,
    compare,
    decode_cursor,
    encode_cursor,
    is_null,
)
from penstock.querying import Queries, Queryable
from penstock.spool import open_spool

Configure = Callable[..., Path]

SENDER, SIZE = MessageProperty.SENDER, MessageProperty.SIZE_BYTES
DOMAIN, STATUS = MessageProperty.RECIPIENT_DOMAIN, MessageProperty.STATUS


async def submit(engine: penstock.Engine, sender: str | None, *recipients: str, octets: int = 0) -> str:
    envelope = penstock.Envelope(sender=sender, recipients=recipients)
    content = b"Subject: one\r\n\r\n" + b"x" * octets + b"\r\n"
    return str((await engine.submit(envelope, content)).queue_id)


async def fill(engine: penstock.Engine) -> None:
    """Four messages that nobody fetches; one of them is for two domains."""
    await submit(engine, "shop@a.test", "one@Far.test", octets=300)
    await submit(engine, "shop@a.test", "two@far.test", "three@other.test", octets=100)
    await submit(engine, None, "four@far.test", octets=200)
    await submit(engine, "Desk@b.test", "five@other.test", octets=400)


async def pages(engine: Queryable, **arguments: Any) -> AsyncIterator[list[Any]]:
    """Yield the values of the rows of each page."""
    cursor: str | None = None
    while True:
        page = await engine.query_messages(cursor=cursor, **arguments)
        assert page.is_complete
        yield [tuple(row.values()) for row in page.rows]
        cursor = page.next
        if cursor is None:
            return


async def test_messages_are_found_sorted_counted_and_grouped(configure: Configure) -> None:
    async with open_engine(configure()) as engine:
        await fill(engine)
        shop = compare(SENDER, "like", "SHOP@*")
        page = await engine.query_messages(shop & compare(SIZE, "gt", 200), select=[SENDER, DOMAIN, STATUS])
        assert page.rows == ({"sender": "shop@a.test", "recipient_domain": ("Far.test",), "status": "retry"},)
        assert (page.next, page.is_complete) == (None, True)
        assert page.watermarks[0] == page.watermarks[1] > 0
        by_size = [Sort(SIZE, is_descending=True)]
        found = [rows async for rows in pages(engine, select=[SENDER], sort=by_size, limit=3)]
        assert found == [[("Desk@b.test",), ("shop@a.test",), ("",)], [("shop@a.test",)]]
        total = await engine.count(~shop)
        assert (total.count, total.is_complete) == (2, True)
        groups = await engine.group(DOMAIN, top=1)
        assert [(group.value, group.count) for group in groups.groups] == [("far.test", 3)]
        assert (groups.others.count, groups.count, groups.is_exact) == (2, 4, True)
        assert groups.size_bytes == (await engine.count()).size_bytes


async def test_queues_are_found_and_their_number_finds_their_messages(configure: Configure) -> None:
    async with open_engine(configure()) as engine:
        await fill(engine)
        (queue,) = (await engine.query_queues(compare(QueueProperty.COUNT, "ge", 1))).rows
        assert (queue["queue"], queue["delivery_type"], queue["count"]) == ("Unreachable", "unreachable", 4)
        assert queue["send_connector"] is None
        assert set(queue) == {str(one) for one in QueueProperty}
        ours = compare(MessageProperty.HOP, "eq", queue["hop"])
        assert (await engine.count(ours)).count == 4
        assert (await engine.count(ours & compare(MessageProperty.REASON, "eq", "unreachable"))).examined == 4
        groups = await engine.group(QueueProperty.DELIVERY_TYPE)
        assert [(group.value, group.count) for group in groups.groups] == [("unreachable", 1)]


@pytest.mark.parametrize(
    ("where", "at"),
    [
        (compare(SIZE, "eq", "big"), ""),
        (compare(SIZE, "eq", -1), ""),
        (compare(SENDER, "eq", 7) | is_null(SENDER), "or[0]"),
        (compare(MessageProperty.HOP, "eq", 99), ""),
        (EVERYTHING & ~among(MessageProperty.ATTEMPTS, [1, "two"]), "and[0].not"),
        (Filter(("near", "sender", "x")), ""),
        (Filter(("eq", "nonsense", "x")), ""),
        (Filter(("eq", "sender", 1.5)), ""),
        (Filter(("not",)), ""),
        (Filter(()), ""),
        (Filter(("and", 7)), "and[0]"),
        (compare(QueueProperty.FAILURES, "eq", 1), ""),
    ],
    ids=lambda value: str(value.tree) if isinstance(value, Filter) else "",
)
async def test_a_query_that_means_nothing_is_refused_with_its_place(
    configure: Configure, where: Filter, at: str
) -> None:
    async with open_engine(configure()) as engine:
        with pytest.raises(QueryRefused) as refused:
            await engine.count(where)
        assert refused.value.at == at


async def test_a_filter_that_is_too_deep_is_refused_before_it_is_read(configure: Configure) -> None:
    deep: tuple[Any, ...] = ("and",)
    for _ in range(100_000):
        deep = ("not", deep)
    async with open_engine(configure()) as engine:
        with pytest.raises(QueryRefused, match="deep"):
            await engine.count(Filter(deep))
    while len(deep) == 2:
        # Freed from within: the interpreter's own way would be as deep.
        deep = deep[1]


async def test_cursors_of_another_listing_and_broken_ones_are_refused(configure: Configure) -> None:
    async with open_engine(configure()) as engine:
        await fill(engine)
        page = await engine.query_messages(limit=1)
        for cursor, sort in [(page.next, [Sort(SIZE)]), ("nonsense", []), ("é", [])]:
            with pytest.raises(QueryRefused) as refused:
                await engine.query_messages(cursor=cursor, sort=sort)
            assert refused.value.at == "cursor"
        for arguments in ({"limit": 0}, {"limit": -1}, {"limit": 10_001}, {"sort": [Sort(SIZE)] * 5}):
            with pytest.raises(QueryRefused) as refused:
                await engine.query_messages(**arguments)
            assert refused.value.at == next(iter(arguments))


async def test_a_stopped_engine_answers_no_query(configure: Configure) -> None:
    async with open_engine(configure()) as engine:
        await engine.stop()
        with pytest.raises(EngineStopping):
            await engine.count()


async def test_a_spool_without_an_engine_answers(configure: Configure) -> None:
    path = configure()
    spool = path.parent / "spool"
    async with open_engine(path) as engine:
        await fill(engine)
        with pytest.raises(SpoolLocked):
            async with open_spool(spool):
                pass
    async with open_spool(spool) as stored:
        assert stored.recovery["messages"] == 4
        found = [rows async for rows in pages(stored, select=[MessageProperty.RECIPIENT], limit=3)]
        assert found[1] == [(("five@other.test",),)]
        (queue,) = (await stored.query_queues()).rows
        assert (await stored.count(compare(MessageProperty.HOP, "eq", queue["hop"]))).count == 4
        with pytest.raises(QueryRefused):
            await stored.count(compare(SIZE, "eq", "big"))
        groups = await stored.group(SENDER)
        assert groups.groups[0].value == "shop@a.test"
    async with open_engine(path) as engine:
        assert engine.waiting == 4


async def test_a_folder_that_is_no_spool_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(SpoolFailed) as failed:
        async with open_spool(tmp_path):
            pass
    assert failed.value.errno == errno.ENOENT
    assert list(await trio.Path(tmp_path).iterdir()) == []


def test_chains_of_the_same_word_are_wide_and_not_deep() -> None:
    a, b, c = (compare(SIZE, "eq", number) for number in range(3))
    assert ((a & b) & c).tree == (a & (b & c)).tree == ("and", a.tree, b.tree, c.tree)
    assert (a | b | c).tree == ("or", a.tree, b.tree, c.tree)
    assert (a & b | ~c).tree == ("or", ("and", a.tree, b.tree), ("not", c.tree))
    assert (EVERYTHING & a).tree == ("and", a.tree)


@pytest.mark.parametrize("length", range(5))
def test_cursors_are_text_and_come_back(length: int) -> None:
    octets = bytes(range(250, 250 + length)) if length < 5 else b""
    assert decode_cursor(encode_cursor(octets)) == octets


class Fake:
    """An execution that is complete after some steps."""

    def __init__(self, steps: int, busy: int = 0) -> None:
        self.steps = steps
        self.busy = busy
        self.asked = 0

    async def ask(self, kind: str, *arguments: Any) -> Fake:
        await trio.sleep(0.01)
        assert self.asked == 0 or arguments[0] is self
        self.asked += 1
        if self.busy:
            self.busy -= 1
        else:
            self.steps -= 1
        return self

    @property
    def is_busy(self) -> bool:
        return self.busy > 0

    @property
    def is_complete(self) -> bool:
        return not self.is_busy and self.steps <= 0

    @property
    def examined(self) -> int:
        return 10

    @property
    def watermarks(self) -> tuple[int, int] | None:
        return None if self.steps > 0 and self.busy else (1, 2)

    def result(self, _core: object) -> tuple[int, int]:
        return 7, 70


async def test_a_query_goes_on_until_it_is_complete(autojump_clock: object) -> None:
    fake = Fake(steps=5)
    total = await Queries(fake.ask, None, lambda: (0, [], [])).count("messages", EVERYTHING, 60.0)
    assert (total.count, total.is_complete, fake.asked) == (7, True, 5)


async def test_a_query_whose_time_is_up_says_that_it_is_not_complete(autojump_clock: object) -> None:
    fake = Fake(steps=500)
    total = await Queries(fake.ask, None, lambda: (0, [], [])).count("messages", EVERYTHING, 0.095)
    assert (total.count, total.is_complete, total.watermarks) == (7, False, (1, 2))
    assert fake.asked == 10


async def test_a_query_that_finds_no_place_waits_and_then_gives_up(autojump_clock: object) -> None:
    fake = Fake(steps=1, busy=3)
    total = await Queries(fake.ask, None, lambda: (0, [], [])).count("messages", EVERYTHING, 60.0)
    assert total.is_complete
    fake = Fake(steps=1, busy=1_000)
    with pytest.raises(Unavailable):
        await Queries(fake.ask, None, lambda: (0, [], [])).count("messages", EVERYTHING, 1.0)
