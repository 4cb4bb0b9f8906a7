"""The trace header that a message gets on its way in (RFC 5321 4.4, RFC 3848)."""

from __future__ import annotations

from collections.abc import Mapping
from time import gmtime
from typing import Final

__all__ = ["ReceivedField", "address_literal", "forwarded_comment", "tls_comment"]

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def date_time(now_s: int) -> str:
    """Return a time as header fields have it, in UTC (RFC 5322 3.3).

    >>> date_time(1_763_951_400)
    'Mon, 24 Nov 2025 02:30:00 +0000'
    """
    t = gmtime(now_s)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
    )


def address_literal(ip: str) -> str:
    """Return an IP address as SMTP writes it (RFC 5321 4.1.3)."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def tls_comment(version: str, cipher: str) -> str:
    r"""Return what is said of TLS behind the peer's address, on a line of its own.

    >>> tls_comment("1.3", "TLS_AES_256_GCM_SHA384")
    '\r\n\t(version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384)'
    """
    return f"\r\n\t(version=TLS{version.replace('.', '_')} cipher={cipher})"


def forwarded_comment(told: Mapping[str, str]) -> str:
    r"""Return what XFORWARD has said of a message, an attribute a line: each can be 255 octets long.

    >>> forwarded_comment({"ADDR": "192.0.2.7", "HELO": ""})
    '\r\n\t(XFORWARD\r\n\tADDR=192.0.2.7\r\n\tHELO=unknown)'
    """
    lines = (f"{name}={value or 'unknown'}" for name, value in told.items())
    text = "\r\n\t".join(("XFORWARD", *lines))
    return f"\r\n\t({text})"


class ReceivedField:
    """Makes Received fields; remembers the current second's date.

    Every line but the first begins with a tab, so none begins with a dot and the field needs no stuffing.
    What the peer called itself is one word by the grammar of EHLO, of at most 255 octets; no line comes
    near 998.
    """

    __slots__ = ("_date", "_second")

    def __init__(self) -> None:
        """Begin with no date."""
        self._second = -1
        self._date = ""

    def make(
        self,
        *,
        greeting: str,
        peer: str,
        fqdn: str,
        protocol: str,
        queue_id: str,
        recipient: str,
        now_ms: int,
        tls: str = "",
    ) -> bytes:
        """Return the field with its CRLF.

        Args:
            greeting: What the peer called itself.
            peer: Its address literal.
            fqdn: What we call ourselves.
            protocol: UTF8SMTPS, UTF8SMTP, ESMTPS, ESMTP or SMTP.
            queue_id: The message's.
            recipient: Its only recipient; empty if there are several, who must not learn of each other.
            now_ms: When it was received, Unix milliseconds.
            tls: What `tls_comment` and `forwarded_comment` returned; empty without TLS and XFORWARD.
        """
        second = now_ms // 1000
        if second != self._second:
            self._second = second
            self._date = date_time(second)
        whom = f" for <{recipient}>" if recipient else ""
        return (
            f"Received: from {greeting} ({peer}){tls}\r\n\tby {fqdn} with {protocol} id {queue_id}{whom};\r\n"
            f"\t{self._date}\r\n"
        ).encode("utf-8", "replace")

    def missing(
        self, message_id: str, *, has_date: bool, has_message_id: bool, queue_id: str, fqdn: str
    ) -> tuple[bytes, str]:
        """Return the fields that a submission lacks (RFC 6409 8.2, 8.3), and the Message-ID that it then has.

        The date is that of the Received field that was made last, behind which they stand. The Message-ID is
        unique as the queue id is, which tells the time, among all messages of this server.
        """
        fields = b"" if has_date else f"Date: {self._date}\r\n".encode()
        if not has_message_id:
            message_id = f"<{queue_id}@{fqdn}>"
            fields += f"Message-ID: {message_id}\r\n".encode()
        return fields, message_id
