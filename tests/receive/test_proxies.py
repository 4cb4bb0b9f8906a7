from __future__ import annotations

from pathlib import Path

import pytest

from penstock.receive.proxies import proxies_of
from penstock.receive.settings import ReceiveConnectorSettings
from penstock.smtp import replies
from tests.receive.test_receiver import ENVELOPE, HELLO, NOW_MS, Rig
from tests.support.groups import ANONYMOUS


def connector(name: str, *proxies: str, listeners: tuple[int, ...]) -> ReceiveConnectorSettings:
    return ReceiveConnectorSettings(
        name=name,
        groups=(ANONYMOUS,),
        listeners=listeners,
        remote_ip_ranges=("0.0.0.0/0",),
        proxy_protocol_ranges=proxies,
    )


def test_the_proxies_of_a_listener_are_those_of_all_its_connectors() -> None:
    connectors = (
        connector("a", "10.0.0.5", "10.0.1.0/30", listeners=(0, 1)),
        connector("b", "10.0.0.5", "10.0.0.7-10.0.0.9", "fd00::/127", listeners=(1,)),
        connector("c", listeners=(2,)),
    )
    assert proxies_of(connectors, 0) == [("10.0.0.5", "10.0.0.5"), ("10.0.1.0", "10.0.1.3")]
    assert proxies_of(connectors, 1) == [
        *proxies_of(connectors, 0),
        ("10.0.0.7", "10.0.0.9"),
        ("fd00::", "fd00::1"),
    ]
    assert proxies_of(connectors, 2) == []
    with pytest.raises(ValueError, match="does not appear"):
        proxies_of((connector("d", "nowhere", listeners=(0,)),), 0)


def test_a_peer_behind_a_proxy_is_counted_by_its_own_address(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert [rig.open(conn, "10.0.0.1", proxy="192.0.2.9")[0][0] for conn in (1, 2)] == ["begin", "begin"]
    assert rig.open(3, "10.0.0.1", proxy="192.0.2.9")[0][1] == replies.TOO_MANY_CONNECTIONS_FROM_SOURCE
    assert rig.open(4, "10.0.0.2", proxy="192.0.2.9")[0][0] == "begin"
    assert rig.open(5, "203.0.113.1", proxy="192.0.2.9")[0][1] == replies.NO_CONNECTOR


def test_the_journal_names_the_proxy_before_tls_and_after_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for conn, secured in ((1, False), (2, True)):
        rig.open(conn, proxy="192.0.2.9")
        if secured:
            rig.tell("tls_up", conn, "1.3", "TLS_AES_128_GCM_SHA256", None, None, False)
        rig.say(conn, HELLO)
        rig.say(conn, ENVELOPE)
        rig.content(conn)
    assert rig.core.journalled == [
        {"proxy": "192.0.2.9"},
        {"proxy": "192.0.2.9", "tls": "1.3 TLS_AES_128_GCM_SHA256"},
    ]


def test_a_proxy_that_says_nothing_of_use_is_counted_and_journalled(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    lines: list[tuple[object, ...]] = []
    rig.receiver._journal = lambda event, at_ms, **fields: lines.append((event, at_ms, fields))
    rig.receiver.proxy_refused(("proxy_refused", 1, "192.0.2.9", 1025, "malformed"), [], NOW_MS)
    assert lines == [("PROXY", NOW_MS, {"peer": "192.0.2.9", "cause": "malformed"})]
    assert ("receive_refused_total", ("_none", "proxy"), 1) in list(rig.receiver.samples())
