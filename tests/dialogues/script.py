"""Dialogues as they are written down.

A script is read line by line:

    # a comment                    as is an empty line
    @ peer 127.0.2.1               where the client connects from (127.0.1.x may relay, 127.0.2.x may not)
    @ set max_recipients_per_message=2
                                   a setting of all connectors that differs from the usual
    @ set chunking=false           an extension that is offered or not
    @ storage disk_full            what the spool says to the next draft (the sessions alone only)
    @ drain                        the service begins to stop (the sessions alone only)
    @ wire                         needs octets to be read as octets: not for the sessions alone
    C: EHLO client                 a line of the client, CRLF is added; lines in a row are one write
    C! one\\ntwo                    octets of the client with Python's escapes, nothing is added
    S: 250 2.1.0                   one whole reply of the server; its first line begins so
    S: 250-relay                   a line of a reply that goes on
    S: close                       the server closes
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from penstock.smtp.extensions import Extensions

__all__ = ["SCRIPTS", "Script", "Step", "read"]

EXTENSIONS = {one.name for one in fields(Extensions)}
SCRIPTS = sorted(Path(__file__).with_name("scripts").glob("*.txt"))


@dataclass
class Step:
    """One line of a script."""

    number: int
    kind: str
    """send, expect, close, storage or drain."""
    data: bytes = b""
    text: str = ""


@dataclass
class Script:
    """A dialogue."""

    name: str
    peer: str = "127.0.1.1"
    needs_wire: bool = False
    needs_session: bool = False
    settings: dict[str, int] = field(default_factory=dict)
    extensions: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def read(path: Path) -> Script:
    """Read a script.

    Raises:
        ValueError: A line is none of those above.
    """
    script = Script(path.stem)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, rest = line.partition(" ")
        if not line or mark.startswith("#"):
            continue
        if mark == "@":
            directive(script, number, rest)
        elif mark in ("C:", "C!"):
            data = (
                rest.encode() + b"\r\n"
                if mark == "C:"
                else rest.encode().decode("unicode_escape").encode("latin-1")
            )
            if script.steps and script.steps[-1].kind == "send":
                script.steps[-1].data += data
            else:
                script.steps.append(Step(number, "send", data))
        elif mark == "S:" and rest == "close":
            script.steps.append(Step(number, "close"))
        elif mark == "S:":
            script.steps.append(Step(number, "expect", text=rest))
        else:
            raise ValueError(f"{path.name}:{number}: {line!r} is no line of a dialogue")
    return script


def directive(script: Script, number: int, text: str) -> None:
    """Take in a line that begins with @."""
    word, _, rest = text.partition(" ")
    if word == "peer":
        script.peer = rest
    elif word == "set":
        key, _, value = rest.partition("=")
        if key in EXTENSIONS:
            script.extensions[key] = value if key == "size" else value == "true"
        else:
            script.settings[key] = int(value)
    elif word == "wire":
        script.needs_wire = True
    elif word in ("storage", "drain"):
        script.needs_session = True
        script.steps.append(Step(number, word, text=rest))
    else:
        raise ValueError(f"{script.name}:{number}: no directive is called {word!r}")
