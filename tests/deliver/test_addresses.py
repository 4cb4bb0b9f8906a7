from __future__ import annotations

import pytest
import trio
import trio.testing

from penstock.deliver.addresses import BAD_MS, GOOD_MAX_MS, GOOD_MIN_MS, LOOKUPS_MAX, AddressBook, Addresses
from penstock.deliver.settings import SmartHost
from penstock.deliver.targets import Target, Targets
from tests.deliver.rig import NOW_MS, RELAY, Rig

GOOD = Addresses(("192.0.2.1", "2001:db8::1"), 60_000)
BAD = Addresses((), error="mx.example: no such host")


class Names:
    """A name server that answers after a while."""

    def __init__(self, **answers: Addresses) -> None:
        self.answers = {host.replace("_", "."): addresses for host, addresses in answers.items()}
        self.asked: list[str] = []
        self.at_a_time = 0
        self.most = 0
        self.wakes = 0

    async def __call__(self, host: str) -> Addresses:
        self.asked.append(host)
        self.at_a_time += 1
        self.most = max(self.most, self.at_a_time)
        await trio.sleep(1)
        self.at_a_time -= 1
        return self.answers.get(host, GOOD)

    def wake(self) -> None:
        self.wakes += 1


async def test_host_is_looked_up_once_whoever_asks_and_known_afterwards(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = Names()
    book = AddressBook(names, names.wake)
    nursery.start_soon(book.run)
    assert book.find("mx.example", NOW_MS) is None
    assert book.find("mx.example", NOW_MS) is None
    assert not book.news(NOW_MS)
    await trio.sleep(2)
    assert names.wakes == 1
    assert book.find("mx.example", NOW_MS) is None, "news are taken between turns only"
    assert book.news(NOW_MS)
    assert not book.news(NOW_MS)
    assert book.find("mx.example", NOW_MS) == GOOD
    assert names.asked == ["mx.example"]


@pytest.mark.parametrize(
    ("answer", "good_ms"),
    [
        (GOOD, 60_000),
        (GOOD._replace(ttl_ms=0), GOOD_MIN_MS),
        (GOOD._replace(ttl_ms=10**12), GOOD_MAX_MS),
        (BAD, BAD_MS),
    ],
)
async def test_answer_is_believed_as_long_as_it_is_good(
    answer: Addresses, good_ms: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = Names(mx_example=answer)
    book = AddressBook(names, names.wake)
    nursery.start_soon(book.run)
    book.find("mx.example", NOW_MS)
    await trio.sleep(2)
    book.news(NOW_MS)
    assert book.find("mx.example", NOW_MS + good_ms - 1) == answer
    assert book.find("mx.example", NOW_MS + good_ms) is None
    await trio.sleep(2)
    assert len(names.asked) == 2


async def test_few_are_looked_up_at_a_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = Names()
    book = AddressBook(names, names.wake)
    nursery.start_soon(book.run)
    for number in range(3 * LOOKUPS_MAX):
        book.find(f"mx{number}.example", NOW_MS)
    await trio.sleep(10)
    assert len(names.asked) == 3 * LOOKUPS_MAX
    assert names.most == LOOKUPS_MAX


def test_address_is_its_own_without_being_looked_up() -> None:
    names = Names()
    book = AddressBook(names, names.wake)
    assert book.find("192.0.2.7", NOW_MS) == Addresses(("192.0.2.7",))
    assert book.find("2001:db8::7", NOW_MS) == Addresses(("2001:db8::7",))


async def test_targets_are_all_addresses_of_all_hosts_in_order(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = Names(mx2_example=BAD)
    book = AddressBook(names, names.wake)
    nursery.start_soon(book.run)
    hosts = (SmartHost("mx1.example", 25), SmartHost("mx2.example", 25), SmartHost("192.0.2.9", 2525))
    targets = Targets(hosts, None)
    assert not targets.refresh(book, NOW_MS)
    await trio.sleep(2)
    book.news(NOW_MS)
    assert targets.refresh(book, NOW_MS)
    found: list[Target] = []
    targets.begin()
    while not targets.are_exhausted:
        target = targets.next()
        assert target is not None
        found.append(target)
        targets.failed(target)
        targets.failed(target)
    assert found == [
        ("192.0.2.1", 25, "mx1.example [192.0.2.1]:25"),
        ("2001:db8::1", 25, "mx1.example [2001:db8::1]:25"),
        ("192.0.2.9", 2525, "[192.0.2.9]:2525"),
    ]
    assert targets.next() == found[0]


async def test_mail_waits_for_the_look_up_and_no_longer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig(hosts=("mx.example",))
    rig.answers["mx.example"] = GOOD
    nursery.start_soon(rig.deliverer.run)
    rig.accept("you@b.example")
    rig.turn()
    assert rig.core.dials == []
    await trio.testing.wait_all_tasks_blocked()
    assert rig.wakes == 1
    rig.turn()
    assert [ip for _, ip, *_ in rig.core.dials] == ["192.0.2.1"]


@pytest.mark.parametrize("pool", [3, 9])
async def test_answers_that_differ_each_time_do_not_keep_a_dead_hop_from_retry(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, pool: int
) -> None:
    rig = Rig(hosts=("mx.example",))
    ips = [f"192.0.2.{number}" for number in range(pool)]
    nursery.start_soon(rig.deliverer.run)
    rig.accept("you@b.example")
    tried: list[str] = []
    while not rig.hop_facts():
        # A name server turns its list round, or gives another part of it.
        start = len(tried) % pool
        rig.answers["mx.example"] = Addresses(tuple((ips[start:] + ips[:start])[:3]), GOOD_MIN_MS)
        rig.turn()
        await trio.testing.wait_all_tasks_blocked()
        rig.turn()
        ((conn, ip, *_),) = rig.core.dials[len(tried) :]
        tried.append(ip)
        assert len(tried) <= 3
        rig.now_ms += 30_000
        rig.tell("dial_failed", conn, "connect", 110, "timed out")
        rig.turn()
    if pool == 3:
        assert set(tried) == set(ips)


async def test_hosts_that_cannot_be_found_put_the_hop_into_retry(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig(hosts=("mx.example",))
    rig.answers["mx.example"] = BAD
    nursery.start_soon(rig.deliverer.run)
    rig.accept("you@b.example")
    rig.turn()
    await trio.testing.wait_all_tasks_blocked()
    rig.turn()
    assert [fact[:4] for fact in rig.core.facts] == [("hop", RELAY, "retry", BAD.error)]
    assert rig.counts == [("delivery_connections_total", "relay", "dns")]
