"""TLS from clients, and what breaks it; tests/clients has STARTTLS from many more."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.test_clients import Program, maildir_files, run
from tests.support.certificates import ROOT, install, table
from tests.support.daemon import Daemon
from tests.support.ports import free_port

MESSAGE = b"From: me@penstock.test\r\nSubject: sealed\r\n\r\n.dot\r\n" + b"x" * 70 + b"\r\n"


@pytest.fixture
def tls(launch: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    """A daemon with STARTTLS and a listener that begins with TLS."""
    chain, key = install(tmp_path, "mail")
    connector = [
        'tls_certificate_name = "mail"',
        f'implicit_tls_bindings = ["127.0.0.1:{free_port()}"]',
    ]
    return launch(extra={**table("mail", chain, key), "receive_connector.apps": connector})


def implicit_port(daemon: Daemon) -> int:
    line = daemon.settings.extra["receive_connector.apps"][1]
    return int(line.rpartition(":")[2].rstrip('"]'))


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ROOT))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def named(daemon: Daemon) -> smtplib.SMTP:
    """A client that expects the certificate of another name than the one it connects to."""
    client = smtplib.SMTP("127.0.0.1", daemon.port, timeout=20)
    client._host = "mail.example"  # type: ignore[attr-defined]
    return client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_smtplib_starttls(tls: Daemon, version: ssl.TLSVersion) -> None:
    context = trusting()
    context.minimum_version = context.maximum_version = version
    with named(tls) as client:
        client.ehlo("client.test")
        assert client.has_extn("starttls")
        client.starttls(context=context)
        client.ehlo("client.test")
        assert not client.has_extn("starttls")
        client.sendmail("me@penstock.test", ["you@penstock.test"], MESSAGE)
        client.sendmail("me@penstock.test", ["you@penstock.test"], MESSAGE + b"y" * 3_000_000 + b"\r\n")
        assert client.docmd("STARTTLS")[0] == 503
    kept = sorted((path.read_bytes() for path in maildir_files(tls.drop, 2)), key=len)
    assert b" with ESMTPS id " in kept[0]
    number = "1_2" if version is ssl.TLSVersion.TLSv1_2 else "1_3"
    assert f"\n\t(version=TLS{number} cipher=TLS_".encode() in kept[0]
    assert len(kept[1]) > 3_000_000


def test_a_connection_may_begin_with_tls(tls: Daemon) -> None:
    context = trusting()
    context.check_hostname = False
    with smtplib.SMTP_SSL("127.0.0.1", implicit_port(tls), context=context, timeout=20) as client:
        client.sendmail("me@penstock.test", ["you@penstock.test"], MESSAGE)
    (path,) = maildir_files(tls.drop, 1)
    assert b"ESMTPS" in path.read_bytes()


def test_curl_delivers_where_tls_comes_first(tls: Daemon, program: Program, tmp_path: Path) -> None:
    mail = tmp_path / "letter"
    mail.write_bytes(MESSAGE)
    done = run(
        [
            *(program("curl"), "--silent", "--show-error", "--cacert", str(ROOT)),
            *("--connect-to", "mail.example::127.0.0.1:"),
            *("--url", f"smtps://mail.example:{implicit_port(tls)}"),
            *("--mail-from", "me@penstock.test", "--mail-rcpt", "you@penstock.test"),
            *("--upload-file", str(mail)),
        ]
    )
    assert done.returncode == 0, done.stderr
    (path,) = maildir_files(tls.drop, 1)
    assert b"ESMTPS" in path.read_bytes()


def shown(daemon: Daemon) -> bytes:
    """The certificate of a new handshake."""
    context = ssl.create_default_context(cafile=str(ROOT))
    with (
        socket.create_connection(("127.0.0.1", implicit_port(daemon)), 10) as plain,
        context.wrap_socket(plain, server_hostname="mail.example") as sealed,
    ):
        sealed.recv(100)
        return sealed.getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_used_while_sessions_go_on(tls: Daemon, tmp_path: Path) -> None:
    before = shown(tls)
    with named(tls) as client:
        client.starttls(context=trusting())
        install(tmp_path, "other", key="mail", under="mail")
        time.sleep(1.1)
        client.noop()
        assert shown(tls) == before, "a key that does not match changes nothing"
        status = tls.cli("status").stdout
        assert "it is not the key of the certificate" in status, status
        install(tmp_path, "renewed", under="mail")
        time.sleep(1.1)
        client.noop()
        assert shown(tls) != before
        assert "it is not the key" not in tls.cli("status").stdout
        client.sendmail("me@penstock.test", ["you@penstock.test"], MESSAGE)
    maildir_files(tls.drop, 1)


@contextlib.contextmanager
def connected(daemon: Daemon) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", daemon.port), 20) as plain:
        assert plain.recv(1000).startswith(b"220 ")
        yield plain


def all_from(plain: socket.socket) -> bytes:
    heard = b""
    with contextlib.suppress(ConnectionError):
        while octets := plain.recv(65536):
            heard += octets
    return heard


BEHIND = (
    b"EHLO evil.test\r\n",
    b"MAIL FROM:<evil@penstock.test>\r\n",
    b"RCPT TO:<you@penstock.test>\r\n",
    b"DATA\r\n",
)


def test_commands_behind_starttls_are_never_carried_out(tls: Daemon) -> None:
    tries = 0
    for count in range(1, 5):
        octets = b"STARTTLS\r\n" + b"".join(BEHIND[:count])
        for split in range(1, len(octets) + 1):
            with connected(tls) as plain:
                plain.sendall(octets[:split])
                plain.sendall(octets[split:])
                plain.shutdown(socket.SHUT_WR)
                heard = all_from(plain)
            # Nothing, 554 if the tail was seen with the command, or 220 and an alert if it came later.
            codes = {line[:3] for line in heard.split(b"\r\n") if line[:1].isdigit()}
            assert codes <= {b"220", b"554"}, heard
            assert b"250" not in heard
            tries += 1
    assert not (tls.drop / "new").is_dir() or not list((tls.drop / "new").iterdir())
    print(f"STARTTLS with commands behind it: {tries} times, 0 carried out")


@pytest.mark.parametrize("ending", ["fin", "reset"])
def test_content_that_is_cut_off_is_not_kept(tls: Daemon, ending: str) -> None:
    for at in range(0, len(MESSAGE), 7):
        with connected(tls) as plain:
            plain.sendall(b"STARTTLS\r\n")
            assert plain.recv(1000).startswith(b"220 ")
            sealed = trusting().wrap_socket(plain, server_hostname="mail.example")
            for command in (b"EHLO a\r\n", b"MAIL FROM:<a@penstock.test>\r\n", *BEHIND[2:]):
                sealed.sendall(command)
                assert sealed.recv(4000)[:1] in b"23"
            sealed.sendall(MESSAGE[:at])
            below = socket.socket(fileno=sealed.detach())
            if ending == "reset":
                below.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            else:
                below.sendall(b"\r\n.\r\nNOOP\r\n")
            below.close()
    time.sleep(0.5)
    assert not (tls.drop / "new").is_dir() or not list((tls.drop / "new").iterdir())
    assert not [line for line in tls.journal() if line["event"] == "RECEIVE"]


def test_a_certificate_that_cannot_be_read_refuses_the_start(
    launch: Callable[..., Daemon], tmp_path: Path
) -> None:
    chain, key = install(tmp_path, "mail", key="other")
    daemon = launch(run=False, extra=table("mail", chain, key))
    daemon.start(wait=False)
    assert daemon.wait() == 2
    assert "C127" in daemon.printed()
