"""Connections through load balancers that speak the PROXY protocol, from plain sockets on loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.test_clients import Program, maildir_files, run
from tests.support.certificates import install, table
from tests.support.daemon import Daemon
from tests.support.dialogue import Dialogue
from tests.support.ports import free_port

Launch = Callable[..., Daemon]
Connect = Callable[[Daemon, bytes], Dialogue]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 10.20.0.7 198.51.100.1 40001 25\r\n"
BINARY = SIGNATURE + bytes((0x21, 0x11, 0, 12, 10, 20, 0, 7, 198, 51, 100, 1, 0x9C, 0x41, 0, 25))


@pytest.fixture
def balanced(launch: Launch, tmp_path: Path) -> Daemon:
    """A daemon that 10.20.0.0/16 may relay through, behind a proxy at 127.0.0.1; strangers meet `mx`."""
    chain, key = install(tmp_path, "mail")
    port, implicit = free_port(), free_port()
    bindings = f'bindings = ["127.0.0.1:{port}"]'
    return launch(
        receive_port=port,
        remote_ip_ranges=("10.20.0.0/16",),
        extra={
            **table("mail", chain, key),
            "receive_connector.apps": [
                'proxy_protocol_ranges = ["127.0.0.1"]',
                'tls_certificate_name = "mail"',
                f'implicit_tls_bindings = ["127.0.0.1:{implicit}"]',
            ],
            "receive_connector.mx": [
                'usage = "internet"',
                bindings,
                'remote_ip_ranges = ["203.0.113.0/24", "2001:db8::/32"]',
                'tarpit_interval = "0s"',
                'tls_certificate_name = "mail"',
            ],
        },
    )


def implicit_port(daemon: Daemon) -> int:
    line = daemon.settings.extra["receive_connector.apps"][2]
    return int(line.rpartition(":")[2].rstrip('"]'))


def journal(daemon: Daemon, event: str) -> list[dict[str, str]]:
    text = (daemon.folder / "log" / "journal.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect, and send octets at once; all connections are closed at the end."""
    with contextlib.ExitStack() as opened:

        def dial(daemon: Daemon, header: bytes) -> Dialogue:
            connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
            dialogue = Dialogue(connection)
            opened.callback(dialogue.close)
            connection.sendall(header)
            return dialogue

        yield dial


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["version 1", "version 2"])
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "starttls"])
def test_the_client_behind_the_proxy_is_the_peer(
    connect: Connect, balanced: Daemon, header: bytes, secured: bool
) -> None:
    dialogue = connect(balanced, header)
    assert dialogue.reply().startswith(b"220 ")
    if secured:
        assert dialogue.say(b"EHLO device.test").startswith(b"250")
        assert dialogue.say(b"STARTTLS").startswith(b"220")
        dialogue = Dialogue(trusting().wrap_socket(dialogue.connection))
    with contextlib.closing(dialogue):
        dialogue.deliver()
    (path,) = maildir_files(balanced.drop, 1)
    assert b"Received: from device.test ([10.20.0.7])" in path.read_bytes()
    balanced.stop()
    (line,) = journal(balanced, "RECEIVE")
    assert (line["connector"], line["peer"], line["proxy"]) == ("apps", "10.20.0.7", "127.0.0.1")
    assert ("tls" in line) == secured


@pytest.mark.parametrize("version", ["1", "2"])
def test_swaks_delivers_as_a_proxy(balanced: Daemon, program: Program, version: str) -> None:
    done = run(
        [
            *(program("swaks"), "--server", f"127.0.0.1:{balanced.port}", "--helo", "device.test"),
            *("--from", "me@penstock.test", "--to", "you@penstock.test"),
            *("--proxy-version", version, "--proxy-family", "TCP6" if version == "1" else "AF_INET6"),
            *("--proxy-source", "2001:db8::7", "--proxy-source-port", "40001"),
            *("--proxy-dest", "2001:db8::1", "--proxy-dest-port", "25"),
            *(["--proxy-command", "PROXY", "--proxy-protocol", "STREAM"] if version == "2" else []),
        ]
    )
    assert done.returncode == 0, done.stdout
    (path,) = maildir_files(balanced.drop, 1)
    assert b"([IPv6:2001:db8::7])" in path.read_bytes()


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["version 1", "version 2"])
def test_a_handshake_may_begin_in_the_segment_of_the_header(balanced: Daemon, header: bytes) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", implicit_port(balanced)), timeout=20) as connection:
        first = header
        while True:
            try:
                banner = tls.read()
                break
            except ssl.SSLWantReadError:
                connection.sendall(first + outgoing.read())
                first = b""
                incoming.write(connection.recv(65_536))
        assert banner.startswith(b"220 ")


def test_rights_are_those_of_the_client_and_a_stranger_is_turned_away(
    connect: Connect, balanced: Daemon
) -> None:
    for header, code in [(LINE, b"250"), (LINE.replace(b"10.20.0.7", b"203.0.113.7"), b"550")]:
        dialogue = connect(balanced, header)
        dialogue.reply()
        dialogue.say(b"EHLO device.test")
        dialogue.say(b"MAIL FROM:<me@penstock.test>")
        assert dialogue.say(b"RCPT TO:<else@where.test>").startswith(code), header
    six = connect(balanced, b"PROXY TCP6 2001:db8::7 ::1 40001 25\r\n")
    assert six.reply().startswith(b"220 ")
    for header in (
        LINE.replace(b"10.20.0.7", b"192.0.2.7"),
        b"PROXY UNKNOWN\r\n",
        SIGNATURE + b"\x20\0\0\0",
        SIGNATURE + b"\x21\0\0\0",
    ):
        dialogue = connect(balanced, header)
        assert dialogue.reply().startswith(b"554 "), header
        assert dialogue.reply() == b""


def test_what_is_no_header_is_closed_without_a_word(connect: Connect, balanced: Daemon) -> None:
    for octets in (b"EHLO device.test\r\n", b"PROXY TCP4 10.20.0.7\r\n", SIGNATURE + b"\x41\x11\0\0"):
        connection = connect(balanced, octets).connection
        # Where it is closed with octets unread it is reset.
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    # One that only looks whether we are there.
    connect(balanced, b"").close()
    balanced.stop()
    assert [line["cause"] for line in journal(balanced, "PROXY")] == ["absent", "malformed", "malformed"]
    assert {line["peer"] for line in journal(balanced, "PROXY")} == {"127.0.0.1"}


def test_whoever_is_no_proxy_cannot_say_who_he_is(connect: Connect, launch: Launch) -> None:
    connector = ['proxy_protocol_ranges = ["10.0.0.5"]', 'tarpit_interval = "0s"']
    relay = launch(extra={"receive_connector.apps": connector})
    dialogue = connect(relay, b"")
    assert dialogue.reply().startswith(b"220 ")
    assert dialogue.say(LINE.rstrip()).startswith(b"500 ")
    dialogue.deliver()
    (path,) = maildir_files(relay.drop, 1)
    assert b"([127.0.0.1])" in path.read_bytes()
