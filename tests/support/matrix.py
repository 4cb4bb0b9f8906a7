"""Our own server with everything that it can offer, as the conformance matrix asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from penstock.receive.passwords import hashed
from penstock.receive.user_edits import change
from penstock.receive.users import User
from tests.support import certificates
from tests.support.daemon import Settings

USER: Final = ("tim", "open sesame")
RECIPIENT: Final = "you@penstock.test"

_OFF_BY_DEFAULT: Final = (
    "binary_mime_enabled",
    "delivery_status_notification_enabled",
    "smtp_utf8_enabled",
    "mt_priority_enabled",
    "deliver_by_enabled",
    "future_release_enabled",
    "require_tls_extension_enabled",
)


def everything(folder: Path, sink_port: int) -> Settings:
    """Return settings of a daemon that offers all it knows; the files that they name are in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users"
    name, password = USER
    change(users, name, lambda _: User(name=name, stored=hashed(password)))
    return Settings(
        smart_host_port=sink_port,
        recipients=(RECIPIENT, "postmaster@penstock.test"),
        extra={
            "receive_connector.apps": [
                'tarpit_interval = "0s"',
                'auth_tarpit_interval = "0s"',
                'tls_certificate_name = "mail"',
                'auth_mechanism = ["tls", "basic_auth", "basic_auth_require_tls"]',
                'permission_groups = ["relay_clients", "authenticated_users"]',
                *(f"{key} = true" for key in _OFF_BY_DEFAULT),
            ],
            "user_store.local": [f'file = "{users}"'],
            **certificates.table("mail", *certificates.install(folder, "mail")),
        },
    )
