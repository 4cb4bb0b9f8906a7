"""Penstock: a durable, high-throughput SMTP queue engine.

`open_engine` runs one inside a Trio program; the daemon is `penstock serve`. Everything public is named here,
and nothing of it is loaded before it is used, so that a command of the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from penstock.client import Client
    from penstock.engine import Engine, open_engine
    from penstock.envelope import Envelope, QueueId, Receipt, Recipient, Reply
    from penstock.hook_views import ClientCertificate, ContentView, HeaderView, SessionView
    from penstock.hooks import Accept, ReceiveHooks, Redirect, Reject, Tarpit, Verdict
    from penstock.spool import open_spool

__all__ = [
    "Accept",
    "Client",
    "ClientCertificate",
    "ContentView",
    "Engine",
    "Envelope",
    "HeaderView",
    "QueueId",
    "Receipt",
    "ReceiveHooks",
    "Recipient",
    "Redirect",
    "Reject",
    "Reply",
    "SessionView",
    "Tarpit",
    "Verdict",
    "errors",
    "open_engine",
    "open_spool",
    "queries",
]

_HOMES: Final = {
    "Accept": "penstock.hooks",
    "Client": "penstock.client",
    "ClientCertificate": "penstock.hook_views",
    "ContentView": "penstock.hook_views",
    "Engine": "penstock.engine",
    "Envelope": "penstock.envelope",
    "HeaderView": "penstock.hook_views",
    "QueueId": "penstock.envelope",
    "Receipt": "penstock.envelope",
    "ReceiveHooks": "penstock.hooks",
    "Recipient": "penstock.envelope",
    "Redirect": "penstock.hooks",
    "Reject": "penstock.hooks",
    "Reply": "penstock.envelope",
    "SessionView": "penstock.hook_views",
    "Tarpit": "penstock.hooks",
    "Verdict": "penstock.hooks",
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
