"""Makes the table of docs/conformance.md: the matrix against Penstock, Postfix and Exim, as Debian has them.

Needs root, because Postfix and Exim do. Prints the table; `--write` puts it into the document; `--server`
runs one and prints all that is not a pass.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benches.postfix import Postfix
from penstock.conformance.case import all_cases
from penstock.conformance.dialogue import Verdict
from penstock.conformance.runner import Result, Target, probe, run
from tests.support import matrix
from tests.support.daemon import Daemon
from tests.support.receiver import Receiver
from tools import debian
from tools.exim import PASSWORD, USER, Exim

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"
BEGIN, END = "<!-- made by tools/conformance.py -->\n", "<!-- end -->\n"
SERVERS = ("penstock", "postfix", "exim")
RECIPIENT = "you@penstock.test"


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/conformance.md")
    parser.add_argument("--server", choices=SERVERS, help="only this one, with what is not a pass")
    asked = parser.parse_args()
    if asked.server:
        for result in _results(asked.server):
            if result.outcome.verdict is not Verdict.PASS:
                outcome, case = result.outcome, result.case
                print(f"{outcome.verdict:12} {case.level:6} {case.id}: {outcome.reason}")
        return 0
    text = table({server: _results(server) for server in SERVERS})
    if asked.write:
        document = DOCUMENT.read_text(encoding="utf-8")
        before, _, rest = document.partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")
    else:
        print(text)
    return 0


def table(results: dict[str, list[Result]]) -> str:
    """Return the counts by RFC, and each rule that somebody does not keep, as Markdown."""
    names = [name.capitalize() for name in results]
    lines = [
        "Cases that pass, of those that could be asked; in brackets the MUST that are not kept.",
        "",
        f"| RFC | cases | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    rfcs = sorted({result.case.rfc for each in results.values() for result in each})
    for rfc in (*rfcs, None):
        rows = [[result for result in each if rfc in (None, result.case.rfc)] for each in results.values()]
        label = "all" if rfc is None else str(rfc)
        lines.append(f"| {label} | {len(rows[0])} | {' | '.join(map(_share, rows))} |")
    lines += ["", "What is not kept:", "", f"| case | level | rule | {' | '.join(names)} |"]
    lines.append(f"|---|---|---|{'---|' * len(names)}")
    for row in zip(*results.values(), strict=True):
        if any(result.outcome.verdict in (Verdict.FAIL, Verdict.ERROR) for result in row):
            case = row[0].case
            lines.append(f"| {case.id} | {case.level} | {case.rule} | {' | '.join(map(_cell, row))} |")
    return "\n".join(lines) + "\n"


def _share(results: Sequence[Result]) -> str:
    counts = Counter(result.outcome.verdict for result in results)
    asked = counts[Verdict.PASS] + counts[Verdict.FAIL] + counts[Verdict.ERROR]
    if not asked:
        return "not offered"
    broken = sum(result.outcome.verdict is Verdict.FAIL and result.case.level == "MUST" for result in results)
    return f"{counts[Verdict.PASS]}/{asked}" + (f" ({broken})" if broken else "")


def _cell(result: Result) -> str:
    if result.outcome.verdict is not Verdict.FAIL:
        return str(result.outcome.verdict)
    came = result.outcome.reason.partition(": ")[2] or result.outcome.reason
    if result.outcome.reason.startswith("the message"):
        return "**delivered otherwise**"
    # Octets of a peer, and names of this machine, have no place in the table.
    code = re.match(r"\d{3}( [245]\.\d+\.\d+)?", came)
    return f"**{code[0] if code else re.sub(r'[|`].*', '', came)[:60].strip()}**"


def _results(server: str) -> list[Result]:
    with (
        tempfile.TemporaryDirectory(prefix="conformance-") as folder,
        Receiver() as sink,
        _running(server, Path(folder), sink.port) as target,
    ):
        return list(run(target, all_cases(), probe(target)))


@contextlib.contextmanager
def _running(server: str, folder: Path, sink_port: int) -> Iterator[Target]:
    """Run a server whose smart host is the sink, and say how to ask it."""
    if server == "penstock":
        with Daemon(folder / server, matrix.everything(folder, sink_port)) as daemon:
            yield _target(daemon.port, daemon.drop, user=matrix.USER)
        return
    certificate, key = _certificate(folder)
    if server == "postfix":
        drop = folder / "drop"
        drop.mkdir(mode=0o777)
        drop.chmod(0o777)
        mailboxes = "you@penstock.test=drop/, postmaster@penstock.test=drop/"
        more = {
            "virtual_mailbox_domains": "penstock.test",
            "virtual_mailbox_base": str(folder),
            "virtual_mailbox_maps": f"inline:{{{mailboxes}}}",
            "virtual_uid_maps": "static:65534",
            "virtual_gid_maps": "static:65534",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(certificate),
            "smtpd_tls_key_file": str(key),
            "smtpd_error_sleep_time": "0",
        }
        with Postfix(folder / server, smart_host_port=sink_port, settings=more) as postfix:
            yield _target(postfix.port, drop)
        return
    if not (debian.EXIM / "usr/sbin/exim4").exists():
        debian.fetch_exim()
    with Exim(folder / server, smart_host_port=sink_port, certificate=certificate, key=key) as exim:
        yield _target(exim.port, exim.drop, user=(USER, PASSWORD))


def _target(port: int, drop: Path, user: tuple[str, str] | None = None) -> Target:
    return Target(
        host="127.0.0.1",
        port=port,
        sender="me@sender.test",
        recipient=RECIPIENT,
        relay_recipient="far@elsewhere.test",
        foreign_recipient="nobody@penstock.test",
        user=user,
        maildir=drop,
    )


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate signed by its own key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=mail.test"
    )
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    folder.chmod(0o755)
    key.chmod(0o644)
    return certificate, key


if __name__ == "__main__":
    sys.exit(main())
