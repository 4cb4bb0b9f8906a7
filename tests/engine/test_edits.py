"""Edits through the engine: real core, real files, real sockets on loopback, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import penstock
from penstock.changes import (
    Edit,
    EntryRef,
    Expire,
    Prioritise,
    Progress,
    Redirect,
    Remove,
    Resume,
    Retry,
    Suspend,
    Waiting,
)
from penstock.client import Client
from penstock.engine import Engine, open_engine
from penstock.errors import NotFound, SpoolError
from penstock.queries import MessageProperty, QueueProperty
from tests.engine.test_engine import environment
from tests.support.ports import free_port
from tests.support.receiver import Receiver

Configure = Callable[..., Path]

CONTENT = b"Subject: one\r\n\r\nhello\r\n"
WHO, WHY = "operator1", "check with payroll"
PATIENCE_S = 20


def to(*recipients: str) -> penstock.Envelope:
    return penstock.Envelope(sender="me@penstock.test", recipients=recipients)


async def edited(engine: Engine, edit: Edit, targets: Any, **options: Any) -> Progress:
    """Edit, and return the last word."""
    return [step async for step in engine.edits.messages(edit, targets, who=WHO, why=WHY, **options)][-1]


def all_of(engine: Engine, queue: str = "out") -> Waiting:
    return Waiting(engine.edits.hop(queue))


async def ask(path: Path, method: str, *arguments: Any) -> Any:
    """Ask the control socket, as an operator would."""

    def look() -> Any:
        client = Client(f"unix://{path.parent}/control.sock")
        try:
            return getattr(client, method)(*arguments)
        finally:
            client.close()

    return await trio.to_thread.run_sync(look)


async def entry(path: Path, queue_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(path, "message", queue_id))["entries"][0]
    return found


async def eventually(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            if is_so():
                return
            await trio.sleep(0.01)


async def status_becomes(path: Path, status: str, queue_id: str | None = None) -> None:
    """Wait until the only queue, or a message, has this status."""
    with trio.fail_after(PATIENCE_S):
        while True:
            queues = (await ask(path, "queues")).items
            row = queues[0] if queue_id is None else await entry(path, queue_id)
            if row["status"] == status:
                return
            await trio.sleep(0.01)


def dropped(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((path.parent / "drop" / "new").glob("*"))]


async def test_suspended_mail_stays_through_a_restart_and_goes_when_it_is_resumed(
    configure: Configure,
) -> None:
    port = free_port()
    path = configure(smart_host_port=port)
    async with open_engine(path) as engine:
        kept = await engine.submit(to("kept@far.test"), CONTENT)
        sent = await engine.submit(to("sent@far.test"), CONTENT)
        found = penstock._core.parse_queue_id(kept.queue_id)
        step = await edited(engine, Suspend(), [EntryRef(found, engine.edits.hop("out"))])
        assert (step.done, step.looked, step.last) == (1, 1, EntryRef(found, engine.edits.hop("out")))
        row = await entry(path, kept.queue_id)
        assert (row["status"], row["reason"]) == ("Suspended", "message_suspended")
        assert (await ask(path, "status"))["waiting"]["suspended"] == 1
    with Receiver(port=port) as receiver:
        async with open_engine(path) as engine:
            await eventually(lambda: len(receiver.messages) == 1)
            assert receiver.messages[0].recipients == ("sent@far.test",)
            await trio.sleep(0.2)
            assert len(receiver.messages) == 1
            assert (await edited(engine, Resume(), all_of(engine))).done == 1
            await eventually(lambda: len(receiver.messages) == 2)
    assert receiver.messages[1].recipients == ("kept@far.test",)
    assert sent.queue_id != kept.queue_id


async def test_what_was_told_survives_kill_9(configure: Configure) -> None:
    port = free_port()
    path = configure(smart_host_port=port)
    code = f"""
