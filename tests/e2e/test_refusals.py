"""What is refused, and how: start-up that cannot work, peers that may not relay, input that is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import SmtpClient
from tests.support.daemon import Daemon

Launch = Callable[..., Daemon]


def ended(daemon: Daemon) -> int:
    """Start a daemon that cannot run; return its exit code."""
    daemon.start(wait=False)
    code = daemon.wait()
    assert "Traceback" not in daemon.printed(), daemon.printed()
    return code


def test_port_of_another_process_is_refused_not_shared(launch: Launch) -> None:
    relay = launch(run=False)
    with socket.socket() as other:
        # Even a process that would share does not get us to share.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", relay.port))
        other.listen()
        assert ended(relay) == 77
    assert str(relay.port) in relay.printed()


def test_configuration_error_names_its_place_and_starts_nothing(launch: Launch) -> None:
    relay = launch(run=False)
    text = relay.config.read_text(encoding="utf-8") + '\n[queue]\nmesage_retry_interval = "1m"\n'
    relay.config.write_text(text, encoding="utf-8")
    assert ended(relay) == 2
    line = text.splitlines().index('mesage_retry_interval = "1m"') + 1
    assert f"{relay.config}:{line}:1" in relay.printed()
    assert "message_retry_interval" in relay.printed()
    assert not (relay.folder / "spool").exists()


def test_locked_spool_is_refused(launch: Launch) -> None:
    first = launch("relay")
    second = launch("relay", run=False, receive_port=first.port + 1)
    assert ended(second) == 72
    assert first.is_running


def test_spool_of_a_newer_format_is_not_touched(launch: Launch) -> None:
    relay = launch()
    relay.stop()
    meta = relay.folder / "spool" / "meta.toml"
    text = meta.read_text(encoding="utf-8")
    changed = "\n".join("format = 999" if line.startswith("format") else line for line in text.splitlines())
    assert changed != text
    meta.write_text(changed, encoding="utf-8")
    assert ended(relay) == 73
    assert meta.read_text(encoding="utf-8") == changed


def test_spool_that_cannot_be_written_is_a_sentence(launch: Launch) -> None:
    relay = launch(run=False)
    (relay.folder / "spool").write_text("a file, not a folder", encoding="utf-8")
    assert ended(relay) == 71


def test_peer_outside_every_range_is_refused(launch: Launch) -> None:
    relay = launch(remote_ip_ranges=("10.0.0.0/8",))
    with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as peer:
        peer.settimeout(10)
        assert peer.recv(512).startswith(b"554 5.7.1 ")
        assert peer.recv(512) == b""


def test_unknown_recipient_of_an_authoritative_domain_is_refused(launch: Launch) -> None:
    relay = launch()
    with SmtpClient(relay.port) as client:
        client.command("MAIL FROM:<me@penstock.test>")
        code, text = client.command("RCPT TO:<nobody@penstock.test>")
    assert (code, text[:5]) == (550, "5.1.1")


def test_bare_line_feed_is_drained_then_refused(launch: Launch) -> None:
    relay = launch()
    with SmtpClient(relay.port) as client:
        client.command("MAIL FROM:<me@penstock.test>")
        client.command("RCPT TO:<you@penstock.test>")
        client.command("DATA")
        client.send(b"Subject: x\r\n\r\none\n.\ntwo\r\n.\r\n")
        code, text = client.reply()
        assert (code, text[:6]) == (550, "5.6.11")
        with pytest.raises(ConnectionError):
            client.command("NOOP")
    assert not list(relay.drop.glob("new/*"))


def test_too_large_by_declaration_and_by_octets(launch: Launch) -> None:
    relay = launch(max_message_size="64 KB")
    with SmtpClient(relay.port) as client:
        code, text = client.command("MAIL FROM:<me@penstock.test> SIZE=70000")
        assert (code, text[:5]) == (552, "5.3.4")
        code, text = client.message("me@penstock.test", ["you@penstock.test"], b"x" * 70 + b"\r\n")
        assert code == 250
        code, text = client.message("me@penstock.test", ["you@penstock.test"], (b"x" * 70 + b"\r\n") * 1000)
        assert (code, text[:5]) == (552, "5.3.4")


def test_stop_says_421_to_idle_peers(launch: Launch) -> None:
    relay = launch()
    with SmtpClient(relay.port) as client:
        assert relay.stop() == 0
        code, text = client.reply()
        assert (code, text[:5]) == (421, "4.3.2")


def test_a_second_signal_ends_the_wait_for_a_silent_peer(launch: Launch) -> None:
    relay = launch()
    with SmtpClient(relay.port) as client:
        for command in ("MAIL FROM:<me@penstock.test>", "RCPT TO:<you@penstock.test>", "DATA"):
            client.command(command)
        begun = time.monotonic()
        os.kill(relay.pid, signal.SIGHUP)
        wait_until(lambda: "stopping: SIGHUP" in relay.printed())
        assert relay.is_running
        os.kill(relay.pid, signal.SIGTERM)
        assert relay.wait() == 0
    assert time.monotonic() - begun < 15


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: It did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system that is soon full.

    Only root can mount one.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.decode().strip()}")
    return folder


@pytest.mark.slow
def test_full_disk_is_a_452_and_nothing_acknowledged_is_lost(small_disk: Path, launch: Launch) -> None:
    relay = launch("disk/relay", extra={"spool": []})
    text = relay.config.read_text(encoding="utf-8")
    assert str(small_disk) in text
    acknowledged = 0
    content = b"Subject: fill\r\n\r\n" + (b"y" * 70 + b"\r\n") * 14_000
    try:
        with SmtpClient(relay.port) as client:
            for _ in range(200):
                code, reply = client.message("me@penstock.test", ["far@elsewhere.test"], content)
                if code != 250:
                    break
                acknowledged += 1
            assert (code, reply[:5]) == (452, "4.3.1")
            assert client.command("NOOP")[0] == 250
        assert acknowledged > 0
        wait_until(lambda: relay.cli("status").returncode == 1)
        assert "New mail is refused" in relay.cli("status").stdout
        relay.kill()
        relay.start()
        assert sum(row["count"] for row in relay.rows("queue", "list")) == acknowledged
        relay.stop()
    finally:
        if relay.is_running:
            relay.kill()
        subprocess.run(["umount", "--lazy", str(small_disk)], check=True)
