"""Penstock: a durable, high-throughput SMTP queue engine.

`open_engine` runs one inside a Trio program; the daemon is `penstock serve`. Everything public is named here,
and nothing of it is loaded before it is used, so that a command of the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from penstock.client import Client
    from penstock.engine import Engine, open_engine
    from penstock.envelope import Envelope, QueueId, Receipt, Recipient
    from penstock.spool import open_spool

__all__ = [
    "Client",
    "Engine",
    "Envelope",
    "QueueId",
    "Receipt",
    "Recipient",
    "errors",
    "open_engine",
    "open_spool",
    "queries",
]

_HOMES: Final = {
    "Client": "penstock.client",
    "Engine": "penstock.engine",
    "Envelope": "penstock.envelope",
    "QueueId": "penstock.envelope",
    "Receipt": "penstock.envelope",
    "Recipient": "penstock.envelope",
    "open_engine": "penstock.engine",
    "open_spool": "penstock.spool",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562)."""
    from importlib import import_module

    if name in ("errors", "queries"):
        return import_module(f"penstock.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
