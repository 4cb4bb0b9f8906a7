"""Which receive connectors are in force, and who may do what on them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

from penstock.config import model
from penstock.config.tree import Layer, Node, Path
from penstock.config.validate import Tables
from penstock.route.permissions import Member, PermissionGroup, Right, rights_of

__all__ = ["in_force", "is_profiles_own", "lacks_certificate", "permission_groups"]


def in_force(tree: Node, tables: Tables) -> Iterator[tuple[str, model.ReceiveConnector]]:
    """Yield the receive connectors that are enabled.

    Those of the profile alone wait for what only a configuration can give: ranges, or a certificate.
    """
    for name, connector in tables.receive_connectors.items():
        is_own = is_profiles_own(tree, ("receive_connector", name))
        if connector.enabled and not (is_own and _waits(connector, tables)):
            yield name, connector


def _waits(connector: model.ReceiveConnector, tables: Tables) -> bool:
    """Whether a connector lacks what it cannot do without."""
    return lacks_certificate(connector) or (
        connector.remote_ip_ranges is None
        and Right.ACCEPT_ANY_RECIPIENT
        in rights_of(
            group for name, group in permission_groups(tables).items() if name in connector.permission_groups
        )
    )


def lacks_certificate(connector: model.ReceiveConnector) -> bool:
    """Whether a connector is to speak TLS and has nothing to show."""
    return "tls" in connector.auth_mechanism and not connector.tls_certificate_name


def permission_groups(tables: Tables) -> dict[str, PermissionGroup]:
    """Return the permission groups by name."""
    return {
        name: PermissionGroup(
            name,
            Member(group.members),
            functools.reduce(operator.or_, (Right[right.upper()] for right in group.rights), Right(0)),
        )
        for name, group in tables.permission_groups.items()
    }


def is_profiles_own(tree: Node, path: Path) -> bool:
    """Whether a table is in the profile alone."""
    entry = tree.entry(path)
    return entry is not None and entry.place.source.layer is Layer.PROFILE
