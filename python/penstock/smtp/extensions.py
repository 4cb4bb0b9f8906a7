"""The service extensions of a receive connector: which are offered, and how EHLO says so.

What is not offered is refused: its verbs with 502, its parameters with 555. Two things differ from
connection to connection: REQUIRETLS is offered under TLS alone (RFC 8689 2), and FUTURERELEASE names a date
(RFC 4865 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = ["DELIVER_BY_MIN_S", "FUTURE_RELEASE_MAX_S", "USUAL", "Extensions", "SizeMode", "unix_s", "utc"]

SizeMode: TypeAlias = Literal["enabled", "disabled", "enabled_without_value"]

DELIVER_BY_MIN_S: Final = 60
"""The shortest time in which delivery can be asked for on pain of return (RFC 2852 2): what is tried once."""
FUTURE_RELEASE_MAX_S: Final = 7 * 86_400
"""How far in the future a message may be released (RFC 4865 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """What is offered; named as the switches of Set-ReceiveConnector, where there is one.

    Attributes:
        pipelining: RFC 2920. Whoever pipelines without being invited to is answered in order all the same.
        delivery_status_notification: RFC 3461.
        enhanced_status_codes: RFC 2034; without it no reply has such a code.
        eight_bit_mime: RFC 6152.
        binary_mime: RFC 3030 3.
        chunking: RFC 3030 2.
        size: RFC 1870: with the limit, not at all, or without saying the limit.
        smtp_utf8: RFC 6531.
        limits: RFC 9422.
        mt_priority: RFC 6710.
        deliver_by: RFC 2852.
        future_release: RFC 4865.
        require_tls_extension: RFC 8689.
        auth: Whether MAIL may have AUTH= (RFC 4954 5).
        xclient: The attributes of XCLIENT that may be said, where the peer may speak for others.
        xforward: Those of XFORWARD, where it may tell where a message has been.
    """

    pipelining: bool = True
    delivery_status_notification: bool = False
    enhanced_status_codes: bool = True
    eight_bit_mime: bool = True
    binary_mime: bool = False
    chunking: bool = True
    size: SizeMode = "enabled"
    smtp_utf8: bool = False
    limits: bool = True
    mt_priority: bool = False
    deliver_by: bool = False
    future_release: bool = False
    require_tls_extension: bool = False
    auth: bool = False
    xclient: tuple[str, ...] = ()
    xforward: tuple[str, ...] = ()
    takes_size: bool = field(init=False)
    is_constant: bool = field(init=False)

    def __post_init__(self) -> None:
        """Note what is asked for every MAIL and every EHLO."""
        object.__setattr__(self, "takes_size", self.size != "disabled")
        object.__setattr__(self, "is_constant", not (self.future_release or self.require_tls_extension))

    def lines(
        self,
        *,
        max_message_bytes: int,
        max_recipients: int,
        offers_tls: bool = False,
        mechanisms: tuple[str, ...] = (),
        is_secure: bool = False,
        now_ms: int = 0,
    ) -> tuple[str, ...]:
        """Return the lines of EHLO's reply, but for the first."""
        size = f"SIZE {max_message_bytes}" if self.size == "enabled" else "SIZE"
        offers = (
            (self.pipelining, "PIPELINING"),
            (self.takes_size, size),
            (self.delivery_status_notification, "DSN"),
            (self.eight_bit_mime, "8BITMIME"),
            (offers_tls, "STARTTLS"),
            (mechanisms, " ".join(("AUTH", *mechanisms))),
            (self.smtp_utf8, "SMTPUTF8"),
            (self.binary_mime, "BINARYMIME"),
            (self.chunking, "CHUNKING"),
            (self.limits, f"LIMITS RCPTMAX={max_recipients}"),
            (self.mt_priority, "MT-PRIORITY"),
            (self.deliver_by, f"DELIVERBY {DELIVER_BY_MIN_S}"),
            (self.future_release, f"FUTURERELEASE {FUTURE_RELEASE_MAX_S} {latest_release(now_ms)}"),
            (self.require_tls_extension and is_secure, "REQUIRETLS"),
            (self.xclient, " ".join(("XCLIENT", *self.xclient))),
            (self.xforward, " ".join(("XFORWARD", *self.xforward))),
            (self.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
        )
        return tuple(line for is_offered, line in offers if is_offered)


USUAL: Final = Extensions()
"""What is offered where nothing else is said."""


def latest_release(now_ms: int) -> str:
    """Return the latest time at which a message can be released, as RFC 4865 3 has it.

    >>> latest_release(1_763_951_400_000)
    '2025-12-01T02:30:00Z'
    """
    return utc(now_ms // 1000 + FUTURE_RELEASE_MAX_S)


def utc(unix_s: int) -> str:
    """Return a time as RFC 3339 has it, in UTC and whole seconds."""
    day, second = divmod(unix_s, 86_400)
    year, month, of_month = _date(day)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{year:04d}-{month:02d}-{of_month:02d}T{hour:02d}:{minute:02d}:{second:02d}Z"


def unix_s(year: int, month: int, day: int) -> int:
    """Return when a day begins, in seconds since 1970; as `_date`, the other way."""
    year -= month <= 2
    span, of_span = divmod(year, 400)
    from_march = month - 3 if month > 2 else month + 9
    of_year = (153 * from_march + 2) // 5 + day - 1
    days = span * 146_097 + 365 * of_span + of_span // 4 - of_span // 100 + of_year
    return (days - 719_468) * 86_400


def _date(day: int) -> tuple[int, int, int]:
    """Return year, month and day of the month of a day since 1970.

    Counted in years that begin in March, so that a leap day is the last of its year, in spans of 400 years.
    """
    span, of_span = divmod(day + 719_468, 146_097)
    of_years = (of_span - of_span // 1_460 + of_span // 36_524 - of_span // 146_096) // 365
    of_year = of_span - (365 * of_years + of_years // 4 - of_years // 100)
    from_march = (5 * of_year + 2) // 153
    month = from_march + 3 if from_march < 10 else from_march - 9
    return of_years + 400 * span + (month <= 2), month, of_year - (153 * from_march + 2) // 5 + 1
