"""A store that was damaged: what can be read is delivered, what cannot is shown, and an operator is told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable

from tests.support.client import SmtpClient
from tests.support.daemon import Daemon
from tests.support.ports import free_port
from tests.support.receiver import Receiver

MARK = b"this line is about to be hit"


def content(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n%b %d\r\n" % (number, MARK, number)


def test_damaged_content_waits_as_poison_while_a_salvaged_queue_is_delivered(
    launch: Callable[..., Daemon],
) -> None:
    port = free_port()
    daemon = launch(smart_host_port=port)
    with SmtpClient(daemon.port) as client:
        for number in range(3):
            code, _ = client.message("me@penstock.test", [f"m{number}@elsewhere.test"], content(number))
            assert code == 250
    assert daemon.stop() == 0
    (shard,) = daemon.folder.rglob("shard-00")
    for segment in (shard / "log").glob("*.seg"):
        octets = segment.read_bytes()
        segment.write_bytes(octets.replace(MARK + b" 1", MARK[:-1] + b"T 1"))
    shutil.rmtree(shard / "index")
    with Receiver(port=port) as receiver:
        daemon.start()
        got = {message.recipients[0] for message in receiver.wait(2)}
        assert got == {"m0@elsewhere.test", "m2@elsewhere.test"}
        deadline = time.monotonic() + 20
        rows = daemon.rows("message", "list")
        while [row["queue"] for row in rows] != ["Poison"] and time.monotonic() < deadline:
            time.sleep(0.1)
            rows = daemon.rows("message", "list")
        assert [(row["status"], row["reason"]) for row in rows] == [("Suspended", "poison")]
        assert rows[0]["last_error"] == "the stored content is damaged"
        (queue,) = daemon.rows("queue", "list")
        shown = queue["name"], queue["type"], queue["status"], queue["count"]
        assert shown == ("Poison", "Poison", "Suspended", 1)
        done = daemon.cli("--json", "status")
        assert done.returncode == 1, "an alarm is up"
        names = {alarm["name"] for alarm in json.loads(done.stdout)["alarms"]}
        assert {"index_salvaged", "content_damaged"} <= names
        (line,) = daemon.wait_journal("SALVAGE")
        assert (line["cause"], line["may_repeat"]) == ("it is missing", 0)
        (line,) = daemon.wait_journal("POISON")
        assert line["cause"] == "damaged"
        # It stays where it is over a restart, and nobody is told that it has failed.
        assert daemon.stop() == 0
        daemon.start()
        assert [row["queue"] for row in daemon.rows("message", "list")] == ["Poison"]
        time.sleep(1)
        assert len(receiver.wait(2)) == 2
