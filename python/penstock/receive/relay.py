"""Who may send to whom. Never an open relay.

A peer reaches the accepted domains. It reaches other domains only through a connector of usage relay, and
such a connector has only peers in the ranges that its operator has listed (`connectors`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from penstock.receive.recipients import RecipientsFile, plain_address
from penstock.receive.settings import NO_HYGIENE, AcceptedDomainSettings, AddressHygiene
from penstock.receive.storage import Storage
from penstock.smtp import replies

__all__ = ["AcceptedDomains", "RelayPolicy"]

ROUTING_CHARACTERS: Final = frozenset("%!@")
"""What asks a server behind us to send the message on: `user%other@ours`, `other!user@ours`."""

RESERVED_TOP_LEVEL: Final = frozenset(("example", "invalid", "localhost", "test"))
"""RFC 2606 2."""
RESERVED_UNDER: Final = frozenset(("com", "net", "org"))
"""Where `example` is reserved (RFC 2606 3)."""


class _AcceptedDomain(NamedTuple):
    is_authoritative: bool
    recipients: RecipientsFile | None


class AcceptedDomains:
    """The accepted domains with their recipients."""

    def __init__(self, domains: Iterable[AcceptedDomainSettings]) -> None:
        """Read the recipients' files.

        Raises:
            OSError: One of them cannot be read.
        """
        self._files: dict[str, RecipientsFile] = {}
        self._exact: dict[str, _AcceptedDomain] = {}
        self._parents: dict[str, _AcceptedDomain] = {}
        for domain in domains:
            recipients = None
            if domain.recipients is not None:
                recipients = self._files.get(domain.recipients)
                if recipients is None:
                    recipients = self._files[domain.recipients] = RecipientsFile(domain.recipients)
            accepted = _AcceptedDomain(domain.type == "authoritative", recipients)
            self._exact[domain.name] = accepted
            if domain.match_sub_domains:
                self._parents[domain.name] = accepted

    def find(self, domain: str) -> _AcceptedDomain | None:
        """Return the accepted domain that a domain (in lower case) belongs to, the closest one, if any."""
        found = self._exact.get(domain)
        if found is not None or not self._parents:
            return found
        _, dot, parent = domain.partition(".")
        while dot:
            found = self._parents.get(parent)
            if found is not None:
                return found
            _, dot, parent = parent.partition(".")
        return None

    def refresh(self) -> None:
        """Look whether recipients' files have changed. **Blocking**: on those files."""
        for file in self._files.values():
            file.refresh()

    def problems(self) -> list[str]:
        """Return what keeps recipients' files from being read, if anything."""
        return [file.problem for file in self._files.values() if file.problem]


class RelayPolicy:
    """What the peers of one connector may do; the `Policy` of their sessions."""

    __slots__ = ("_domains", "_hygiene", "_may_relay", "_storage")

    def __init__(
        self,
        domains: AcceptedDomains,
        storage: Storage,
        *,
        may_relay: bool,
        hygiene: AddressHygiene = NO_HYGIENE,
    ) -> None:
        """Join what decides."""
        self._hygiene = None if hygiene == NO_HYGIENE else hygiene
        self._domains = domains
        self._storage = storage
        self._may_relay = may_relay

    def sender(self, _address: str, _domain: str, /) -> bytes | None:
        """Any sender may begin, unless there is no room for what would follow."""
        return self._storage.refusal

    def recipient(self, address: str, domain: str, /) -> bytes | None:
        """Judge a recipient by its domain, then by its address.

        MAIL may have been answered ahead of what is known now, so whether there is room is asked here too.
        """
        if self._storage.refusal is not None:
            return self._storage.refusal
        if self._hygiene is not None:
            refusal = _unclean(domain, self._hygiene)
            if refusal is not None:
                return refusal
        accepted = self._domains.find(domain)
        if accepted is None:
            return None if self._may_relay else replies.UNABLE_TO_RELAY
        recipients = accepted.recipients
        local_part = _local_part(address)
        if recipients is not None and address not in recipients and local_part != "postmaster":
            return replies.RECIPIENT_UNKNOWN
        if accepted.is_authoritative or self._may_relay or ROUTING_CHARACTERS.isdisjoint(local_part):
            return None
        # That its whole domain is listed says nothing about where it asks to be sent on to.
        is_named = recipients is not None and recipients.names(address)
        return None if is_named else replies.ROUTED_ADDRESS


def _unclean(domain: str, hygiene: AddressHygiene) -> bytes | None:
    """Refuse a domain (in lower case) that nobody can have; an address literal is none."""
    if domain.startswith("["):
        return None
    rest, has_dot, top = domain.rpartition(".")
    if hygiene.reserved_top_level and top in RESERVED_TOP_LEVEL:
        return replies.RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL
    if hygiene.reserved_second_level and top in RESERVED_UNDER and rest.rpartition(".")[2] == "example":
        return replies.RECIPIENT_DOMAIN_RESERVED
    if hygiene.single_label and not has_dot:
        return replies.RECIPIENT_DOMAIN_SINGLE_LABEL
    return None


def _local_part(address: str) -> str:
    return plain_address(address).rpartition("@")[0]
