"""XCLIENT and XFORWARD from real clients and from plain sockets, behind a load balancer too."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import pytest

from tests.e2e.test_clients import Program, maildir_files, run
from tests.e2e.test_proxies import LINE, journal
from tests.support.daemon import Daemon
from tests.support.dialogue import Dialogue
from tests.support.ports import free_port


@pytest.fixture
def believing(launch: Callable[..., Daemon]) -> Daemon:
    """A daemon that 10.20.0.0/16 may relay through, and which believes 127.0.0.1 and 10.20.0.7."""
    port = free_port()
    trusted = '["127.0.0.1", "10.20.0.7"]'
    return launch(
        receive_port=port,
        remote_ip_ranges=("10.20.0.0/16",),
        extra={
            "receive_connector.apps": [f"xclient_ranges = {trusted}", 'tarpit_interval = "0s"'],
            "receive_connector.front": [
                'usage = "internet"',
                f'bindings = ["127.0.0.1:{port}"]',
                'remote_ip_ranges = ["127.0.0.0/8"]',
                f"xclient_ranges = {trusted}",
                f"xforward_ranges = {trusted}",
                'proxy_protocol_ranges = ["127.0.0.2"]',
                'tarpit_interval = "0s"',
            ],
        },
    )


def connect(daemon: Daemon, source: str = "127.0.0.1") -> Dialogue:
    address = ("127.0.0.1", daemon.port)
    return Dialogue(socket.create_connection(address, timeout=20, source_address=(source, 0)))


def relays(dialogue: Dialogue) -> bytes:
    """Return what is said to a recipient elsewhere."""
    assert dialogue.say(b"EHLO device.test").startswith(b"250")
    assert dialogue.say(b"MAIL FROM:<me@penstock.test>").startswith(b"250")
    reply = dialogue.say(b"RCPT TO:<else@where.test>")
    assert dialogue.say(b"RSET").startswith(b"250")
    return reply[:3]


def test_swaks_speaks_for_a_device(believing: Daemon, program: Program) -> None:
    done = run(
        [
            *(program("swaks"), "--server", f"127.0.0.1:{believing.port}", "--helo", "device.test"),
            *("--from", "me@penstock.test", "--to", "you@penstock.test"),
            *("--xclient-addr", "10.20.0.9", "--xclient-name", "printer.contoso.example"),
        ]
    )
    assert done.returncode == 0, done.stdout
    (path,) = maildir_files(believing.drop, 1)
    assert b"Received: from device.test (printer.contoso.example [10.20.0.9])" in path.read_bytes()
    believing.stop()
    (line,) = journal(believing, "RECEIVE")
    assert (line["connector"], line["peer"], line["xclient"]) == ("apps", "10.20.0.9", "127.0.0.1")
    (line,) = journal(believing, "XCLIENT")
    assert (line["peer"], line["told"]) == ("127.0.0.1", "ADDR=10.20.0.9 NAME=printer.contoso.example")


def test_rights_come_and_go_with_whom_a_peer_speaks_for(believing: Daemon) -> None:
    with contextlib.closing(connect(believing)) as dialogue:
        assert dialogue.reply().startswith(b"220 ")
        assert relays(dialogue) == b"550"
        for address, code in [(b"10.20.0.9", b"250"), (b"127.0.0.9", b"550"), (b"10.20.0.9", b"250")]:
            assert dialogue.say(b"XCLIENT ADDR=" + address).startswith(b"220 ")
            assert dialogue.say(b"MAIL FROM:<me@penstock.test>").startswith(b"503 ")
            assert relays(dialogue) == code
        assert dialogue.say(b"XCLIENT ADDR=192.0.2.1").startswith(b"554 ")
        assert dialogue.reply() == b""


def test_whoever_is_not_listed_is_not_understood(believing: Daemon) -> None:
    with contextlib.closing(connect(believing, "127.0.0.3")) as dialogue:
        assert dialogue.reply().startswith(b"220 ")
        assert b"XCLIENT" not in dialogue.say(b"EHLO device.test")
        for command in (b"XCLIENT ADDR=10.20.0.9", b"XCLIENT x", b"XFORWARD ADDR=10.20.0.9", b"XFORWARD"):
            assert dialogue.say(command).startswith(b"502 "), command
        assert relays(dialogue) == b"550"


def test_commands_behind_xclient_are_not_followed(believing: Daemon) -> None:
    with contextlib.closing(connect(believing)) as dialogue:
        dialogue.reply()
        dialogue.say(b"EHLO device.test")
        dialogue.connection.sendall(b"XCLIENT ADDR=10.20.0.9 HELO=a.test\r\nMAIL FROM:<me@penstock.test>\r\n")
        reply = dialogue.reply()
        assert reply == b"" or reply.startswith(b"554 ")
        assert dialogue.reply() == b""


def test_xforward_is_told_of_one_message(believing: Daemon) -> None:
    with contextlib.closing(connect(believing)) as dialogue:
        dialogue.reply()
        assert b"XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE" in dialogue.say(b"EHLO device.test")
        said = b"XFORWARD ADDR=10.20.0.9 NAME=printer.contoso.example\r\nXFORWARD SOURCE=LOCAL\r\n"
        dialogue.connection.sendall(said)
        assert [dialogue.reply()[:3], dialogue.reply()[:3]] == [b"250", b"250"]
        assert dialogue.say(b"MAIL FROM:<me@penstock.test>").startswith(b"250")
        assert dialogue.say(b"RCPT TO:<else@where.test>").startswith(b"550"), "it decides nothing"
        assert dialogue.say(b"RCPT TO:<you@penstock.test>").startswith(b"250")
        assert dialogue.say(b"DATA").startswith(b"354")
        assert dialogue.say(b"Subject: hello\r\n\r\nhello\r\n.").startswith(b"250")
        dialogue.deliver()
    believing.stop()
    forwarded = "ADDR=10.20.0.9 NAME=printer.contoso.example SOURCE=LOCAL"
    assert [line.get("xforward") for line in journal(believing, "RECEIVE")] == [forwarded, None]
    texts = [path.read_bytes().replace(b"\r", b"") for path in maildir_files(believing.drop, 2)]
    assert sum(b"(XFORWARD\n\tADDR=10.20.0.9\n\tNAME=" in text for text in texts) == 1


def test_a_peer_behind_a_load_balancer_may_speak_for_others(believing: Daemon) -> None:
    with contextlib.closing(connect(believing, "127.0.0.2")) as dialogue:
        # Who is listed is the client that the header tells.
        dialogue.connection.sendall(LINE)
        assert dialogue.reply().startswith(b"220 ")
        assert dialogue.say(b"XCLIENT ADDR=10.20.0.9 HELO=device.test").startswith(b"220 ")
        dialogue.deliver()
    believing.stop()
    (line,) = journal(believing, "RECEIVE")
    assert (line["peer"], line["proxy"], line["xclient"]) == ("10.20.0.9", "127.0.0.2", "10.20.0.7")
