"""Debian's Postfix as a rival: run from where it was unpacked, with its defaults, in a folder of its own.

Only what has to be said is said: where its programs and its queue are, whom it runs as, one smtpd port, and
the smart host. `master` is started directly; the wrapper scripts insist on a system-wide installation.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port
from tools import debian

# Accounts that every Debian has. They must differ from each other and from root; nothing is installed.
MAIL_OWNER = "daemon"
SETGID_GROUP = "mail"

QUEUE_FOLDERS = (
    *("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop"),
    *("pid", "private", "public", "saved", "trace"),
)


class Postfix:
    """A Postfix that relays everything to one smart host; needs root.

    Attributes:
        settings: Further lines of main.cf.
    """

    def __init__(
        self, folder: Path, *, smart_host_port: int, settings: Mapping[str, str] | None = None
    ) -> None:
        if os.geteuid() != 0:
            raise PermissionError("Postfix's master must be started by root")
        self.folder = folder
        self.port = free_port()
        self.settings = settings or {}
        self._smart_host_port = smart_host_port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The master's process id."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def __enter__(self) -> Self:
        self._configure()
        programs = debian.UNPACKED / "usr/lib/postfix/sbin"
        self._process = subprocess.Popen(
            [str(programs / "master"), "-c", str(self.folder / "etc"), "-d"],
            env=debian.environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as peer:
                if peer.recv(512).startswith(b"220"):
                    return self
            if time.monotonic() > deadline or self._process.poll() is not None:
                self._end()
                raise RuntimeError(f"Postfix did not start:\n{self.log()}")
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def log(self) -> str:
        """Return the end of its log."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace")[-3000:] if path.is_file() else "no log"

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def _configure(self) -> None:
        queue, data, config = self.folder / "queue", self.folder / "data", self.folder / "etc"
        for path in (queue, data, config):
            path.mkdir(parents=True)
        for name in QUEUE_FOLDERS:
            (queue / name).mkdir()
        owned = [data, *(queue / name for name in QUEUE_FOLDERS if name != "pid")]
        subprocess.run(["chown", MAIL_OWNER, *map(str, owned)], check=True)
        # The folder is a temporary one that only root may enter; Postfix's processes are not root.
        for path in (self.folder, *self.folder.parents):
            if path == Path("/tmp") or path == Path("/"):
                break
            path.chmod(path.stat().st_mode | 0o055)
        original = debian.UNPACKED / "usr/share/postfix"
        libraries = debian.environment()["LD_LIBRARY_PATH"]
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": queue,
            "data_directory": data,
            "command_directory": debian.UNPACKED / "usr/sbin",
            "daemon_directory": debian.UNPACKED / "usr/lib/postfix/sbin",
            "meta_directory": config,
            "shlib_directory": debian.UNPACKED / "usr/lib/postfix",
            "mail_owner": MAIL_OWNER,
            "setgid_group": SETGID_GROUP,
            "import_environment": f"MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH={libraries}",
            "maillog_file": self.folder / "log",
            "maillog_file_prefixes": self.folder,
            "myhostname": "postfix.penstock.test",
            "mydestination": "",
            "alias_maps": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "relayhost": f"[127.0.0.1]:{self._smart_host_port}",
            **self.settings,
        }
        text = "".join(f"{key} = {value}\n" for key, value in settings.items())
        (config / "main.cf").write_text(text, encoding="utf-8")
        services = (original / "master.cf.dist").read_text(encoding="utf-8")
        (config / "master.cf").write_text(self._services(services), encoding="utf-8")

    def _services(self, text: str) -> str:
        """Return Debian's master.cf with our port, no chroot, and nothing that needs files elsewhere."""
        lines = [line for line in text.splitlines() if line and not line.startswith(("#", " ", "\t"))]
        kept = []
        for line in lines:
            fields = line.split()
            if fields[1] == "inet":
                fields[0] = f"127.0.0.1:{self.port}"
            if fields[0] == "pickup" or (fields[1] == "unix" and fields[7] == "pipe"):
                continue
            fields[4] = "n"
            kept.append(" ".join(fields))
        return "\n".join(kept) + "\n"
