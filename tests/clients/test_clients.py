"""The clients of the catalogue, and that the matrix would see what goes wrong."""

from __future__ import annotations

import contextlib
import re
import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients import __main__ as document
from tests.clients import messages
from tests.clients.catalogue import CLIENTS
from tests.clients.matrix import Outcome, attempt, difference, running
from tests.clients.sending import Client, Job, Refused, command
from tests.support import certificates
from tests.support.daemon import Daemon

pytestmark = pytest.mark.e2e

BY_NAME = {client.name: client for client in CLIENTS}
# The large message takes seconds with some; `python -m tests.clients` has it with all.
CASES = [
    *((name, tls, "8-bit") for name in BY_NAME for tls in (False, True)),
    *[("smtplib", False, "large"), ("curl", True, "large"), ("Postfix", True, "large")],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    with running(folder) as started:
        yield started


@pytest.mark.parametrize(
    ("name", "tls", "kind"),
    CASES,
    ids=[f"{name}-{'TLS' if tls else 'plain'}-{kind}" for name, tls, kind in CASES],
)
def test_a_message_comes_as_it_was_sent(
    daemon: Daemon, folder: Path, name: str, tls: bool, kind: str
) -> None:
    client = BY_NAME[name]
    if (reason := client.missing()) is not None:
        pytest.skip(f"{name}: {reason}")
    outcome = attempt(client, daemon, folder, tls=tls, kind=kind)
    assert outcome.fault == "", outcome.dialogue
    assert outcome.protocol == ("ESMTPS" if tls else "ESMTP")
    if not tls:
        assert outcome.used[0] == "EHLO"


@pytest.mark.parametrize(
    ("name", "extensions"),
    [
        ("smtplib", {"SIZE", "8BITMIME", "DATA"}),
        ("Exim", {"SIZE", "CHUNKING"}),
        ("Go net/smtp", {"8BITMIME"}),
    ],
)
def test_extensions_that_are_offered_are_used(
    daemon: Daemon, folder: Path, name: str, extensions: set[str]
) -> None:
    if (reason := BY_NAME[name].missing()) is not None:
        pytest.skip(f"{name}: {reason}")
    outcome = attempt(BY_NAME[name], daemon, folder, tls=False, kind="8-bit")
    assert set(outcome.used) >= extensions, outcome.dialogue


# The servers would keep the message and try again.
@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in ("Postfix", "Exim")])
def test_a_certificate_that_nobody_vouches_for_is_refused(daemon: Daemon, folder: Path, name: str) -> None:
    if (reason := BY_NAME[name].missing()) is not None:
        pytest.skip(f"{name}: {reason}")
    path = messages.write(folder, "8-bit")
    job = Job(port=daemon.port, tls=True, path=path, root=certificates.SOURCE / "alone.chain.pem")
    with pytest.raises(Refused), BY_NAME[name].sending(job):
        pass


def client_that(send: Callable[[Job], None]) -> Client:
    """A client of which the matrix must notice something."""

    @contextlib.contextmanager
    def sending(job: Job) -> Iterator[None]:
        send(job)
        yield

    return Client(name="odd", missing=lambda: None, version=lambda: "0", sending=sending)


def hand_over(job: Job, content: bytes, times: int = 1) -> None:
    with smtplib.SMTP("127.0.0.1", job.port, timeout=20) as client:
        for _ in range(times):
            client.sendmail(messages.SENDER, [messages.RECIPIENT], content)


def refuse(job: Job) -> None:
    raise Refused("exit 1: 550 no")


def fall_over(job: Job) -> None:
    raise RuntimeError("it did not start")


@pytest.mark.parametrize(
    ("send", "tls", "fault"),
    [
        (lambda job: hand_over(job, job.path.read_bytes() + b"more\r\n"), False, "the body differs at octet"),
        (lambda job: hand_over(job, job.path.read_bytes(), 2), False, "2 copies came"),
        (lambda job: hand_over(job, job.path.read_bytes()), True, "it came as ESMTP"),
        (refuse, False, "exit 1: 550 no"),
        (fall_over, False, "it did not start"),
    ],
    ids=["altered", "twice", "not sealed", "refused", "not started"],
)
def test_what_goes_wrong_is_seen(
    daemon: Daemon, folder: Path, send: Callable[[Job], None], tls: bool, fault: str
) -> None:
    outcome = attempt(client_that(send), daemon, folder, tls=tls, kind="8-bit")
    assert outcome.fault.startswith(fault)


def test_a_command_that_fails_has_not_sent(tmp_path: Path) -> None:
    sending = command(lambda job: ["sh", "-c", "echo broken; exit 3"])
    job = Job(port=1, tls=False, path=messages.write(tmp_path, "8-bit"), root=tmp_path)
    with pytest.raises(Refused, match="exit 3: broken"), sending(job):
        pass


def test_a_body_that_is_cut_off_differs() -> None:
    assert difference(b"abc\n", b"abc\n") == ""
    assert (
        difference(b"abc\n", b"abc") == "the body differs at octet 3 of 4 (3 came): b'abc\\n' became b'abc'"
    )


def test_the_messages_are_what_the_table_says() -> None:
    large, eight_bit = messages.large(), messages.eight_bit()
    assert len(large) >= 12_000_000
    assert large.isascii()
    assert not eight_bit.isascii()
    for message in (large, eight_bit):
        lines = message.split(b"\r\n")
        assert max(map(len, lines)) <= messages.LINE_MAX_BYTES
        assert b"\n" not in message.replace(b"\r\n", b"")
        assert any(line.startswith(b".") for line in lines)
    assert {b".", b"..", b""} <= set(eight_bit.split(b"\r\n"))


def test_a_client_that_is_not_there_is_not_counted() -> None:
    absent = Client(name="absent", missing=lambda: "no such thing", version=str, sending=CLIENTS[0].sending)
    row = document.table([absent], {"absent": []}).splitlines()[2]
    assert row.startswith("| absent |  | not run: no such thing |")
    assert "ok" not in row
    failed = document.table([absent], {"absent": [Outcome(fault="a|b\nc")] * 4}).splitlines()[2]
    assert failed.count("**a/b c**") == 4


def test_the_table_has_every_client() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    made = text.partition(document.BEGIN)[2].partition(document.END)[0]
    assert re.findall(r"^\| ([^|*]+?)\*? \|", made, re.MULTILINE)[1:] == list(BY_NAME)
