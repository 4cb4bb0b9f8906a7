"""What goes out is what came in, octet for octet, below the added trace header."""

from __future__ import annotations

import os
import random
import re
import threading

import pytest

from tests.support import content
from tests.support.client import SmtpClient
from tests.support.daemon import Daemon
from tests.support.receiver import Receiver

# The whole promise is 1,000 messages up to 30 MB: PENSTOCK_EXACT=1000 pytest tests/e2e/test_exact.py
COUNT = int(os.environ.get("PENSTOCK_EXACT", "120"))
LARGEST_BYTES = 30_000_000
SEED = int(os.environ.get("PENSTOCK_SEED", "1"))
CONNECTIONS = 6

TRACE = re.compile(rb"Received: [^\r\n]+\r\n(?:[ \t][^\r\n]+\r\n)*")


def send_all(port: int, contents: dict[str, bytes], problems: list[str]) -> None:
    """Send each content to its recipient over one connection."""
    try:
        with SmtpClient(port, timeout_s=60) as client:
            for recipient, octets in contents.items():
                code, text = client.message("me@penstock.test", [recipient], octets)
                if code != 250:
                    problems.append(f"{recipient} ({len(octets)} octets): {code} {text}")
    except (OSError, ValueError) as error:
        problems.append(repr(error))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_different_messages_arrive_octet_for_octet(relay: Daemon, receiver: Receiver) -> None:
    rng = random.Random(SEED)
    sizes = content.sizes(rng, COUNT, largest_bytes=LARGEST_BYTES)
    sent = {
        f"m{index}@elsewhere.test": content.message(rng, size_bytes=size) for index, size in enumerate(sizes)
    }
    problems: list[str] = []
    names = list(sent)
    threads = [
        threading.Thread(
            target=send_all,
            args=(relay.port, {name: sent[name] for name in names[start::CONNECTIONS]}, problems),
        )
        for start in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [], f"seed {SEED}"
    got = {message.recipients[0]: message.content for message in receiver.wait(COUNT, timeout_s=120)}
    assert got.keys() == sent.keys()
    for name, octets in sent.items():
        # Cut by length: content that begins with a space would read as part of the trace header. Compared as
        # a whole but reported by size: a diff of 30 MB helps nobody.
        trace, rest = got[name][: -len(octets) or None], got[name][len(got[name]) - len(octets) :]
        same = rest == octets
        assert same, f"{name}: {len(octets)} octets differ, seed {SEED}"
        assert TRACE.fullmatch(trace), f"{name}: {trace!r} is no trace header, seed {SEED}"
