"""Different contents from a seed: what must arrive octet for octet."""

from __future__ import annotations

import random
from collections.abc import Callable

LINE_OCTETS_MAX = 998  # RFC 5321 4.5.3.1.6, without CRLF

_EIGHT_BIT = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
_TEXT = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:-\t"


def message(rng: random.Random, *, size_bytes: int) -> bytes:
    """Return a message of about `size_bytes`, with a header section when there is room for one.

    Lines have 0 to 998 octets; many start with dots; many have octets above 127.
    """
    if size_bytes == 0:
        return b""
    lines: list[bytes] = []
    if size_bytes > 100:
        lines = [b"From: a@penstock.test", b"Subject: %d" % rng.getrandbits(64), b""]
    makers = (_plain, _dots, _eight_bit, _longest, _empty)
    pool = [makers[rng.randrange(len(makers))](rng) for _ in range(64)]
    size = sum(len(line) + 2 for line in lines)
    while size < size_bytes:
        line = pool[rng.randrange(len(pool))] if rng.random() < 0.9 else _plain(rng)
        line = line[: max(0, size_bytes - size - 2)]
        lines.append(line)
        size += len(line) + 2
    return b"\r\n".join(lines) + b"\r\n"


def sizes(rng: random.Random, count: int, *, largest_bytes: int) -> list[int]:
    """Return `count` sizes from 0 to `largest_bytes`, most of them small; both ends occur."""
    drawn = [0, largest_bytes]
    while len(drawn) < count:
        exponent = rng.betavariate(1.2, 4.0)
        drawn.append(int(largest_bytes**exponent))
    rng.shuffle(drawn)
    return drawn[:count] if count >= 2 else [largest_bytes][:count]


def _octets(rng: random.Random, alphabet: bytes, count: int) -> bytes:
    return bytes(rng.choices(alphabet, k=count))


def _plain(rng: random.Random) -> bytes:
    return _octets(rng, _TEXT, rng.randrange(1, 120))


def _dots(rng: random.Random) -> bytes:
    return b"." * rng.randrange(1, 5) + (_plain(rng) if rng.random() < 0.5 else b"")


def _eight_bit(rng: random.Random) -> bytes:
    return _octets(rng, _EIGHT_BIT, rng.randrange(1, 400))


def _longest(rng: random.Random) -> bytes:
    start: Callable[[random.Random], bytes] = rng.choice((_plain, _dots, _eight_bit))
    line = start(rng)[:LINE_OCTETS_MAX]
    return line + _octets(rng, _TEXT, LINE_OCTETS_MAX - len(line))


def _empty(rng: random.Random) -> bytes:
    del rng
    return b""
