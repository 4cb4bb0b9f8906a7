"""Values as people read them. Nothing that a peer sent reaches a terminal as anything but text."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Final

__all__ = ["age", "cut", "plural", "printable", "size", "span", "stamp", "until", "width"]

_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")


def printable(text: str) -> str:
    """Return the text with escapes for whatever steers a terminal or hides: control and format characters."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def size(size_bytes: int) -> str:
    """Return a size in powers of 1024: `512 B`, `11 KB`, `1.4 MB`."""
    amount = float(size_bytes)
    for unit in _UNITS:
        if amount < 1023.5 or unit == _UNITS[-1]:
            break
        amount /= 1024
    digits = 1 if unit not in ("B", "KB") and amount < 9.95 else 0
    return f"{amount:.{digits}f} {unit}"


def span(seconds: float) -> str:
    """Return a length of time in its two greatest units: `45s`, `12m03s`, `2h10m`, `3d04h`."""
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    if hours:
        return f"{hour}h{minute:02}m"
    if minutes:
        return f"{minute}m{second:02}s"
    return f"{second}s"


def age(at: str, now: str) -> str:
    """Return how long ago a time was; both RFC 3339."""
    return span((_time(now) - _time(at)).total_seconds())


def until(at: str, now: str) -> str:
    """Return `in 1m49s`, or `now` for what is due."""
    seconds = (_time(at) - _time(now)).total_seconds()
    return f"in {span(seconds)}" if seconds >= 0.5 else "now"


def stamp(at: str, *, is_utc: bool) -> str:
    """Return an RFC 3339 time to the second: with the local offset, or in UTC."""
    if is_utc:
        return _time(at).strftime("%Y-%m-%d %H:%M:%SZ")
    local = _time(at).astimezone()
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"


def plural(count: int, noun: str) -> str:
    """Return `1 message`, `2 messages`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def width(text: str) -> int:
    """Return how many columns a printable text takes: East Asian wide characters two, marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def cut(text: str, columns: int) -> str:
    """Return the text, its end replaced by an ellipsis where it takes more columns."""
    if width(text) <= columns:
        return text
    kept = ""
    taken = 0
    for character in text:
        taken += width(character)
        if taken > columns - 1:
            break
        kept += character
    return kept + "…" if columns > 0 else ""


def _time(at: str) -> datetime:
    return datetime.fromisoformat(at)
