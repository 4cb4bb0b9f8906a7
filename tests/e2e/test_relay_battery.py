"""Nobody relays through us who may not: what relay testers try, from outside and from a listed network.

A row is a sender, a recipient as it stands on the wire, and what becomes of it for a stranger and for a
listed peer: `ours` (taken, and it ends or goes on where the operator said), `relayed` (taken, for a domain
that is not ours), `refused`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.support.daemon import Daemon

FAR: Final = "far.invalid"
OURS: Final = "penstock.test"
PASSED_ON: Final = "partner.test"
"""An internal relay domain: its mail goes on to a server behind us."""
HOST: Final = "relay.penstock.test"
LITERAL: Final = "[127.0.0.1]"

REFUSED: Final = "refused"
OURS_: Final = "ours"
RELAYED: Final = "relayed"

Row = tuple[str, str, str, str]

# The battery of an Exchange administrator: what anonymous peers try of an Edge server.
COMMON: Final[list[Row]] = [
    (f"a@{FAR}", f"b@{FAR}", REFUSED, RELAYED),
    ("", f"b@{FAR}", REFUSED, RELAYED),
    (f"you@{OURS}", f"b@{FAR}", REFUSED, RELAYED),
    (f"a@{LITERAL}", f"b@{FAR}", REFUSED, RELAYED),
    (f"a@{FAR}", f"b%{FAR}@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"b%{FAR}@{PASSED_ON}", REFUSED, OURS_),
    (f"a@{FAR}", f"b%{FAR}@{LITERAL}", REFUSED, RELAYED),
    (f"a@{FAR}", f"{FAR}!b@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"{FAR}!b@{PASSED_ON}", REFUSED, OURS_),
    (f"a@{FAR}", f"{FAR}!b", REFUSED, REFUSED),
    (f"a@{FAR}", f'"b@{FAR}"@{OURS}', REFUSED, REFUSED),
    (f"a@{FAR}", f'"b@{FAR}"@{PASSED_ON}', REFUSED, OURS_),
    (f"a@{FAR}", f'"b@{FAR}"', REFUSED, REFUSED),
    (f"a@{FAR}", f"b@{FAR}@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"@{OURS}:b@{FAR}", REFUSED, RELAYED),
    (f"a@{FAR}", f"b@{LITERAL}", REFUSED, RELAYED),
    (f"postmaster@{OURS}", f"b@sub.{OURS}", REFUSED, RELAYED),
]

# The sixteen combinations of a port scanner's script.
SCANNER: Final[list[Row]] = [
    ("", f"b@{FAR}", REFUSED, RELAYED),
    (f"a@{FAR}", f"b@{FAR}", REFUSED, RELAYED),
    (f"a@{HOST}", f"b@{FAR}", REFUSED, RELAYED),
    (f"a@{LITERAL}", f"b@{FAR}", REFUSED, RELAYED),
    (f"a@{LITERAL}", f"b%{FAR}@{LITERAL}", REFUSED, RELAYED),
    (f"a@{LITERAL}", f"b%{FAR}@{HOST}", REFUSED, RELAYED),
    (f"a@{LITERAL}", f'"b@{FAR}"', REFUSED, REFUSED),
    (f"a@{LITERAL}", f'"b%{FAR}"', REFUSED, REFUSED),
    (f"a@{LITERAL}", f"b@{FAR}@{LITERAL}", REFUSED, REFUSED),
    (f"a@{LITERAL}", f'"b@{FAR}"@{LITERAL}', REFUSED, RELAYED),
    (f"a@{LITERAL}", f"b@{FAR}@{HOST}", REFUSED, REFUSED),
    (f"a@{LITERAL}", f"@{LITERAL}:b@{FAR}", REFUSED, REFUSED),
    (f"a@{LITERAL}", f"@{HOST}:b@{FAR}", REFUSED, RELAYED),
    (f"a@{LITERAL}", f"{FAR}!b", REFUSED, REFUSED),
    (f"a@{LITERAL}", f"{FAR}!b@{LITERAL}", REFUSED, RELAYED),
    (f"a@{LITERAL}", f"{FAR}!b@{HOST}", REFUSED, RELAYED),
]

OWN: Final[list[Row]] = [
    # What is ours stays possible, for everybody.
    (f"a@{FAR}", f"you@{OURS}", OURS_, OURS_),
    ("", f"you@{OURS}", OURS_, OURS_),
    (f"you@{OURS}", f"YOU@{OURS.upper()}", OURS_, OURS_),
    (f"a@{FAR}", f'"you"@{OURS}', OURS_, OURS_),
    (f"a@{FAR}", f"postmaster@{OURS}", OURS_, OURS_),
    (f"a@{FAR}", "Postmaster", OURS_, OURS_),
    (f"a@{FAR}", f"anybody@{PASSED_ON}", OURS_, OURS_),
    (f"a@{FAR}", f"@{FAR}:you@{OURS}", OURS_, OURS_),
    (f"a@{FAR}", f"@{FAR},@{OURS}:anybody@{PASSED_ON}", OURS_, OURS_),
    # Names that look like ours.
    (f"a@{FAR}", f"you@{OURS}.{FAR}", REFUSED, RELAYED),
    (f"a@{FAR}", f"you@x{OURS}", REFUSED, RELAYED),
    (f"a@{FAR}", f"you@x-{OURS}", REFUSED, RELAYED),
    (f"a@{FAR}", f"you@sub.{PASSED_ON}", REFUSED, RELAYED),
    (f"a@{FAR}", f"you@{OURS}.", REFUSED, REFUSED),
    (f"a@{FAR}", f"you@.{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", "you@test", REFUSED, RELAYED),
    (f"a@{FAR}", f"nobody@{OURS}", REFUSED, REFUSED),
    # Percent signs, bangs, quotes and routes, one within another.
    (f"a@{FAR}", f"b%{FAR}%{OURS}@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"you%{OURS}@{FAR}", REFUSED, RELAYED),
    (f"a@{FAR}", f"{OURS}!b@{FAR}", REFUSED, RELAYED),
    (f"a@{FAR}", f"{FAR}!{OURS}!b@{PASSED_ON}", REFUSED, OURS_),
    (f"a@{FAR}", f'"{FAR}!b"@{PASSED_ON}', REFUSED, OURS_),
    (f"a@{FAR}", f'"b%{FAR}"@{PASSED_ON}', REFUSED, OURS_),
    (f"a@{FAR}", f'"b\\@{FAR}"@{PASSED_ON}', REFUSED, OURS_),
    (f"a@{FAR}", f'"\\b@{FAR}"@{PASSED_ON}', REFUSED, OURS_),
    (f"a@{FAR}", f'"postmaster@{FAR}"@{OURS}', REFUSED, REFUSED),
    (f"a@{FAR}", f"@{OURS}:b%{FAR}@{PASSED_ON}", REFUSED, OURS_),
    (f"a@{FAR}", f"@{OURS},@{FAR}:b@{FAR}", REFUSED, RELAYED),
    (f"a@{FAR}", f"@{OURS}:@{OURS}:b@{FAR}", REFUSED, REFUSED),
    (f"a@{FAR}", f"b@{FAR}:you@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"<b@{FAR}>,<you@{OURS}>", REFUSED, REFUSED),
    (f"a@{FAR}", f"b@{FAR} you@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"b@{FAR},you@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"b@{FAR}\\0@{OURS}", REFUSED, REFUSED),
    (f"a@{FAR}", f"b({FAR})@{OURS}", REFUSED, REFUSED),
    # Address literals.
    (f"a@{FAR}", "b@[192.0.2.7]", REFUSED, RELAYED),
    (f"a@{FAR}", "b@[IPv6:2001:db8::7]", REFUSED, RELAYED),
    (f"a@{FAR}", "b@[IPv6:::1]", REFUSED, RELAYED),
    (f"a@{FAR}", f"b@[{FAR}]", REFUSED, REFUSED),
    (f"a@{FAR}", "b@127.0.0.1", REFUSED, RELAYED),
    # Senders that look like ours open nothing.
    (f"postmaster@{OURS}", f"b@{FAR}", REFUSED, RELAYED),
    (f"you@{OURS}", f"b%{FAR}@{PASSED_ON}", REFUSED, OURS_),
    (f"@{OURS}:you@{OURS}", f"b@{FAR}", REFUSED, RELAYED),
    (f"you@{HOST}", f"postmaster@{FAR}", REFUSED, RELAYED),
]

ROWS: Final = [*COMMON, *SCANNER, *OWN]
STRANGER: Final = "127.0.0.5"
LISTED: Final = "127.0.0.1"


@pytest.fixture
def relay(launch: Callable[..., Daemon]) -> Daemon:
    patient = ['tarpit_interval = "0s"', "max_protocol_errors = 10000"]
    relay = launch(run=False, remote_ip_ranges=(LISTED,))
    relay.settings.extra = {
        "receive_connector.apps": patient,
        "receive_connector.internet": [
            'usage = "internet"',
            f'bindings = ["127.0.0.1:{relay.port}"]',
            'remote_ip_ranges = ["127.0.0.0/8"]',
            *patient,
        ],
        f'accepted_domain."{PASSED_ON}"': ['type = "internal_relay"'],
    }
    relay.write_configuration()
    relay.start()
    return relay


def answers(port: int, source: str, rows: list[Row]) -> Iterator[tuple[str, str]]:
    """Yield for each row the replies to MAIL and RCPT; nothing is ever sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0)) as sock:
        lines = sock.makefile("rb")

        def ask(command: str) -> str:
            sock.sendall(command.encode() + b"\r\n")
            while True:
                line = lines.readline().decode()
                if line[3:4] != "-":
                    return line.rstrip()

        assert lines.readline().startswith(b"220")
        assert ask("EHLO client.invalid").startswith("250")
        for sender, recipient, *_ in rows:
            mail = ask(f"MAIL FROM:<{sender}>")
            yield mail, ask(f"RCPT TO:<{recipient}>")
            assert ask("RSET").startswith("250")


def test_every_form_is_answered_as_the_table_says(relay: Daemon) -> None:
    assert len(COMMON) == 17
    assert len(SCANNER) == 16
    assert len(OWN) >= 40
    wrong = []
    for source, column in ((STRANGER, 2), (LISTED, 3)):
        for row, (mail, rcpt) in zip(ROWS, answers(relay.port, source, ROWS), strict=True):
            is_taken = mail.startswith("250") and rcpt.startswith("250")
            if is_taken != (row[column] != REFUSED) or not mail.startswith("250"):
                wrong.append((source, *row, mail, rcpt))
            if not is_taken:
                assert rcpt[:2] in ("50", "55"), (source, row, rcpt)
    assert wrong == []


def test_what_strangers_may_send_never_leaves(relay: Daemon) -> None:
    """What strangers get is in the table refused, or ours."""
    assert {row[2] for row in ROWS} == {REFUSED, OURS_}
    done = relay.cli("--json", "--config", str(relay.config), "explain", "connect", "--from", STRANGER)
    assert '"connector": "internet"' in done.stdout
    assert "accept_any_recipient" not in done.stdout
