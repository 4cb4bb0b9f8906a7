"""The two messages that every client has to bring across: a large one, and one of 8-bit text with dots."""

from __future__ import annotations

import random
from pathlib import Path

SENDER, RECIPIENT = "me@penstock.test", "you@penstock.test"
LARGE_BYTES = 12_000_000
LINE_MAX_BYTES = 990
"""Below the 998 of RFC 5321 4.5.3.1.6, at which Postfix and Exim would break or return a line."""

_HEADER = (
    f"From: Me <{SENDER}>\r\n"
    f"To: You <{RECIPIENT}>\r\n"
    "Subject: %s\r\n"
    "Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    "Message-ID: <%s@penstock.test>\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=%s\r\n"
    "Content-Transfer-Encoding: %s\r\n"
    "\r\n"
)

_EIGHT_BIT = (
    "Grüße aus Köln, Łódź, 東京 und Αθήνα\r\n"
    "\r\n"
    ".\r\n"
    "..\r\n"
    "...\r\n"
    ". ein Punkt und ein Leerzeichen\r\n"
    ".Ü\r\n"
    "\r\n"
    "\r\n"
    "From here on: a line that mbox would change\r\n"
    "\tTab, Leerzeichen am Ende  \r\n" + "ä" * 450 + "\r\n" + "." + "ö" * 450 + "\r\n"
    "\r\n"
    "QUIT\r\n"
    ".\r\n"
    "\r\n"
    "Ende ✓\r\n"
)


def eight_bit() -> bytes:
    """Return a message in UTF-8 with dots at the beginnings of lines, and empty lines."""
    return (_HEADER % ("8 bits", "eight-bit", "utf-8", "8bit") + _EIGHT_BIT).encode()


def large() -> bytes:
    """Return 12 MB of US-ASCII in lines of every length up to the most, of which some begin with dots."""
    chance = random.Random(5321)
    # One long text cut at chance: no two lines are alike, and it takes no second to make.
    text = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789 .", k=100_000))
    lines, size = [], 0
    while size < LARGE_BYTES:
        length = chance.randrange(LINE_MAX_BYTES + 1)
        at = chance.randrange(len(text) - LINE_MAX_BYTES)
        line = text[at : at + length].rstrip(" ")
        lines.append("." + line[1:] if chance.random() < 0.05 else line)
        size += len(lines[-1]) + 2
    return (_HEADER % ("large", "large", "us-ascii", "7bit") + "\r\n".join(lines) + "\r\nend\r\n").encode()


MESSAGES = {"large": large, "8-bit": eight_bit}


def write(folder: Path, kind: str) -> Path:
    """Write a message, with CRLF, unless it is there already; return where it is."""
    path = folder / f"{kind}.eml"
    if not path.is_file():
        path.write_bytes(MESSAGES[kind]())
    return path


def body(message: bytes) -> bytes:
    """Return what stands behind the header section, with LF as a Maildir has it."""
    return message.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
