from __future__ import annotations

from penstock.receive.admission import Admission
from penstock.receive.settings import ReceiveConnectorSettings
from penstock.smtp import replies


def connector(name: str, **limits: int) -> ReceiveConnectorSettings:
    return ReceiveConnectorSettings(
        name=name,
        usage="internet",
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