import trio
from penstock.changes import EntryRef, Remove, Suspend, Waiting
from penstock.engine import open_engine
import penstock
async def main():
    async with open_engine({str(path)!r}) as engine:
        await engine.edits.queue("penstock.test", "suspend", who="operator1", why="full")
        for name in ("gone", "kept", "sent"):
            envelope = penstock.Envelope(sender="me@penstock.test", recipients=[name + "@far.test"])
            receipt = await engine.submit(envelope, {CONTENT!r})
            ref = EntryRef(penstock._core.parse_queue_id(receipt.queue_id), engine.edits.hop("out"))
            for edit in {{"gone": [Remove()], "kept": [Suspend()], "sent": []}}[name]:
                async for step in engine.edits.messages(edit, [ref], who="operator1"):
                    assert step.done == 1, step
        print("told", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""

    def run_and_kill() -> str:
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True) as child:
            assert child.stdout is not None
            said = child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
        return said

    assert await trio.to_thread.run_sync(run_and_kill) == "told\n"
    with Receiver(port=port) as receiver:
        async with open_engine(path) as engine:
            await eventually(lambda: len(receiver.messages) == 1)
            # The report on the removal waits in a queue that is suspended.
            (report,) = [
                item for item in (await ask(path, "messages")).items if item["queue"] == "penstock.test"
            ]
            assert (report["status"], report["reason"]) == ("Suspended", "queue_suspended")
            assert dropped(path) == []
            await engine.edits.queue("penstock.test", "resume", who=WHO)
            await eventually(lambda: len(dropped(path)) == 1)
            assert (await edited(engine, Resume(), all_of(engine))).done == 1
            await eventually(lambda: len(receiver.messages) == 2)
    assert [message.recipients[0] for message in receiver.messages] == ["sent@far.test", "kept@far.test"]
    assert b"gone@far.test" in dropped(path)[0]


async def test_removed_mail_is_reported_to_its_sender_unless_the_operator_says_otherwise(
    configure: Configure,
) -> None:
    path = configure(smart_host_port=free_port())
    async with open_engine(path) as engine:
        await engine.submit(to("a@far.test", "b@far.test"), CONTENT)
        assert (await edited(engine, Remove(), all_of(engine))).done == 1
        await eventually(lambda: len(dropped(path)) == 1)
        await engine.submit(to("c@far.test"), CONTENT)
        assert (await edited(engine, Remove(with_dsn=False), all_of(engine))).done == 1
        null = penstock.Envelope(sender=None, recipients=["d@far.test"])
        await engine.submit(null, CONTENT)
        assert (await edited(engine, Remove(), all_of(engine))).done == 1
        assert (await ask(path, "status"))["waiting"]["messages"] == 0
    (report,) = dropped(path)
    for text in (b"a@far.test", b"b@far.test", b"Status: 4.3.2", b"An administrator removed the message"):
        assert text in report
    assert b"c@far.test" not in report


async def test_redirected_mail_goes_out_by_the_other_connector(configure: Configure) -> None:
    with Receiver() as receiver:
        other = [
            'usage = "custom"',
            'address_spaces = ["nobody.test"]',
            'smart_hosts = ["127.0.0.1"]',
            f"port = {receiver.port}",
        ]
        path = configure(smart_host_port=free_port(), extra={"send_connector.other": other})
        async with open_engine(path) as engine:
            await engine.submit(to("far@elsewhere.test"), CONTENT)
            with pytest.raises(NotFound):
                await edited(engine, Redirect("nowhere"), all_of(engine))
            assert (await edited(engine, Redirect("other"), all_of(engine))).done == 1
            await eventually(lambda: len(receiver.messages) == 1)
    assert (receiver.messages[0].recipients, receiver.messages[0].content) == (
        ("far@elsewhere.test",),
        CONTENT,
    )


async def test_a_suspended_queue_dials_nobody_until_it_is_resumed(configure: Configure) -> None:
    with Receiver() as receiver:
        path = configure(smart_host_port=receiver.port)
        async with open_engine(path) as engine:
            state = await engine.edits.queue("out", "suspend", who=WHO, why=WHY)
            assert (state.is_suspended, state.changed) == (True, True)
            await engine.submit(to("far@elsewhere.test"), CONTENT)
            await trio.sleep(0.2)
            await status_becomes(path, "Suspended")
            (queued,) = (await engine.query_queues(select=[QueueProperty.STATUS])).rows
            (waiting,) = (await engine.query_messages(select=[MessageProperty.REASON])).rows
            assert (queued["status"], waiting["reason"]) == ("suspended", "queue_suspended")
            again = await engine.edits.queue("out", "suspend", who=WHO)
            assert (again.is_suspended, again.changed) == (True, False)
        async with open_engine(path) as engine:
            await engine.edits.queue("out", "retry", who=WHO)
            await trio.sleep(0.2)
            assert receiver.sessions == 0
            await engine.edits.queue("out", "resume", who=WHO)
            await eventually(lambda: len(receiver.messages) == 1)
            with pytest.raises(NotFound):
                await engine.edits.queue("nowhere", "suspend", who=WHO)
    assert f'why = "{WHY}"' not in (path.parent / "spool" / "queues.toml").read_text(encoding="utf-8")


