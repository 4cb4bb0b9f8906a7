"""The profiles exchange and iis, as peers meet them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.client import SmtpClient
from tests.support.daemon import Daemon

Launch = Callable[..., Daemon]

HOPS = "Received: from a.test by b.test; Mon, 24 Nov 2025 02:30:00 +0000\r\n"


@pytest.fixture
def serve(launch: Launch) -> Callable[[str, str], Daemon]:
    """Start a daemon of a profile, its connector for port 25 moved to a free one."""

    def start(profile: str, connector: str) -> Daemon:
        daemon = launch(profile, run=False)
        folder = daemon.folder
        daemon.config.write_text(
            f'profile = "{profile}"\n'
            '[server]\nname = "relay"\nfqdn = "relay.penstock.test"\n'
            f'[spool]\npath = "{folder}/spool"\nrefuse_mail_below = "16 MB"\n'
            f'[receive_connector.{connector}]\ntarpit_interval = "0s"\n'
            f'bindings = ["127.0.0.1:{daemon.port}"]\n'
            '[accepted_domain."penstock.test"]\ntype = "authoritative"\n'
            f'recipients = {{ file = "{folder}/recipients" }}\ndeliver_to = {{ maildir = "{folder}/drop" }}\n'
            f'[log]\ndirectory = "{folder}/log"\n[control]\nsocket = "{folder}/control.sock"\n',
            encoding="utf-8",
        )
        (folder / "recipients").write_text("@penstock.test\n", encoding="utf-8")
        daemon.start()
        return daemon

    return start


@pytest.mark.parametrize(
    ("profile", "connector", "size", "recipients", "hops"),
    [("exchange", "default_frontend", 37_748_736, 200, 30), ("iis", "default", 2_097_152, 100, 15)],
)
def test_limits_of_a_profile_are_those_that_peers_meet(
    serve: Callable[[str, str], Daemon], profile: str, connector: str, size: int, recipients: int, hops: int
) -> None:
    relay = serve(profile, connector)
    with SmtpClient(relay.port) as client:
        assert {f"SIZE {size}", f"LIMITS RCPTMAX={recipients}"} <= set(client.extensions)
        assert client.command(f"MAIL FROM:<a@elsewhere.test> SIZE={size + 1}")[0] == 552
        assert client.command(f"MAIL FROM:<a@elsewhere.test> SIZE={size}")[0] == 250
        codes = [client.command(f"RCPT TO:<r{index}@penstock.test>")[0] for index in range(recipients + 1)]
        assert codes == [*[250] * recipients, 452]
        assert client.command("RSET")[0] == 250
        assert client.message("a@b.test", ["far@elsewhere.test"], b"\r\n") == (
            550,
            "5.7.54 Unable to relay recipient in non-accepted domain",
        )
        for count, code in ((hops, 250), (hops + 1, 554)):
            content = (HOPS * count).encode() + b"Subject: x\r\n\r\n"
            assert client.message("a@b.test", ["you@penstock.test"], content)[0] == code
    deadline = time.monotonic() + 15
    while not any((relay.drop / "new").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (delivered,) = (relay.drop / "new").glob("*")
    # Strangers' mail is no submission: nothing is added.
    assert b"Message-ID" not in delivered.read_bytes()
    (status,) = relay.rows("status")
    assert status["profile"] == profile
