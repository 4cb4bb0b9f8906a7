"""What sessions need to know of their connector: one frozen object, shared by all sessions of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from penstock.smtp import replies
from penstock.smtp.extensions import USUAL, Extensions
from penstock.smtp.tables import ServerState

__all__ = ["ClientTerms", "ServerTerms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTerms:
    """What a receive connector offers and asks of its peers; shared by its sessions.

    Attributes:
        fqdn: Our name in banner, EHLO and QUIT.
        max_message_bytes: Announced as SIZE; larger messages are refused.
        max_header_bytes: Octets of the header section.
        max_recipients: Recipients of one message; more get 452 (RFC 5321 4.5.3.1.8, 4.5.3.1.10).
        max_protocol_errors: Commands that may be wrong; the next wrong one ends the session.
        max_hops: Received fields that a message may have (RFC 5321 6.3).
        tarpit_ms: How long each 5yz reply is delayed; 0 for none.
        postmaster: Where mail to the bare `<Postmaster>` goes: its address and domain (RFC 5321 4.5.1).
        extensions: What is offered.
        offers_tls: Whether STARTTLS can be had.
        requires_tls: Whether MAIL is refused before it.
        is_lmtp: Whether LMTP is spoken (RFC 2033), not SMTP.
        is_tls: Whether the connection is in TLS.
        mechanisms: What is offered for authentication (RFC 4954); without any, AUTH is not known.
        auth_requires_tls: Whether it is offered only where the connection is encrypted.
        requires_authentication: Whether mail is taken from nobody else.
        max_logon_failures: The exchange that fails as this one ends the session; 0 for never.
        auth_tarpit_ms: How long the reply to each failed exchange is delayed; 0 for none.
        grants: The command that net may answer by itself with the usual reply, by state; none where TLS is
            required and not there yet.
    """

    fqdn: str
    max_message_bytes: int
    max_header_bytes: int
    max_recipients: int
    max_protocol_errors: int
    max_hops: int
    tarpit_ms: int
    postmaster: tuple[str, str]
    extensions: Extensions = USUAL
    offers_tls: bool = False
    requires_tls: bool = False
    is_lmtp: bool = False
    is_tls: bool = False
    mechanisms: tuple[str, ...] = ()
    auth_requires_tls: bool = False
    requires_authentication: bool = False
    max_logon_failures: int = 3
    auth_tarpit_ms: int = 5_000
    grants: Mapping[ServerState, str] = field(default_factory=dict)
    banner: bytes = field(init=False)
    helo: bytes = field(init=False)
    ehlo: bytes = field(init=False)
    goodbye: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Encode the replies that depend on these terms."""
        put = object.__setattr__
        if self.mechanisms:
            # What is said of others' authentication is taken then, and believed of nobody (RFC 4954 5).
            put(self, "extensions", replace(self.extensions, auth=True))
        if self.requires_tls:
            # MAIL is refused then, so nobody else may answer it.
            put(self, "grants", {})
        put(self, "banner", replies.banner(self.fqdn, "LMTP" if self.is_lmtp else "ESMTP"))
        put(self, "helo", replies.helo(self.fqdn))
        put(self, "ehlo", self.ehlo_at(is_secure=self.is_tls, now_ms=0))
        put(self, "goodbye", replies.goodbye(self.fqdn))

    def ehlo_at(self, *, is_secure: bool, now_ms: int) -> bytes:
        """Return the reply to EHLO where it is not always the same."""
        offers = self.extensions.lines(
            max_message_bytes=self.max_message_bytes,
            max_recipients=self.max_recipients,
            offers_tls=self.offers_tls,
            mechanisms=() if self.auth_requires_tls and not is_secure else self.mechanisms,
            is_secure=is_secure,
            now_ms=now_ms,
        )
        return replies.ehlo(self.fqdn, offers)

    def under_tls(self, grants: Mapping[ServerState, str]) -> ServerTerms:
        """Return what holds once a handshake is finished.

        Args:
            grants: What may be granted then.
        """
        return replace(self, offers_tls=False, requires_tls=False, is_tls=True, grants=grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTerms:
    """How a send connector speaks; shared by its sessions.

    Attributes:
        fqdn: What we call ourselves in EHLO.
        banner_ms: How long to wait for the banner (RFC 5321 4.5.3.2.1).
        reply_ms: How long to wait for the reply to any command but DATA (4.5.3.2.2, 4.5.3.2.3).
        data_ms: How long to wait for the reply to a DATA that is sent alone (4.5.3.2.4).
    """

    fqdn: str
    banner_ms: int = 300_000
    reply_ms: int = 300_000
    data_ms: int = 120_000
    ehlo: bytes = field(init=False)
    helo: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Encode the commands that depend on these terms."""
        object.__setattr__(self, "ehlo", f"EHLO {self.fqdn}\r\n".encode("ascii"))
        object.__setattr__(self, "helo", f"HELO {self.fqdn}\r\n".encode("ascii"))
