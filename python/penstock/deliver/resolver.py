"""Look-up of hosts' addresses: the hosts file first, then DNS, as the system itself does.

dnspython's Trio backend asks; nothing is remembered here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver
import trio

from penstock.deliver.addresses import Addresses

__all__ = ["Resolver"]

HOSTS_FILE: Final = "/etc/hosts"
HOSTS_TTL_MS: Final = 60_000
"""How long an entry of the hosts file is believed before the file is read again."""
LIFETIME_S: Final = 5.0
"""How long a look-up may take in all."""
LOOPBACK: Final = ("127.0.0.1", "::1")


class Resolver:
    """Looks hosts up.

    IPv4 addresses come first: more networks have a route, and a name for its reverse, than for IPv6.
    """

    def __init__(
        self,
        *,
        servers: tuple[str, ...] = (),
        port: int = 53,
        lifetime_s: float = LIFETIME_S,
        hosts_file: str = HOSTS_FILE,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            servers: IP addresses of name servers; empty for those of /etc/resolv.conf.
            port: Their port.
            lifetime_s: How long a look-up may take in all.
            hosts_file: Names that are known without asking.
        """
        self._hosts_file = Path(hosts_file)
        self._lifetime_s = lifetime_s
        self._problem = ""
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.resolver.NoResolverConfiguration as error:
            # A machine without name servers can still reach hosts by address.
            self._problem = str(error)
            self._resolver = dns.asyncresolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = list(servers)
        self._resolver.port = port

    async def __call__(self, host: str) -> Addresses:
        """Return the addresses of a host; see `addresses.Resolve`."""
        if host == "localhost" or host.endswith(".localhost"):
            # It is this machine everywhere, and no name server's business.
            return Addresses(LOOPBACK, HOSTS_TTL_MS)
        try:
            ips = _in_hosts_file(await trio.Path(self._hosts_file).read_text("utf-8", "replace"), host)
        except OSError:
            ips = ()
        if ips:
            return Addresses(ips, HOSTS_TTL_MS)
        if self._problem:
            return Addresses((), error=f"{host}: {self._problem}")
        answers: dict[str, dns.resolver.Answer | str] = {}
        async with trio.open_nursery() as nursery:
            for kind in ("A", "AAAA"):
                nursery.start_soon(self._ask, host, kind, answers)
        return _joined(host, [answers["A"], answers["AAAA"]])

    async def _ask(self, host: str, kind: str, answers: dict[str, dns.resolver.Answer | str]) -> None:
        try:
            answers[kind] = await self._resolver.resolve(
                host, kind, lifetime=self._lifetime_s, search=True, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            answers[kind] = "no such host"
        except dns.exception.Timeout:
            answers[kind] = "the name servers did not answer in time"
        except (dns.exception.DNSException, OSError, ValueError) as error:
            answers[kind] = str(error) or type(error).__name__


def _joined(host: str, answers: list[dns.resolver.Answer | str]) -> Addresses:
    """Put the answers for both families together: one that failed does not matter if the other has some."""
    ips: list[str] = []
    ttls: list[float] = []
    errors: list[str] = []
    for answer in answers:
        if isinstance(answer, str):
            errors.append(answer)
        elif answer.rrset is not None:
            ips += [str(record) for record in answer.rrset]
            ttls.append(answer.rrset.ttl)
    if ips:
        return Addresses(tuple(ips), int(min(ttls) * 1000))
    return Addresses((), error=f"{host}: {errors[0] if errors else 'the host has no address'}")


def _in_hosts_file(text: str, host: str) -> tuple[str, ...]:
    """Return the addresses that a hosts file gives a name, IPv4 first."""
    found: list[str] = []
    for line in text.splitlines():
        ip, *names = line.partition("#")[0].split() or [""]
        if any(name.lower() == host for name in names) and ip not in found:
            found.append(ip)
    return tuple(sorted(found, key=lambda ip: ":" in ip))
