"""The rig's own account: it must see a loss, an unexplained copy and a changed octet when there is one."""

from __future__ import annotations

from tests.rig.kill import Ledger, content
from tests.support.receiver import Received

ID = "0saj3v6580402"


def received(name: str, octets: bytes | None = None) -> Received:
    trace = f"Received: from client.test by relay.penstock.test with ESMTP\r\n\tid {ID}; date\r\n".encode()
    return Received(
        sender="ledger@penstock.test",
        recipients=(f"{name}@sink.test",),
        content=trace + (content(name) if octets is None else octets),
        session=1,
        monotonic_s=0.0,
    )


def test_what_was_acknowledged_and_never_came_is_promised() -> None:
    ledger = Ledger()
    ledger.acknowledged |= {"r1-1", "r1-2"}
    ledger.got(received("r1-1"))
    assert ledger.promised() == {"r1-2"}
    assert ledger.received == {"r1-1": [ID]}


def test_a_changed_octet_is_seen() -> None:
    ledger = Ledger()
    ledger.got(received("r1-1", content("r1-1").replace(b"Subject", b"subject")))
    ledger.got(received("r1-2"))
    assert ledger.mangled == ["r1-1"]


def test_names_do_not_share_their_content() -> None:
    assert not content("r1-12").endswith(content("r1-1"))
    assert content("r1-1").count(b"\r\n.") > 0
