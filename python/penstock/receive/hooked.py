"""What hooks have said of a session: the policy that asks them, and what their verdicts leave behind.

A `Hooked` stands between a session and the policy of its connector. What that allows and a hook wants to see
is answered with nothing, so that the session stops there. When the verdict is known the command is said
again, and this time the answer is `decision`. So a session knows nothing of hooks, and what it has not
accepted need not be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.hooks import ADDED_OCTETS_MAX, ClientCertificate

if TYPE_CHECKING:
    from penstock.receive.asking import Hooks
    from penstock.receive.entries import HopKey
    from penstock.smtp.policy import Policy

__all__ = ["Decision", "Hooked", "certificate_of"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What all hooks together have said to a question.

    Attributes:
        refusal: The reply that refuses; None to accept.
        delay_ms: How long the answer is held back.
        fields: Header fields that are added.
        hop: Where the recipient's mail goes; None for where routing sends it.
    """

    refusal: bytes | None = None
    delay_ms: int = 0
    fields: bytes = b""
    hop: HopKey | None = None


class Hooked:
    """A session's policy, hooks included.

    Attributes:
        hooks: Who asks them.
        certificate: What the client has shown in its handshake.
        tls: Version and cipher, or None for both.
        question: What was asked last: address and domain.
        decision: What is to be answered to it; None to ask.
        draft: The draft of a content that waits for a verdict.
        is_before_handshake: Whether a question is open on which a handshake waits.
    """

    __slots__ = (
        *("_added", "_connected", "_login", "_of", "_policy", "_redirected", "_said", "_sender"),
        *("certificate", "decision", "draft", "hooks", "is_before_handshake", "question", "tls"),
    )

    def __init__(self, hooks: Hooks) -> None:
        """Begin with nothing said."""
        self.hooks = hooks
        self.certificate: ClientCertificate | None = None
        self.tls: tuple[str | None, str | None] = None, None
        self.question = ("", "")
        self.decision: Decision | None = None
        self.draft: int | None = None
        self.is_before_handshake = False
        self._policy: Policy | None = None
        # Fields for every message, and those of the running transaction by recipient.
        self._connected = b""
        self._login = b""
        self._sender = b""
        self._said: dict[str, bytes] = {}
        self._redirected: dict[str, HopKey] = {}
        self._added = 0
        # The session's recipients: a mapping of its own for each transaction.
        self._of: Mapping[str, str] = {}

    def over(self, policy: Policy) -> Hooked:
        """Stand before a policy from now on; return the whole."""
        self._policy = policy
        return self

    def secured(self, version: str, cipher: str, certificate: ClientCertificate | None) -> None:
        """Take note of a handshake, and forget the login: it was that of the connection in plain text."""
        self.tls = version, cipher
        self.certificate = certificate
        self._login = b""

    def begin_anew(self) -> None:
        """Forget what was said of whoever has spoken for another; TLS is with him still."""
        self.decision = None
        self._connected = self._login = self._sender = b""
        self._of = {}

    # The policy.

    def sender(self, address: str, domain: str, /) -> bytes | None:
        """Judge a reverse-path."""
        if self._is_decided(address, domain):
            return self._answer()
        self._sender = b""
        refusal = self._judge.sender(address, domain)
        if refusal is None and self.hooks.asks("on_mail"):
            return self._ask(address, domain)
        return refusal

    def recipient(self, address: str, domain: str, /) -> bytes | None:
        """Judge a forward-path."""
        if self._is_decided(address, domain):
            return self._answer()
        refusal = self._judge.recipient(address, domain)
        if refusal is None and self.hooks.asks("on_rcpt_to"):
            return self._ask(address, domain)
        return refusal

    def postmaster(self, address: str, domain: str, /) -> bytes | None:
        """Judge the bare postmaster."""
        if self._is_decided(address, domain):
            return self._answer()
        refusal = self._judge.postmaster(address, domain)
        if refusal is None and self.hooks.asks("on_rcpt_to"):
            return self._ask(address, domain)
        return refusal

    @property
    def _judge(self) -> Policy:
        if self._policy is None:
            raise AssertionError("invariant: a session has a policy")
        return self._policy

    def _is_decided(self, address: str, domain: str) -> bool:
        """Whether this is what was asked about; a decision on anything else counts for nothing."""
        return self.decision is not None and self.question == (address, domain)

    def _ask(self, address: str, domain: str) -> bytes:
        self.question = (address, domain)
        return b""

    def _answer(self) -> bytes | None:
        if self.decision is None:
            raise AssertionError("invariant: there is a decision")
        refusal = self.decision.refusal
        self.decision = None
        return refusal

    # What was accepted.

    def room(self, recipients: Mapping[str, str]) -> int:
        """Return how many octets of fields can still be added to the running transaction."""
        self._look(recipients)
        return ADDED_OCTETS_MAX - self._added - self._standing

    def connected(self, decision: Decision) -> None:
        """Keep what `on_connect` has added."""
        self._connected = decision.fields

    def logged_in(self, decision: Decision) -> None:
        """Keep what `on_auth` has added."""
        self._login = decision.fields

    def took_sender(self, decision: Decision) -> None:
        """Keep what `on_mail` has added."""
        self._sender = decision.fields

    def took_recipient(self, address: str, decision: Decision, recipients: Mapping[str, str]) -> None:
        """Keep what `on_rcpt_to` has said of a recipient; said again, it counts anew."""
        self._look(recipients)
        self._added -= len(self._said.pop(address, b""))
        if decision.fields:
            self._said[address] = decision.fields
            self._added += len(decision.fields)
        self._redirected.pop(address, None)
        if decision.hop is not None:
            self._redirected[address] = decision.hop

    def fields(self, recipients: Mapping[str, str]) -> bytes:
        """Return the fields of the running transaction's message, in the order in which they were said."""
        self._look(recipients)
        said = [self._said[address] for address in recipients if address in self._said]
        return b"".join((self._connected, self._login, self._sender, *said))

    def redirected(self, recipients: Mapping[str, str]) -> Mapping[str, HopKey]:
        """Return the next hops that were said, by recipient."""
        self._look(recipients)
        return self._redirected

    @property
    def _standing(self) -> int:
        return len(self._connected) + len(self._login) + len(self._sender)

    def _look(self, recipients: Mapping[str, str]) -> None:
        """Forget what belongs to another transaction."""
        if recipients is not self._of:
            self._of = recipients
            self._said = {}
            self._redirected = {}
            self._added = 0


def certificate_of(shown: tuple[Any, ...] | None) -> ClientCertificate | None:
    """Return what a `tls_up` event has of a client's certificate."""
    if shown is None:
        return None
    (subject, issuer, dns_names, not_before_s, not_after_s), fingerprint = shown
    return ClientCertificate(
        subject=subject,
        issuer=issuer,
        dns_names=tuple(dns_names),
        not_before_s=not_before_s,
        not_after_s=not_after_s,
        fingerprint=fingerprint,
    )
