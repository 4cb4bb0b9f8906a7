"""Every reply that a peer can get from us, with its enhanced status (RFC 3463, RFC 5248).

Nothing that a peer sent is repeated, save the Message-ID of a message that was accepted. Texts are one line
each, those of Exchange where it has one; what does not depend on the installation is encoded once.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "ALREADY_AUTHENTICATED",
    "ATTRIBUTE",
    "AUTHENTICATED",
    "AUTHENTICATION_FAILED",
    "AUTHENTICATION_REQUIRED",
    "AUTHENTICATION_UNAVAILABLE",
    "AUTH_CANCELLED",
    "BAD_SEQUENCE",
    "CANNOT_VERIFY",
    "CONTENT_BAD_LINE_ENDING",
    "CONTENT_HEADER_TOO_LARGE",
    "CONTENT_NUL",
    "CONTENT_TOO_LARGE",
    "CONTENT_TOO_MANY_HOPS",
    "DELIVER_BY_TOO_SOON",
    "EARLY_TALKER",
    "ENCRYPTION_REQUIRED",
    "GREET_FIRST",
    "GREET_WITH_EHLO",
    "GREET_WITH_LHLO",
    "HELP",
    "INSUFFICIENT_STORAGE",
    "LOCAL_FAILURE",
    "MALFORMED",
    "MALFORMED_OF_VERB",
    "MECHANISM_UNKNOWN",
    "MESSAGE_ID_ECHOED_MAX",
    "MESSAGE_TOO_LARGE",
    "NEED_MAIL",
    "NEED_RECIPIENT",
    "NOOP_OK",
    "NOT_AUTHORIZED",
    "NOT_IMPLEMENTED",
    "NOT_IN_TRANSACTION",
    "NO_CONNECTOR",
    "NO_RECIPIENTS_LMTP",
    "NO_VALID_RECIPIENTS",
    "PARAMETER_BODY",
    "PARAMETER_BODY_NOT_IMPLEMENTED",
    "PARAMETER_PRIORITY",
    "PARAMETER_SIZE",
    "PARAMETER_UNKNOWN",
    "PARAMETER_VALUE",
    "RECIPIENT_DOMAIN_RESERVED",
    "RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL",
    "RECIPIENT_DOMAIN_SINGLE_LABEL",
    "RECIPIENT_OK",
    "RECIPIENT_UNKNOWN",
    "RELEASE_TOO_LATE",
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
    "TOO_MANY_LOGON_FAILURES",
    "TOO_MANY_MESSAGES",
    "TOO_MANY_QUESTIONS",
    "TOO_MANY_RECIPIENTS",
    "UNABLE_TO_RELAY",
    "UNRECOGNIZED",
    "UTF8_NOT_ASKED",
    "banner",
    "chunk_ok",
    "ehlo",
    "goodbye",
    "helo",
    "malformed",
    "malformed_response",
    "queued",
    "without_codes",
]

# Positive.
RESET_OK: Final = b"250 2.0.0 Resetting\r\n"
NOOP_OK: Final = b"250 2.0.0 OK\r\n"
SENDER_OK: Final = b"250 2.1.0 Sender OK\r\n"
RECIPIENT_OK: Final = b"250 2.1.5 Recipient OK\r\n"
CANNOT_VERIFY: Final = b"252 2.0.0 Cannot verify the address; mail to it is taken and tried\r\n"
HELP: Final = b"214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT; see RFC 5321\r\n"
START_TLS: Final = b"220 2.0.0 Ready to start TLS\r\n"
START_CONTENT: Final = b"354 Start mail input; end with <CRLF>.<CRLF>\r\n"

# The command.
UNRECOGNIZED: Final = b"500 5.3.3 Unrecognized command\r\n"
NOT_IMPLEMENTED: Final = b"502 5.5.1 Command not implemented\r\n"
GREET_FIRST: Final = b"503 5.5.1 Send EHLO or HELO first\r\n"
BAD_SEQUENCE: Final = b"503 5.5.1 Bad sequence of commands\r\n"
ATTRIBUTE: Final = b"501 5.5.4 Attribute not known, or its value cannot be read\r\n"
NOT_AUTHORIZED: Final = b"550 5.7.1 Not authorized to speak for this user\r\n"
TLS_ACTIVE: Final = b"503 5.5.1 TLS is active already\r\n"
TLS_REQUIRED: Final = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
NEED_MAIL: Final = b"503 5.5.1 Need MAIL first\r\n"
NEED_RECIPIENT: Final = b"503 5.5.1 Need RCPT first\r\n"
NO_RECIPIENTS_LMTP: Final = b"503 5.5.1 No valid recipients\r\n"
NO_VALID_RECIPIENTS: Final = b"554 5.5.1 No valid recipients\r\n"
EARLY_TALKER: Final = b"554 5.5.0 Commands came before the reply they had to wait for\r\n"
TOO_MANY_ERRORS: Final = b"421 4.7.0 Too many errors on this connection\r\n"

# Parameters of MAIL and RCPT.
PARAMETER_UNKNOWN: Final = b"555 5.5.4 Parameter not recognized or not implemented\r\n"
PARAMETER_SIZE: Final = b"501 5.5.4 Invalid SIZE value\r\n"
PARAMETER_BODY: Final = b"501 5.5.4 Invalid BODY value\r\n"
PARAMETER_BODY_NOT_IMPLEMENTED: Final = b"504 5.5.4 BODY value not implemented\r\n"
PARAMETER_VALUE: Final = b"501 5.5.4 Invalid parameter value\r\n"
PARAMETER_PRIORITY: Final = b"501 5.5.2 Invalid MT-PRIORITY value\r\n"
DELIVER_BY_TOO_SOON: Final = b"501 5.5.4 Delivery cannot be promised so soon\r\n"
RELEASE_TOO_LATE: Final = b"501 5.5.4 Release time is too far in the future\r\n"
UTF8_NOT_ASKED: Final = b"553 5.6.7 Address has UTF-8 and SMTPUTF8 was not said\r\n"

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
    "base64": b"501 5.5.2 Cannot decode the response\r\n",
}
MALFORMED_OF_VERB: Final = {
    ("MAIL", "path"): b"501 5.1.7 Invalid sender address\r\n",
    ("MAIL", "path_too_long"): b"501 5.1.7 Sender address too long\r\n",
    ("RCPT", "path"): b"501 5.1.3 Invalid recipient address\r\n",
    ("RCPT", "path_too_long"): b"501 5.1.3 Recipient address too long\r\n",
    ("AUTH", "line_too_long"): b"500 5.5.6 Authentication exchange line too long\r\n",
}
"""By verb and kind, where that says more: whose address it is, or what the line belongs to."""

# Authentication (RFC 4954 4, 6).
AUTHENTICATED: Final = b"235 2.7.0 Authentication successful\r\n"
AUTHENTICATION_UNAVAILABLE: Final = b"454 4.7.0 Temporary authentication failure\r\n"
TOO_MANY_LOGON_FAILURES: Final = b"421 4.7.0 Too many authentication failures\r\n"
AUTH_CANCELLED: Final = b"501 5.7.0 Authentication cancelled\r\n"
GREET_WITH_LHLO: Final = b"503 5.5.1 Send LHLO first\r\n"
GREET_WITH_EHLO: Final = b"503 5.5.1 Send EHLO first\r\n"
ALREADY_AUTHENTICATED: Final = b"503 5.5.1 Already authenticated\r\n"
NOT_IN_TRANSACTION: Final = b"503 5.5.1 Not during a mail transaction\r\n"
MECHANISM_UNKNOWN: Final = b"504 5.5.4 Unrecognized authentication type\r\n"
AUTHENTICATION_REQUIRED: Final = b"530 5.7.0 Authentication required\r\n"
AUTHENTICATION_FAILED: Final = b"535 5.7.8 Authentication credentials invalid\r\n"
ENCRYPTION_REQUIRED: Final = b"538 5.7.11 Encryption required for requested authentication mechanism\r\n"

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
RECIPIENT_DOMAIN_RESERVED_TOP_LEVEL: Final = b"550 5.1.4 Recipient address reserved by RFC 2606\r\n"
RECIPIENT_DOMAIN_RESERVED: Final = b"550 5.1.5 Recipient address reserved by RFC 2606\r\n"
RECIPIENT_DOMAIN_SINGLE_LABEL: Final = (
    b"550 5.1.6 Recipient addresses in single label domains not accepted\r\n"
)
TOO_MANY_RECIPIENTS: Final = b"452 4.5.3 Too many recipients; send the rest in another transaction\r\n"

# Content and storage.
MESSAGE_TOO_LARGE: Final = b"552 5.3.4 Message size exceeds fixed maximum message size\r\n"
CONTENT_TOO_LARGE: Final = MESSAGE_TOO_LARGE
CONTENT_HEADER_TOO_LARGE: Final = b"552 5.3.4 Header size exceeds fixed maximum header size\r\n"
CONTENT_TOO_MANY_HOPS: Final = b"554 5.4.6 Hop count exceeded; possible mail loop\r\n"
CONTENT_NUL: Final = b"550 5.6.0 Content has a NUL\r\n"
CONTENT_BAD_LINE_ENDING: Final = b"550 5.6.11 Content has a CR or LF that is not part of a CRLF\r\n"
INSUFFICIENT_STORAGE: Final = b"452 4.3.1 Insufficient system resources; try again later\r\n"
LOCAL_FAILURE: Final = b"451 4.3.0 Temporary server error; try again later\r\n"
SYSTEM_OVERLOADED: Final = b"421 4.3.2 System is short of resources; try again later\r\n"
TOO_MANY_QUESTIONS: Final = b"451 4.3.2 Server is busy; try again later\r\n"
SHUTTING_DOWN: Final = b"421 4.3.2 Service not active; try again later\r\n"

_CODE: Final = re.compile(rb"^([2-5][0-9][0-9][ -])[245]\.[0-9]{1,3}\.[0-9]{1,3} ", re.MULTILINE)

MESSAGE_ID_ECHOED_MAX: Final = 150
"""Octets of a Message-ID that still fit into one reply line with all the rest."""


def malformed(kind: str) -> bytes:
    """Return the reply to a line that is no command."""
    return MALFORMED.get(kind) or MALFORMED["syntax"]


def malformed_response(kind: str) -> bytes:
    """Return the reply to a line of an authentication exchange that cannot be read."""
    return MALFORMED_OF_VERB.get(("AUTH", kind)) or malformed(kind)


def banner(fqdn: str, protocol: str = "ESMTP") -> bytes:
    """Return the greeting of a connection (RFC 5321 4.3.1); it has no enhanced status (RFC 2034 4)."""
    return f"220 {fqdn} {protocol} Penstock\r\n".encode("ascii")


def helo(fqdn: str) -> bytes:
    """Return the reply to HELO."""
    return f"250 {fqdn}\r\n".encode("ascii")


def ehlo(fqdn: str, offers: tuple[str, ...]) -> bytes:
    """Return the reply to EHLO: our name and what we offer."""
    *lines, last = (fqdn, *offers)
    return "".join((*(f"250-{line}\r\n" for line in lines), f"250 {last}\r\n")).encode("ascii")


def chunk_ok(octets: int) -> bytes:
    """Return the reply to a BDAT that is not the last (RFC 3030 2)."""
    return b"250 2.0.0 %d octets received\r\n" % octets


def without_codes(said: bytes) -> bytes:
    r"""Return replies without their enhanced status codes, for peers that are not offered any (RFC 2034 4).

    >>> without_codes(SENDER_OK + START_CONTENT + RECIPIENT_UNKNOWN)
    b'250 Sender OK\r\n354 Start mail input; end with <CRLF>.<CRLF>\r\n550 Recipient not found\r\n'
    """
    return _CODE.sub(rb"\1", said)


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
