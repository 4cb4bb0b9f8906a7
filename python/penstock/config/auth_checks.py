"""Rules about who may log in, and how: those of Set-ReceiveConnector, and of the user store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from penstock.config import model
from penstock.config.tree import Path
from penstock.config.validate import Tables
from penstock.receive.connectors import is_private, parse_range
from penstock.receive.users import exposure
from penstock.route.permissions import Member

__all__ = ["TRUST", "Finding", "connector_findings", "store_findings", "trusts"]

TRUST: Final = "external_authoritative"
"""The mechanism by which a peer is a server of ours because it is listed."""
_TRUST_FOLDED: Final = TRUST.replace("_", "")
WITH_TLS: Final = 'auth_mechanism = ["tls", "basic_auth", "basic_auth_require_tls"]'


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        code: One of `problems.CODES`.
        message: What is wrong.
        path: The key.
        is_key: Whether the key is meant and not its value.
        fix: What to write instead.
    """

    code: str
    message: str
    path: Path
    is_key: bool = False
    fix: str | None = None


def connector_findings(
    name: str, connector: model.ReceiveConnector, ranges: tuple[str, ...], tables: Tables
) -> Iterator[Finding]:
    """Judge what a connector in force offers for authentication; `ranges` are who meets it."""
    path: Path = ("receive_connector", name, "auth_mechanism")
    offered = frozenset(connector.auth_mechanism)
    if TRUST in offered:
        yield from _trust_findings(name, connector, offered - {TRUST, "tls"}, tables)
    if "none" in offered and len(offered) > 1:
        yield Finding("C103", "none stands alone.", path, fix="auth_mechanism = []")
    if "basic_auth_require_tls" in offered and not offered >= {"basic_auth", "tls"}:
        message = "basic_auth_require_tls works only together with basic_auth and tls."
        yield Finding("C103", message, path, is_key=True, fix=WITH_TLS)
    if "tls" in offered and not connector.tls_certificate_name:
        message = "tls is STARTTLS, which needs a certificate."
        yield Finding("C129", message, path, is_key=True, fix='tls_certificate_name = "NAME"')
    if "basic_auth" not in offered:
        return
    if not tables.user_stores:
        message = "basic_auth needs a user store; `penstock user add` makes its file."
        yield Finding("C134", message, path, is_key=True, fix='[user_store.local]\nfile = "users"')
    if "basic_auth_require_tls" not in offered and not all(is_private(parse_range(text)) for text in ranges):
        message = (
            "Passwords come in unencrypted here, and not from private addresses alone: "
            "whoever is on the way can read them."
        )
        yield Finding("C209", message, path, is_key=True, fix=WITH_TLS)


def trusts(auth_mechanism: object) -> bool:
    """Whether what is written of a connector's authentication makes its peers servers of ours."""
    words = auth_mechanism if isinstance(auth_mechanism, tuple) else ()
    return any(isinstance(word, str) and word.replace("_", "").lower() == _TRUST_FOLDED for word in words)


def _trust_findings(
    name: str, connector: model.ReceiveConnector, others: frozenset[str], tables: Tables
) -> Iterator[Finding]:
    """Judge a connector whose peers are trusted as servers because of their addresses alone."""
    path: Path = ("receive_connector", name)
    if others:
        message = f"{TRUST} goes together with tls alone: who is trusted need not log in."
        yield Finding("C103", message, (*path, "auth_mechanism"))
    groups = (tables.permission_groups.get(group) for group in connector.permission_groups)
    if not any(group is not None and group.members == Member.SERVERS for group in groups):
        message = f"{TRUST} needs a permission group whose members are servers."
        fix = 'permission_groups = ["exchange_servers"]'
        yield Finding("C103", message, (*path, "auth_mechanism"), is_key=True, fix=fix)
    if connector.remote_ip_ranges is None:
        message = (
            "Whoever meets this connector is trusted as a server of ours, so it must list who may use it."
        )
        yield Finding("C122", message, path, is_key=True, fix='remote_ip_ranges = ["10.20.0.11"]')


def store_findings(name: str, file: str, tables: Tables) -> Iterator[Finding]:
    """Judge a user store. **Blocking**: looks at its file, an absolute path."""
    path: Path = ("user_store", name)
    first = next(iter(tables.user_stores))
    if name != first:
        message = f"Several user stores are not possible in this version, and there is {first}."
        yield Finding("C109", message, path, is_key=True)
    try:
        exposed = exposure(os.stat(file))
        if exposed:
            yield Finding("C132", f"{file} {exposed}.", (*path, "file"))
        elif not os.access(file, os.R_OK):
            yield Finding("C125", f"{file} may not be read.", (*path, "file"))
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}. `penstock user add` makes it."
        yield Finding("C125", message, (*path, "file"))
