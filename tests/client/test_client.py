"""The client against the server, and against servers that are none of ours."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock.client import Client
from penstock.client.connection import UnixConnection
from penstock.errors import (
    Ambiguous,
    ControlError,
    NotFound,
    ProtocolMismatch,
    SpoolFailed,
    Unavailable,
    Unreachable,
)
from tests.control.fake import AT, FakeViews, message_row, queue_row
from tests.control.running import running

HEAD = b"HTTP/1.1 200 OK\r\nPenstock-Version: 9.9\r\nContent-Length: %d\r\n\r\n"
Script = Callable[[socket.socket], None]


@pytest.fixture
def views() -> FakeViews:
    return FakeViews()


@pytest.fixture
def client(tmp_path: Path, views: FakeViews) -> Iterator[Client]:
    with running(tmp_path / "s", views), Client(f"unix://{tmp_path}/s") as client:
        yield client


class Other:
    """A server of a test's own: a function has each connection."""

    def __init__(self, path: Path, serve: Script) -> None:
        self.connections = 0
        self._serve = serve
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection:
                if self.connections < 0:
                    return
                self.connections += 1
                self._serve(connection)

    def close(self, path: Path) -> None:
        """End the thread with one more connection."""
        self.connections = -1
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
        self._thread.join(10)
        self._listening.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Script], Client]]:
    """Return a client whose server is a function."""
    path = tmp_path / "o"
    others: list[Other] = []
    clients: list[Client] = []

    def start(script: Script) -> Client:
        others.append(Other(path, script))
        clients.append(Client(f"unix://{path}", timeout_s=5))
        return clients[-1]

    yield start
    for client in clients:
        client.close()
    for other in others:
        other.close(path)


