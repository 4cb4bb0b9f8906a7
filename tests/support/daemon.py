"""The real daemon in a folder of its own: configuration, start, stop, kill, what it says.

Used by the end-to-end tests, the rig, the benchmarks and the demo, so that all of them run the program as an
operator would: `python -m penstock serve --config FILE`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.ports import free_port

READY = "ready in "
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 20.0


@dataclass(slots=True, kw_only=True)
class Settings:
    """What tests vary; the rest is what a small relay would have.

    Attributes:
        extra: Further lines by table name, e.g. {"queue": ['message_retry_interval = "1s"']}.
    """

    smart_host_port: int | None = None
    receive_port: int = field(default_factory=free_port)
    metrics_port: int | None = None
    max_message_size: str = "48 MB"
    max_connections: int = 100
    outbound_connections: int = 20
    remote_ip_ranges: tuple[str, ...] = ("127.0.0.0/8",)
    recipients: tuple[str, ...] = ("you@penstock.test",)
    submission_fixups: bool = False
    extra: dict[str, list[str]] = field(default_factory=dict)


def configuration(folder: Path, settings: Settings) -> str:
    """Return the text of the configuration file; paths are below `folder`."""
    tables: dict[str, list[str]] = {
        "": ["config_version = 1", 'profile = "relay"'],
        "server": ['name = "relay"', 'fqdn = "relay.penstock.test"'],
        "spool": [f'path = "{folder}/spool"', 'refuse_mail_below = "16 MB"'],
        "receive_connector.apps": [
            'usage = "relay"',
            f'bindings = ["127.0.0.1:{settings.receive_port}"]',
            f"remote_ip_ranges = {json.dumps(settings.remote_ip_ranges)}",
            f'max_message_size = "{settings.max_message_size}"',
            f"max_inbound_connection = {settings.max_connections}",
            f"max_inbound_connection_per_source = {settings.max_connections}",
            # What most tests send is no whole message, and they compare what arrives octet for octet.
            f"submission_fixups = {json.dumps(settings.submission_fixups)}",
        ],
        'accepted_domain."penstock.test"': [
            'type = "authoritative"',
            f'recipients = {{ file = "{folder}/recipients" }}',
            f'deliver_to = {{ maildir = "{folder}/drop" }}',
        ],
        "log": [f'directory = "{folder}/log"'],
        "control": [f'socket = "{folder}/control.sock"'],
    }
    if settings.metrics_port is not None:
        tables["control"].append(f'metrics = "127.0.0.1:{settings.metrics_port}"')
    if settings.smart_host_port is not None:
        tables["send_connector.out"] = [
            'usage = "custom"',
            'address_spaces = ["*"]',
            'smart_hosts = ["127.0.0.1"]',
            f"port = {settings.smart_host_port}",
            f"max_outbound_connections_per_domain = {settings.outbound_connections}",
        ]
    for name, lines in settings.extra.items():
        tables.setdefault(name, []).extend(lines)
    blocks = ["\n".join(([f"[{name}]"] if name else []) + lines) for name, lines in tables.items()]
    return "\n\n".join(blocks) + "\n"


class Daemon:
    """One daemon and its folder. The folder survives stop and kill, so it can be started again."""

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        *,
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.settings = settings or Settings()
        self.config = folder / "penstock.toml"
        self.output: list[str] = []
        self._prefix = list(prefix)
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log").mkdir(exist_ok=True)
        (folder / "recipients").write_text("\n".join(self.settings.recipients) + "\n", encoding="utf-8")
        self.write_configuration()

    @property
    def port(self) -> int:
        """Where mail goes in."""
        return self.settings.receive_port

    @property
    def pid(self) -> int:
        """The process that runs; with a prefix, the prefix's."""
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def drop(self) -> Path:
        """The Maildir of the accepted domain."""
        return self.folder / "drop"

    def write_configuration(self) -> None:
        """Write the configuration file from the settings as they are now."""
        self.config.write_text(configuration(self.folder, self.settings), encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_running:
            if kind is None:
                self.stop()
            else:
                self.kill()

    def command(self) -> list[str]:
        """Return the command line that starts it."""
        return [*self._prefix, sys.executable, "-m", "penstock", "--config", str(self.config), "serve"]

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, return when it takes mail.

        Raises:
            RuntimeError: It ended, or was not ready in time; the message has what it printed.
        """
        self._ready.clear()
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return when it has said that it is ready."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready.wait(0.02):
            ended = self._running.poll()
            if ended is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the daemon is not ready (exit {ended}):\n{self.printed()}")

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and return its exit code."""
        # The group: what it runs under, such as strace, does not pass signals on.
        os.killpg(self._running.pid, signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for its end and return the exit code.

        Raises:
            TimeoutError: It did not end; it has been killed.
        """
        try:
            code = self._running.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"the daemon did not end within {timeout_s} s:\n{self.printed()}") from None
        self._join_reader()
        return code

    def kill(self) -> None:
        """kill -9 for it and whatever it runs under."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running.pid, signal.SIGKILL)
        self._running.wait(10)
        self._join_reader()

    def printed(self) -> str:
        """Return everything it has printed over all starts."""
        return "\n".join(self.output)

    def cli(self, *arguments: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run the command line against this daemon's socket."""
        command = [
            sys.executable,
            "-m",
            "penstock",
            "--socket",
            str(self.folder / "control.sock"),
            *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command with --json and return its lines as objects."""
        done = self.cli("--json", *arguments)
        if done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}: {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def journal(self) -> Iterator[dict[str, Any]]:
        """Yield the message events written so far, over all starts; a torn last line is left out."""
        for path in sorted((self.folder / "log").glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def wait_journal(self, event: str, count: int = 1, *, timeout_s: float = 15.0) -> list[dict[str, Any]]:
        """Return the events of one name once there are `count`.

        Raises:
            TimeoutError: Fewer came in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = [line for line in self.journal() if line["event"] == event]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} {event} after {timeout_s} s\n{self.printed()}")
            time.sleep(0.05)

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the daemon has not been started")
        return self._process

    def _read(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            raise AssertionError("invariant: started with a pipe")
        for line in process.stdout:
            self.output.append(line.rstrip("\n"))
            if READY in line:
                self._ready.set()
        process.stdout.close()

    def _join_reader(self) -> None:
        if self._reader is not None:
            self._reader.join(10)
