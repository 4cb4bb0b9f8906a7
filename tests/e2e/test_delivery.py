"""What becomes of a message: delivered, deferred, failed with a DSN, unreachable; and across a restart."""

from __future__ import annotations

import email
import time
from collections.abc import Callable

from tests.e2e.test_clients import maildir_files
from tests.support.client import SmtpClient
from tests.support.daemon import Daemon
from tests.support.ports import free_port
from tests.support.receiver import Receiver

CONTENT = b"Subject: one\r\n\r\nhello\r\n"
FAST_RETRY = {
    "queue": [
        'queue_glitch_retry_interval = "1s"',
        'transient_failure_retry_interval = "1s"',
        'outbound_connection_failure_retry_interval = "1s"',
        'message_retry_interval = "1s"',
    ]
}


def submit(daemon: Daemon, *recipients: str, sender: str = "you@penstock.test") -> str:
    """Send one message; return the text of its 250."""
    with SmtpClient(daemon.port) as client:
        code, text = client.message(sender, list(recipients), CONTENT)
    assert code == 250, text
    return text


def test_failed_recipient_gets_one_dsn_and_the_others_their_mail(relay: Daemon, receiver: Receiver) -> None:
    receiver.rcpt["gone@elsewhere.test"] = "550 5.1.1 no such user"
    submit(relay, "gone@elsewhere.test", "here@elsewhere.test")
    assert receiver.wait(1)[0].recipients == ("here@elsewhere.test",)
    (path,) = maildir_files(relay.drop, 1)
    dsn = email.message_from_bytes(path.read_bytes())
    assert dsn.get_content_type() == "multipart/report"
    assert dsn.get_param("report-type") == "delivery-status"
    parts = list(dsn.walk())
    (status,) = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    fields = status.as_string()
    assert "Final-Recipient: rfc822;gone@elsewhere.test" in fields.replace("; ", ";", 1).replace(
        "rfc822; ", "rfc822;"
    )
    assert "Action: failed" in fields
    assert "Status: 5.1.1" in fields
    assert "here@elsewhere.test" not in fields
    assert path.read_bytes().startswith(b"Return-Path: <>")


def test_failure_for_the_null_sender_makes_no_dsn(relay: Daemon, receiver: Receiver) -> None:
    receiver.rcpt["gone@elsewhere.test"] = "550 5.1.1 no such user"
    submit(relay, "gone@elsewhere.test", sender="")
    relay.wait_journal("FAIL")
    time.sleep(0.5)
    assert not list(relay.drop.glob("new/*"))
    assert relay.rows("queue", "list") == []


def test_deferred_recipient_is_retried_and_delivered(
    launch: Callable[..., Daemon], receiver: Receiver
) -> None:
    receiver.rcpt["later@elsewhere.test"] = "451 4.7.1 greylisted"
    relay = launch(smart_host_port=receiver.port, extra=FAST_RETRY)
    submit(relay, "later@elsewhere.test")
    relay.wait_journal("DEFER")
    del receiver.rcpt["later@elsewhere.test"]
    assert receiver.wait(1)[0].recipients == ("later@elsewhere.test",)


def test_without_a_route_mail_waits_in_unreachable(launch: Callable[..., Daemon]) -> None:
    relay = launch()
    submit(relay, "far@elsewhere.test")
    (row,) = relay.rows("queue", "list")
    assert row["name"] == "Unreachable"
    assert row["count"] == 1


def test_restart_keeps_mail_and_delivers_it(launch: Callable[..., Daemon]) -> None:
    port = free_port()
    relay = launch(smart_host_port=port)
    for number in range(20):
        submit(relay, f"m{number}@elsewhere.test")
    assert relay.stop() == 0
    relay.start()
    assert sum(row["count"] for row in relay.rows("queue", "list")) == 20
    relay.stop()
    with Receiver(port=port) as receiver:
        relay.start()
        got = receiver.wait(20)
        assert {message.recipients[0] for message in got} == {f"m{n}@elsewhere.test" for n in range(20)}
        time.sleep(0.3)
        assert len(receiver.messages) == 20
        assert relay.stop() == 0


def test_kill_after_the_250_keeps_the_message(launch: Callable[..., Daemon]) -> None:
    port = free_port()
    relay = launch(smart_host_port=port)
    submit(relay, "far@elsewhere.test")
    relay.kill()
    with Receiver(port=port) as receiver:
        relay.start()
        assert receiver.wait(1)[0].content.endswith(CONTENT)
        relay.stop()
