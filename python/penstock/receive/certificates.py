"""The certificates that connectors show, from files that may be renewed at any time.

The files are looked at about once a second. New ones are used from the next handshake on; while they cannot
be used (half written, of two different renewals, readable by others) the ones before stay in force, and that
is a problem that operators are shown.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final, Protocol, TypeAlias

from penstock.errors import CertificateFailed, CertificateUnusable
from penstock.receive.settings import CertificateSettings, ReceiveConnectorSettings, TlsSettings

__all__ = ["FILE_BYTES_MAX", "Certificates", "read_pair"]

FILE_BYTES_MAX: Final = 1 << 20
"""Octets of a file with certificates or a key; what is larger is no such file."""

_Pair: TypeAlias = tuple[bytes, bytes]
_Signature: TypeAlias = tuple[int, int, int]


class Core(Protocol):
    """What is needed of `_core.Engine`."""

    def server_tls(
        self,
        certificates: list[_Pair],
        *,
        minimum: str,
        client_certificates: str,
        number: int | None = None,
    ) -> int: ...


class Certificates:
    """What connectors show in handshakes, each known to core by a number."""

    def __init__(self, core: Core, connectors: Iterable[ReceiveConnectorSettings]) -> None:
        """Read the files.

        Raises:
            CertificateFailed: One cannot be used.
        """
        self._core = core
        self._shown = {
            connector.name: _Shown(core, connector.tls)
            for connector in connectors
            if connector.tls is not None
        }

    def number(self, connector: str) -> int | None:
        """Return the number of what a connector shows, if it speaks TLS."""
        shown = self._shown.get(connector)
        return None if shown is None else shown.number

    def refresh(self) -> None:
        """Use files that have changed. **Blocking**: a look at each file, and its size if read."""
        for shown in self._shown.values():
            shown.refresh(self._core)

    def problems(self) -> list[str]:
        """Return what keeps renewed files from being used."""
        return list(dict.fromkeys(shown.problem for shown in self._shown.values() if shown.problem))


class _Shown:
    """What one connector shows."""

    def __init__(self, core: Core, settings: TlsSettings) -> None:
        self.problem = ""
        self._settings = settings
        self._signatures = self._look()
        self.number = self._hand_over(core, None)

    def refresh(self, core: Core) -> None:
        signatures = self._look()
        if signatures == self._signatures:
            return
        try:
            self._hand_over(core, self.number)
        except CertificateFailed as failed:
            self.problem = str(failed)
        else:
            self.problem = ""
        # What is written meanwhile is seen at the next look.
        self._signatures = signatures

    def _look(self) -> list[_Signature | None]:
        return [_signature(path) for one in self._settings.certificates for path in (one.chain, one.key)]

    def _hand_over(self, core: Core, number: int | None) -> int:
        settings = self._settings
        pairs = [read_pair(one) for one in settings.certificates]
        try:
            return core.server_tls(
                pairs,
                minimum=settings.minimum,
                client_certificates=settings.client_certificate,
                number=number,
            )
        except CertificateUnusable as unusable:
            one = settings.certificates[unusable.number]
            file = one.key if unusable.part == "key" else one.chain
            raise CertificateFailed(file, unusable.reason) from None


def read_pair(settings: CertificateSettings) -> _Pair:
    """Return what is in the files of a certificate and its key.

    Raises:
        CertificateFailed: One cannot be read, or the key's can be read by others.
    """
    return _read(settings.chain, is_secret=False), _read(settings.key, is_secret=True)


def _read(path: str, *, is_secret: bool) -> bytes:
    try:
        # A pipe in its place must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CertificateFailed(path, "it is not a regular file")
            if is_secret and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise CertificateFailed(path, "others than its owner can read it", is_exposed=True)
            octets = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CertificateFailed(path, f"it cannot be read: {error.strerror}") from None
    if len(octets) > FILE_BYTES_MAX:
        raise CertificateFailed(path, f"it has more than {FILE_BYTES_MAX} octets")
    return octets


def _signature(path: str) -> _Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
