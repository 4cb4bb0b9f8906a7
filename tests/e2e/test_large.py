"""Large content on its whole way: through a blob, across a kill, to a smart host and into a Maildir."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.e2e.test_clients import maildir_files
from tests.e2e.test_delivery import FAST_RETRY
from tests.support import content
from tests.support.client import SmtpClient
from tests.support.daemon import Daemon
from tests.support.receiver import Receiver

SIZES = [1_000_000, 1_100_000, 5_000_000, 30_000_000]
"""The first is below the limit of 1 MiB."""


def same(whole: bytes, octets: bytes) -> bool:
    """Whether a message is this content below what was added; a diff of 30 MB would help nobody."""
    return whole.endswith(b"\r\n" + octets)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_large_messages_arrive_octet_for_octet_across_a_kill(
    launch: Callable[..., Daemon], receiver: Receiver
) -> None:
    rng = random.Random(7)
    contents = [content.message(rng, size_bytes=size) for size in SIZES]
    relay = launch(smart_host_port=receiver.port, extra=FAST_RETRY)
    blobs = relay.folder / "spool" / "shard-00" / "blobs"
    recipients = [f"m{index}@elsewhere.test" for index in range(len(contents))]
    for recipient in recipients:
        receiver.rcpt[recipient] = "451 4.7.1 later"
    with SmtpClient(relay.port, timeout_s=60) as client:
        for recipient, octets in zip(recipients, contents, strict=True):
            code, text = client.message("me@penstock.test", [recipient, "you@penstock.test"], octets)
            assert code == 250, text
    assert len(list(blobs.iterdir())) == len(SIZES) - 1
    dropped = [path.read_bytes() for path in maildir_files(relay.drop, len(contents), timeout_s=60)]
    for octets in contents:
        assert any(same(whole, octets) for whole in dropped), len(octets)
    relay.wait_journal("DEFER", len(contents))
    relay.kill()
    assert len(list(blobs.iterdir())) == len(SIZES) - 1
    receiver.rcpt.clear()
    relay.start()
    got = {message.recipients[0]: message.content for message in receiver.wait(len(contents), timeout_s=60)}
    for recipient, octets in zip(recipients, contents, strict=True):
        assert same(got[recipient], octets), len(octets)
    deadline = time.monotonic() + 20
    while list(blobs.iterdir()):
        assert time.monotonic() < deadline, "what is delivered leaves no blob"
        time.sleep(0.1)
