"""Penstock plays itself: mail relayed, a failure reported, a deferral waiting, a clean stop.

Everything is real: the daemon, its command line, a second server on this machine. `make demo`.
"""

from __future__ import annotations

import contextlib
import email
import smtplib
import sys
import tempfile
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.daemon import Daemon, Settings  # noqa: E402
from tests.support.receiver import Receiver  # noqa: E402

MESSAGES = 100
GONE = "gone@customer.test"
BUSY = "busy@customer.test"


def say(text: str = "") -> None:
    """Print one line of the transcript."""
    print(text, flush=True)


def shell(daemon: Daemon, *arguments: str) -> None:
    """Show a command as an operator types it, and what it prints."""
    say(f"\n$ penstock {' '.join(arguments)}")
    done = daemon.cli(*arguments)
    say((done.stdout + done.stderr).rstrip())
    if done.returncode != 0:
        raise SystemExit(f"penstock {' '.join(arguments)} ended with {done.returncode}")


def letter(number: int) -> EmailMessage:
    """Return one small message."""
    message = EmailMessage()
    message["From"] = "you@penstock.test"
    message["To"] = "reader@customer.test"
    message["Subject"] = f"Letter {number} of {MESSAGES}"
    message.set_content(f"This is letter {number}.\n")
    return message


def send(port: int) -> None:
    """Send the letters over one connection: most to a reader, one to nobody, one to somebody busy."""
    recipients = {1: GONE, 2: BUSY}
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        for number in range(1, MESSAGES + 1):
            recipient = recipients.get(number, f"reader{number}@customer.test")
            client.send_message(letter(number), to_addrs=[recipient])


def report_in(maildir: Path) -> str:
    """Wait for the DSN and return its readable part."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for path in maildir.glob("new/*"):
            message = email.message_from_bytes(path.read_bytes())
            text = next(part for part in message.walk() if part.get_content_type() == "text/plain")
            return f"From: {message['From']}\nSubject: {message['Subject']}\n\n{text.get_payload()}"
        time.sleep(0.05)
    raise SystemExit("no report came into the sender's Maildir")


@contextlib.contextmanager
def relay() -> Iterator[tuple[Daemon, Receiver]]:
    """Run the relay and the second server for as long as the context lasts."""
    replies = {GONE: "550 5.1.1 no such user here", BUSY: "451 4.2.1 mailbox busy, try later"}
    with (
        tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder,
        Receiver(rcpt=replies) as receiver,
        Daemon(Path(folder), Settings(smart_host_port=receiver.port)) as daemon,
    ):
        yield daemon, receiver


def main() -> int:
    """Play the transcript; 0 when everything went as told."""
    begun = time.monotonic()
    with relay() as (daemon, receiver):
        say("A relay of our own; its smart host is a second server on this machine.")
        say(daemon.output[-1])

        say(f"\nSending {MESSAGES} messages. The second server does not know {GONE},")
        say(f"and says that {BUSY} should be tried later.")
        send(daemon.port)
        arrived = receiver.wait(MESSAGES - 2)
        took_s = arrived[-1].monotonic_s - arrived[0].monotonic_s
        say(f"{len(arrived)} messages have arrived at the second server, all within {took_s:.2f} s.")

        say(f"\nThe sender has got a report on {GONE}:\n")
        for line in report_in(daemon.drop).rstrip().splitlines():
            say(f"    {line}")

        daemon.wait_journal("DEFER")
        shell(daemon, "queue", "list")
        shell(daemon, "message", "list")
        shell(daemon, "status")

        say("\nStopping it. What waits is on disk, and is tried again after the next start.")
        code = daemon.stop()
        say(f"It ended with exit code {code}.")
    say(f"\n{time.monotonic() - begun:.1f} seconds in all.")
    return code


if __name__ == "__main__":
    sys.exit(main())
