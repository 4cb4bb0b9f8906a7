"""`penstock explain`: why something is as it is, from the configuration, without a daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.config import load_config, override_option
from penstock.cli.options import Noun, Options, pass_options
from penstock.cli.output import print_line

if TYPE_CHECKING:
    from penstock.config.settings import Config
    from penstock.receive.explaining import Explanation

__all__ = ["explain"]

EXIT_NO: Final = 1


@click.group(cls=Noun, example="penstock explain connect --from 10.20.0.7 --to info@contoso.example")
def explain() -> None:
    """Why something is as it is."""


@explain.command(
    "connect", example="penstock explain connect --from 10.20.0.7 --auth erp --to info@contoso.example"
)
@click.option("--from", "peer", required=True, metavar="IP", help="Address of the peer.")
@click.option(
    "--listener", metavar="ADDRESS:PORT", help="Where it connects.  [the first binding that covers it]"
)
@click.option("--auth", "login", default="", metavar="USER", help="The name with which it authenticates.")
@click.option("--sender", metavar="ADDRESS", help="A sender to judge; <> is the null sender.  [<>]")
@click.option("--to", "recipient", metavar="ADDRESS", help="A recipient to judge.")
@override_option
@pass_options
def connect(
    options: Options,
    *,
    peer: str,
    listener: str | None,
    login: str,
    sender: str | None,
    recipient: str | None,
    overrides: tuple[str, ...],
) -> int:
    """Which receive connector a peer meets, which rights and limits it has, and why.

    Nothing is sent, and no daemon is asked. Ends with 1 if the peer would be turned away, or what was asked
    about would be refused.
    """
    from penstock.assembly import receive_settings
    from penstock.receive.explaining import explain as explained

    config = load_config(options, overrides)
    settings = receive_settings(config)
    try:
        number = _listener(config, listener, peer)
        where = str(config.listeners[number])
        found = explained(
            settings,
            number,
            peer,
            login=login,
            sender=_mailbox(sender),
            recipient=_mailbox(recipient) if recipient else None,
        )
    except ValueError as error:
        raise click.UsageError(f"--from: {error}") from None
    if options.json:
        print_line(json.dumps(_as_json(found, where)))
    else:
        for line in _as_text(found, where, sender, recipient):
            print_line(line)
    is_taken = found.connector is not None and found.sender is None and found.recipient is None
    return 0 if is_taken else EXIT_NO


def _mailbox(text: str | None) -> tuple[str, str]:
    """Return an address and its domain, as a session has them."""
    from penstock.envelope import Recipient
    from penstock.errors import InvalidEnvelope

    if text is None or text in ("", "<>"):
        return "", ""
    try:
        mailbox = Recipient(text.removeprefix("<").removesuffix(">"))
    except InvalidEnvelope as error:
        raise click.UsageError(f"{text}: {error.reason}") from None
    return mailbox.address, mailbox.domain


def _listener(config: Config, asked: str | None, peer: str) -> int:
    """Return the number of a listener: the one that is named, else the first on which the peer is covered."""
    from penstock.assembly import receive_settings
    from penstock.receive.connectors import ReceiveConnectors

    names = [str(endpoint) for endpoint in config.listeners]
    if not names:
        raise click.UsageError("the configuration has no listener")
    if asked is not None:
        if asked not in names:
            raise click.UsageError(f"--listener: there are {', '.join(names)}")
        return names.index(asked)
    ranges = ReceiveConnectors(receive_settings(config).connectors)
    covered = (number for number in range(len(names)) if ranges.find(number, peer) is not None)
    return next(covered, 0)


def _as_json(found: Explanation, where: str) -> dict[str, object]:
    return {
        "peer": found.peer_ip,
        "listener": where,
        "login": found.login or None,
        "connector": found.connector,
        "proxy": found.is_proxy,
        "candidates": [
            {"connector": one.name, "chosen": one.is_chosen, "reason": one.reason} for one in found.candidates
        ],
        "groups": [
            {"group": group.name, "member": group.is_member, "rights": list(group.rights)}
            for group in found.groups
        ],
        "rights": list(found.rights),
        "limits": dict(found.limits),
        "sender_reply": found.sender,
        "recipient_reply": found.recipient,
    }


def _as_text(found: Explanation, where: str, sender: str | None, recipient: str | None) -> list[str]:
    who = f"{found.peer_ip} as {found.login}" if found.login else found.peer_ip
    if found.connector is None:
        lines = [f"{who} is turned away on {where}: no receive connector covers it."]
    else:
        lines = [f"{who} meets receive connector {found.connector} on {where}."]
    if found.is_proxy:
        lines.append(
            f"  {found.peer_ip} has to begin with the PROXY protocol; what follows holds if it speaks"
        )
        lines.append("  for itself. Ask about the client's address for what it gets for others.")
    lines += [f"  {'->' if one.is_chosen else '  '} {one.name}: {one.reason}" for one in found.candidates]
    if found.connector is None:
        return lines
    lines.append("Rights    " + (", ".join(found.rights) or "none"))
    for group in found.groups:
        belongs = "member" if group.is_member else "no member"
        lines.append(f"          {group.name} ({belongs}): {', '.join(group.rights) or 'nothing'}")
    lines.append("Limits    " + "\n          ".join(f"{name}: {value}" for name, value in found.limits))
    lines.append(f"MAIL      from {sender or '<>'}: {found.sender or 'taken'}")
    if recipient:
        lines.append(f"RCPT      to {recipient}: {found.recipient or 'taken'}")
    return lines
