from __future__ import annotations

from penstock.receive.admission import Admission, source_of
from penstock.receive.settings import ReceiveConnectorSettings
from penstock.smtp import replies
from tests.support.groups import ANONYMOUS


def connector(name: str, **limits: int) -> ReceiveConnectorSettings:
    return ReceiveConnectorSettings(
        name=name,
        groups=(ANONYMOUS,),
        listeners=(1,),
        remote_ip_ranges=(),
        **{"max_inbound_connection_per_source": 2, **limits},
    )


A, B = connector("a"), connector("b")


def test_connections_per_source_and_connector() -> None:
    admission = Admission()
    assert admission.admit(A, "192.0.2.1") is None
    assert admission.admit(A, "192.0.2.1") is None
    assert admission.admit(A, "192.0.2.1") == replies.TOO_MANY_CONNECTIONS_FROM_SOURCE
    assert admission.admit(A, "192.0.2.2") is None
    assert admission.admit(B, "192.0.2.1") is None
    admission.release(A, "192.0.2.1")
    assert admission.admit(A, "192.0.2.1") is None
    assert admission.connections == 4


def test_connections_of_a_connector() -> None:
    admission = Admission()
    small = connector("small", max_inbound_connection=2)
    assert admission.admit(small, "192.0.2.1") is None
    assert admission.admit(small, "192.0.2.2") is None
    assert admission.admit(small, "192.0.2.3") == replies.TOO_MANY_CONNECTIONS
    assert admission.admit(A, "192.0.2.3") is None
    admission.release(small, "192.0.2.2")
    assert admission.admit(small, "192.0.2.3") is None


def test_an_ipv6_network_is_one_source() -> None:
    admission = Admission()
    assert admission.admit(A, "2001:db8:1:2::1") is None
    assert admission.admit(A, "2001:db8:1:2:ffff::9") is None
    assert admission.admit(A, "2001:db8:1:2:3::") == replies.TOO_MANY_CONNECTIONS_FROM_SOURCE
    assert admission.admit(A, "2001:db8:1:3::1") is None
    admission.release(A, "2001:db8:1:2::1")
    assert admission.admit(A, "2001:db8:1:2:3::") is None
    assert source_of("::1") == "::/64"
    assert source_of("192.0.2.1") == "192.0.2.1"


def test_a_hundred_per_cent_is_no_share() -> None:
    shared = connector("shared", max_inbound_connection=10, max_inbound_connection_per_source=10)
    admission = Admission()
    assert [admission.admit(shared, "192.0.2.1") for _ in range(10)] == [None] * 10
    assert admission.admit(shared, "192.0.2.1") == replies.TOO_MANY_CONNECTIONS


def test_a_source_has_so_many_per_cent_of_what_is_free_and_always_one() -> None:
    limits = {
        "max_inbound_connection": 100,
        "max_inbound_connection_per_source": 50,
        "max_inbound_connection_percentage_per_source": 10,
    }
    shared = connector("shared", **limits)
    admission = Admission()
    # 10 of 100, then of 91, 90 … are 10, 9, 9 …: it stops itself before its 10th.
    let_in = sum(admission.admit(shared, "192.0.2.1") is None for _ in range(20))
    assert let_in == 9
    for number in range(2, 93):
        assert admission.admit(shared, f"192.0.2.{number}") is None
    assert admission.admit(shared, "192.0.2.93") == replies.TOO_MANY_CONNECTIONS
