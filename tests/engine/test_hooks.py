"""Hooks in the engine as a program embeds it: real sockets, TLS, logins, routing, the document's example."""

from __future__ import annotations

import json
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import penstock
from penstock import (
    Accept,
    ContentView,
    HeaderView,
    ReceiveHooks,
    Recipient,
    Redirect,
    Reject,
    Reply,
    SessionView,
    Tarpit,
    Verdict,
)
from penstock.client import Client
from penstock.receive.passwords import hashed
from tests.support.certificates import ROOT, SOURCE, install, table
from tests.support.client import SmtpClient
from tests.support.daemon import Settings, configuration
from tests.support.ports import free_port
from tests.support.receiver import Receiver

Configure = Callable[..., Path]
ROOT_OF_PROJECT = Path(__file__).resolve().parents[2]
CONTENT = b"Subject: one\r\n\r\n.hello\r\n"


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await trio.to_thread.run_sync(function, *arguments)


async def arrived(path: Path, count: int) -> list[bytes]:
    """Wait until the Maildir has so many messages."""
    with trio.fail_after(10):
        while True:
            found = sorted((path.parent / "drop" / "new").glob("*"))
            if len(found) >= count:
                return [file.read_bytes() for file in found]
            await trio.sleep(0.01)


class Recording(ReceiveHooks):
    """Writes down what it is asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.sessions: list[SessionView] = []

    def _note(self, session: SessionView, what: str) -> Accept:
        self.seen.append(what)
        self.sessions.append(session)
        return Accept()

    async def on_connect(self, session: SessionView) -> Verdict:
        return self._note(session, "connect")

    async def on_auth(self, session: SessionView, login: str) -> Verdict:
        return self._note(session, f"auth {login}")

    async def on_mail(self, session: SessionView, sender: str | None) -> Verdict:
        return self._note(session, f"mail {sender}")

    async def on_rcpt_to(self, session: SessionView, recipient: Recipient) -> Verdict:
        return self._note(session, f"rcpt {recipient.address}")

    async def on_end_of_headers(self, session: SessionView, headers: HeaderView) -> Verdict:
        return self._note(session, f"headers {headers.get('Subject')}")

    async def on_end_of_data(self, session: SessionView, content: ContentView) -> Verdict:
        _, _, body = (await content.read()).decode().partition("\r\n\r\n")
        return self._note(session, f"data {body!r}")


def secured(port: int) -> smtplib.SMTP:
    """Return a client that has said STARTTLS, with a certificate of its own."""
    context = ssl.create_default_context(cafile=str(ROOT))
    context.load_cert_chain(SOURCE / "client.chain.pem", SOURCE / "client.key")
    client = smtplib.SMTP("127.0.0.1", port, timeout=20)
    client._host = "mail.example"  # type: ignore[attr-defined]
    client.ehlo("plain.test")
    client.starttls(context=context)
    client.ehlo("sealed.test")
    return client


@pytest.fixture
def sealed(configure: Configure, tmp_path: Path) -> Path:
    """A configuration with TLS, client certificates and a user."""
    chain, key = install(tmp_path, "mail")
    path = configure(
        extra={
            **table("mail", chain, key),
            "receive_connector.apps": [
                'tls_certificate_name = "mail"',
                'tls_client_certificate = "ask"',
                'auth_mechanism = ["tls", "basic_auth"]',
                'auth_tarpit_interval = "0s"',
                "max_logon_failures = 2",
            ],
            "user_store.local": ['file = "users"'],
        }
    )
    (path.parent / "users").write_text(f"erp:{hashed('open sesame')}\n", encoding="utf-8")
    (path.parent / "users").chmod(0o600)
    return path


async def test_hooks_are_asked_in_order_over_tls_with_a_login(sealed: Path) -> None:
    hook = Recording()

    def talk(port: int) -> None:
        with secured(port) as client:
            client.user, client.password = "erp", "open sesame"
            # Line by line, so that the question comes in the middle of an exchange.
            assert client.auth("LOGIN", client.auth_login, initial_response_ok=False)[0] == 235
            # Two transactions and one that is given up; smtplib sends command by command.
            for subject in ("one", "two"):
                client.sendmail("me@penstock.test", ["a@penstock.test"], f"Subject: {subject}\r\n\r\n.x\r\n")
                client.mail("given@penstock.test")
                client.rset()

    async with penstock.open_engine(sealed, receive=[hook]) as engine:
        await in_thread(talk, engine.addresses[0][1])
        messages = await arrived(sealed, 2)
    of_one = [
        "mail me@penstock.test",
        "rcpt a@penstock.test",
        "headers {}",
        "data '.x\\r\\n'",
        "mail given@penstock.test",
    ]
    assert hook.seen == [
        "connect",
        "auth erp",
        *(line.format("one") for line in of_one),
        *(line.format("two") for line in of_one),
    ]
    first, login, *later = hook.sessions
    assert (first.tls_version, first.greeting, first.client_certificate) == (None, "", None)
    assert (login.tls_version, login.greeting, login.login) == ("1.3", "sealed.test", None)
    assert {(view.login, view.protocol, view.tls_cipher) for view in later} == {
        ("erp", "ESMTPSA", login.tls_cipher)
    }
    shown = later[0].client_certificate
    assert shown is not None
    assert (len(shown.fingerprint), shown.not_before_s < shown.not_after_s) == (64, True)
    assert all(b"with ESMTPSA" in message for message in messages)


@pytest.mark.parametrize(
    ("verdict", "codes"),
    [
        (Reject(Reply(535, "5.7.139", "not from here")), [535, 421]),
        (Reject(Reply(454, "4.7.0", "later")), [454, 454, 235]),
        (Tarpit(0.05, Reject(Reply(550, "5.7.1", "no"))), [550, 421]),
        (Reject(Reply(421, "4.7.0", "bye")), [421]),
        (Redirect("out"), [451, 451, 235]),
        (Accept(), [235]),
        (Tarpit(0.05), [235]),
    ],
)
async def test_hook_has_the_last_word_about_a_login(sealed: Path, verdict: Verdict, codes: list[int]) -> None:
    answers = [verdict, verdict, Accept([("X-Login", "known")])]

    class Logins(ReceiveHooks):
        async def on_auth(self, session: SessionView, login: str) -> Verdict:
            return answers.pop(0)

    def talk(port: int) -> list[int]:
        heard: list[int] = []
        with secured(port) as client:
            for _ in codes:
                code, _ = client.docmd("AUTH PLAIN", "AGVycABvcGVuIHNlc2FtZQ==")
                heard.append(code)
            if heard[-1] == 235:
                client.sendmail("me@penstock.test", ["a@penstock.test"], CONTENT)
        return heard

    async with penstock.open_engine(sealed, receive=[Logins()]) as engine:
        try:
            assert await in_thread(talk, engine.addresses[0][1]) == codes
        except smtplib.SMTPServerDisconnected:
            pytest.fail("it ended too soon")
        if codes[-1] == 235:
            (message,) = await arrived(sealed, 1)
            assert (b"\r\nX-Login: known\r\n" in message) == (len(codes) == 3)


async def test_wrong_password_is_no_business_of_hooks(sealed: Path) -> None:
    hook = Recording()

    def talk(port: int) -> int:
        with secured(port) as client:
            return client.docmd("AUTH PLAIN", "AGVycABvcGVuIGJhcmxleQ==")[0]

    async with penstock.open_engine(sealed, receive=[hook]) as engine:
        assert await in_thread(talk, engine.addresses[0][1]) == 535
    assert hook.seen == ["connect"]


async def test_login_of_before_tls_leaves_no_header_fields(sealed: Path) -> None:
    class Logins(ReceiveHooks):
        async def on_connect(self, session: SessionView) -> Verdict:
            return Accept([("X-Connected", session.peer_ip)])

        async def on_auth(self, session: SessionView, login: str) -> Verdict:
            return Accept([("X-Login", "known")])

    def talk(port: int) -> None:
        context = ssl.create_default_context(cafile=str(ROOT))
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client._host = "mail.example"  # type: ignore[attr-defined]
            client.ehlo()
            assert client.docmd("AUTH PLAIN", "AGVycABvcGVuIHNlc2FtZQ==")[0] == 235
            client.starttls(context=context)
            client.sendmail("me@penstock.test", ["a@penstock.test"], CONTENT)

    async with penstock.open_engine(sealed, receive=[Logins()]) as engine:
        await in_thread(talk, engine.addresses[0][1])
        (message,) = await arrived(sealed, 1)
    assert b"X-Connected: 127.0.0.1\r\n" in message
    assert b"X-Login" not in message


def add_implicit_tls(config: Path, port: int) -> None:
    line = 'tls_certificate_name = "mail"\n'
    text = config.read_text(encoding="utf-8")
    more = f'{line}implicit_tls_bindings = ["127.0.0.1:{port}"]\n'
    config.write_text(text.replace(line, more), encoding="utf-8")


@pytest.mark.parametrize("verdict", [Accept(), Tarpit(0.05), Reject(Reply(554, "5.7.1", "no"))])
async def test_connection_that_begins_with_tls(sealed: Path, verdict: Verdict) -> None:
    port = free_port()
    await in_thread(add_implicit_tls, sealed, port)

    class Hook(ReceiveHooks):
        async def on_connect(self, session: SessionView) -> Verdict:
            return verdict

    def talk() -> bytes:
        context = ssl.create_default_context(cafile=str(ROOT))
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            try:
                with context.wrap_socket(raw, server_hostname="mail.example") as client:
                    return client.recv(100)[:4]
            except OSError:
                return b""

    async with penstock.open_engine(sealed, receive=[Hook()]):
        assert await in_thread(talk) == (b"" if isinstance(verdict, Reject) else b"220 ")


async def test_who_waits_for_a_handshake_is_told_nothing_when_the_engine_stops(sealed: Path) -> None:
    port, asked = free_port(), trio.Event()
    await in_thread(add_implicit_tls, sealed, port)

    class Slow(ReceiveHooks):
        async def on_connect(self, session: SessionView) -> Verdict:
            asked.set()
            await trio.sleep_forever()
            raise AssertionError("it sleeps for ever")

    async with penstock.open_engine(sealed, receive=[Slow()], hook_timeout_s=30) as engine:
        silent = await trio.open_tcp_stream("127.0.0.1", port)
        plain = await trio.open_tcp_stream(*engine.addresses[0])
        async with silent, plain:
            await asked.wait()
            await engine.stop()
            assert await plain.receive_some(100) == b"421 4.3.2 Service not active; try again later\r\n"
            try:
                heard = await silent.receive_some(100)
            except trio.BrokenResourceError:
                heard = b""
            assert heard == b""


async def test_redirected_mail_takes_the_other_connector(configure: Configure) -> None:
    class Partners(ReceiveHooks):
        async def on_rcpt_to(self, session: SessionView, recipient: Recipient) -> Verdict:
            return Redirect("side") if recipient.domain == "partner.test" else Accept()

    with Receiver() as usual, Receiver() as side:
        path = configure(
            smart_host_port=usual.port,
            extra={
                "send_connector.side": [
                    'usage = "custom"',
                    'address_spaces = ["elsewhere.test"]',
                    'smart_hosts = ["127.0.0.1"]',
                    f"port = {side.port}",
                ]
            },
        )
        async with penstock.open_engine(path, receive=[Partners()]) as engine:

            def talk() -> tuple[int, str]:
                with SmtpClient(engine.addresses[0][1]) as client:
                    return client.message(
                        "me@penstock.test", ["a@partner.test", "b@far.test", "c@partner.test"], CONTENT
                    )

            assert (await in_thread(talk))[0] == 250
            (other,) = await in_thread(side.wait, 1)
            (one,) = await in_thread(usual.wait, 1)
    assert other.recipients == ("a@partner.test", "c@partner.test")
    assert one.recipients == ("b@far.test",)
    assert other.content == one.content


async def test_large_content_is_read_from_where_it_lies(configure: Configure) -> None:
    content = b"Subject: large\r\n\r\n" + b"".join(
        b"..%08d" % at + b"y" * 60 + b"\r\n" for at in range(80_000)
    )
    sizes: list[int] = []
    found: list[bytes] = []

    class Reader(ReceiveHooks):
        async def on_end_of_data(self, session: SessionView, content: ContentView) -> Verdict:
            async for chunk in content.chunks():
                sizes.append(len(chunk))
                found.append(chunk)
            return Accept([("X-Octets", str(content.size))])

    path = configure()
    async with penstock.open_engine(path, receive=[Reader()], hook_timeout_s=30) as engine:

        def talk() -> tuple[int, str]:
            with SmtpClient(engine.addresses[0][1]) as client:
                return client.message("me@penstock.test", ["you@penstock.test"], content)

        assert (await in_thread(talk))[0] == 250
        (stored,) = await arrived(path, 1)
    assert b"".join(found) == content
    assert max(sizes) <= 65_536
    assert stored.endswith(f"\r\nX-Octets: {len(content)}\r\n".encode() + content)


async def test_question_of_a_connection_that_breaks_is_cancelled(configure: Configure) -> None:
    asked, ended = trio.Event(), trio.Event()

    class Slow(ReceiveHooks):
        async def on_rcpt_to(self, session: SessionView, recipient: Recipient) -> Verdict:
            asked.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.set()
            raise AssertionError("it sleeps for ever")

    async with penstock.open_engine(configure(), receive=[Slow()], hook_timeout_s=30) as engine:
        client = await in_thread(SmtpClient, engine.addresses[0][1])
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<you@penstock.test>\r\n")
        with trio.fail_after(10):
            await asked.wait()
            client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            await ended.wait()


async def test_300_sessions_wait_without_stopping_another(configure: Configure) -> None:
    waiting, gate, all_wait = 0, trio.Event(), trio.Event()

    class Some(ReceiveHooks):
        async def on_mail(self, session: SessionView, sender: str | None) -> Verdict:
            nonlocal waiting
            if sender is not None:
                waiting += 1
                if waiting == 300:
                    all_wait.set()
                await gate.wait()
            return Accept()

    path = configure(max_connections=1000)
    async with penstock.open_engine(path, receive=[Some()], hook_timeout_s=30) as engine:
        port = engine.addresses[0][1]

        def connect() -> list[SmtpClient]:
            clients = [SmtpClient(port) for _ in range(300)]
            for client in clients:
                client.send(b"MAIL FROM:<me@penstock.test>\r\n")
            return clients

        def talk() -> tuple[int, str]:
            with SmtpClient(port) as client:
                return client.message("", ["you@penstock.test"], CONTENT)

        clients = await in_thread(connect)
        with trio.fail_after(20):
            await all_wait.wait()
            assert (await in_thread(talk))[0] == 250
        gate.set()
        assert {code for code, _ in await in_thread(lambda: [client.reply() for client in clients])} == {250}
        for client in clients:
            client.close()


async def test_failures_are_counted_told_and_written_down(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ReceiveHooks):
        name = "broken"

        async def on_mail(self, session: SessionView, sender: str | None) -> Verdict:
            raise RuntimeError("a secret of the program")

    path = configure(metrics_port=free_port())
    async with penstock.open_engine(path, receive=[Recording(), Broken()]) as engine:

        def talk() -> list[tuple[int, str]]:
            with SmtpClient(engine.addresses[0][1]) as client:
                return [client.command("MAIL FROM:<me@penstock.test>") for _ in range(3)]

        assert await in_thread(talk) == [(451, "4.3.0 Temporary server error; try again later")] * 3

        def look() -> Any:
            client = Client(f"unix://{path.parent}/control.sock")
            try:
                return client.status()
            finally:
                client.close()

        status = await in_thread(look)
        assert "hook_failing" in json.dumps(status)
        text = engine._views().metrics().decode()
    assert 'penstock_hook_seconds_count{hook="broken",result="error"} 3.0' in text
    assert 'penstock_hook_seconds_bucket{hook="Recording",le="+Inf",result="ok"} 4.0' in text
    journal = (path.parent / "log" / "journal.jsonl").read_text(encoding="utf-8")
    lines = [line for line in map(json.loads, journal.splitlines()) if line["event"] == "HOOK"]
    assert [(line["hook"], line["at_event"], line["result"], line["cause"]) for line in lines] == [
        ("broken", "on_mail", "error", "RuntimeError")
    ] * 3
    assert "secret" not in journal
    # The program learns what it has raised, and where.
    (first, *others) = [record for record in caplog.records if record.name.startswith("penstock.")]
    assert (first.getMessage(), len(others)) == ("Hook broken failed at on_mail", 2)
    assert first.exc_text is not None
    assert "a secret of the program" in first.exc_text


@pytest.mark.parametrize(
    ("receive", "hook_timeout_s", "error"),
    [
        ([Recording(), Recording()], 5.0, ValueError),
        ([object()], 5.0, TypeError),
        ([Recording()], 0.0, ValueError),
        ([Recording()], 31.0, ValueError),
    ],
)
async def test_what_cannot_be_asked_opens_no_engine(
    configure: Configure, receive: Any, hook_timeout_s: float, error: type[Exception]
) -> None:
    path = configure()
    with pytest.raises(error):
        async with penstock.open_engine(path, receive=receive, hook_timeout_s=hook_timeout_s):
            pass
    # The spool is free again.
    async with penstock.open_engine(path):
        pass


async def test_stop_waits_for_a_verdict_on_content(configure: Configure) -> None:
    asked, gate = trio.Event(), trio.Event()

    class Slow(ReceiveHooks):
        async def on_end_of_data(self, session: SessionView, content: ContentView) -> Verdict:
            asked.set()
            await gate.wait()
            return Accept()

    path = configure()
    async with penstock.open_engine(path, receive=[Slow()], hook_timeout_s=30) as engine:
        heard: list[tuple[int, str]] = []

        def talk() -> None:
            with SmtpClient(engine.addresses[0][1]) as client:
                heard.append(client.message("me@penstock.test", ["you@penstock.test"], CONTENT))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, talk)
            await asked.wait()
            nursery.start_soon(engine.stop)
            await trio.testing.wait_all_tasks_blocked()
            assert not engine._is_over.is_set()
            gate.set()
        assert [code for code, _ in heard] == [250]


@contextmanager
def example(folder: Path, config: Path) -> Iterator[int]:
    """Run the example of the document; yield its port."""
    text = (ROOT_OF_PROJECT / "docs" / "hooks.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    program = folder / "relay.py"
    program.write_text(found.group(1), encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT_OF_PROJECT / "python"), "PATH": ""}
    running = subprocess.Popen(
        [sys.executable, str(program), str(config)], stdout=subprocess.PIPE, text=True, env=environment
    )
    timer = threading.Timer(60, running.kill)
    timer.start()
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        yield int(line.split()[-1].strip("(),"))
    finally:
        timer.cancel()
        running.terminate()
        running.wait(20)
        if running.stdout is not None:
            running.stdout.close()


def test_example_of_the_document_runs(tmp_path: Path) -> None:
    text = configuration(tmp_path, Settings(receive_port=0, recipients=("@contoso.example",)))
    text = text.replace('usage = "relay"', 'usage = "relay"\ntarpit_interval = "0s"')
    text = text.replace("receive_connector.apps", "receive_connector.devices").replace(
        "penstock.test", "contoso.example"
    )
    (tmp_path / "penstock.toml").write_text(text, encoding="utf-8")
    (tmp_path / "recipients").write_text("@contoso.example\n", encoding="utf-8")
    with example(tmp_path, tmp_path / "penstock.toml") as port, SmtpClient(port) as client:

        def send(recipient: str, content: bytes) -> tuple[int, str]:
            return client.message("scan@contoso.example", [recipient], content)

        assert send("a@far.example", CONTENT) == (550, "5.7.1 Devices may write to contoso.example only")
        assert send("a@contoso.example", b"\r\nx\r\n") == (550, "5.6.0 A message has to have a subject")
        assert send("a@contoso.example", CONTENT + b"X5O!P%@AP\r\n")[0] == 554
        assert send("a@contoso.example", CONTENT)[0] == 250
        assert client.command("QUIT")[0] == 221
