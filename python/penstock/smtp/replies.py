"""Every reply that a peer can get from us, with its enhanced status (RFC 3463, RFC 5248).

Nothing that a peer sent is repeated, save the Message-ID of a message that was accepted. Texts are one line
each, those of Exchange where it has one; what does not depend on the installation is encoded once.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BAD_SEQUENCE",
    "CANNOT_VERIFY",
    "CONTENT_BAD_LINE_ENDING",
    "CONTENT_HEADER_TOO_LARGE",
    "CONTENT_TOO_LARGE",
    "CONTENT_TOO_MANY_HOPS",
    "EARLY_TALKER",
    "GREET_FIRST",
    "HELP",
    "INSUFFICIENT_STORAGE",
    "LOCAL_FAILURE",
    "MALFORMED",
    "MALFORMED_PATH",
    "MESSAGE_ID_ECHOED_MAX",
    "MESSAGE_TOO_LARGE",
    "NEED_MAIL",
    "NEED_RECIPIENT",
    "NOOP_OK",
    "NOT_IMPLEMENTED",
    "NO_CONNECTOR",
    "NO_VALID_RECIPIENTS",
    "PARAMETER_BODY",
    "PARAMETER_BODY_NOT_IMPLEMENTED",
    "PARAMETER_SIZE",
    "PARAMETER_UNKNOWN",
    "RECIPIENT_OK",
    "RECIPIENT_UNKNOWN",
    "RESET_OK",
    "ROUTED_ADDRESS",
    "SENDER_DOMAIN_REFUSED",
    "SENDER_NOT_ALLOWED",
    "SENDER_OK",
    "SHUTTING_DOWN",
    "START_CONTENT",
    "START_TLS",
    "SUBMISSION_NOT_ALLOWED",
    "SYSTEM_OVERLOADED",
    "TLS_ACTIVE",
    "TLS_REQUIRED",
    "TOO_MANY_CONNECTIONS",
    "TOO_MANY_CONNECTIONS_FROM_SOURCE",
    "TOO_MANY_ERRORS",
    "TOO_MANY_MESSAGES",
    "TOO_MANY_RECIPIENTS",
    "UNABLE_TO_RELAY",
    "UNRECOGNIZED",
    "banner",
    "ehlo",
    "goodbye",
    "helo",
    "malformed",
    "queued",
]

# Positive.
RESET_OK: Final = b"250 2.0.0 Resetting\r\n"
NOOP_OK: Final = b"250 2.0.0 OK\r\n"
SENDER_OK: Final = b"250 2.1.0 Sender OK\r\n"
RECIPIENT_OK: Final = b"250 2.1.5 Recipient OK\r\n"
CANNOT_VERIFY: Final = b"252 2.0.0 Cannot verify the address; mail to it is taken and tried\r\n"
HELP: Final = b"214 2.0.0 EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see RFC 5321\r\n"
START_TLS: Final = b"220 2.0.0 Ready to start TLS\r\n"
START_CONTENT: Final = b"354 Start mail input; end with <CRLF>.<CRLF>\r\n"

# The command.
UNRECOGNIZED: Final = b"500 5.3.3 Unrecognized command\r\n"
NOT_IMPLEMENTED: Final = b"502 5.5.1 Command not implemented\r\n"
GREET_FIRST: Final = b"503 5.5.1 Send EHLO or HELO first\r\n"
BAD_SEQUENCE: Final = b"503 5.5.1 Bad sequence of commands\r\n"
TLS_ACTIVE: Final = b"503 5.5.1 TLS is active already\r\n"
TLS_REQUIRED: Final = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
NEED_MAIL: Final = b"503 5.5.1 Need MAIL first\r\n"
NEED_RECIPIENT: Final = b"503 5.5.1 Need RCPT first\r\n"
NO_VALID_RECIPIENTS: Final = b"554 5.5.1 No valid recipients\r\n"
EARLY_TALKER: Final = b"554 5.5.0 Commands came before the reply they had to wait for\r\n"
TOO_MANY_ERRORS: Final = b"421 4.7.0 Too many errors on this connection\r\n"

# Parameters of MAIL and RCPT.
PARAMETER_UNKNOWN: Final = b"555 5.5.4 Parameter not recognized or not implemented\r\n"
PARAMETER_SIZE: Final = b"501 5.5.4 Invalid SIZE value\r\n"
PARAMETER_BODY: Final = b"501 5.5.4 Invalid BODY value\r\n"
PARAMETER_BODY_NOT_IMPLEMENTED: Final = b"504 5.5.4 BODY value not implemented\r\n"

# Lines that are no well-formed command, by kind.
MALFORMED: Final = {
    "syntax": b"500 5.5.2 Syntax error\r\n",
    "argument": b"501 5.5.4 Invalid arguments\r\n",
    "path": b"501 5.5.2 Invalid address\r\n",
    "path_too_long": b"501 5.5.2 Address too long\r\n",
    "parameter": b"501 5.5.4 Invalid parameter\r\n",
    "line_too_long": b"500 5.5.2 Line too long\r\n",
    "bare_cr": b"500 5.5.2 Bare CR in a command line\r\n",
    "bare_lf": b"500 5.5.2 Bare LF in a command line\r\n",
    "nul": b"500 5.5.2 NUL in a command line\r\n",
    "not_ascii": b"500 5.5.2 Command line is not US-ASCII\r\n",
}
MALFORMED_PATH: Final = {
    ("MAIL", "path"): b"501 5.1.7 Invalid sender address\r\n",
    ("MAIL", "path_too_long"): b"501 5.1.7 Sender address too long\r\n",
    ("RCPT", "path"): b"501 5.1.3 Invalid recipient address\r\n",
    ("RCPT", "path_too_long"): b"501 5.1.3 Recipient address too long\r\n",
}
"""By verb and kind, where the enhanced status says whose address it is."""

# Policy.
NO_CONNECTOR: Final = b"554 5.7.1 This address may not connect here\r\n"
TOO_MANY_CONNECTIONS: Final = b"421 4.3.2 Too many connections; try again later\r\n"
TOO_MANY_CONNECTIONS_FROM_SOURCE: Final = (
    b"421 4.7.0 Too many connections from your address; try again later\r\n"
)
SUBMISSION_NOT_ALLOWED: Final = b"550 5.7.1 You may not send mail here\r\n"
SENDER_DOMAIN_REFUSED: Final = b"550 5.7.1 Mail from this domain is not taken here\r\n"
SENDER_NOT_ALLOWED: Final = b"550 5.7.60 Client does not have permissions to send as this sender\r\n"
TOO_MANY_MESSAGES: Final = b"450 4.7.28 Message rate exceeded; try again later\r\n"
UNABLE_TO_RELAY: Final = b"550 5.7.54 Unable to relay recipient in non-accepted domain\r\n"
ROUTED_ADDRESS: Final = b"550 5.7.1 Unable to relay\r\n"
RECIPIENT_UNKNOWN: Final = b"550 5.1.1 Recipient not found\r\n"
TOO_MANY_RECIPIENTS: Final = b"452 4.5.3 Too many recipients; send the rest in another transaction\r\n"

# Content and storage.
MESSAGE_TOO_LARGE: Final = b"552 5.3.4 Message size exceeds fixed maximum message size\r\n"
CONTENT_TOO_LARGE: Final = MESSAGE_TOO_LARGE
CONTENT_HEADER_TOO_LARGE: Final = b"552 5.3.4 Header size exceeds fixed maximum header size\r\n"
CONTENT_TOO_MANY_HOPS: Final = b"554 5.4.6 Hop count exceeded; possible mail loop\r\n"
CONTENT_BAD_LINE_ENDING: Final = b"550 5.6.11 Content has a CR or LF that is not part of a CRLF\r\n"
INSUFFICIENT_STORAGE: Final = b"452 4.3.1 Insufficient system resources; try again later\r\n"
LOCAL_FAILURE: Final = b"451 4.3.0 Temporary server error; try again later\r\n"
SYSTEM_OVERLOADED: Final = b"421 4.3.2 System is short of resources; try again later\r\n"
SHUTTING_DOWN: Final = b"421 4.3.2 Service not active; try again later\r\n"

MESSAGE_ID_ECHOED_MAX: Final = 150
"""Octets of a Message-ID that still fit into one reply line with all the rest."""


def malformed(kind: str) -> bytes:
    """Return the reply to a line that is no command."""
    return MALFORMED.get(kind) or MALFORMED["syntax"]


def banner(fqdn: str) -> bytes:
    """Return the greeting of a connection (RFC 5321 4.3.1); it has no enhanced status (RFC 2034 4)."""
    return f"220 {fqdn} ESMTP Penstock\r\n".encode("ascii")


def helo(fqdn: str) -> bytes:
    """Return the reply to HELO."""
    return f"250 {fqdn}\r\n".encode("ascii")


def ehlo(fqdn: str, *, max_message_bytes: int, offers_tls: bool = False) -> bytes:
    """Return the reply to EHLO: our name and what we offer."""
    offers = ["PIPELINING", f"SIZE {max_message_bytes}", "8BITMIME"]
    if offers_tls:
        offers.append("STARTTLS")
    lines = [f"250-{line}\r\n" for line in (fqdn, *offers)]
    return "".join((*lines, "250 ENHANCEDSTATUSCODES\r\n")).encode("ascii")


def goodbye(fqdn: str) -> bytes:
    """Return the reply to QUIT."""
    return f"221 2.0.0 {fqdn} Service closing transmission channel\r\n".encode("ascii")


def queued(message_id: str, queue_id: str, fqdn: str) -> bytes:
    """Return the reply by which responsibility for a message passes to us.

    The Message-ID is left out when it would not fit or is not plain text.
    """
    told = f"[InternalId={queue_id}, Hostname={fqdn}] Queued mail for delivery\r\n"
    if message_id.isascii() and message_id.isprintable() and 0 < len(message_id) <= MESSAGE_ID_ECHOED_MAX:
        return f"250 2.6.0 {message_id} {told}".encode()
    return f"250 2.6.0 {told}".encode()
