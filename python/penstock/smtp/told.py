"""What XCLIENT and XFORWARD say of somebody else (Postfix, XCLIENT_README and XFORWARD_README).

Values come as xtext; those of old senders, which are not encoded, read the same unless there is a plus in
them. What is said ends up in header fields and journals, so that each attribute has a form of its own, and
what has another form is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from penstock.smtp.parameters import Params, decode_xtext

__all__ = ["XCLIENT", "XFORWARD", "Told", "read_xclient", "read_xforward", "spelled"]

Told: TypeAlias = dict[str, str]
"""Attribute to value; an empty one is not available."""

NAME_MAX: Final = 255
PROTOCOL_MAX: Final = 64
PORT_MAX: Final = 65_535

_UNAVAILABLE: Final = frozenset(("[UNAVAILABLE]", "[TEMPUNAVAIL]"))
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?", re.ASCII)
# As EHLO takes it; also what may stand in a comment of a header field.
_WORD: Final = re.compile(r"[!#-'*+\-./0-:=?-\[\]-~]+", re.ASCII)
_PROTOCOL: Final = re.compile(r"[A-Za-z0-9._/-]+", re.ASCII)


def _host(text: str) -> str | None:
    return text if len(text) <= NAME_MAX and _HOST.fullmatch(text) else None


def _word(text: str) -> str | None:
    return text if len(text) <= NAME_MAX and _WORD.fullmatch(text) else None


def _address(text: str) -> str | None:
    """Return an address as everywhere else: an IPv4 address in IPv6's clothes is one of IPv4."""
    is_six = text[:5].upper() == "IPV6:"
    try:
        if not is_six:
            return str(IPv4Address(text))
        six = IPv6Address(text[5:])
    except ValueError:
        return None
    if six.scope_id is not None:
        return None
    return str(six.ipv4_mapped or six)


def _port(text: str) -> str | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= 5
    return text if is_number and int(text) <= PORT_MAX else None


def _smtp_or_esmtp(text: str) -> str | None:
    return text.upper() if text.upper() in ("SMTP", "ESMTP") else None


def _protocol(text: str) -> str | None:
    return text if len(text) <= PROTOCOL_MAX and _PROTOCOL.fullmatch(text) else None


def _source(text: str) -> str | None:
    return text.upper() if text.upper() in ("LOCAL", "REMOTE") else None


_Reader: TypeAlias = Callable[[str], "str | None"]
XCLIENT: Final[Mapping[str, _Reader]] = {
    "NAME": _host,
    "ADDR": _address,
    "PORT": _port,
    "PROTO": _smtp_or_esmtp,
    "HELO": _word,
    "LOGIN": _word,
    "DESTADDR": _address,
    "DESTPORT": _port,
}
XFORWARD: Final[Mapping[str, _Reader]] = {
    "NAME": _word,
    "ADDR": _address,
    "PORT": _port,
    "PROTO": _protocol,
    "HELO": _word,
    "IDENT": _word,
    "SOURCE": _source,
}


def read_xclient(attributes: Params) -> Told | None:
    """Return what XCLIENT says; None if an attribute is not known or has no such form."""
    return _read(attributes, XCLIENT)


def read_xforward(attributes: Params) -> Told | None:
    """Return what XFORWARD says; None if an attribute is not known or has no such form."""
    return _read(attributes, XFORWARD)


def spelled(told: Told) -> str:
    """Return what was said on one line, for people."""
    return " ".join(f"{name}={value or '[UNAVAILABLE]'}" for name, value in told.items())


def _read(attributes: Params, readers: Mapping[str, _Reader]) -> Told | None:
    told: Told = {}
    for name, encoded in attributes:
        reader, text = readers.get(name), decode_xtext(encoded or "")
        if reader is None or text is None:
            return None
        value = "" if text.upper() in _UNAVAILABLE else reader(text)
        if value is None:
            return None
        told[name] = value
    return told
