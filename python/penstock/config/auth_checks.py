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

__all__ = ["Finding", "connector_findings", "store_findings"]

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
