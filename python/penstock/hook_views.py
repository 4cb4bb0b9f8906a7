"""What hooks are shown: a session, a header section, a content."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from penstock.envelope import Recipient

__all__ = ["CHUNK_OCTETS", "ClientCertificate", "ContentView", "HeaderView", "SessionView", "unstuffed"]

CHUNK_OCTETS: Final = 64 * 1024

_STUFFED_DOT: Final = re.compile(rb"\r\n\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What a client has shown in the handshake. It has the key; who vouches for it nobody has looked at.

    Attributes:
        subject: Its subject.
        issuer: Who has issued it, as it says itself.
        dns_names: The names that it is for.
        not_before_s: Valid from, Unix seconds.
        not_after_s: Valid until, Unix seconds.
        fingerprint: SHA-256 of it, in hexadecimal digits.
    """

    subject: str
    issuer: str
    dns_names: tuple[str, ...]
    not_before_s: int
    not_after_s: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session as it is when the question is asked. It does not change, and may be kept.

    Attributes:
        session_id: What the journal calls it.
        connector: The receive connector.
        peer_ip: Where the peer connects from.
        greeting: What it called itself by EHLO or HELO, or empty.
        protocol: `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPSA`, ... (RFC 3848); `SMTP` as long as there is no EHLO.
        tls_version: `1.2` or `1.3`; None without TLS.
        tls_cipher: As IANA names it; None without TLS.
        client_certificate: What it has shown, if anything.
        login: The name under which it has authenticated itself, or None.
        sender: The reverse-path of the transaction; None outside of one, and for the null reverse-path.
        recipients: Those that were accepted, at the events of content; empty before.
    """

    session_id: str
    connector: str
    peer_ip: str
    greeting: str = ""
    protocol: str = "SMTP"
    tls_version: str | None = None
    tls_cipher: str | None = None
    client_certificate: ClientCertificate | None = None
    login: str | None = None
    sender: str | None = None
    recipients: tuple[Recipient, ...] = ()


class HeaderView:
    """A header section; it may be kept.

    Attributes:
        octets: As they came, without the empty line behind them; no more than `max_header_size`.
    """

    __slots__ = ("_fields", "octets")

    def __init__(self, octets: bytes) -> None:
        """Keep them; they are looked at when somebody asks."""
        self.octets = octets
        self._fields: tuple[tuple[str, str], ...] | None = None

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Name and value of each field, in order, unfolded (RFC 5322 2.2.3).

        Octets that are no UTF-8 become surrogates (`surrogateescape`); encoded words stay as they are. Lines
        that belong to no field are left out.
        """
        if self._fields is None:
            self._fields = tuple(_fields(self.octets))
        return self._fields

    def get_all(self, name: str) -> tuple[str, ...]:
        """Return the values of all fields of a name, whatever its case."""
        name = name.lower()
        return tuple(value for key, value in self.fields if key.lower() == name)

    def get(self, name: str) -> str | None:
        """Return the value of the first field of a name, or None."""
        return next(iter(self.get_all(name)), None)


class ContentView:
    """A content that has come and is not stored yet. It can be read until the hook has answered.

    Attributes:
        size: Its octets, header section included.
        header_size: Octets of the header section, as it came over the wire.
    """

    __slots__ = ("_is_stuffed", "_read", "header_size", "size")

    def __init__(
        self, size: int, header_size: int, read: Callable[[int, int], Awaitable[bytes]], *, is_stuffed: bool
    ) -> None:
        """Say where it is; nothing is read.

        Args:
            size: Its octets.
            header_size: Those of the header section on the wire.
            read: Returns up to so many stored octets from an offset on, and none behind the last.
            is_stuffed: Whether some of its lines have one dot more than they should.
        """
        self.size = size
        self.header_size = header_size
        self._read = read
        self._is_stuffed = is_stuffed

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content in pieces of at most 64 KiB, dots unstuffed.

        **Blocking**: never the event loop; it is read by threads, and a large one from the disk.

        Raises:
            Misuse: The question has been answered.
            OSError: It cannot be read.
        """
        offset, before = 0, b"\r\n"
        while octets := await self._read(offset, CHUNK_OCTETS):
            offset += len(octets)
            if not self._is_stuffed:
                yield octets
                continue
            plain = unstuffed(octets, before)
            before = (before + octets)[-2:]
            if plain:
                yield plain

    async def read(self, max_octets: int | None = None) -> bytes:
        """Return the whole content; its memory is the caller's.

        Args:
            max_octets: More are refused; None for as many as the connector takes.

        Raises:
            ValueError: It has more.
            Misuse: The question has been answered.
            OSError: It cannot be read.
        """
        if max_octets is not None and self.size > max_octets:
            raise ValueError(f"the content has {self.size} octets, more than {max_octets}")
        return b"".join([chunk async for chunk in self.chunks()])


def unstuffed(octets: bytes, before: bytes = b"\r\n") -> bytes:
    r"""Return octets without the dots that DATA has added (RFC 5321 4.5.2).

    Args:
        octets: Some of a content.
        before: The two octets before them; at the beginning, the end of a line.

    >>> unstuffed(b"..a\r\n..\r\n.b.\r\n")
    b'.a\r\n.\r\nb.\r\n'
    """
    return _STUFFED_DOT.sub(b"\r\n", before + octets)[len(before) :]


def _fields(octets: bytes) -> Iterator[tuple[str, str]]:
    """Yield the fields of a header section."""
    name, parts = b"", list[bytes]()
    for line in octets.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            parts.append(line)
            continue
        if name:
            yield _text(name), _text(b"".join(parts))
        name, colon, value = line.partition(b":")
        name, parts = (name.rstrip(b" \t") if colon else b""), [value]
    if name:
        yield _text(name), _text(b"".join(parts))


def _text(octets: bytes) -> str:
    return octets.strip(b" \t").decode("utf-8", "surrogateescape")
