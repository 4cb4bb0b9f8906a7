"""The parameters of MAIL and RCPT: which are offered, what they may say, what is kept of them.

Nearly every MAIL has none, or a SIZE and a BODY of lines, and nearly every RCPT has none; both are read here
at once. The rest is a table of readers. A parameter whose extension is not offered is refused with 555 (RFC
5321 4.1.1.11), a value that it cannot have with 501.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from penstock.smtp import replies
from penstock.smtp.extensions import DELIVER_BY_MIN_S, FUTURE_RELEASE_MAX_S, Extensions, unix_s, utc

__all__ = [
    "CHANGED_BCC",
    "CHANGED_FIXUPS",
    "CHANGED_LINE_FEEDS",
    "Asked",
    "MailParameters",
    "RecipientParameters",
    "changed",
    "decode_xtext",
    "mail_parameters",
    "recipient_parameters",
    "spoken",
    "with_changes",
]

Params: TypeAlias = tuple[tuple[str, "str | None"], ...]
MailParameters: TypeAlias = tuple[int, bool, "Asked | None", "bytes | None"]
"""The SIZE or 0, whether BODY is 8BITMIME, whatever else was asked, and the reply that refuses, or None."""
RecipientParameters: TypeAlias = tuple[int, "str | None", "bytes | None"]
"""The NOTIFY bits or 0, the ORCPT decoded, and the reply that refuses, or None."""
More: TypeAlias = tuple[bool, bool, bool, "str | None", "int | None", "int | None", "str | None", int]
"""Of a MAIL: SMTPUTF8, BODY=BINARYMIME, REQUIRETLS, BY, release time, MT-PRIORITY, AUTH; and the bits of what
was changed of the content."""
EnvelopeParams: TypeAlias = "tuple[int | None, str | None, bool] | tuple[int | None, str | None, bool, More]"
"""As the envelope of a commit has them: RET, ENVID, whether BODY is 8BITMIME, and more if there is more."""

SIZE_DIGITS_MAX: Final = 20
"""Digits of a SIZE value (RFC 1870 4)."""
ENVID_MAX: Final = 100
"""Characters of an ENVID as sent (RFC 3461 4.4)."""
ORCPT_MAX: Final = 500
"""Characters of an ORCPT as sent (RFC 3461 4.2)."""
AUTH_MAX: Final = 500
"""Characters of an AUTH as sent (RFC 4954 5)."""

RET_FULL: Final = 0
RET_HDRS: Final = 1

_LINES: Final = frozenset(("7BIT", "8BITMIME"))
"""What a BODY nearly always is."""

CHANGED_FIXUPS: Final = 1
CHANGED_LINE_FEEDS: Final = 2
CHANGED_BCC: Final = 4
CHANGES: Final = ((CHANGED_FIXUPS, "fixups"), (CHANGED_LINE_FEEDS, "linefeed"), (CHANGED_BCC, "bcc"))
"""What may be changed of content on its way in, with the words of journal and views; as in `rust/core`."""

_NO_MORE: Final[More] = (False, False, False, None, None, None, None, 0)
NOTIFY_BITS: Final = {"SUCCESS": 2, "FAILURE": 4, "DELAY": 8}
NOTIFY_NEVER: Final = 1
NEVER: Final = "NEVER"

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_HEXCHAR: Final = re.compile(r"\+([0-9A-F]{2})")
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+")
_DELIVER_BY: Final = re.compile(r"([+-]?)([0-9]{1,9});([NRnr])([Tt]?)")
_PRIORITY: Final = re.compile(r"0|-?[1-9]")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_UTC: Final = re.compile(
    r"([12][0-9]{3})-(0[1-9]|1[0-2])-([0-3][0-9])T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])Z"
)


class Asked:
    """What a MAIL asks beside SIZE and BODY=8BITMIME.

    Attributes:
        ret: What a report returns: RET_FULL, RET_HDRS, or None if it was not said.
        envid: The sender's name for the envelope, decoded.
        smtp_utf8: Whether addresses and header fields may have UTF-8.
        is_binary: Whether the content is not lines.
        require_tls: Whether TLS is required on the whole way.
        deliver_by: Seconds, `;`, mode `N` or `R`, and `T` for a trace, as in RFC 2852 4.
        release_ms: When it may be delivered at the earliest.
        mt_priority: -9 to 9.
        auth_sender: Who submitted it, as the peer says; `<>` if that is not known.
    """

    __slots__ = (
        "auth_sender",
        "deliver_by",
        "envid",
        "is_binary",
        "mt_priority",
        "release_ms",
        "require_tls",
        "ret",
        "smtp_utf8",
    )

    def __init__(self) -> None:
        """Ask for nothing."""
        self.ret: int | None = None
        self.envid: str | None = None
        self.smtp_utf8 = False
        self.is_binary = False
        self.require_tls = False
        self.deliver_by: str | None = None
        self.release_ms: int | None = None
        self.mt_priority: int | None = None
        self.auth_sender: str | None = None

    def envelope_params(self, is_eight_bit: bool) -> EnvelopeParams:
        """Return what is stored with the message."""
        more = (
            self.smtp_utf8,
            self.is_binary,
            self.require_tls,
            self.deliver_by,
            self.release_ms,
            self.mt_priority,
            self.auth_sender,
            0,
        )
        return self.ret, self.envid, is_eight_bit, more


def mail_parameters(
    params: Params, extensions: Extensions, *, is_secure: bool = False, now_ms: int = 0
) -> MailParameters:
    """Read the parameters of a MAIL; what one says that is refused means nothing.

    Args:
        params: Each key once.
        extensions: What is offered.
        is_secure: Whether the connection is under TLS.
        now_ms: The time, for what is released later.
    """
    size = 0
    is_eight_bit = False
    asked = None
    for key, value in params:
        if key == "SIZE" and extensions.takes_size:
            if value is None or not (value.isascii() and value.isdigit()) or len(value) > SIZE_DIGITS_MAX:
                return 0, False, None, replies.PARAMETER_SIZE
            size = int(value)
        elif key == "BODY" and extensions.eight_bit_mime and (value or "").upper() in _LINES:
            is_eight_bit = value is not None and value[0] == "8"
        else:
            is_offered, read = _READERS.get(key, _NOT_OFFERED)
            if not is_offered(extensions, is_secure):
                return 0, False, None, replies.PARAMETER_UNKNOWN
            asked = asked or Asked()
            refusal = read(asked, value, now_ms)
            if refusal is not None:
                return 0, False, None, refusal
            if asked.is_binary and not extensions.binary_mime:
                return 0, False, None, replies.PARAMETER_BODY_NOT_IMPLEMENTED
    return size, is_eight_bit, asked, None


def recipient_parameters(params: Params, extensions: Extensions, *, is_utf8: bool) -> RecipientParameters:
    """Read the parameters of a RCPT.

    Args:
        params: Each key once.
        extensions: What is offered.
        is_utf8: Whether MAIL had SMTPUTF8.
    """
    notify = 0
    original: str | None = None
    for key, value in params:
        if key not in ("NOTIFY", "ORCPT") or not extensions.delivery_status_notification:
            return 0, None, replies.PARAMETER_UNKNOWN
        if key == "NOTIFY":
            notify = _notify(value or "")
            if not notify:
                return 0, None, replies.PARAMETER_VALUE
        else:
            original = _original_recipient(value or "", is_utf8)
            if original is None:
                return 0, None, replies.PARAMETER_VALUE
    return notify, original, None


def spoken(params: EnvelopeParams) -> list[str]:
    """Return stored parameters as words, in a form for people: decoded, and the release as a time.

    >>> spoken((1, "a b", True))
    ['RET=HDRS', 'ENVID=a b', 'BODY=8BITMIME']
    """
    ret, envid, is_eight_bit, *rest = params
    words = [] if ret is None else [f"RET={'HDRS' if ret == RET_HDRS else 'FULL'}"]
    if envid is not None:
        words.append(f"ENVID={envid}")
    if is_eight_bit:
        words.append("BODY=8BITMIME")
    if not rest:
        return words
    is_utf8, is_binary, require_tls, deliver_by, release_ms, priority, auth_sender, _ = rest[0]
    flags = ((is_binary, "BODY=BINARYMIME"), (is_utf8, "SMTPUTF8"), (require_tls, "REQUIRETLS"))
    words += [word for is_said, word in flags if is_said]
    texts = (
        ("BY", deliver_by),
        ("HOLDUNTIL", None if release_ms is None else utc(release_ms // 1000)),
        ("MT-PRIORITY", priority),
        ("AUTH", auth_sender),
    )
    return words + [f"{key}={value}" for key, value in texts if value is not None]


def with_changes(params: EnvelopeParams, changes: int) -> EnvelopeParams:
    """Return what is stored with a message of whose content something was changed."""
    ret, envid, is_eight_bit, *rest = params
    is_utf8, is_binary, require_tls, deliver_by, release_ms, priority, auth_sender, _ = (
        rest[0] if rest else _NO_MORE
    )
    more = (is_utf8, is_binary, require_tls, deliver_by, release_ms, priority, auth_sender, changes)
    return ret, envid, is_eight_bit, more


def changed(params: EnvelopeParams) -> list[str]:
    """Return what was changed of a content, in words.

    >>> changed(with_changes((None, None, False), CHANGED_FIXUPS))
    ['fixups']
    """
    *_, last = params
    changes = last[-1] if isinstance(last, tuple) else 0
    return [word for bit, word in CHANGES if changes & bit]


def decode_xtext(text: str) -> str | None:
    """Return what an xtext stands for (RFC 3461 4); None if it is none, or not of printable US-ASCII.

    >>> decode_xtext("a+2Bb+3Dc")
    'a+b=c'
    """
    if _XTEXT.fullmatch(text) is None:
        return None
    decoded = _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else None


def _notify(value: str) -> int:
    """Return the bits of a NOTIFY, 0 if it cannot be read: NEVER stands alone (RFC 3461 4.1)."""
    if value.upper() == NEVER:
        return NOTIFY_NEVER
    bits = 0
    for word in value.upper().split(","):
        bit = NOTIFY_BITS.get(word, 0)
        if not bit or bits & bit:
            return 0
        bits |= bit
    return bits


def _original_recipient(value: str, is_utf8: bool) -> str | None:
    """Return an ORCPT with its address decoded (RFC 3461 4.2); one of type utf-8 as it is (RFC 6533 3)."""
    kind, has_address, encoded = value.partition(";")
    if not has_address or len(value) > ORCPT_MAX or _ADDRESS_TYPE.fullmatch(kind) is None:
        return None
    if kind.lower() == "utf-8" and is_utf8:
        return value if encoded and encoded.isprintable() else None
    address = decode_xtext(encoded)
    return None if address is None else f"{kind};{address}"


def _body(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    """Read a BODY that is not of lines."""
    asked.is_binary = (value or "").upper() == "BINARYMIME"
    return None if asked.is_binary else replies.PARAMETER_BODY


def _ret(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    asked.ret = {"FULL": RET_FULL, "HDRS": RET_HDRS}.get((value or "").upper())
    return replies.PARAMETER_VALUE if asked.ret is None else None


def _envid(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    asked.envid = decode_xtext(value) if value and len(value) <= ENVID_MAX else None
    return replies.PARAMETER_VALUE if asked.envid is None else None


def _smtp_utf8(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    asked.smtp_utf8 = True
    return None if value is None else replies.PARAMETER_VALUE


def _require_tls(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    asked.require_tls = True
    return None if value is None else replies.PARAMETER_VALUE


def _deliver_by(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    """Read `by-time;by-mode[by-trace]`: a time that has passed cannot be a reason to return (RFC 2852 4)."""
    found = _DELIVER_BY.fullmatch(value or "")
    if found is None:
        return replies.PARAMETER_VALUE
    sign, digits, mode, trace = found.groups()
    seconds = -int(digits) if sign == "-" else int(digits)
    if mode in "Rr" and seconds < DELIVER_BY_MIN_S:
        return replies.PARAMETER_VALUE if seconds <= 0 else replies.DELIVER_BY_TOO_SOON
    asked.deliver_by = f"{seconds};{mode.upper()}{trace.upper()}"
    return None


def _hold_for(asked: Asked, value: str | None, now_ms: int) -> bytes | None:
    if value is None or _SECONDS.fullmatch(value) is None or not int(value):
        return replies.PARAMETER_VALUE
    return _release(asked, now_ms + int(value) * 1000, now_ms)


def _hold_until(asked: Asked, value: str | None, now_ms: int) -> bytes | None:
    """Read a date and time in UTC, in whole seconds and in no other form (RFC 4865 4)."""
    found = _UTC.fullmatch(value or "")
    if found is None:
        return replies.PARAMETER_VALUE
    year, month, day, hour, minute, second = map(int, found.groups())
    release_s = unix_s(year, month, day) + 3600 * hour + 60 * minute + second
    # A day that its month does not have comes back as another one.
    return _release(asked, release_s * 1000, now_ms) if utc(release_s) == value else replies.PARAMETER_VALUE


def _release(asked: Asked, release_ms: int, now_ms: int) -> bytes | None:
    """Hold until a time: not one that has passed, not one that is too far, and not two."""
    if asked.release_ms is not None or release_ms <= now_ms:
        return replies.PARAMETER_VALUE
    if release_ms > now_ms + FUTURE_RELEASE_MAX_S * 1000:
        return replies.RELEASE_TOO_LATE
    asked.release_ms = release_ms
    return None


def _mt_priority(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    if value is None or _PRIORITY.fullmatch(value) is None:
        return replies.PARAMETER_PRIORITY
    asked.mt_priority = int(value)
    return None


def _auth(asked: Asked, value: str | None, _now_ms: int) -> bytes | None:
    if value is None or len(value) > AUTH_MAX:
        return replies.PARAMETER_VALUE
    asked.auth_sender = value if value == "<>" else decode_xtext(value)
    return replies.PARAMETER_VALUE if asked.auth_sender is None else None


_IsOffered: TypeAlias = Callable[[Extensions, bool], bool]
_Reader: TypeAlias = Callable[[Asked, "str | None", int], "bytes | None"]


def _dsn_is_offered(extensions: Extensions, _is_secure: bool) -> bool:
    return extensions.delivery_status_notification


def _release_is_offered(extensions: Extensions, _is_secure: bool) -> bool:
    return extensions.future_release


_READERS: Final[dict[str, tuple[_IsOffered, _Reader]]] = {
    "BODY": (lambda extensions, _: extensions.eight_bit_mime, _body),
    "RET": (_dsn_is_offered, _ret),
    "ENVID": (_dsn_is_offered, _envid),
    "SMTPUTF8": (lambda extensions, _: extensions.smtp_utf8, _smtp_utf8),
    "REQUIRETLS": (
        lambda extensions, is_secure: extensions.require_tls_extension and is_secure,
        _require_tls,
    ),
    "BY": (lambda extensions, _: extensions.deliver_by, _deliver_by),
    "HOLDFOR": (_release_is_offered, _hold_for),
    "HOLDUNTIL": (_release_is_offered, _hold_until),
    "MT-PRIORITY": (lambda extensions, _: extensions.mt_priority, _mt_priority),
    "AUTH": (lambda extensions, _: extensions.auth, _auth),
}
_NOT_OFFERED: Final[tuple[_IsOffered, _Reader]] = (lambda _extensions, _is_secure: False, _auth)
