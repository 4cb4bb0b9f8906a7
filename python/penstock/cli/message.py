"""`penstock message`: messages that wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

import click

from penstock.cli.options import Noun, Options, pass_options
from penstock.cli.output import colour_status, columns, print_json, print_line, remark
from penstock.cli.table import Column, Table
from penstock.cli.text import age, plural, printable, size, stamp, until
from penstock.client import Client, Page

__all__ = ["message"]

LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 250_000

_QUEUE: Final = Column(title="QUEUE", narrowest=8)
_COLUMNS: Final = (
    Column(title="ID"),
    _QUEUE,
    Column(title="STATUS"),
    Column(title="FROM", narrowest=10),
    Column(title="TO (1st)", narrowest=10),
    Column(title="+N", is_number=True),
    Column(title="SIZE", is_number=True),
    Column(title="AGE", is_number=True),
    Column(title="WHY"),
    Column(title="NEXT TRY", is_number=True),
)


@click.group(cls=Noun, example="penstock message list --queue m365 --limit 20")
def message() -> None:
    """Messages that wait: one row for every queue that a message is in."""


@message.command("list", example="penstock message list --queue m365 --limit 20")
@click.option("--queue", metavar="QUEUE", help="Only this queue: its name, its number or SERVER\\NAME.")
@click.option(
    "--limit",
    type=click.IntRange(1, LIMIT_MAX),
    default=LIMIT_DEFAULT,
    show_default=True,
    help="Rows at most.",
)
@click.option("--cursor", metavar="CURSOR", help="Go on where an earlier list ended.")
@pass_options
def list_messages(options: Options, *, queue: str | None, limit: int, cursor: str | None) -> None:
    """List messages, oldest first."""
    # Named already: its column would say the same in every row.
    shown = [column for column in _COLUMNS if queue is None or column is not _QUEUE]
    table = Table(shown, columns_max=columns(), style=partial(colour_status, options))
    found = 0
    with Client(options.url()) as client:
        try:
            for page in client.message_pages(queue=queue, limit=limit, cursor=cursor):
                found += len(page.items)
                if options.json:
                    print_json(page.items)
                elif page.items:
                    for line in table.lines(_cells(page, has_queue=queue is None)):
                        print_line(line)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if not page.complete:
        remark(options, "The daemon was too slow to list all.")
    if page.next is not None:
        remark(options, f"more: --cursor {page.next}")
    elif not found and not options.json:
        remark(options, "Nothing is waiting." if queue is None else f"Nothing is waiting in {queue}.")


@message.command("show", example="penstock message show 0saj3v6580402")
@click.argument("identity", metavar="MESSAGE")
@pass_options
def show_message(options: Options, *, identity: str) -> None:
    """Show one message: where it came from, and where it waits and why.

    MESSAGE is its id, QUEUE/ID or SERVER/QUEUE/ID.
    """
    with Client(options.url()) as client:
        answer = client.message(identity)
    if options.json:
        print_json([answer])
        return
    for title, text in _lines(answer, options.utc):
        print_line(f"{title:<11} {printable(text)}".rstrip())


def _cells(page: Page, *, has_queue: bool) -> Iterator[tuple[str, ...]]:
    for row in page.items:
        recipients, next_try_at = row["recipients"], row["next_try_at"]
        yield (
            row["queue_id"],
            *((row["queue"],) if has_queue else ()),
            row["status"],
            row["from"] or "<>",
            recipients[0]["address"] if recipients else "",
            str(max(0, row["recipient_count"] - 1)),
            size(row["size_bytes"]),
            age(row["received_at"], page.at),
            row["reason"],
            "" if next_try_at is None else until(next_try_at, page.at),
        )


def _lines(answer: Mapping[str, Any], is_utc: bool) -> Iterator[tuple[str, str]]:
    now = answer["snapshot"]["at"]
    received_at = answer["received_at"]
    yield "Message", answer["queue_id"]
    yield "From", answer["from"] or "<>"
    yield "Subject", answer["subject"] or ""
    yield "Message-ID", answer["message_id"] or ""
    yield "Size", size(answer["size_bytes"])
    source = "made by Penstock"
    if answer["connector"] is not None:
        source = f"from {answer['peer'] or 'an unknown address'} through {answer['connector']}"
    yield "Received", f"{stamp(received_at, is_utc=is_utc)} ({age(received_at, now)} ago), {source}"
    if answer["parameters"]:
        yield "Asked for", ", ".join(answer["parameters"])
    if answer["changed"]:
        yield "Changed", ", ".join(answer["changed"])
    for entry in answer["entries"]:
        yield from _entry_lines(entry, now, is_utc)


def _entry_lines(entry: Mapping[str, Any], now: str, is_utc: bool) -> Iterator[tuple[str, str]]:
    doubt = "; in doubt: the peer may have it already" if entry["in_doubt"] else ""
    yield "", ""
    yield "Queue", f"{entry['queue']}, {entry['status']}, {entry['reason']}{doubt}"
    yield "Tried", plural(entry["attempts"], "time")
    if entry["last_error"]:
        yield "Last error", entry["last_error"]
    next_try_at, expires_at = entry["next_try_at"], entry["expires_at"]
    if next_try_at is not None:
        yield "Next try", f"{stamp(next_try_at, is_utc=is_utc)} ({until(next_try_at, now)})"
    yield "Expires", f"{stamp(expires_at, is_utc=is_utc)} ({until(expires_at, now)})"
    for title, recipient in zip(("To", *[""] * len(entry["recipients"])), entry["recipients"], strict=False):
        reply = f": {recipient['reply']}" if recipient["reply"] else ""
        yield title, f"{recipient['address']}, {recipient['state']}{reply}"
