"""The addresses of a connector's smart hosts, and which of them is next."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from penstock.deliver.addresses import AddressBook
from penstock.deliver.settings import SmartHost

__all__ = ["Target", "Targets"]


class Target(NamedTuple):
    """An address to connect to.

    Attributes:
        ip: The address.
        port: The port.
        peer: The same as it is written to records and logs.
    """

    ip: str
    port: int
    peer: str


class Targets:
    """All addresses of all smart hosts, in order.

    The one that worked last is kept to. When it fails the next one is tried, round and round; when as many as
    there are were tried since the last success, none works.

    Attributes:
        error: Why there are none, if there are none.
    """

    __slots__ = ("_family", "_hosts", "_next", "_targets", "_tried", "error")

    def __init__(self, hosts: tuple[SmartHost, ...], source_ip: str | None) -> None:
        """Begin with the first.

        Args:
            hosts: The smart hosts.
            source_ip: The address to speak from; only targets of its family can be reached from it.
        """
        self._hosts = hosts
        self._family = None if source_ip is None else ip_address(source_ip).version
        self._targets: tuple[Target, ...] = ()
        self._next = 0
        self._tried = 0
        self.error = ""

    @property
    def are_exhausted(self) -> bool:
        """Whether as many as there are were tried since the last success or the last `begin`."""
        return self._tried >= len(self._targets)

    def refresh(self, addresses: AddressBook, now_ms: int) -> bool:
        """Take the addresses as they are known now; return False if one is being looked up."""
        targets: list[Target] = []
        is_known = True
        error = ""
        for host, port in self._hosts:
            found = addresses.find(host, now_ms)
            if found is None:
                is_known = False
                continue
            error = error or found.error
            usable = [ip for ip in found.ips if self._family in (None, ip_address(ip).version)]
            if found.ips and not usable:
                error = error or f"{host}: no address can be reached from the source address"
            targets += [
                Target(ip, port, f"[{ip}]:{port}" if host == ip else f"{host} [{ip}]:{port}") for ip in usable
            ]
        if not is_known:
            return False
        self.error = error
        # Name servers turn their lists round, so another order alone means nothing. Nor does news make up for
        # what was tried: answers that differ each time must not keep a dead hop from being seen to be dead.
        if set(targets) != set(self._targets):
            self._targets = tuple(targets)
            self._next = 0
        return True

    def begin(self) -> None:
        """Begin to count anew which were tried."""
        self._tried = 0

    def next(self) -> Target | None:
        """Return the one to connect to now; None if there are none."""
        return self._targets[self._next] if self._targets else None

    def failed(self, target: Target) -> None:
        """Go on to the next one, unless that was done when this one failed before."""
        if target == self.next():
            self._next = (self._next + 1) % len(self._targets)
            self._tried += 1