async def test_a_queue_in_retry_is_tried_at_once_when_told_so(configure: Configure) -> None:
    port = free_port()
    path = configure(smart_host_port=port)
    async with open_engine(path) as engine:
        await engine.submit(to("far@elsewhere.test"), CONTENT)
        await status_becomes(path, "Retry")
        with Receiver(port=port) as receiver:
            await engine.edits.queue("out", "retry", who=WHO)
            # The wait would be a minute.
            await eventually(lambda: len(receiver.messages) == 1)


async def test_the_outcome_of_an_attempt_under_way_wins(configure: Configure) -> None:
    with Receiver(content_delay_s=0.5) as receiver:
        path = configure(smart_host_port=receiver.port)
        async with open_engine(path) as engine:
            receipt = await engine.submit(to("far@elsewhere.test"), CONTENT)
            await status_becomes(path, "Active", receipt.queue_id)
            for edit in (Remove(), Remove(with_dsn=False), Redirect("penstock.test")):
                assert (await edited(engine, edit, all_of(engine))).active == 1
                assert (await edited(engine, edit, all_of(engine), dry_run=True)).active == 1
            assert (await edited(engine, Suspend(), all_of(engine))).done == 1
            await eventually(lambda: len(receiver.messages) == 1)
        async with open_engine(path) as engine:
            assert engine.waiting == 0


async def test_any_number_is_edited_in_steps_and_again_without_harm(configure: Configure) -> None:
    path = configure(smart_host_port=free_port())
    async with open_engine(path) as engine:
        for number in range(300):
            await engine.submit(to(f"{number}@far.test"), CONTENT)
        counted = await edited(engine, Suspend(), all_of(engine), dry_run=True)
        assert (counted.looked, counted.done) == (300, 300)
        assert (await ask(path, "status"))["waiting"]["suspended"] == 0
        steps = [step async for step in engine.edits.messages(Suspend(), all_of(engine), who=WHO)]
        assert [step.done for step in steps] == [256, 300]
        assert steps[0].last is not None
        rest = Waiting(engine.edits.hop("out"), after=steps[0].last.queue_id)
        assert (await edited(engine, Suspend(), rest)).unchanged == 44
        again = await edited(engine, Suspend(), all_of(engine))
        assert (again.done, again.unchanged) == (0, 300)
        for edit in (Expire(1_900_000_000_000), Prioritise("high"), Retry()):
            assert (await edited(engine, edit, all_of(engine))).done == 300
        assert (await edited(engine, Remove(with_dsn=False), all_of(engine))).done == 300
        nothing = await edited(engine, Suspend(), all_of(engine))
        assert (nothing.looked, nothing.last) == (0, None)


async def test_an_edit_of_what_has_moved_on_is_a_conflict(configure: Configure) -> None:
    path = configure(smart_host_port=free_port())
    async with open_engine(path) as engine:
        receipt = await engine.submit(to("far@elsewhere.test"), CONTENT)
        ref = EntryRef(
            penstock._core.parse_queue_id(receipt.queue_id), engine.edits.hop("out"), version=1 << 40
        )

        async def targets() -> AsyncIterator[EntryRef]:
            yield ref
            yield EntryRef(1, ref.hop)

        for edit in (Suspend(), Remove(), Remove(with_dsn=False), Redirect("penstock.test")):
            for dry_run in (False, True):
                last = await edited(engine, edit, targets(), dry_run=dry_run)
                assert (last.conflicts, last.gone, last.looked) == (1, 1, 2), edit


async def test_what_is_no_edit_is_refused_before_anything_is_done(configure: Configure) -> None:
    async with open_engine(configure()) as engine:
        hop = Waiting(engine.edits.hop("penstock.test"))
        for edit in (Expire(-1), Prioritise("urgent")):  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="no "):
                await edited(engine, edit, hop)
        with pytest.raises(ValueError, match="control characters"):
            await engine.edits.queue("penstock.test", "suspend", who="a\nb")


async def test_queues_toml_that_is_not_understood_keeps_the_engine_from_starting(
    configure: Configure,
) -> None:
    path = configure()
    async with open_engine(path):
        pass
    file = path.parent / "spool" / "queues.toml"
    for text, said in (
        ("format = 1\n\nsuspended = what\n", "line 3"),
        ("format = 9\n", "line 1: it has format 9; this program knows formats up to 1"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(SpoolError, match=said):
            async with open_engine(path):
                pass
    file.unlink()
    async with open_engine(path):
        pass
