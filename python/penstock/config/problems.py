"""What is wrong with a configuration, and where: one value per problem, with a code of fixed meaning.

C1xx are errors: nothing is started. C2xx are warnings and never block. C3xx are notes for those who ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["CODES", "Problem", "Severity"]

Severity: TypeAlias = Literal["error", "warning", "note"]

_SEVERITIES: Final[dict[str, Severity]] = {"1": "error", "2": "warning", "3": "note"}

CODES: Final = {
    "C100": "The file is no TOML.",
    "C101": "No key or table has this name.",
    "C102": "A key that is needed is missing.",
    "C103": "Two values do not go together.",
    "C104": "A number needs a unit.",
    "C105": "The value is of the wrong type.",
    "C106": "The value is outside its limits.",
    "C107": "The value is none of those that are possible.",
    "C108": "The value cannot be read.",
    "C109": "This is known but not possible in this version.",
    "C110": "Two connectors have the same name.",
    "C111": "The same thing is said twice.",
    "C112": "The key is allowed in the main file only.",
    "C113": "A drop-in could be changed by others than root and the service's user.",
    "C114": "The file cannot be read.",
    "C115": "This is no `--set key=value`.",
    "C120": "The connector would be an open relay.",
    "C121": "An authoritative domain needs `recipients` and `deliver_to`.",
    "C122": "A connector on which anybody may relay needs `remote_ip_ranges`.",
    "C123": "A send connector needs `smart_hosts`.",
    "C124": "`deliver_to` belongs to an authoritative domain.",
    "C125": "A file that the configuration names cannot be read.",
    "C126": "Two addresses to listen on exclude each other.",
    "C127": "A certificate and its key cannot be used.",
    "C128": "No certificate has this name.",
    "C129": "TLS needs `tls_certificate_name`.",
    "C132": "A file with secrets could be read or changed by others.",
    "C133": "A receive connector names a permission group that does not exist.",
    "C134": "`basic_auth` needs a user store.",
    "C135": "LMTP is not for port 25.",
    "C201": "No receive connector is in force: no mail comes in.",
    "C202": "The server has no fully qualified name.",
    "C203": "Two ranges are the same: the first one wins.",
    "C204": "A certificate comes without those that vouch for it.",
    "C205": "No send connector covers a relay domain: its mail waits as Unreachable.",
    "C206": "A network is written with an address inside it.",
    "C207": "A certificate does not hold now.",
    "C208": "An extension is offered that delivery does not honour yet.",
    "C209": "Passwords come in unencrypted from public addresses.",
    "C210": "A connector of the profile is not in force.",
    "C301": "One file overrides another.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, or worth knowing, in one place.

    Attributes:
        code: One of `CODES`.
        file: The file as its reader knows it; `--set` for the command line.
        line: From 1; 0 if the file as a whole is meant. Of `--set` the number of the option.
        column: From 1, in characters; 0 with line 0.
        path: The key, as `table.name.key`; empty if none is meant.
        message: What is wrong and why, in a sentence or two.
        fix: What to write instead, one or more lines of TOML, if that is known.
        source_line: The line as it is written.
        width: Characters of the line that are meant, from `column`.
    """

    code: str
    file: str
    line: int
    column: int
    path: str
    message: str
    fix: str | None = None
    source_line: str = ""
    width: int = 1

    @property
    def severity(self) -> Severity:
        """`error` refuses the configuration, `warning` and `note` do not."""
        return _SEVERITIES[self.code[1]]

    @property
    def place(self) -> str:
        """The file, with line and column if there are any."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def fields(self) -> Iterator[tuple[str, str | int | None]]:
        """Yield what programs are told, in this order."""
        yield from (("code", self.code), ("severity", self.severity), ("file", self.file))
        yield from (("line", self.line or None), ("column", self.column or None))
        yield from (("path", self.path), ("message", self.message), ("fix", self.fix))
