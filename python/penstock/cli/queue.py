"""`penstock queue`: delivery queues."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import click

from penstock.cli.options import Noun, Options, pass_options
from penstock.cli.output import colour_status, columns, print_json, print_line, remark
from penstock.cli.table import Column, Table
from penstock.cli.text import age, plural, until
from penstock.client import Client, Page

__all__ = ["queue"]

_COLUMNS: Final = (
    Column(title="ID", is_number=True),
    Column(title="NAME", narrowest=12),
    Column(title="TYPE"),
    Column(title="STATUS"),
    Column(title="COUNT", is_number=True),
    Column(title="RETRY", is_number=True),
    Column(title="NEXT TRY", is_number=True),
    Column(title="OLDEST", is_number=True),
    Column(title="LAST ERROR", narrowest=16),
)
# What needs an operator first; within that, what has waited longest.
_WORST_FIRST: Final = {"Suspended": 0, "Retry": 1}


@click.group(cls=Noun, example="penstock queue list")
def queue() -> None:
    """Delivery queues: all that waits for one next hop."""


@queue.command("list", example="penstock queue list")
@pass_options
def list_queues(options: Options) -> None:
    """List the queues that hold something, worst first."""
    with Client(options.url()) as client:
        page = client.queues()
    rows = sorted(page.items, key=lambda row: (_WORST_FIRST.get(row["status"], 2), row["oldest_at"] or "~"))
    if options.json:
        print_json(rows)
        return
    if rows:
        table = Table(_COLUMNS, columns_max=columns(), style=partial(colour_status, options))
        for line in table.lines(_cells(row, page.at) for row in rows):
            print_line(line)
    remark(options, _summary(page))


def _cells(row: Mapping[str, Any], now: str) -> tuple[str, ...]:
    next_retry_at, oldest_at = row["next_retry_at"], row["oldest_at"]
    return (
        str(row["id"]),
        row["name"],
        row["type"],
        row["status"],
        str(row["count"]),
        str(row["retry_count"]),
        "" if next_retry_at is None else until(next_retry_at, now),
        "" if oldest_at is None else age(oldest_at, now),
        row["last_error"] or "",
    )


def _summary(page: Page) -> str:
    if not page.items:
        return "Nothing is waiting." if page.complete else "The daemon was too slow to say what is waiting."
    messages = sum(row["count"] for row in page.items)
    text = f"{plural(messages, 'message')} in {plural(len(page.items), 'queue')}"
    if not page.complete:
        return f"{text} so far: the daemon was too slow to list all"
    if all(row["type"] != "Unreachable" for row in page.items):
        text += "; Unreachable is empty"
    return text
