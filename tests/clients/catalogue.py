"""The clients, and how each is told to send a message file to 127.0.0.1, with STARTTLS or without any TLS."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.clients import servers
from tests.clients.messages import RECIPIENT, SENDER
from tests.clients.sending import Client, Job, command, said
from tools import clients as fetched
from tools import debian

PROGRAMS = Path(__file__).parent / "programs"
_NOT_FETCHED = "not fetched: run `make clients`"


def _curl(job: Job) -> list[str]:
    sealed = ["--ssl-reqd", "--cacert", str(job.root)] if job.tls else []
    return [
        *("curl", "--silent", "--show-error", *sealed),
        *("--connect-to", f"mail.example::127.0.0.1:{job.port}", "--url", f"smtp://mail.example:{job.port}"),
        *("--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", str(job.path)),
    ]


def _unended(path: Path) -> Path:
    """Write the message without its last CRLF: swaks adds one, whether there is one or not."""
    copy = path.with_suffix(".unended")
    copy.write_bytes(path.read_bytes().removesuffix(b"\r\n"))
    return copy


def _swaks(*more: str) -> Callable[[Job], list[str]]:
    def build(job: Job) -> list[str]:
        sealed = ["--tls", "--tls-verify", "--tls-ca-path", str(job.root)] if job.tls else []
        return [
            *(str(debian.program("swaks")), "--server", "127.0.0.1", "--port", str(job.port), *sealed, *more),
            *("--from", SENDER, "--to", RECIPIENT, "--data", f"@{_unended(job.path)}", "--suppress-data"),
        ]

    return build


def _msmtp(job: Job) -> list[str]:
    sealed = ["--tls=off"]
    if job.tls:
        sealed = [
            *("--tls=on", "--tls-starttls=on", f"--tls-trust-file={job.root}"),
            "--tls-host-override=mail.example",
        ]
    return [
        *(str(debian.program("msmtp")), "--host=127.0.0.1", f"--port={job.port}", *sealed),
        *(f"--from={SENDER}", "--", RECIPIENT),
    ]


def _smtplib(job: Job) -> list[str]:
    return [sys.executable, str(PROGRAMS / "send.py"), str(job.port), str(job.path), job.trusted]


def _nodemailer(job: Job) -> list[str]:
    return ["node", str(PROGRAMS / "send.mjs"), str(job.port), str(job.path), job.trusted]


def _go(job: Job) -> list[str]:
    return [str(fetched.GO_PROGRAM), str(job.port), str(job.path), job.trusted]


def _jakarta(chunk_bytes: int) -> Callable[[Job], list[str]]:
    def build(job: Job) -> list[str]:
        return [
            *("java", "-cp", str(fetched.JARS / "*"), str(PROGRAMS / "Send.java")),
            *(str(job.port), str(job.path), job.trusted, str(chunk_bytes)),
        ]

    return build


def _swaks_missing() -> str | None:
    if debian.program("swaks") is None:
        return debian.reason()
    return None if debian.perl_has_tls() else "it has no TLS here: no Net::SSLeay"


def _nodemailer_missing() -> str | None:
    if shutil.which("node") is None:
        return "node is not here"
    return None if (fetched.NODE / "node_modules/nodemailer").is_dir() else _NOT_FETCHED


def _go_missing() -> str | None:
    """Say so too if the program was compiled of another source than the one that is here."""
    program, source = fetched.GO_PROGRAM, PROGRAMS / "send.go"
    if not program.is_file():
        return _NOT_FETCHED
    return None if program.stat().st_mtime >= source.stat().st_mtime else _NOT_FETCHED


def _jakarta_missing() -> str | None:
    if shutil.which("java") is None:
        return "java is not here"
    return None if len(list(fetched.JARS.glob("*.jar"))) == len(fetched.ARTIFACTS) else _NOT_FETCHED


def _nodemailer_version() -> str:
    package = json.loads((fetched.NODE / "node_modules/nodemailer/package.json").read_text(encoding="utf-8"))
    return f"nodemailer {package['version']}, Node {said(['node', '--version']).removeprefix('v')}"


def _jakarta_version() -> str:
    java = said(["java", "--version"]).split()[1]
    return f"Angus Mail {fetched.JAKARTA_MAIL}, Java {java}"


def _go_version() -> str:
    return f"Go {said([str(shutil.which('go')), 'version', str(fetched.GO_PROGRAM)]).split('go')[-1]}"


def _swaks_client(name: str, *more: str) -> Client:
    return Client(
        name=name,
        missing=_swaks_missing,
        version=lambda: said([str(debian.program("swaks")), "--version"]).replace("version ", ""),
        sending=command(_swaks(*more), environment=debian.environment),
    )


def _doubles_dots(body: bytes) -> bytes:
    return b"".join(b"." + line if line.startswith(b".") else line for line in body.splitlines(keepends=True))


CLIENTS = (
    _swaks_client("swaks"),
    _swaks_client("swaks --pipeline", "--pipeline"),
    Client(
        name="curl",
        missing=lambda: None if shutil.which("curl") else "curl is not here",
        version=lambda: " ".join(said(["curl", "--version"]).split()[:2]),
        sending=command(_curl),
    ),
    Client(
        name="smtplib",
        missing=lambda: None,
        version=lambda: f"Python {sys.version.split()[0]}",
        sending=command(_smtplib),
    ),
    Client(
        name="nodemailer",
        missing=_nodemailer_missing,
        version=_nodemailer_version,
        sending=command(_nodemailer, environment=lambda: {**os.environ, "NODEMAILER": str(fetched.NODE)}),
    ),
    Client(
        name="Go net/smtp",
        missing=_go_missing,
        version=_go_version,
        sending=command(_go),
    ),
    Client(
        name="Jakarta Mail",
        missing=_jakarta_missing,
        version=_jakarta_version,
        sending=command(_jakarta(0)),
    ),
    Client(
        name="Jakarta Mail, chunksize",
        missing=_jakarta_missing,
        version=_jakarta_version,
        sending=command(_jakarta(1_000_000)),
        alters=_doubles_dots,
        note="doubles dots at the beginnings of lines, as for DATA (eclipse-ee4j/angus-mail issue 209)",
    ),
    Client(
        name="msmtp",
        missing=lambda: None if debian.program("msmtp") else debian.reason(),
        version=lambda: said([str(debian.program("msmtp")), "--version"], debian.environment()).replace(
            "version ", ""
        ),
        sending=command(_msmtp, environment=debian.environment, reads_standard_input=True),
    ),
    Client(
        name="Postfix",
        missing=servers.postfix_missing,
        version=servers.postfix_version,
        sending=servers.postfix_sending,
    ),
    Client(
        name="Exim",
        missing=servers.exim_missing,
        version=servers.exim_version,
        sending=servers.exim_sending,
    ),
)
