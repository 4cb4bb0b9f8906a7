"""Addresses of hosts: looked up by a task, remembered as long as they are good, told without waiting.

The dispatcher never waits for a name server. It asks `find`, which knows or does not know yet; what is not
known is looked up by `run`, and the dispatcher is woken when there is news. A host is looked up once at a
time, whoever asks. Its addresses are good for the time that its name server says, within limits; that a host
has none is believed for a short while only, because the next try of a hop should see that it has one again.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final, NamedTuple, TypeAlias

import trio

__all__ = ["AddressBook", "Addresses", "Resolve"]

LOOKUPS_MAX: Final = 16
"""Look-ups at a time."""
HOSTS_MAX: Final = 10_000
"""Hosts that are remembered."""
GOOD_MIN_MS: Final = 5_000
GOOD_MAX_MS: Final = 3_600_000
BAD_MS: Final = 5_000
"""How long it is believed that a host cannot be found."""


class Addresses(NamedTuple):
    """What a look-up has found.

    Attributes:
        ips: IP addresses in the order in which they are to be tried; none if there are none.
        ttl_ms: How long that may be believed.
        error: Why there are none; empty if there are some.
    """

    ips: tuple[str, ...]
    ttl_ms: int = 0
    error: str = ""


Resolve: TypeAlias = Callable[[str], Awaitable[Addresses]]
"""Looks a host up. It raises nothing: what goes wrong is said in `error`."""


class AddressBook:
    """The addresses of all hosts that are asked for."""

    def __init__(self, resolve: Resolve, wake: Callable[[], None]) -> None:
        """Begin with nothing.

        Args:
            resolve: Looks a host up.
            wake: Called when there is news; the dispatcher then calls `news`.
        """
        self._resolve = resolve
        self._wake = wake
        # In order of arrival, so that the oldest goes when there are too many.
        self._known: dict[str, tuple[Addresses, int]] = {}
        self._sought: set[str] = set()
        self._found: list[tuple[str, Addresses]] = []
        self._hosts, self._to_look_up = trio.open_memory_channel[str](math.inf)

    def find(self, host: str, now_ms: int) -> Addresses | None:
        """Return the addresses of a host; None if they are being looked up.

        Args:
            host: A name, or an IP address, which is its own.
            now_ms: Current Unix time, milliseconds.
        """
        known = self._known.get(host)
        if known is not None and now_ms < known[1] <= now_ms + GOOD_MAX_MS:
            return known[0]
        if known is None and _is_ip(host):
            return Addresses((host,))
        if host not in self._sought:
            self._sought.add(host)
            self._hosts.send_nowait(host)
        return None

    def news(self, now_ms: int) -> bool:
        """Take note of what has been found; return whether something has."""
        found, self._found = self._found, []
        for host, addresses in found:
            self._sought.discard(host)
            self._known.pop(host, None)
            if len(self._known) >= HOSTS_MAX:
                del self._known[next(iter(self._known))]
            good_ms = min(max(addresses.ttl_ms, GOOD_MIN_MS), GOOD_MAX_MS) if addresses.ips else BAD_MS
            self._known[host] = addresses, now_ms + good_ms
        return bool(found)

    async def run(self) -> None:
        """Look hosts up, for ever."""
        limiter = trio.CapacityLimiter(LOOKUPS_MAX)
        async with trio.open_nursery() as nursery:
            async for host in self._to_look_up:
                await limiter.acquire_on_behalf_of(host)
                nursery.start_soon(self._look_up, host, limiter)

    async def _look_up(self, host: str, limiter: trio.CapacityLimiter) -> None:
        try:
            addresses = await self._resolve(host)
        finally:
            limiter.release_on_behalf_of(host)
        self._found.append((host, addresses))
        self._wake()


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
