"""What printers and scanners get away with, through the whole daemon, and what nobody does."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from email import message_from_bytes
from email.utils import parsedate_to_datetime

import pytest

from tests.support.client import SmtpClient
from tests.support.daemon import Daemon
from tests.support.ports import free_port
from tests.support.receiver import Receiver

Launch = Callable[..., Daemon]

ENDINGS = ("\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\0\n", "\r\n\0", "\n\n", "\r\n\r")
"""What some server takes for the end of a line."""
WITHOUT_CR = ("\r\n", "\n", "\n\n")
"""Those that have neither a bare CR nor a NUL."""
HIDDEN = "MAIL FROM:<evil@a.test>\r\nRCPT TO:<victim@elsewhere.test>\r\nDATA\r\nhidden\r\n"
DEVICES = ['bare_linefeed = "normalise"', "lenient_syntax = true", 'tarpit_interval = "0s"']


def replies_to(port: int, envelope: bytes, pieces: list[bytes]) -> list[str]:
    """Send an envelope, then a content in pieces, and QUIT; return the texts of all replies but the first."""
    with SmtpClient(port) as client:
        client.send(envelope)
        for _ in range(3 if envelope.endswith(b"DATA\r\n") else 2):
            client.reply()
        heard = []
        # A peer that has been told goodbye need not take what follows.
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                client.send(piece)
            client.send(b"QUIT\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                heard.append(client.reply()[1])
    return heard


def lines_of(text: str) -> bytes:
    """A text whose bare LFs are CRLF."""
    return re.sub("(?<!\r)\n", "\r\n", text).encode()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["normalise", "reject"])
def test_no_content_is_two_messages_for_the_next_server(
    launch: Launch, receiver: Receiver, mode: str
) -> None:
    lines = [f'bare_linefeed = "{mode}"', 'tarpit_interval = "0s"']
    relay = launch(smart_host_port=receiver.port, extra={"receive_connector.apps": lines})
    taken: dict[str, bytes] = {}
    number = 0
    for before in ENDINGS:
        for after in ENDINGS:
            if (before, after[:2]) == ("\r\n", "\r\n"):
                # The end for everybody; by BDAT it is content, as below.
                continue
            for cut in (0, 1, 2, 3, len(HIDDEN)):
                for is_data in (True, False):
                    number += 1
                    address = f"m{number}@elsewhere.test"
                    body = f"Subject: x\r\n\r\nbody{before}.{after}{HIDDEN}"
                    at = len(f"Subject: x\r\n\r\nbody{before}") + cut - 1
                    content = body.encode()
                    envelope = f"MAIL FROM:<me@penstock.test>\r\nRCPT TO:<{address}>\r\n".encode()
                    ask = b"DATA\r\n" if is_data else b"BDAT %d LAST\r\n" % len(content)
                    content += b".\r\n" if is_data else b""
                    replies = replies_to(relay.port, envelope + ask, [content[:at], content[at:]])
                    is_taken = any("Queued mail" in reply for reply in replies)
                    can_be = mode == "normalise" and before in WITHOUT_CR and after in WITHOUT_CR
                    assert is_taken == can_be, (before, after, cut, is_data, replies)
                    if not is_taken:
                        continue
                    # Of a line that begins with a dot DATA has stuffed one.
                    is_stuffed = is_data and before == "\r\n"
                    dot = "" if is_stuffed else "."
                    taken[address] = lines_of(f"Subject: x\r\n\r\nbody{before}{dot}{after}{HIDDEN}")
    with SmtpClient(relay.port) as client:
        assert client.message("me@penstock.test", ["last@elsewhere.test"], b"Subject: x\r\n\r\n")[0] == 250
    got = receiver.wait(len(taken) + 1, timeout_s=60)
    assert relay.stop() == 0
    assert len(receiver.messages) == len(taken) + 1
    assert not receiver.for_recipient("victim@elsewhere.test")
    assert len(taken) == (80 if mode == "normalise" else 0)
    for message in got:
        (address,) = message.recipients
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", message.content)
        if address in taken:
            trace, content = message.content.split(b"+0000\r\n", 1)
            assert (trace.count(b"Received:"), content) == (1, taken.pop(address)), address
    assert not taken
    if mode == "normalise":
        changed = {line.get("changed") for line in relay.journal() if line["event"] == "RECEIVE"}
        assert changed == {"linefeed", None}


def test_what_a_submission_lacks_is_added_and_bcc_goes(launch: Launch, receiver: Receiver) -> None:
    relay = launch(smart_host_port=receiver.port, submission_fixups=True)
    content = b"From: a@penstock.test\r\nBcc: b@elsewhere.test,\r\n c@elsewhere.test\r\nTo: d@elsewhere.test"
    body = b"\r\n\r\nBcc: this is text\r\n"
    whole = b"Date: Mon, 1 Jan 2035 00:00:00 +0000\r\nMessage-ID: <1@penstock.test>\r\n\r\n..\r\n"
    with SmtpClient(relay.port) as client:
        lacking = client.message("a@penstock.test", ["b@elsewhere.test"], content + body)
        complete = client.message("a@penstock.test", ["d@elsewhere.test"], whole)
    receiver.wait(2)
    (changed,) = receiver.for_recipient("b@elsewhere.test")
    (same,) = receiver.for_recipient("d@elsewhere.test")
    fields = message_from_bytes(changed.content)
    assert fields.keys() == ["Received", "Date", "Message-ID", "From", "To"]
    assert fields["Message-ID"] == f"<{changed.queue_id}@relay.penstock.test>"
    assert fields["Message-ID"] in lacking[1]
    assert parsedate_to_datetime(fields["Date"]) == parsedate_to_datetime(fields["Received"].split(";")[1])
    rest = content.replace(b"Bcc: b@elsewhere.test,\r\n c@elsewhere.test\r\n", b"") + body
    assert changed.content.endswith(b">\r\n" + rest)
    assert same.content.endswith(b"+0000\r\n" + whole)
    assert same.content.count(b"Date:") == same.content.count(b"Message-ID:") == 1
    assert "<1@penstock.test>" in complete[1]
    by_id = {line["message_id"]: line.get("changed") for line in relay.wait_journal("RECEIVE", 2)}
    assert by_id == {fields["Message-ID"]: "fixups,bcc", "<1@penstock.test>": None}


def test_a_relay_between_servers_changes_nothing(launch: Launch, receiver: Receiver) -> None:
    relay = launch(smart_host_port=receiver.port)
    content = b"From: a@penstock.test\r\nBcc: b@elsewhere.test\r\n\r\ntext\r\n"
    with SmtpClient(relay.port) as client:
        assert client.message("a@penstock.test", ["b@elsewhere.test"], content)[0] == 250
    (message,) = receiver.wait(1)
    assert message.content.endswith(b"+0000\r\n" + content)
    assert message.content.count(b"Received:") == 1
    (line,) = relay.wait_journal("RECEIVE")
    assert "changed" not in line


def test_what_was_changed_is_shown_with_the_message(launch: Launch) -> None:
    relay = launch(submission_fixups=True, extra={"receive_connector.apps": DEVICES})
    with SmtpClient(relay.port) as client:
        for command in ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"):
            client.command(command)
        client.send(b"Bcc: x@y.test\r\nSubject: scan\r\n\r\none\ntwo\n.\nthree\r\n.\r\n")
        assert client.reply()[0] == 250
    (line,) = relay.wait_journal("RECEIVE")
    assert line["changed"] == "fixups,linefeed,bcc"
    (shown,) = relay.rows("message", "show", line["queue_id"])
    assert shown["changed"] == ["fixups", "linefeed", "bcc"]
    assert "fixups, linefeed, bcc" in relay.cli("message", "show", line["queue_id"]).stdout
    # It survives a restart, and so the log and the index.
    relay.stop()
    relay.start()
    (shown,) = relay.rows("message", "show", line["queue_id"])
    assert shown["changed"] == ["fixups", "linefeed", "bcc"]


@pytest.mark.parametrize("is_lenient", [True, False])
def test_commands_of_devices_are_read_where_the_connector_says_so(
    launch: Launch, receiver: Receiver, is_lenient: bool
) -> None:
    lines = [
        f"lenient_syntax = {str(is_lenient).lower()}",
        'tarpit_interval = "0s"',
        "max_protocol_errors = 50",
    ]
    relay = launch(smart_host_port=receiver.port, extra={"receive_connector.apps": lines})
    with SmtpClient(relay.port) as client:
        codes = [
            client.command(command)[0]
            for command in (
                "HELO HP LaserJet (2nd floor)",
                "MAIL FROM: scanner@penstock.test",
                "RSET",
                "MAIL FROM:scanner@penstock.test SIZE=99999999999",
                "MAIL FROM:scanner@penstock.test SIZE=100",
                "RCPT TO: a@elsewhere.test",
                "RCPT TO:b@elsewhere.test  ",
            )
        ]
        assert codes == ([250, 250, 250, 552, 250, 250, 250] if is_lenient else [501, 501, 250, *[501] * 4])
        # These are wrong for everybody.
        for command in (
            "MAIL FROM:<a@b",
            "RCPT TO:a@b c@d",
            'RCPT TO:"a b"@c',
            "EHLO",
            "EHLO a\x1b[0m",
            "DATA now",
        ):
            assert 500 <= client.command(command)[0] <= 503, command
        if not is_lenient:
            return
        assert client.command("DATA")[0] == 354
        client.send(b"Subject: x\r\n\r\n.\r\n")
        assert client.reply()[0] == 250
    (message,) = receiver.wait(1)
    assert message.sender == "scanner@penstock.test"
    assert message.recipients == ("a@elsewhere.test", "b@elsewhere.test")
    assert b"Received: from HP-LaserJet--2nd-floor- ([127.0.0.1])\r\n" in message.content


def test_servers_that_are_listed_may_what_servers_may(launch: Launch, receiver: Receiver) -> None:
    port = free_port()
    hub = [
        'usage = "internal"',
        f'bindings = ["127.0.0.1:{port}"]',
        'remote_ip_ranges = ["127.0.0.1"]',
        'auth_mechanism = ["external_authoritative"]',
        'max_message_size = "64 KB"',
    ]
    others = [line for line in hub if not line.startswith(("auth_mechanism", "usage", "remote_ip"))]
    others += ['usage = "custom"', 'remote_ip_ranges = ["127.0.0.2"]']
    others += ['permission_groups = ["exchange_servers"]', 'tarpit_interval = "0s"']
    extra = {"receive_connector.hub": hub, "receive_connector.others": others}
    relay = launch(smart_host_port=receiver.port, extra=extra)
    content = b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 10_000
    with SmtpClient(port) as client:
        # Any recipient, a sender of our authoritative domain, larger than the connector's limit.
        assert client.message("you@penstock.test", ["a@elsewhere.test"], content)[0] == 250
    (message,) = receiver.wait(1)
    assert message.content.endswith(content)
    # Who is not listed is nobody, though the group is the same.
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30, source_address=("127.0.0.2", 0)) as peer,
        peer.makefile("rb") as lines,
    ):
        lines.readline()
        peer.sendall(b"HELO a.test\r\n")
        assert lines.readline().startswith(b"250")
        peer.sendall(b"MAIL FROM:<you@penstock.test>\r\n")
        assert lines.readline().startswith(b"550 5.7.1")
    asked = ("--from", "127.0.0.1", "--listener", f"127.0.0.1:{port}", "--to", "a@elsewhere.test")
    explained = relay.cli("--config", str(relay.config), "explain", "connect", *asked)
    assert explained.returncode == 0, explained.stderr
    assert "bypass_message_size_limit" in explained.stdout
