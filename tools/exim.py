"""Debian's Exim, for calibration and as a client: run from where it was unpacked, in a folder of its own.

Exim is built for Debian's account of its own and for /etc/passwd to have it. So it runs in a mount namespace
in which a copy of the accounts has it; the system's own stay as they are. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port
from tools import debian

ACCOUNT = "Debian-exim"
USER, PASSWORD = "tester", "a password of tests"

_CONFIGURATION = """\
primary_hostname = exim.penstock.test
spool_directory = {folder}/spool
log_file_path = {folder}/spool/%slog
exim_path = {program}
keep_environment = LD_LIBRARY_PATH
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
deliver_drop_privilege = true
host_lookup =
rfc1413_hosts =
domainlist mine = {mine}
acl_smtp_mail = accept
acl_smtp_rcpt = check_recipient
acl_smtp_vrfy = accept
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
smtp_accept_max = 100
begin acl
check_recipient:
  require verify = recipient
  accept
begin routers
mine:
  driver = accept
  domains = +mine
  local_parts = you : postmaster
  transport = drop
unknown:
  driver = redirect
  domains = +mine
  allow_fail
  data = :fail: unknown
elsewhere:
  driver = manualroute
  transport = remote
  route_list = * 127.0.0.1
  self = send
begin transports
drop:
  driver = appendfile
  directory = {folder}/drop
  maildir_format
  return_path_add
remote:
  driver = smtp
  port = {smart_host_port}
  allow_localhost
{remote}
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
"""


class Exim:
    """An Exim that has one mailbox and relays the rest to one smart host."""

    def __init__(
        self,
        folder: Path,
        *,
        smart_host_port: int,
        certificate: Path,
        key: Path,
        mine: Sequence[str] = ("penstock.test", "exim.penstock.test"),
        remote: Sequence[str] = (),
    ) -> None:
        """Say where it runs and what it is to have.

        Args:
            folder: What it writes is below.
            smart_host_port: Where it relays to.
            certificate: What it shows to clients.
            key: The certificate's.
            mine: Domains of which it has the mailboxes.
            remote: Further options of the transport to the smart host.
        """
        self.folder = folder
        self.port = free_port()
        self.drop = folder / "drop"
        self._texts = {
            "folder": folder,
            "program": debian.EXIM / "usr/sbin/exim4",
            "port": self.port,
            "smart_host_port": smart_host_port,
            "certificate": certificate,
            "key": key,
            "account": ACCOUNT,
            "user": USER,
            "password": PASSWORD,
            "mine": " : ".join(mine),
            "remote": "\n".join(f"  {line}" for line in remote),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._configure()
        libraries = ":".join(map(str, debian.EXIM.glob("usr/lib/*-linux-gnu")))
        script = (
            f'mount --bind "{self.folder}/passwd" /etc/passwd &&'
            f' mount --bind "{self.folder}/group" /etc/group &&'
            f' exec "{self._texts["program"]}" -C "{self.folder}/exim.conf" -bdf -q1h'
        )
        with (self.folder / "stderr").open("wb") as errors:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script],
                env={**os.environ, "LD_LIBRARY_PATH": libraries},
                stdin=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as peer:
                if peer.recv(512).startswith(b"220"):
                    return self
            if time.monotonic() > deadline or self._process.poll() is not None:
                self._end()
                raise RuntimeError(f"Exim did not start:\n{self.log()}")
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def log(self) -> str:
        """Return what it says of itself."""
        logs = [path for path in sorted((self.folder / "spool").glob("*log")) if path.is_file()]
        return "\n".join(path.read_text(encoding="utf-8", errors="replace")[-3000:] for path in logs)

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def _configure(self) -> None:
        # A program that gives root's rights would not look for its libraries where LD_LIBRARY_PATH says.
        (debian.EXIM / "usr/sbin/exim4").chmod(0o755)
        for path in (self.folder / "spool", self.drop):
            path.mkdir(parents=True)
            path.chmod(0o777)
        for path in (self.folder, *self.folder.parents):
            if path in (Path("/tmp"), Path("/")):
                break
            path.chmod(path.stat().st_mode | 0o055)
        for name, line in (
            ("passwd", f"{ACCOUNT}:x:2525:2525::/:/bin/false"),
            ("group", f"{ACCOUNT}:x:2525:"),
        ):
            text = Path("/etc", name).read_text(encoding="utf-8")
            (self.folder / name).write_text(f"{text}{line}\n", encoding="utf-8")
        (self.folder / "exim.conf").write_text(_CONFIGURATION.format(**self._texts), encoding="utf-8")
