"""Mail from clients to the Maildir and the smart host; tests/clients has more, to the Maildir alone."""

from __future__ import annotations

import smtplib
import subprocess
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.receiver import Receiver

Program = Callable[[str], str]


def maildir_files(folder: Path, count: int, *, timeout_s: float = 10.0) -> list[Path]:
    """Return the messages in a Maildir once there are `count`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = sorted((folder / "new").glob("*")) if (folder / "new").is_dir() else []
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages in {folder}"
        time.sleep(0.02)


def run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a client to its end."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_smtplib_to_the_maildir_and_to_the_smart_host(relay: Daemon, receiver: Receiver) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = "me@penstock.test", "you@penstock.test", "Grüße"
    letter.set_content("Zeile eins\n.\n..zwei\n")
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=20) as client:
        client.send_message(letter, to_addrs=["you@penstock.test", "far@elsewhere.test"])
    (received,) = receiver.wait(1)
    (path,) = maildir_files(relay.drop, 1)
    assert received.recipients == ("far@elsewhere.test",)
    assert b"\r\n.\r\n..zwei" in received.content
    kept = path.read_bytes()
    assert kept.startswith(b"Return-Path: <me@penstock.test>")
    assert b"Subject: =?utf-8?" in kept
    assert b"\n..zwei" in kept


def test_smtp_source_through_to_smtp_sink(
    launch: Callable[..., Daemon],
    program: Program,
    program_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    from tests.support.ports import free_port

    port = free_port()
    source, sink_program = program("smtp-source"), program("smtp-sink")
    counted = tmp_path / "sink.out"
    with counted.open("wb") as output:
        # As root smtp-sink insists on somebody else to be.
        sink = subprocess.Popen(
            [sink_program, "-u", "nobody", "-c", f"127.0.0.1:{port}", "100"],
            env=program_environment,
            stdout=output,
        )
    try:
        relay = launch(smart_host_port=port)
        for flags in (["-d"], []):
            done = run(
                [
                    *(source, *flags, "-s", "10", "-m", "200", "-l", "4096"),
                    *("-f", "a@penstock.test", "-t", "b@elsewhere.test", f"127.0.0.1:{relay.port}"),
                ],
                program_environment,
            )
            assert done.returncode == 0, done.stderr
        relay.wait_journal("SEND", 400)
        deadline = time.monotonic() + 10
        while b"mesg=400" not in counted.read_bytes():
            assert time.monotonic() < deadline, counted.read_bytes()[-80:]
            time.sleep(0.1)
    finally:
        sink.kill()
        sink.wait()
