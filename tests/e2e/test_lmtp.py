"""LMTP from the clients people have, and with as many recipients as there may be."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.test_clients import Program, maildir_files, run
from tests.support.certificates import install, table
from tests.support.daemon import Daemon
from tests.support.dialogue import MESSAGE, Dialogue

MANY = 5_000


@pytest.fixture
def lmtp(launch: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    chain, key = install(tmp_path, "mail")
    connector = ['protocol = "lmtp"', f"max_recipients_per_message = {MANY}", 'tarpit_interval = "0s"']
    connector.append('tls_certificate_name = "mail"')
    recipients = ["you@penstock.test", "other@penstock.test"]
    recipients += [f"{number}you@penstock.test" for number in range(3)]
    recipients += [f"r{number}@penstock.test" for number in range(MANY)]
    extra = {**table("mail", chain, key), "receive_connector.apps": connector}
    return launch(recipients=tuple(recipients), extra=extra)


def dialogue(daemon: Daemon) -> Dialogue:
    return Dialogue(socket.create_connection(("127.0.0.1", daemon.port), timeout=30))


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "starttls"])
def test_smtplib_delivers(lmtp: Daemon, secured: bool) -> None:
    with smtplib.LMTP("127.0.0.1", lmtp.port) as client:
        if secured:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            client.starttls(context=context)
        assert client.docmd("EHLO", "client.test")[0] == 500
        client.ehlo("client.test")
        assert client.has_extn("pipelining")
        client.sendmail("me@penstock.test", ["you@penstock.test"], MESSAGE)
    (path,) = maildir_files(lmtp.drop, 1)
    name = b"LMTPS" if secured else b"LMTP"
    assert b" with " + name + b" id " in path.read_bytes()


def test_smtp_source_delivers(lmtp: Daemon, program: Program, program_environment: dict[str, str]) -> None:
    done = run(
        [
            *(program("smtp-source"), "-L", "-d", "-s", "5", "-m", "50", "-r", "2", "-l", "4096"),
            *("-f", "a@penstock.test", "-t", "you@penstock.test", f"127.0.0.1:{lmtp.port}"),
        ],
        program_environment,
    )
    assert done.returncode == 0, done.stderr
    assert len(maildir_files(lmtp.drop, 50)) == 50


def test_each_recipient_has_a_reply_after_one_sync(lmtp: Daemon) -> None:
    with contextlib.closing(dialogue(lmtp)) as client:
        assert client.reply().split()[2] == b"LMTP"
        assert client.say(b"LHLO client.test").startswith(b"250")
        envelope = [b"MAIL FROM:<me@penstock.test>", b"RCPT TO:<you@penstock.test>"]
        envelope += [b"RCPT TO:<nobody@penstock.test>", b"RCPT TO:<other@penstock.test>"]
        envelope += [b"RCPT TO:<you@penstock.test>", b"DATA"]
        client.connection.sendall(b"\r\n".join(envelope) + b"\r\n")
        assert [client.reply()[:3] for _ in envelope] == [b"250", b"250", b"550", b"250", b"250", b"354"]
        client.connection.sendall(MESSAGE + b".\r\nNOOP\r\n")
        replies = [client.reply() for _ in range(4)]
        assert {reply for reply in replies[:3]} == {replies[0]}
        assert replies[0].startswith(b"250 2.6.0 ")
        assert replies[3].startswith(b"250 2.0.0 OK")
        # A content that is refused, in chunks, with what follows in the same segment.
        client.connection.sendall(
            b"MAIL FROM:<me@penstock.test>\r\n"
            b"RCPT TO:<you@penstock.test>\r\nRCPT TO:<other@penstock.test>\r\n"
            b"BDAT 3\r\na\0bBDAT 2 LAST\r\n\r\nQUIT\r\n"
        )
        codes = [client.reply()[:9] for _ in range(7)]
        assert codes[3:6] == [b"250 2.0.0", codes[4], codes[4]]
        assert codes[4].startswith(b"5")
        assert codes[6].startswith(b"221")
    # One message for all, in the Maildir that all of them have.
    assert len(maildir_files(lmtp.drop, 1)) == 1


def test_no_recipient_is_503(lmtp: Daemon) -> None:
    with contextlib.closing(dialogue(lmtp)) as client:
        client.reply()
        client.say(b"LHLO client.test")
        client.say(b"MAIL FROM:<me@penstock.test>")
        client.say(b"RCPT TO:<nobody@penstock.test>")
        assert client.say(b"DATA").startswith(b"503 ")
        assert client.say(b"NOOP").startswith(b"250 ")


def test_as_many_recipients_as_there_may_be_have_as_many_replies(lmtp: Daemon) -> None:
    with contextlib.closing(dialogue(lmtp)) as client:
        client.reply()
        client.say(b"LHLO client.test")
        client.say(b"MAIL FROM:<me@penstock.test>")
        for number in range(0, MANY, 100):
            part = (b"RCPT TO:<r%d@penstock.test>\r\n" % each for each in range(number, number + 100))
            client.connection.sendall(b"".join(part))
            assert all(client.reply().startswith(b"250 ") for _ in range(100))
        assert client.say(b"RCPT TO:<r0@penstock.test>").startswith(b"452 ")
        assert client.say(b"DATA").startswith(b"354 ")
        message_id = b"Message-ID: <" + b"m" * 300 + b"@penstock.test>\r\n"
        client.connection.sendall(message_id + MESSAGE + b".\r\n")
        assert all(client.reply().startswith(b"250 2.6.0 ") for _ in range(MANY))
        assert client.say(b"NOOP").startswith(b"250 2.0.0 ")
