"""Rules of TLS: certificates can be used, their names exist, an address begins with TLS or does not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from penstock import _core
from penstock.config import model
from penstock.config.tree import Node, Path, absolute
from penstock.config.validate import Tables
from penstock.config.values import Endpoint, quoted
from penstock.errors import CertificateFailed, CertificateUnusable
from penstock.receive.certificates import read_pair
from penstock.receive.settings import CertificateSettings

__all__ = ["check_tls"]


class Add(Protocol):
    """Takes a problem."""

    def __call__(
        self, code: str, message: str, path: Path, *, is_key: bool = False, fix: str | None = None
    ) -> None: ...


def check_tls(tree: Node, tables: Tables, connectors: Mapping[str, model.ReceiveConnector], add: Add) -> None:
    """Judge certificates and who uses them. **Blocking**: reads their files.

    Args:
        tree: Where everything is written.
        tables: What could be read of it.
        connectors: The receive connectors in force.
        add: Takes what is found.
    """
    for name, certificate in tables.certificates.items():
        _certificate(tree, name, certificate, add)
    named = tree.find(("certificate",))
    known = named.entries.keys() if named is not None else ()
    for name, connector in connectors.items():
        path: Path = ("receive_connector", name)
        for one in connector.tls_certificate_name or ():
            if one not in known:
                message = f"There is no table [certificate.{one}]."
                if known:
                    message += f" There are {', '.join(quoted(name) for name in known)}."
                add("C128", message, (*path, "tls_certificate_name"))
        if connector.tls_certificate_name is None:
            _without(path, connector, add)
    _begins(connectors, add)


def _without(path: Path, connector: model.ReceiveConnector, add: Add) -> None:
    """Refuse what needs TLS where there is no certificate for it."""
    fix = 'tls_certificate_name = "NAME"'
    if connector.require_tls:
        add("C129", "Nobody could send: TLS is required, and there is none.", (*path, "require_tls"), fix=fix)
    if connector.implicit_tls_bindings:
        message = "What connects here begins with TLS, and there is none."
        add("C129", message, (*path, "implicit_tls_bindings"), fix=fix)
    if connector.tls_client_certificate != "none":
        message = "Clients are asked for certificates in TLS, and there is none."
        add("C129", message, (*path, "tls_client_certificate"), fix=fix)


def _begins(connectors: Mapping[str, model.ReceiveConnector], add: Add) -> None:
    """An address begins with TLS or it does not, whichever connector a peer meets."""
    plain: dict[Endpoint, str] = {}
    for name, connector in connectors.items():
        for binding in connector.bindings:
            plain.setdefault(binding, name)
    for name, connector in connectors.items():
        for index, binding in enumerate(connector.implicit_tls_bindings):
            if binding in plain:
                message = f"{binding} begins in plain text for {plain[binding]}."
                add("C103", message, ("receive_connector", name, "implicit_tls_bindings", index))


def _certificate(tree: Node, name: str, certificate: model.Certificate, add: Add) -> None:
    path: Path = ("certificate", name)
    chain, key = (*path, "chain"), (*path, "key", "file")
    settings = CertificateSettings(
        name=name,
        chain=absolute(tree, chain, certificate.chain),
        key=absolute(tree, key, certificate.key.file),
    )
    try:
        read = _core.read_certificate(*read_pair(settings))
    except CertificateFailed as failed:
        where = chain if failed.file == settings.chain and not failed.is_exposed else key
        if failed.is_exposed:
            add("C132", f"{failed.file}: {failed.reason}. Take `chmod 600`.", where)
        else:
            add("C125", f"{failed.file}: {failed.reason}.", where)
        return
    except CertificateUnusable as unusable:
        where, file = (key, settings.key) if unusable.part == "key" else (chain, settings.chain)
        add("C127", f"{file}: {unusable.reason}.", where)
        return
    (subject, issuer, _, not_before_s, not_after_s), length, is_own = read
    if length == 1 and not is_own:
        message = (
            f"{settings.chain} has no certificate of {quoted(issuer)}, who vouches for {quoted(subject)}: "
            "peers that check will not trust it. Put the whole chain into the file."
        )
        add("C204", message, chain)
    now_s = time.time()
    if not not_before_s <= now_s <= not_after_s:
        word = "has expired" if now_s > not_after_s else "does not hold yet"
        add("C207", f"The certificate of {quoted(subject)} {word}.", chain)
