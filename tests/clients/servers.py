"""Postfix and Exim as clients: a message is put into their queue, and our daemon is their smart host."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benches.postfix import Postfix
from tests.clients.messages import RECIPIENT, SENDER
from tests.clients.sending import Job, Refused, said
from tests.support import certificates
from tools import debian
from tools.exim import Exim

_EXIM = debian.EXIM / "usr/sbin/exim4"
_NAME = "mail.example"


def postfix_missing() -> str | None:
    """Return why Postfix cannot run here."""
    if not (debian.UNPACKED / "usr/lib/postfix/sbin/master").is_file():
        return debian.reason()
    return None if os.geteuid() == 0 else "its master must be started by root"


def postfix_version() -> str:
    """Return its own name for it."""
    postconf = str(debian.UNPACKED / "usr/sbin/postconf")
    return f"Postfix {said([postconf, '-d', '-h', 'mail_version'], debian.environment())}"


@contextlib.contextmanager
def postfix_sending(job: Job) -> Iterator[None]:
    """Send through Postfix."""
    with tempfile.TemporaryDirectory(prefix="postfix-") as folder:
        settings = {"message_size_limit": "50000000", "smtp_tls_security_level": "none"}
        if job.tls:
            settings |= {
                "smtp_tls_security_level": "secure",
                "smtp_tls_CAfile": str(_readable(job.root, Path(folder))),
                "smtp_tls_secure_cert_match": _NAME,
            }
        with Postfix(Path(folder) / "run", smart_host_port=job.port, settings=settings) as postfix:
            _put_in(postfix.port, job)
            try:
                yield
            except TimeoutError as error:
                raise Refused(f"{error}; {postfix.log()}") from None


def exim_missing() -> str | None:
    """Return why Exim cannot run here."""
    if not _EXIM.is_file():
        return "not unpacked: run `make clients`"
    return None if os.geteuid() == 0 else "it needs a mount namespace, and so root"


def exim_version() -> str:
    """Return the package's version: the program does not start without its account."""
    changes = debian.EXIM / "usr/share/doc/exim4-daemon-light/changelog.Debian.gz"
    with gzip.open(changes, "rt", encoding="utf-8") as lines:
        return f"Exim {next(lines).partition('(')[2].partition('-')[0]}"


@contextlib.contextmanager
def exim_sending(job: Job) -> Iterator[None]:
    """Send through Exim."""
    with tempfile.TemporaryDirectory(prefix="exim-") as folder:
        remote = ["hosts_avoid_tls = *"]
        if job.tls:
            remote = [
                "hosts_require_tls = *",
                f"tls_verify_certificates = {_readable(job.root, Path(folder))}",
                "tls_verify_hosts = *",
                # It would look for 127.0.0.1 in the certificate.
                "tls_verify_cert_hostnames =",
            ]
        certificate, key = certificates.install(Path(folder), "other")
        key.chmod(0o644)
        with Exim(
            Path(folder) / "run",
            smart_host_port=job.port,
            certificate=certificate,
            key=key,
            remote=remote,
            mine=["exim.penstock.test"],
        ) as exim:
            _put_in(exim.port, job)
            try:
                yield
            except TimeoutError as error:
                raise Refused(f"{error}; {exim.log()}") from None


def _put_in(port: int, job: Job) -> None:
    """Hand the message over as a user's program would."""
    content = job.path.read_bytes()
    options = [] if content.isascii() else ["BODY=8BITMIME"]
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail(SENDER, [RECIPIENT], content, mail_options=options)


def _readable(root: Path, folder: Path) -> Path:
    """Copy the root certificate to where a server that is not root can read it."""
    folder.chmod(0o755)
    copy = folder / "root.pem"
    shutil.copyfile(root, copy)
    copy.chmod(0o644)
    return copy
