"""The engine as a program embeds it: real core, real files, real sockets on loopback."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import penstock
from penstock.client import Client
from penstock.engine import open_engine
from penstock.errors import BindFailed, ConfigError, ContentRefused, EngineClosed, SpoolLocked
from tests.support.receiver import Receiver

Configure = Callable[..., Path]

CONTENT = b"Subject: one\r\n\r\n.hello\r\n"


async def files_in(folder: Path, count: int) -> list[Path]:
    """Wait until a Maildir has so many messages."""
    with trio.fail_after(10):
        while True:
            found = sorted((folder / "new").glob("*"))
            if len(found) >= count:
                return found
            await trio.sleep(0.01)


def environment() -> dict[str, str]:
    """Return what a child needs to find the package that is being tested."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def envelope(*recipients: str) -> penstock.Envelope:
    return penstock.Envelope(sender="me@penstock.test", recipients=recipients)


async def test_submitted_mail_lies_in_the_maildir_octet_for_octet(configure: Configure) -> None:
    path = configure()
    async with open_engine(path) as engine:
        receipt = await engine.submit(envelope("you@penstock.test"), CONTENT)
        (file,) = await files_in(path.parent / "drop", 1)
    assert receipt.queue_id in file.name
    assert file.read_bytes() == b"Return-Path: <me@penstock.test>\r\n" + CONTENT


async def test_submitted_mail_goes_to_the_smart_host_stuffed(configure: Configure) -> None:
    with Receiver() as receiver:
        async with open_engine(configure(smart_host_port=receiver.port)) as engine:
            await engine.submit(envelope("a@far.test", "b@far.test"), CONTENT)
            (message,) = await trio.to_thread.run_sync(receiver.wait, 1)
    assert (message.recipients, message.content) == (("a@far.test", "b@far.test"), CONTENT)


async def test_what_was_submitted_survives_the_engine(configure: Configure) -> None:
    path = configure()
    async with open_engine(path) as engine:
        receipt = await engine.submit(envelope("far@elsewhere.test"), CONTENT)
    async with open_engine(path) as engine:
        assert engine.waiting == 1
        socket_url = f"unix://{path.parent}/control.sock"

        def look() -> str:
            client = Client(socket_url)
            try:
                return str(client.message(receipt.queue_id)["entries"][0]["reason"])
            finally:
                client.close()

        assert await trio.to_thread.run_sync(look) == "unreachable"


async def test_content_that_smtp_cannot_carry_is_refused(configure: Configure) -> None:
    async with open_engine(configure()) as engine:
        with pytest.raises(ContentRefused) as refused:
            await engine.submit(envelope("you@penstock.test"), b"a\nb\r\n")
    assert refused.value.kind == "bad_line_ending"


async def test_a_stopped_engine_takes_nothing(configure: Configure) -> None:
    async with open_engine(configure()) as engine:
        await engine.stop()
        await engine.stop()
        with pytest.raises(EngineClosed):
            await engine.submit(envelope("you@penstock.test"), CONTENT)


async def test_exceptions_of_the_body_come_out_as_they_are(configure: Configure) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_engine(configure()):
            _ = 1 / 0


async def test_cancellation_ends_it_in_order(configure: Configure) -> None:
    path = configure()
    with trio.move_on_after(0.05) as scope:
        async with open_engine(path):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with open_engine(path):
        pass


async def test_a_spool_has_one_engine(configure: Configure) -> None:
    path = configure()
    async with open_engine(path):
        with pytest.raises(SpoolLocked, match=f"in use by process {os.getpid()}") as refused:
            async with open_engine(path):
                pass
        assert refused.value.pid == os.getpid()
        # Nor has another process; it is told whom to ask.
        code = f"import trio, penstock.engine as e; trio.run(e.open_engine({str(path)!r}).__aenter__)"
        command = [sys.executable, "-c", code]
        other = await trio.run_process(command, capture_stderr=True, check=False, env=environment())
        assert f"SpoolLocked: the spool is in use by process {os.getpid()}" in other.stderr.decode()


async def test_two_engines_with_two_spools_live_in_one_process(configure: Configure) -> None:
    one, two = configure("one"), configure("two")
    async with open_engine(one) as first, open_engine(two) as second:
        for engine in (first, second):
            await engine.submit(envelope("you@penstock.test"), CONTENT)
        await files_in(one.parent / "drop", 1)
        await files_in(two.parent / "drop", 1)


async def test_a_port_that_another_has_is_refused_and_the_spool_released(configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = configure(receive_port=taken.getsockname()[1])
        with pytest.raises(BindFailed):
            async with open_engine(path):
                pass
    async with open_engine(path) as engine:
        assert engine.addresses[0][0] == "127.0.0.1"


async def test_a_configuration_with_errors_starts_nothing(configure: Configure) -> None:
    path = configure()
    path.write_text(path.read_text(encoding="utf-8") + "\n[nonsense]\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        async with open_engine(path):
            pass
    assert not (path.parent / "spool").exists()
