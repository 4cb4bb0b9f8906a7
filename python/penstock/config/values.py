"""How single values are written: durations, sizes, domains, addresses, names. Pure.

Each reader takes what a file has and returns the plain value, or raises `Refused` with what is wrong and, if
that can be known, what to write instead.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Final, NamedTuple, NoReturn, TypeAlias

from penstock.receive.connectors import parse_range
from penstock.route.address_space import AddressSpace, parse_address_space

__all__ = [
    "Endpoint",
    "Refused",
    "SmartHost",
    "format_duration",
    "format_size",
    "quoted",
    "read_address_space",
    "read_certificate_name",
    "read_connector_name",
    "read_domain",
    "read_duration",
    "read_endpoint",
    "read_ip",
    "read_ip_range",
    "read_path",
    "read_rate",
    "read_send_connector_name",
    "read_sender_domain",
    "read_server_name",
    "read_size",
    "read_smart_host",
    "read_throughput",
]

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

DOMAIN_OCTETS_MAX: Final = 255
"""RFC 5321 4.5.3.1.2."""
PATH_OCTETS_MAX: Final = 4_096
"""Linux' PATH_MAX."""
PORT_MAX: Final = 65_535
THROUGHPUT_BYTES_MAX: Final = 1 << 20
"""A second: what nobody on a slow line could be asked for."""
RESERVED_NAMES: Final = frozenset({"submission", "unreachable", "poison"})
"""Queues that are always there; the queue of a send connector of that name could not be told from them."""

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_UNITS_BYTES: Final = {"TB": 1 << 40, "GB": 1 << 30, "MB": 1 << 20, "KB": 1 << 10, "B": 1}

# Nine digits of any unit are enough, and keep odd input from becoming long arithmetic.
_DURATION: Final = re.compile("".join(rf"(?:(\d{{1,9}}){unit})?" for unit in _UNITS_MS), re.ASCII)
_NET_SPAN: Final = re.compile(
    r"(?:(\d{1,5})\.)?([01]?\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{3})0{0,4})?", re.ASCII
)
_SIZE: Final = re.compile(r"(\d{1,9}) ?(TB|GB|MB|KB|B)", re.ASCII | re.IGNORECASE)
# As rust/core reads domains, underscores included.
_DOMAIN: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_CONNECTOR_NAME: Final = re.compile(r"[A-Za-z0-9._-](?:[A-Za-z0-9._ -]{0,62}[A-Za-z0-9._-])?", re.ASCII)
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_RATE: Final = re.compile(r"(\d{1,9}) ?/ ?(s|min|h|24h)", re.ASCII)
_WINDOWS_MS: Final = {"s": 1_000, "min": 60_000, "h": 3_600_000, "24h": 86_400_000}
_PORT: Final = re.compile(r"\d{1,5}", re.ASCII)
_SUFFIX_OF_PORT: Final = re.compile(r"(.*):(\d{1,5})", re.ASCII)


