"""The certificates of tests/certificates, put where a daemon finds them."""

from __future__ import annotations

import os
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "certificates"
ROOT = SOURCE / "root.pem"
"""Who vouches for all of them but `alone`."""


def install(
    folder: Path, name: str, *, key: str | None = None, under: str | None = None
) -> tuple[Path, Path]:
    """Put a chain and its key into a folder, each at once, the key readable by its owner alone.

    Args:
        folder: Where to.
        name: Which one: mail, other, renewed, expired, client, alone.
        key: Whose key instead of its own.
        under: What the files are called; else after the certificate.
    """
    chain, private = folder / f"{under or name}.chain.pem", folder / f"{under or name}.key"
    for source, target, mode in (
        (f"{name}.chain.pem", chain, 0o644),
        (f"{key or name}.key", private, 0o600),
    ):
        new = target.with_suffix(".new")
        new.write_bytes((SOURCE / source).read_bytes())
        new.chmod(mode)
        os.replace(new, target)
    return chain, private


def table(name: str, chain: Path, key: Path) -> dict[str, list[str]]:
    """Return the configuration's table of a certificate."""
    return {f"certificate.{name}": [f'chain = "{chain}"', f'key = {{ file = "{key}" }}']}
