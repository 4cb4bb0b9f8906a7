"""The parameters of MAIL that are offered: SIZE (RFC 1870), BODY (RFC 6152) and AUTH (RFC 4954 5)."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from penstock.smtp import replies

__all__ = ["MailParameters", "mail_parameters", "without_auth"]

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


_MAILBOX_IN_XTEXT: Final = re.compile(r"<>|(?:[!-*,-<>-~]|\+[0-9A-F]{2}){1,500}")
"""RFC 4954 3 and 5, RFC 3461 4."""


def without_auth(params: tuple[tuple[str, str | None], ...]) -> tuple[tuple[str, str | None], ...]:
    """Return the parameters without a well-formed AUTH, which has to be taken wherever AUTH is offered.

    Who says there that somebody else has authenticated the sender is believed by nobody, as if it were `<>`
    (RFC 4954 5). One that is not well-formed stays and is refused.
    """
    return tuple(
        (key, value)
        for key, value in params
        if key != "AUTH" or value is None or _MAILBOX_IN_XTEXT.fullmatch(value) is None
    )
