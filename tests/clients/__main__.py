"""Makes the table of docs/clients.md: every client, with TLS and without, with a large and an 8-bit message.

Prints the table; `--write` puts it into the document; `--client` runs one and shows what is said. What `make
debian` and `make clients` fetch should be there, and root, which Postfix and Exim need.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.clients.catalogue import CLIENTS
from tests.clients.matrix import KINDS, Outcome, attempt, running
from tests.clients.sending import Client
from tests.support.daemon import Daemon

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
BEGIN, END = "<!-- made by python -m tests.clients -->\n", "<!-- end -->\n"
COLUMNS = [(tls, kind) for tls in (False, True) for kind in KINDS]


def main() -> int:
    """Run what is asked for; 1 if something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    parser.add_argument("--client", choices=[client.name for client in CLIENTS], help="only this one")
    asked = parser.parse_args()
    chosen = [client for client in CLIENTS if asked.client in (None, client.name)]
    rows = {}
    with tempfile.TemporaryDirectory(prefix="clients-") as folder, running(Path(folder)) as daemon:
        for client in chosen:
            rows[client.name] = _outcomes(client, daemon, Path(folder))
            for (tls, kind), outcome in zip(COLUMNS, rows[client.name], strict=False):
                title = f"{client.name}, {'TLS' if tls else 'plain'}, {kind}"
                print(f"{title}: {outcome.fault or 'ok'}", file=sys.stderr)
                if asked.client:
                    print(outcome.dialogue, file=sys.stderr)
    text = table(chosen, rows)
    if asked.write:
        document = DOCUMENT.read_text(encoding="utf-8")
        before, _, rest = document.partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")
    else:
        print(text, end="")
    return int(any(outcome.fault for outcomes in rows.values() for outcome in outcomes))


def table(clients: Sequence[Client], rows: dict[str, list[Outcome]]) -> str:
    """Return the outcomes as Markdown; a client without outcomes has not been run, and the row says why."""
    titles = [f"{'TLS' if tls else 'plain'}, {kind}" for tls, kind in COLUMNS]
    lines = [f"| client | version | {' | '.join(titles)} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for client in clients:
        if rows[client.name]:
            altered = "as the client altered it" if client.note else "ok"
            cells = [client.version(), *(_cell(outcome, altered) for outcome in rows[client.name])]
        else:
            cells = ["", f"not run: {client.missing()}", *[""] * (len(COLUMNS) - 1)]
        mark = "*" if client.note else ""
        lines.append(f"| {client.name}{mark} | {' | '.join(cells)} |")
    notes = [f"\\* {client.name} {client.note}." for client in clients if client.note and rows[client.name]]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def _outcomes(client: Client, daemon: Daemon, folder: Path) -> list[Outcome]:
    """Run a client in all columns; nothing if it cannot be had."""
    if client.missing() is not None:
        return []
    return [attempt(client, daemon, folder, tls=tls, kind=kind) for tls, kind in COLUMNS]


def _cell(outcome: Outcome, verdict: str) -> str:
    if outcome.fault:
        # One line, and nothing that ends a cell.
        return f"**{' '.join(outcome.fault.split())[:120].replace('|', '/')}**"
    used = [each for each in outcome.used if each not in ("EHLO", "DATA")]
    return ", ".join((f"{verdict}: {outcome.protocol}", *used))


if __name__ == "__main__":
    sys.exit(main())
