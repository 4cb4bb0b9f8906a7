"""Logins from the clients people have, against the running daemon."""

from __future__ import annotations

import os
import select
import smtplib
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2.low_level import Type, hash_secret

from tests.e2e.test_clients import maildir_files, run
from tests.support.daemon import Daemon
from tests.support.ports import free_port
from tests.support.receiver import Receiver

Program = Callable[[str], str]

NAME, SECRET = "erp@penstock.test", "open sesame, please"
MAIL = b"MAIL FROM:<me@penstock.test>\r\nRCPT TO:<you@penstock.test>\r\nDATA\r\n"
LOGINS = 200


class Line:
    """A connection that speaks line by line."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self.socket.makefile("rb")
        assert self.reply().startswith(b"220 ")
        assert self.say(b"EHLO client.example").startswith(b"250 ")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, line: bytes) -> None:
        self.socket.sendall(line + b"\r\n")

    def reply(self) -> bytes:
        while True:
            line = self._file.readline()
            if line[3:4] != b"-":
                return line

    def say(self, line: bytes) -> bytes:
        self.send(line)
        return self.reply()


def plain(password: str, name: str = NAME) -> bytes:
    return b"AUTH PLAIN " + b64encode(f"\0{name}\0{password}".encode())


def user(folder: Path, *arguments: str, password: str = "") -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "user", *arguments, "--file", str(folder / "users")],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def relay(launch: Callable[..., Daemon]) -> Daemon:
    """A daemon that takes passwords, without a tarpit for those who get them wrong."""
    daemon = launch(
        run=False,
        # One source may have all that it wants of what is free.
        max_connections=3 * LOGINS,
        extra={
            "receive_connector.apps": ['auth_mechanism = ["basic_auth"]', 'auth_tarpit_interval = "0s"'],
            "user_store.local": ['file = "users"'],
        },
    )
    user(daemon.folder, "add", NAME, password=SECRET)
    daemon.start()
    return daemon


def received_with(daemon: Daemon, count: int = 1) -> list[str]:
    """The protocols in the topmost Received fields of what has arrived."""
    texts = [path.read_text() for path in maildir_files(daemon.drop, count)]
    return [text.partition(" with ")[2].partition(" ")[0] for text in texts]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("initial", [True, False])
def test_smtplib_logs_in(relay: Daemon, mechanism: str, initial: bool) -> None:
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=20) as client:
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        client.user, client.password = NAME, SECRET
        method = client.auth_plain if mechanism == "PLAIN" else client.auth_login
        code, text = client.auth(mechanism, method, initial_response_ok=initial)
        assert (code, text) == (235, b"2.7.0 Authentication successful")
        client.sendmail("me@penstock.test", ["you@penstock.test"], b"Subject: hi\r\n\r\nhi\r\n")
    assert received_with(relay) == ["ESMTPA"]
    (received,) = [line for line in relay.journal() if line["event"] == "RECEIVE"]
    assert received["login"] == NAME


def test_curl_logs_in(relay: Daemon, program: Program, tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    mail.write_bytes(b"Subject: by curl\r\n\r\nhi\r\n")
    for password, code in ((SECRET, 0), ("wrong password", 67)):
        done = run(
            [
                *(program("curl"), "--silent", "--show-error", "--url", f"smtp://127.0.0.1:{relay.port}"),
                *("--user", f"{NAME}:{password}", "--mail-from", "me@penstock.test"),
                *("--mail-rcpt", "you@penstock.test", "--upload-file", str(mail)),
            ]
        )
        assert done.returncode == code, done.stderr
    assert received_with(relay) == ["ESMTPA"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_logs_in(
    relay: Daemon, program: Program, program_environment: dict[str, str], mechanism: str
) -> None:
    for password, code in ((SECRET, 0), ("wrong password", 28)):
        done = run(
            [
                *(program("swaks"), "--server", "127.0.0.1", "--port", str(relay.port)),
                *("--from", "me@penstock.test", "--to", "you@penstock.test"),
                *("--auth", mechanism, "--auth-user", NAME, "--auth-password", password),
            ],
            program_environment,
        )
        assert done.returncode == code, done.stdout + done.stderr
    assert received_with(relay) == ["ESMTPA"]


def test_a_connector_for_users_alone_takes_their_mail_for_everybody(
    launch: Callable[..., Daemon], receiver: Receiver
) -> None:
    port = free_port()
    daemon = launch(
        run=False,
        smart_host_port=receiver.port,
        extra={
            "receive_connector.clients": [
                'usage = "custom"',
                f'bindings = ["127.0.0.1:{port}"]',
                'remote_ip_ranges = ["127.0.0.0/8"]',
                'permission_groups = ["authenticated_users"]',
                'auth_mechanism = ["basic_auth"]',
            ],
            "user_store.local": ['file = "users"'],
        },
    )
    user(daemon.folder, "add", NAME, password=SECRET)
    daemon.start()
    with Line(port) as line:
        assert line.say(f"MAIL FROM:<{NAME}>".encode()).startswith(b"530 5.7.0 ")
        assert line.say(plain(SECRET)).startswith(b"235 2.7.0 ")
        assert line.say(b"MAIL FROM:<boss@penstock.test>").startswith(b"550 5.7.60 ")
        assert line.say(f"MAIL FROM:<{NAME}>".encode()).startswith(b"250 2.1.0 ")
        assert line.say(b"RCPT TO:<far@elsewhere.test>").startswith(b"250 2.1.5 ")
        assert line.say(b"DATA").startswith(b"354 ")
        assert line.say(b"Subject: hi\r\n\r\nhi\r\n.").startswith(b"250 2.6.0 ")
    (received,) = receiver.wait(1)
    assert (received.sender, received.recipients) == (NAME, ("far@elsewhere.test",))
    assert b" with ESMTPA " in received.content


def test_the_third_wrong_password_ends_the_session(relay: Daemon) -> None:
    with Line(relay.port) as line:
        for number in range(2):
            assert line.say(plain(f"wrong {number}")).startswith(b"535 5.7.8 ")
        assert line.say(plain("wrong")).startswith(b"421 4.7.0 ")
        assert line.reply() == b""


def test_an_exchange_on_the_wire(relay: Daemon) -> None:
    with Line(relay.port) as line:
        assert line.say(b"AUTH PLAIN") == b"334 \r\n"
        assert line.say(b"*").startswith(b"501 5.7.0 ")
        assert line.say(b"AUTH PLAIN not-base64").startswith(b"501 5.5.2 ")
        assert line.say(b"AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
        assert line.say(b"x" * 20_000).startswith(b"500 5.5.6 ")
        assert line.say(b"AUTH NTLM").startswith(b"504 5.5.4 ")
        assert line.say(b"AUTH LOGIN " + b64encode(NAME.encode())) == b"334 UGFzc3dvcmQ6\r\n"
        assert line.say(b64encode(SECRET.encode())).startswith(b"235 2.7.0 ")
        assert line.say(plain(SECRET)).startswith(b"503 5.5.1 ")
        assert line.say(b"NOOP").startswith(b"250 ")


@pytest.mark.parametrize("behind", [b"MAIL FROM:<>\r\n", b"x"])
def test_what_is_sent_behind_auth_is_not_carried_out(relay: Daemon, behind: bytes) -> None:
    with Line(relay.port) as line:
        line.send(plain(SECRET) + b"\r\n" + behind)
        assert line.reply().startswith(b"554 5.5.0 ")
        assert line.reply() == b""


def test_users_change_while_the_daemon_runs(relay: Daemon) -> None:
    def answer(password: str, name: str, wanted: bytes) -> None:
        """Until it is as wanted: the file is looked at once a second."""
        deadline = time.monotonic() + 10
        while True:
            with Line(relay.port) as line:
                said = line.say(plain(password, name))
            if said.startswith(wanted):
                return
            assert time.monotonic() < deadline, said
            time.sleep(0.1)

    answer(SECRET, NAME, b"235")
    user(relay.folder, "add", "scan", password="scan scan scan")
    answer("scan scan scan", "scan", b"235")
    user(relay.folder, "disable", NAME)
    answer(SECRET, NAME, b"535")
    user(relay.folder, "enable", NAME)
    user(relay.folder, "passwd", NAME, password="another one, please")
    answer("another one, please", NAME, b"235")
    answer(SECRET, NAME, b"535")
    (relay.folder / "users").chmod(0o644)
    deadline = time.monotonic() + 10
    while "users_unreadable" not in relay.cli("--json", "status").stdout:
        with Line(relay.port):
            assert time.monotonic() < deadline
        time.sleep(0.1)
    answer("another one, please", NAME, b"235")


def test_many_logins_at_once_hold_up_nobody_else(relay: Daemon) -> None:
    # One pass instead of two: the machine that tests has little to spare.
    stored = hash_secret(SECRET.encode(), os.urandom(16), 1, 19_456, 1, 32, Type.ID).decode()
    users = relay.folder / "users"
    users.write_text(f"{NAME}:{stored}:\n", encoding="utf-8")
    time.sleep(1.1)
    lines = [Line(relay.port) for _ in range(LOGINS)]
    try:
        with Line(relay.port) as other:
            for number, line in enumerate(lines):
                line.send(plain(f"wrong password {number}"))
            other.socket.sendall(MAIL)
            assert [other.reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
            assert other.say(b"Subject: hi\r\n\r\nhi\r\n.").startswith(b"250 2.6.0 ")
            answered, _, _ = select.select([line.socket for line in lines], [], [], 0)
            assert len(answered) < LOGINS, "all were verified before one message was taken"
            # On a slow machine some wait for longer than they may.
            assert {line.reply()[:3] for line in lines} <= {b"535", b"454"}
    finally:
        for line in lines:
            line.__exit__()
    assert received_with(relay) == ["ESMTP"]


def test_secrets_are_written_nowhere(relay: Daemon) -> None:
    wrong = "not the right one"
    with Line(relay.port) as line:
        line.say(plain(wrong))
        line.say(b"AUTH LOGIN " + b64encode(NAME.encode()))
        line.say(b64encode(SECRET.encode()))
        line.socket.sendall(MAIL)
        assert [line.reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        assert line.say(b"Subject: hi\r\n\r\nhi\r\n.").startswith(b"250 2.6.0 ")
    maildir_files(relay.drop, 1)
    said = [
        relay.cli("--json", "status").stdout,
        relay.cli("user", "list", "--file", f"{relay.folder}/users").stdout,
    ]
    checked = subprocess.run(
        [sys.executable, "-m", "penstock", "--config", str(relay.config), "config", "check"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    said += [checked.stdout, checked.stderr]
    relay.stop()
    said.append(relay.printed())
    written = "\n".join(said).encode()
    for path in relay.folder.rglob("*"):
        if path.is_file() and path.name != "users":
            written += path.read_bytes()
    assert b"Subject: hi" in written, "what was looked at has the message"
    stored = (relay.folder / "users").read_bytes().split(b"$")[-1].partition(b":")[0]
    for secret in (SECRET, wrong):
        encoded = (b64encode(secret.encode()), plain(secret).split()[-1])
        for text in (secret.encode(), *encoded):
            assert text not in written
    assert stored not in written