def answering(octets: bytes) -> Script:
    """Return a server that answers one request with these octets and hangs up."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(octets)

    return script


def test_every_question_gets_what_the_engine_says(client: Client, views: FakeViews) -> None:
    assert client.status() == views.state
    page = client.queues()
    assert (list(page.items), page.complete, page.next, page.at) == (views.queue_rows, True, None, AT)
    assert list(client.messages().items) == views.message_rows
    assert client.message("0saj3v6580402")["entries"][0]["queue"] == "m365"


@pytest.mark.parametrize("separator", ["\\", "/"])
def test_identities_with_either_separator_arrive_whole(client: Client, separator: str) -> None:
    identity = separator.join(("relay1", "m365", "0saj3v6580402"))
    assert client.message(identity)["queue_id"] == "0saj3v6580402"


@pytest.mark.parametrize("identity", ["..", "a b", "ü", "a?b#c%2F", "relay2\\x\\y"])
def test_an_unknown_message_is_not_found_by_its_name(client: Client, identity: str) -> None:
    with pytest.raises(NotFound) as caught:
        client.message(identity)
    assert caught.value.identity == identity


@pytest.mark.parametrize(
    ("limit", "pages"), [(1, [1]), (25, [25]), (10_001, [10_000, 1]), (99_999, [10_000, 5])]
)
def test_pages_are_fetched_until_the_limit_or_the_end(
    client: Client, views: FakeViews, limit: int, pages: list[int]
) -> None:
    views.message_rows = [{"queue_id": n} for n in range(10_005)]
    found = list(client.message_pages(limit=limit))
    assert [len(page.items) for page in found] == pages
    rows = [row["queue_id"] for page in found for row in page.items]
    assert rows == list(range(sum(pages)))


def test_an_incomplete_page_is_the_last(serve: Callable[[Script], Client]) -> None:
    body = b'{"items":[],"next":"1","complete":false,"snapshot":{"watermark":9,"at":"x"}}'
    (page,) = serve(answering(HEAD % len(body) + body)).message_pages()
    assert (page.complete, page.next) == (False, "1")


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Ambiguous(["relay1\\17", "relay1\\21"]), Ambiguous),
        (SpoolFailed("/spool", 5), Unavailable),
        (ZeroDivisionError(), ControlError),
    ],
)
def test_failures_of_the_engine_are_errors_of_ours(
    client: Client, views: FakeViews, failure: Exception, expected: type[Exception]
) -> None:
    views.failure = failure
    with pytest.raises(expected) as caught:
        client.messages(queue="fabrikam.example")
    assert type(caught.value) is expected
    if isinstance(caught.value, Ambiguous):
        assert caught.value.candidates == ("relay1\\17", "relay1\\21")
    views.failure = None
    assert client.status() == views.state


@pytest.mark.parametrize("given", [{"limit": 0}, {"limit": 10_001}, {"cursor": "x"}, {"cursor": "\udcff"}])
def test_an_argument_that_the_daemon_refuses_is_a_value_error(client: Client, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"limit|cursor"):
        client.messages(**given)


def test_threads_may_share_a_client(client: Client, views: FakeViews) -> None:
    views.message_rows = [message_row(f"{n:013}") for n in range(50)]

    def ask(number: int) -> bool:
        return bool(client.message(f"{number % 50:013}")["queue_id"] == f"{number % 50:013}")

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(400)))


def test_connections_are_kept_and_reused(serve: Callable[[Script], Client]) -> None:
    seen: list[int] = []

    def script(connection: socket.socket) -> None:
        while request := connection.recv(65536):
            seen.append(len(request))
            connection.sendall(HEAD % 2 + b"{}")

    client = serve(script)
    for _ in range(3):
        assert client.status() == {}
    client.close()
    assert client.status() == {}
    assert len(seen) == 4


def test_a_connection_that_was_closed_while_idle_is_replaced(serve: Callable[[Script], Client]) -> None:
    client = serve(answering(HEAD % 2 + b"{}"))
    for _ in range(3):
        assert client.status() == {}


def test_a_daemon_that_was_restarted_is_found_again(tmp_path: Path, views: FakeViews) -> None:
    with Client(f"unix://{tmp_path}/s") as client:
        for _ in range(2):
            with running(tmp_path / "s", views):
                assert client.status() == views.state
        with pytest.raises(Unreachable):
            client.status()


def test_a_forked_child_makes_connections_of_its_own(client: Client, views: FakeViews) -> None:
    assert client.status() == views.state
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"no"
        try:
            answer = b"yes" if client.status() == views.state else b"other"
        finally:
            os.write(write, answer)
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"yes"
    os.close(read)
    os.close(write)
    assert client.status() == views.state


@pytest.mark.parametrize("kind", ["nothing", "stale", "file", "long"])
def test_without_a_daemon_it_is_unreachable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x" * 200 if kind == "long" else "s")
    if kind == "stale":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    elif kind == "file":
        path.write_bytes(b"")
    with pytest.raises(Unreachable) as caught:
        Client(f"unix://{path}").status()
    assert str(path) in str(caught.value)


def test_a_socket_of_somebody_else_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: UnixConnection) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(UnixConnection, "connect", refuse)
    with pytest.raises(Unreachable, match="owner"):
        Client().status()


def test_a_daemon_that_says_nothing_is_unreachable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        with pytest.raises(Unreachable, match=r"within 0\.05 s"):
            Client(f"unix://{tmp_path}/s", timeout_s=0.05).status()


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", Unreachable),
        (HEAD % 100 + b'{"half', Unreachable),
        (b"220 relay.example ESMTP\r\n", ProtocolMismatch),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", ProtocolMismatch),
        (HEAD % 6 + b"<html>", ProtocolMismatch),
        (HEAD % 2 + b"[]", ProtocolMismatch),
        (HEAD % 4 + b"\xff\xfe{}", ProtocolMismatch),
        (HEAD % 200_000 + b"[" * 200_000, ProtocolMismatch),
        (HEAD.replace(b"200 OK", b"404 Not Found") % 2 + b"{}", ProtocolMismatch),
        (HEAD.replace(b"200 OK", b"500 Oh") % 13 + b'{"detail":{}}', ControlError),
        (HEAD.replace(b"200 OK", b"503 Oh") % 24 + b'{"retry_after_s":"soon"}', Unavailable),
    ],
)
def test_answers_that_are_none_are_errors_of_ours(
    serve: Callable[[Script], Client], octets: bytes, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        serve(answering(octets)).status()
    assert type(caught.value) is expected
    if isinstance(caught.value, ProtocolMismatch) and octets.startswith(HEAD[:20]) and b"Penstock" in octets:
        assert caught.value.server_version == "9.9"


def test_a_page_without_its_members_is_another_protocol(serve: Callable[[Script], Client]) -> None:
    with pytest.raises(ProtocolMismatch):
        serve(answering(HEAD % 2 + b"{}")).queues()


@pytest.mark.parametrize(
    "url", ["", "/run/s", "http://x", "unix:relative", "unix://relative", "unix:///a\0b"]
)
def test_a_url_of_another_kind_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="control socket"):
        Client(url)


def test_queue_rows_keep_what_is_not_ascii(client: Client, views: FakeViews) -> None:
    views.queue_rows = [queue_row(name="bücher.example", last_error="\x1b[2J\u202e")]
    assert list(client.queues().items) == views.queue_rows
