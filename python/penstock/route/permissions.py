"""What peers may do: rights, the groups that have them, and who belongs to a group.

Names and meanings are those of Exchange's receive connectors (the extended rights that are granted to a
permission group). A group's rights are data: the built-in ones are in the profile, and an operator can have
others. A session has the rights of all groups of its connector that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, StrEnum, auto

__all__ = ["Member", "PermissionGroup", "Right", "rights_of"]


class Right(Flag):
    """What a session may do."""

    SUBMIT = auto()
    """Hand in mail at all (ms-Exch-SMTP-Submit)."""
    ACCEPT_ANY_SENDER = auto()
    """Use any sender address, not only its own (ms-Exch-SMTP-Accept-Any-Sender)."""
    ACCEPT_AUTHORITATIVE_DOMAIN_SENDER = auto()
    """Use sender addresses of our authoritative domains (…-Accept-Authoritative-Domain-Sender)."""
    ACCEPT_ANY_RECIPIENT = auto()
    """Send to domains that are not ours (ms-Exch-SMTP-Accept-Any-Recipient)."""
    BYPASS_MESSAGE_SIZE_LIMIT = auto()
    """Send messages larger than the connector's limit (ms-Exch-Bypass-Message-Size-Limit)."""

    @property
    def word(self) -> str:
        """Its name in a configuration; of a single right only."""
        return (self.name or "").lower()


class Member(StrEnum):
    """Who belongs to a group."""

    ANONYMOUS = "anonymous"
    """Everybody, whether or not they have authenticated."""
    USERS = "users"
    """Who has authenticated with a name and a password."""
    SERVERS = "servers"
    """Servers that are trusted as our own."""


@dataclass(frozen=True, slots=True)
class PermissionGroup:
    """A group.

    Attributes:
        name: Its name.
        members: Who belongs to it.
        rights: What its members may do.
    """

    name: str
    members: Member
    rights: Right


def rights_of(groups: Iterable[PermissionGroup], *, is_user: bool = False, is_server: bool = False) -> Right:
    """Return the rights of a session.

    Args:
        groups: Those of its connector.
        is_user: Whether it has authenticated as a user.
        is_server: Whether it is trusted as a server of ours.
    """
    belongs = {Member.ANONYMOUS: True, Member.USERS: is_user, Member.SERVERS: is_server}
    rights = Right(0)
    for group in groups:
        if belongs[group.members]:
            rights |= group.rights
    return rights
