"""`penstock status`: the daemon in some ten lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from penstock.cli.options import Options, Verb, pass_options
from penstock.cli.output import print_json, print_line
from penstock.cli.text import age, plural, printable, size
from penstock.client import Client

__all__ = ["status"]

EXIT_ALARM = 1


@click.command(cls=Verb, example="penstock status")
@pass_options
def status(options: Options) -> int:
    """Show what the daemon is and how it is.

    Ends with 1 if an alarm is up.
    """
    with Client(options.url()) as client:
        answer = client.status()
    if options.json:
        print_json([answer])
    else:
        for title, text in _lines(answer):
            print_line(f"{title:<11} {printable(text)}".rstrip())
    return EXIT_ALARM if answer["alarms"] else 0


def _lines(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    now = answer["at"]
    waiting, spool = answer["waiting"], answer["spool"]
    yield (
        "Server",
        f"{answer['server']}, {answer['state']}, up {age(answer['started_at'], now)}, "
        f"penstock {answer['version']}, profile {answer['profile']}, "
        f"generation {answer['generation']}, pid {answer['pid']}",
    )
    listeners = [f"{each['address']} ({', '.join(each['connectors'])})" for each in answer["listeners"]]
    yield "Listening", "; ".join(listeners) or "nowhere"
    yield "Sending", ", ".join(answer["send_connectors"]) or "no send connector"
    yield "In", f"{plural(answer['accepted'], 'message')}; {plural(answer['sessions'], 'session')} now"
    yield (
        "Out",
        f"{plural(answer['delivered'], 'recipient')} delivered, {answer['failed']} failed, "
        f"{answer['in_doubt']} in doubt",
    )
    yield "Waiting", _waiting(waiting, now)
    yield (
        "Disk",
        f"{size(spool['free_bytes'])} free at {spool['path']}; "
        f"mail is refused below {size(spool['refuse_mail_below_bytes'])}",
    )
    alarms = answer["alarms"]
    yield "Alarms", "none" if not alarms else alarms[0]["message"]
    for alarm in alarms[1:]:
        yield "", alarm["message"]


def _waiting(waiting: dict[str, Any], now: str) -> str:
    if not waiting["messages"]:
        return "nothing"
    parts = [
        f"{waiting[name]} {name}"
        for name in ("ready", "active", "retry", "suspended", "unreachable")
        if waiting[name]
    ]
    text = f"{plural(waiting['messages'], 'message')} in {plural(waiting['queues'], 'queue')}"
    if parts:
        text += f" ({', '.join(parts)})"
    return text if waiting["oldest_at"] is None else f"{text}, oldest {age(waiting['oldest_at'], now)}"
