"""Who may send what to whom. Never an open relay.

A peer reaches the accepted domains. It reaches other domains only with the right to send to any recipient.
Without authentication only connectors give it whose peers are in ranges that their operator has listed
(`connectors`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from penstock.receive.rates import MessageRates
from penstock.receive.recipients import RecipientsFile, plain_address
from penstock.receive.settings import NO_HYGIENE, AcceptedDomainSettings, AddressHygiene
from penstock.receive.storage import Storage
from penstock.route.permissions import Right
from penstock.smtp import replies

__all__ = ["AcceptedDomains", "Identity", "RelayPolicy", "SenderDomains"]

ROUTING_CHARACTERS: Final = frozenset("%!@")
"""What asks a server behind us to send the message on: `user%other@ours`, `other!user@ours`."""

RESERVED_TOP_LEVEL: Final = frozenset(("example", "invalid", "localhost", "test"))
"""RFC 2606 2."""
RESERVED_UNDER: Final = frozenset(("com", "net", "org"))
"""Where `example` is reserved (RFC 2606 3)."""


FREE_TO_SEND: Final = Right.SUBMIT | Right.ACCEPT_ANY_SENDER | Right.ACCEPT_AUTHORITATIVE_DOMAIN_SENDER
"""The rights with which a sender address is not looked at."""


class Identity(NamedTuple):
    """Who a peer is.

    Attributes:
        login: The name with which it has authenticated, or empty.
        is_server: Whether it is trusted as a server of ours.
        rate_key: Under what its messages are counted.
    """

    login: str = ""
    is_server: bool = False
    rate_key: str = ""


ANYBODY: Final = Identity()


class SenderDomains:
    """Domains that senders may have: each one itself, or with `*.` before it all that are below it."""

    __slots__ = ("_domains", "_parents")

    def __init__(self, domains: Iterable[str]) -> None:
        """Take the domains, in lower case."""
        domains = tuple(domains)
        self._domains = frozenset(domain for domain in domains if not domain.startswith("*."))
        self._parents = tuple(domain[1:] for domain in domains if domain.startswith("*."))

    def covers(self, domain: str) -> bool:
        """Whether a domain, in lower case, is one of them."""
        return domain in self._domains or domain.endswith(self._parents)


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
        """Return what keeps recipients' files or lines of them from being read, if anything."""
        return [
            problem for file in self._files.values() for problem in (file.problem, *file.lines) if problem
        ]


class RelayPolicy:
    """What sessions with certain rights may do; their `Policy`.

    One object serves all sessions of a connector that are alike. A session that has a name of its own, or
    whose messages are counted, has one for itself (`with_identity`).
    """

    __slots__ = (
        *("_checks_senders", "_domains", "_hygiene", "_identity", "_may_relay", "_rates", "_room"),
        *("_storage", "rights", "sender_domains"),
    )

    def __init__(
        self,
        domains: AcceptedDomains,
        storage: Storage,
        *,
        rights: Right,
        sender_domains: SenderDomains | None = None,
        rates: MessageRates | None = None,
        identity: Identity = ANYBODY,
        hygiene: AddressHygiene = NO_HYGIENE,
    ) -> None:
        """Join what decides.

        Args:
            domains: Those that are ours.
            storage: Whether there is room.
            rights: What the sessions may do.
            sender_domains: The only domains that senders may have; None for any.
            rates: Counts messages; `identity` says for whom.
            identity: Who the peer is.
            hygiene: Domains that cannot be meant.
        """
        self._hygiene = None if hygiene == NO_HYGIENE else hygiene
        self._domains = domains
        self._storage = storage
        self._room = storage.servers if identity.is_server else storage.others
        self.rights = rights
        self.sender_domains = sender_domains
        self._rates = rates
        self._identity = identity
        self._may_relay = Right.ACCEPT_ANY_RECIPIENT in rights
        self._checks_senders = sender_domains is not None or rates is not None or FREE_TO_SEND not in rights

    @property
    def is_plain(self) -> bool:
        """Whether MAIL is refused for want of room alone, so that its answer can be given ahead."""
        return not self._checks_senders

    def with_identity(self, identity: Identity, rights: Right) -> RelayPolicy:
        """Return the policy of a session whose peer is known."""
        return RelayPolicy(
            self._domains,
            self._storage,
            rights=rights,
            sender_domains=self.sender_domains,
            rates=self._rates,
            identity=identity,
            hygiene=self._hygiene or NO_HYGIENE,
        )

    def sender(self, address: str, domain: str, /) -> bytes | None:
        """Judge a sender, unless there is no room for what would follow."""
        if self._room.refusal is not None or not self._checks_senders:
            return self._room.refusal
        if Right.SUBMIT not in self.rights:
            return replies.SUBMISSION_NOT_ALLOWED
        if address:
            refusal = self._sender(address, domain)
            if refusal is not None:
                return refusal
        if self._rates is not None and not self._rates.take(self._identity.rate_key):
            return replies.TOO_MANY_MESSAGES
        return None

    def _sender(self, address: str, domain: str) -> bytes | None:
        if self.sender_domains is not None and not self.sender_domains.covers(domain):
            return replies.SENDER_DOMAIN_REFUSED
        if FREE_TO_SEND in self.rights or self._is_own(address, domain):
            return None
        accepted = self._domains.find(domain)
        is_ours = accepted is not None and accepted.is_authoritative
        needed = Right.ACCEPT_AUTHORITATIVE_DOMAIN_SENDER if is_ours else Right.ACCEPT_ANY_SENDER
        return None if needed in self.rights else replies.SENDER_NOT_ALLOWED

    def _is_own(self, address: str, domain: str) -> bool:
        """Whether the address is that of the user: the login, or the login in one of our domains."""
        login = self._identity.login
        if not login:
            return False
        address = plain_address(address)
        if "@" in login:
            return address == plain_address(login)
        return address.rpartition("@")[0] == login.lower() and self._domains.find(domain) is not None

    def recipient(self, address: str, domain: str, /) -> bytes | None:
        """Judge a recipient by its domain, then by its address.

        MAIL may have been answered ahead of what is known now, so whether there is room is asked here too.
        """
        if self._room.refusal is not None:
            return self._room.refusal
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

    def postmaster(self, _address: str, _domain: str, /) -> None:
        """Have nothing against mail to the bare `<Postmaster>`."""


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
