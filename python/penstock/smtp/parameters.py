"""The parameters of MAIL that are offered: SIZE (RFC 1870) and BODY (RFC 6152)."""

from __future__ import annotations

from typing import Final, TypeAlias

from penstock.smtp import replies

__all__ = ["MailParameters", "mail_parameters"]

MailParameters: TypeAlias = tuple[int, bool, "bytes | None"]
"""The SIZE or 0, whether BODY is 8BITMIME, and the reply that refuses them, or None."""

SIZE_DIGITS_MAX: Final = 20
"""Digits of a SIZE value (RFC 1870 4)."""


def mail_parameters(params: tuple[tuple[str, str | None], ...]) -> MailParameters:
    """Read the parameters of a MAIL; what one says that is refused means nothing."""
    size = 0
    is_eight_bit = False
    for key, value in params:
        if key == "SIZE":
            if value is None or not value.isdigit() or len(value) > SIZE_DIGITS_MAX:
                return 0, False, replies.PARAMETER_SIZE
            size = int(value)
        elif key == "BODY":
            body = (value or "").upper()
            if body == "BINARYMIME":
                return 0, False, replies.PARAMETER_BODY_NOT_IMPLEMENTED
            if body not in ("7BIT", "8BITMIME"):
                return 0, False, replies.PARAMETER_BODY
            is_eight_bit = body == "8BITMIME"
        else:
            return 0, False, replies.PARAMETER_UNKNOWN
    return size, is_eight_bit, None
