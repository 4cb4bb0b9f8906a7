"""Problems as people and as programs read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from penstock.config.problems import Problem

__all__ = ["as_json", "as_text", "headline"]

SHOWN_MAX: Final = 50
LINE_SHOWN_MAX: Final = 120
LEAD_SHOWN: Final = 40
"""What is shown of a long line before the place that is meant."""


def headline(problems: Sequence[Problem]) -> str:
    """Return the count, as in `configuration refused: 2 errors, 1 warning.`."""
    counts = {
        kind: sum(problem.severity == kind for problem in problems) for kind in ("error", "warning", "note")
    }
    said = [f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts.items() if count]
    verdict = "refused" if counts["error"] else "accepted"
    return f"configuration {verdict}: {', '.join(said)}." if said else f"configuration {verdict}."


def as_text(problems: Sequence[Problem]) -> str:
    """Return one paragraph per problem, with its line and a mark under what is meant.

    The last line has no end.
    """
    paragraphs = [_paragraph(problem) for problem in problems[:SHOWN_MAX]]
    if len(problems) > SHOWN_MAX:
        paragraphs.append(f"and {len(problems) - SHOWN_MAX} more")
    return "\n\n".join(paragraphs)


def as_json(problem: Problem) -> str:
    """Return one line: code, severity, file, line, column, path, message, fix."""
    return json.dumps(dict(problem.fields()))


def _paragraph(problem: Problem) -> str:
    title = f"{problem.severity} {problem.code}  {problem.place}"
    lines = [f"{title}   {problem.path}" if problem.path else title]
    if problem.source_line.strip():
        lines += _excerpt(problem)
    lines.append(f"  {problem.message}")
    if problem.fix is not None:
        first, *more = problem.fix.split("\n")
        lines += [f"  write:  {first}", *(f"          {line}" for line in more)]
    return "\n".join(_printable(line) for line in lines)


def _excerpt(problem: Problem) -> list[str]:
    """The source line and its mark; of a long line the part around the mark."""
    begin = 0
    if len(problem.source_line) > LINE_SHOWN_MAX:
        begin = max(0, problem.column - 1 - LEAD_SHOWN)
    shown = problem.source_line[begin : begin + LINE_SHOWN_MAX]
    column = problem.column - 1 - begin
    number = str(problem.line).rjust(6)
    mark = "^" * max(1, min(problem.width, len(shown) - column))
    return [f"{number} | {shown}", f"{' ' * len(number)} | {' ' * column}{mark}"]


def _printable(line: str) -> str:
    """Keep columns aligned, and terminals safe from what a file contains."""
    return "".join(character if character.isprintable() else "?" for character in line.replace("\t", " "))