class Refused(ValueError):
    """A value cannot be taken.

    Attributes:
        code: The problem's code.
        message: What is wrong, in a sentence.
        fix: The value to write instead, in TOML, if that is known.
    """

    def __init__(self, code: str, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix


class Endpoint(NamedTuple):
    """Where to listen: an IP address, in its usual form, and a port; 0 for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class SmartHost(NamedTuple):
    """A host to deliver to: a name in lower case, or an IP address in its usual form.

    Attributes:
        host: The name or address.
        port: Its port; None for the connector's.
    """

    host: str
    port: int | None = None


def quoted(text: str) -> str:
    """Return a text as a TOML string."""
    # TOML's basic strings have JSON's escapes; DEL alone must be escaped in one and not in the other.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_duration(text: str) -> int:
    """Return milliseconds, from `250ms`, `10s`, `5m`, `12h`, `2d`, `1h30m` or .NET's `[d.]hh:mm:ss[.fff]`."""
    found = _DURATION.fullmatch(text)
    if found is not None and text:
        return sum(
            int(number) * unit_ms
            for number, unit_ms in zip(found.groups(), _UNITS_MS.values(), strict=True)
            if number is not None
        )
    span = _NET_SPAN.fullmatch(text)
    if span is not None:
        days, hours, minutes, seconds, thousandths = (int(part or 0) for part in span.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1_000 + thousandths
    if _is_number(text):
        raise Refused("C104", "A duration needs a unit: say ms, s, m, h or d.")
    raise Refused(
        "C108", "This is no duration. Write it as 250ms, 10s, 5m, 12h, 2d, 1h30m, or as .NET does: 00:05:00."
    )


def format_duration(value_ms: int) -> str:
    """Return a duration as it is written: `1h30m`, `0s`.

    >>> format_duration(5_400_000)
    '1h30m'
    """
    parts = []
    for unit, unit_ms in _UNITS_MS.items():
        number, value_ms = divmod(value_ms, unit_ms)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def read_size(text: str) -> int:
    """Return octets, from `512 B`, `64 KB`, `36MB`, `2 GB`; units are powers of 1024, as in Exchange."""
    found = _SIZE.fullmatch(text)
    if found is not None:
        return int(found[1]) * _UNITS_BYTES[found[2].upper()]
    if _is_number(text):
        raise Refused("C104", "A size needs a unit: say B, KB or MB.")
    raise Refused("C108", "This is no size. Write a whole number and B, KB, MB, GB or TB, as in 36 MB.")


def format_size(value_bytes: int) -> str:
    """Return a size as it is written, in the largest unit that says it exactly.

    >>> format_size(37_748_736)
    '36 MB'
    """
    unit, size = next(
        (pair for pair in _UNITS_BYTES.items() if value_bytes and not value_bytes % pair[1]), ("B", 1)
    )
    return f"{value_bytes // size} {unit}"


def read_throughput(text: str) -> int | None:
    """Return octets a second, from `64 B/s`; None for `unlimited`.

    >>> read_throughput("2 KB/s")
    2048
    """
    if text == "unlimited":
        return None
    size, per_second, rest = text.partition("/s")
    if not per_second or rest or _SIZE.fullmatch(size.rstrip()) is None:
        raise Refused("C108", "This is no throughput. Write it as 64 B/s, 2 KB/s, or unlimited.")
    value_bytes = read_size(size.rstrip())
    if not 1 <= value_bytes <= THROUGHPUT_BYTES_MAX:
        raise Refused("C106", f"This has to be from 1 B/s to {format_size(THROUGHPUT_BYTES_MAX)}/s.")
    return value_bytes


def read_rate(text: str) -> tuple[int, int] | None:
    """Return how many within how many milliseconds `30/min` allows; None for `unlimited`.

    Raises:
        Refused: The text is no rate.
    """
    if text == "unlimited":
        return None
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise Refused("C108", "This is no rate. Write it as 10/s, 30/min, 500/h, 10000/24h, or unlimited.")
    return int(match[1]), _WINDOWS_MS[match[2]]


def read_sender_domain(text: str) -> str:
    """Return a domain, or `*.` and the domain that others are below, in lower case.

    Raises:
        Refused: The text is neither.
    """
    parent = text.removeprefix("*.")
    return text[: len(text) - len(parent)] + read_domain(parent).lower()


def read_domain(text: str) -> str:
    """Return a domain in lower case."""
    domain = text.lower()
    if len(domain) <= DOMAIN_OCTETS_MAX and _DOMAIN.fullmatch(domain) is not None:
        return domain
    if not domain.isascii():
        raise Refused("C108", "A domain is written in ASCII, in its form for the DNS.", _in_ascii(domain))
    if domain.endswith("."):
        return _without(domain, domain.rstrip("."), "A domain is written without a dot at its end.")
    if "@" in domain:
        return _without(domain, domain.rpartition("@")[2], "This is an address, not a domain.")
    raise Refused("C108", "This is no domain: letters, digits and hyphens, with dots between labels.")


def read_server_name(text: str) -> str:
    """Return the server's name, the first part of the identities of queues and messages."""
    if _SERVER_NAME.fullmatch(text) is None:
        raise Refused("C108", "A server's name has 1 to 64 letters, digits, dots, hyphens or underscores.")
    return text


def read_connector_name(text: str) -> str:
    """Return the name of a connector or of what connectors name; never a number, as a queue has."""
    if _CONNECTOR_NAME.fullmatch(text) is None:
        raise Refused(
            "C108",
            "A connector's name has 1 to 64 letters, digits, dots, hyphens, underscores or inner spaces.",
        )
    if _is_number(text):
        raise Refused("C108", "A connector's name must not be a number: it would be taken for a queue's.")
    return text


def read_send_connector_name(text: str) -> str:
    """Return a send connector's name; it names a queue, too, and must not be taken for another's."""
    read_connector_name(text)
    if text.lower() in RESERVED_NAMES:
        raise Refused("C108", f"{text} is the name of a queue that is always there.")
    return text


def read_certificate_name(text: str) -> str:
    """Return the name by which connectors name a certificate."""
    if _CONNECTOR_NAME.fullmatch(text) is None:
        message = (
            "A certificate's name has 1 to 64 letters, digits, dots, hyphens, underscores or inner spaces."
        )
        raise Refused("C108", message)
    return text


def read_path(text: str) -> str:
    """Return the path of a file or directory, as written."""
    if not text:
        raise Refused("C108", "A path must not be empty.")
    if not text.isprintable():
        raise Refused("C108", "A path must not have control characters.")
    if len(text.encode()) > PATH_OCTETS_MAX:
        raise Refused("C108", f"A path has at most {PATH_OCTETS_MAX} octets.")
    return text


def read_ip(text: str) -> str:
    """Return an IP address that one host can have, in its usual form."""
    address = _ip(text.strip())
    if address is None:
        raise Refused("C108", "This is no IP address.")
    _refuse_no_host(address)
    return str(address)


def read_ip_range(text: str) -> str:
    """Return `address`, `first-last` or a network, without white space around it."""
    text = text.strip()
    try:
        if "%" in text:
            raise ValueError("zones of addresses are not supported")
        parse_range(text)
    except ValueError as error:
        raise Refused(
            "C108",
            f"This is no range of addresses: {_plain(error)}. "
            "Write 10.20.0.11, 10.20.0.0/16 or 10.20.0.1-10.20.0.9.",
        ) from None
    return text


def read_endpoint(text: str) -> Endpoint:
    """Return where to listen, from `127.0.0.1:25` or `[::1]:25`."""
    host, colon, port = text.rpartition(":")
    inner = host.removeprefix("[").removesuffix("]")
    address = _ip(inner)
    if address is None or not colon or (address.version == 6) != (f"[{inner}]" == host):
        raise Refused(
            "C108",
            "Write an IP address and a port: 0.0.0.0:25, 127.0.0.1:25, [::]:25.",
            _endpoint_meant(text),
        )
    return Endpoint(str(address), _port(port, minimum=0))


def read_address_space(text: str) -> AddressSpace:
    """Return an address space, from `[SMTP:]space[;cost]`."""
    try:
        return parse_address_space(text)
    except ValueError as error:
        raise Refused("C108", f"This is no address space: {_plain(error)}.") from None


def read_smart_host(text: str) -> SmartHost:
    """Return a smart host, from a name or an IP address, with brackets or without, and `:port` if any."""
    text = text.strip()
    address = _ip(text)
    port = None
    if address is None:
        found = _SUFFIX_OF_PORT.fullmatch(text)
        if found is not None:
            text, port = found[1], _port(found[2], minimum=1)
        address = (
            _ip(text.removeprefix("[").removesuffix("]"))
            if text.startswith("[") == text.endswith("]")
            else None
        )
    if address is not None:
        if address.version == 6 and port is not None and not text.startswith("["):
            raise Refused(
                "C108", "An IPv6 address with a port needs brackets.", quoted(f"[{address}]:{port}")
            )
        _refuse_no_host(address)
        return SmartHost(str(address), port)
    try:
        return SmartHost(read_domain(text), port)
    except Refused as refused:
        raise Refused("C108", "This is neither a host's name nor an IP address.", refused.fix) from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _plain(error: ValueError) -> str:
    """What the libraries say, which is about the operator's own text, in one printable line."""
    return " ".join(ascii(str(error))[1:-1].split())


def _without(domain: str, meant: str, message: str) -> NoReturn:
    fix = quoted(meant) if meant != domain and _DOMAIN.fullmatch(meant) is not None else None
    raise Refused("C108", message, fix)


def _in_ascii(domain: str) -> str | None:
    try:
        return quoted(domain.encode("idna").decode("ascii"))
    except UnicodeError:
        return None


def _ip(text: str) -> IpAddress | None:
    """Return an address, or None; zones are refused, for nothing below could use them."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def _refuse_no_host(address: IpAddress) -> None:
    if address.is_unspecified or address.is_multicast:
        raise Refused("C108", "This address stands for no host of its own.")


def _port(text: str, *, minimum: int) -> int:
    if _PORT.fullmatch(text) is None or not minimum <= int(text) <= PORT_MAX:
        raise Refused("C106", f"A port is a number from {minimum} to {PORT_MAX}.")
    return int(text)


def _endpoint_meant(text: str) -> str | None:
    """What was probably meant by something that is no endpoint."""
    host, colon, port = text.rpartition(":")
    if _PORT.fullmatch(text) is not None:
        host, port = "", text
    elif _PORT.fullmatch(port) is None or not colon:
        return None
    known = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}  # noqa: S104
    address = _ip(known.get(host.lower(), host))
    return None if address is None else quoted(str(Endpoint(str(address), int(port))))
