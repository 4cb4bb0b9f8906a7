from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from penstock.envelope import Envelope
from penstock.errors import (
    BackPressure,
    ContentRefused,
    DraftRefused,
    EngineStopping,
    SpoolFailed,
    SpoolFull,
)
from penstock.receive.entries import Entries
from penstock.receive.fresh import FreshMessage
from penstock.receive.submission import BUDGET_WAIT_S, CHUNK_BYTES, COMMIT_GRACE_S, Submissions

NOW_MS = 1_764_000_000_000
ENVELOPE = Envelope(sender="me@a.example", recipients=["you@b.example", "she@c.example", "he@b.example"])


class Core:
    """A spool that commits when it is told to."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.full_for = 0
        self.written: list[bytes] = []
        self.commits: list[tuple[Any, ...]] = []
        self.dropped: list[int] = []
        self.hops: list[tuple[str, str, str]] = []

    def draft(self, _size_hint: int) -> int:
        if self.refusal is not None:
            raise DraftRefused(self.refusal)
        return 500

    def write_draft(self, _draft: int, chunk: bytes) -> bool:
        if self.full_for:
            self.full_for -= 1
            return False
        self.written.append(chunk)
        return True

    def drop_draft(self, draft: int) -> None:
        self.dropped.append(draft)

    def commit(self, *arguments: Any) -> int:
        self.commits.append(arguments)
        return 7

    def hop(self, *key: str) -> int:
        self.hops.append((key[0], key[1], key[2]))
        return len(self.hops)


class Route:
    def __init__(self, domain: str) -> None:
        self.hop = ("out", "smart_host", domain)


class Router:
    def route(self, _address: str, domain: str, /) -> Route:
        return Route(domain)


class Rig:
    def __init__(self) -> None:
        self.core = Core()
        self.accepted: list[FreshMessage] = []
        self.submissions = Submissions(
            self.core,
            Entries(self.core, Router(), 1000),
            self.accepted.append,
            content_flags=lambda content: (
                16 * (not content.isascii())
                + 2 * (b"\n" in content.replace(b"\r\n", b""))
                + 64 * (bool(content) and not content.endswith(b"\r\n"))
            ),
            format_queue_id="q{}".format,
            max_message_bytes=3 * CHUNK_BYTES,
            now_ms=lambda: NOW_MS,
        )


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_receipt_exists_only_after_the_sync(rig: Rig, autojump_clock: MockClock) -> None:
    content = b"Subject: \xc3\xa9\r\n\r\n" + b"x" * CHUNK_BYTES + b"\r\n"
    receipts = []

    async def submit() -> None:
        receipts.append(await rig.submissions.submit(ENVELOPE, content))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit)
        await trio.sleep(60)
        assert not receipts
        assert not rig.submissions.is_idle
        assert rig.submissions.committed(("committed", 7, 500, 12))
    assert (receipts[0].queue_id, receipts[0].accepted_at_ms) == ("q500", NOW_MS)
    assert b"".join(rig.core.written) == content
    assert rig.core.hops == [("out", "smart_host", "b.example"), ("out", "smart_host", "c.example")]
    ((_, envelope, prepend, form, cause, notes),) = rig.core.commits
    assert (prepend, form, cause, notes) == (b"", "plain", [], ())
    assert envelope[1:3] == ("me@a.example", (None, None, True))
    assert envelope[9] == [(1, [0, 2], 1, NOW_MS, NOW_MS + 1000), (2, [1], 1, NOW_MS, NOW_MS + 1000)]
    (fresh,) = rig.accepted
    assert (fresh.lsn, fresh.queue_id, fresh.form) == (12, 500, "plain")
    assert rig.submissions.is_idle


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"a\nb\r\n", "bad_line_ending"), (b"a", "no_final_crlf"), (b"x" * 3 * CHUNK_BYTES + b"x", "too_large")],
)
async def test_content_that_cannot_be_carried_is_refused(rig: Rig, content: bytes, kind: str) -> None:
    with pytest.raises(ContentRefused) as refused:
        await rig.submissions.submit(ENVELOPE, content)
    assert refused.value.kind == kind
    assert not rig.core.commits


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("disk_full", SpoolFull),
        ("poisoned", SpoolFailed),
        ("budget", BackPressure),
        ("behind", BackPressure),
    ],
)
async def test_a_refused_draft_says_who_must_act(rig: Rig, reason: str, error: type[Exception]) -> None:
    rig.core.refusal = reason
    with pytest.raises(error):
        await rig.submissions.submit(ENVELOPE, b"x\r\n")


async def test_a_failed_commit_stores_nothing(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:

        async def submit() -> None:
            with pytest.raises(SpoolFull):
                await rig.submissions.submit(ENVELOPE, b"x\r\n")

        nursery.start_soon(submit)
        await trio.testing.wait_all_tasks_blocked()
        assert rig.submissions.commit_failed(("commit_failed", 7, 500, "full"))
    assert not rig.accepted


async def test_a_full_budget_is_waited_for_and_then_given_up(rig: Rig, autojump_clock: MockClock) -> None:
    rig.core.full_for = 10_000_000
    with trio.fail_after(BUDGET_WAIT_S + 1), pytest.raises(BackPressure):
        await rig.submissions.submit(ENVELOPE, b"x\r\n")
    assert rig.core.dropped == [500]


async def test_a_cancelled_submission_waits_for_its_sync_but_not_for_ever(
    rig: Rig, autojump_clock: MockClock
) -> None:
    begun_s = trio.current_time()
    with trio.move_on_after(1) as scope:
        await rig.submissions.submit(ENVELOPE, b"x\r\n")
    assert scope.cancelled_caught
    assert trio.current_time() - begun_s == pytest.approx(COMMIT_GRACE_S)
    # It is stored all the same, and delivered.
    assert rig.submissions.committed(("committed", 7, 500, 12))
    assert len(rig.accepted) == 1


async def test_nothing_is_taken_while_stopping(rig: Rig) -> None:
    rig.submissions.drain()
    with pytest.raises(EngineStopping):
        await rig.submissions.submit(ENVELOPE, b"x\r\n")


def test_tickets_of_others_are_left_to_them(rig: Rig) -> None:
    assert not rig.submissions.committed(("committed", 8, 1, 1))
    assert not rig.submissions.commit_failed(("commit_failed", 8, 1, "full"))
