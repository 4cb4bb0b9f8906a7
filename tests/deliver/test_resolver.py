from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio

from penstock.deliver.addresses import Addresses
from penstock.deliver.resolver import HOSTS_TTL_MS, Resolver

ZONE = {
    ("mx.example.", "A"): (300, "192.0.2.1", "192.0.2.2"),
    ("mx.example.", "AAAA"): (120, "2001:db8::1"),
    ("six.example.", "AAAA"): (60, "2001:db8::6"),
    ("nothing.example.", "TXT"): (60, "x"),
}


@asynccontextmanager
async def name_server() -> AsyncIterator[int]:
    """Answer from the zone; silent for `silent.example`."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))

        async def serve() -> None:
            while True:
                wire, peer = await socket.recvfrom(4096)
                query = dns.message.from_wire(wire)
                name, kind = query.question[0].name.to_text(), dns.rdatatype.to_text(query.question[0].rdtype)
                if name == "silent.example.":
                    continue
                reply = dns.message.make_response(query)
                reply.flags |= dns.flags.RA
                found = ZONE.get((name, kind))
                if found is not None:
                    reply.answer.append(dns.rrset.from_text(name, found[0], "IN", kind, *found[1:]))
                elif not any(known == name for known, _ in ZONE):
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                await socket.sendto(reply.to_wire(), peer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield socket.getsockname()[1]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("mx.example", Addresses(("192.0.2.1", "192.0.2.2", "2001:db8::1"), 120_000)),
        ("six.example", Addresses(("2001:db8::6",), 60_000)),
        ("nothing.example", Addresses((), error="nothing.example: the host has no address")),
        ("unknown.example", Addresses((), error="unknown.example: no such host")),
        (
            "silent.example",
            Addresses((), error="silent.example: the name servers did not answer in time"),
        ),
        ("127.0.0.1.localhost", Addresses(("127.0.0.1", "::1"), HOSTS_TTL_MS)),
        ("db.example", Addresses(("192.0.2.50", "2001:db8::50"), HOSTS_TTL_MS)),
    ],
)
async def test_host_is_found_as_the_system_would(host: str, expected: Addresses, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# ours\n2001:db8::50 db DB.example # six\n192.0.2.50\tdb.example\n\n", encoding="utf-8")
    async with name_server() as port:
        resolver = Resolver(servers=("127.0.0.1",), port=port, lifetime_s=0.2, hosts_file=str(hosts))
        found = await resolver(host)
    # The server's order is the network's business; that of the families is ours.
    assert sorted(found.ips) == list(expected.ips)
    assert [":" in ip for ip in found.ips] == [":" in ip for ip in expected.ips]
    assert found[1:] == expected[1:]


async def test_missing_hosts_file_is_none_of_the_resolvers_business(tmp_path: Path) -> None:
    async with name_server() as port:
        resolver = Resolver(servers=("127.0.0.1",), port=port, hosts_file=str(tmp_path / "none"))
        assert (await resolver("six.example")).ips == ("2001:db8::6",)
