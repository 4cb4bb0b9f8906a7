"""`penstock test conformance`: the rules of the SMTP RFCs, asked of any server."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.options import Noun, Options, pass_options
from penstock.cli.output import columns, print_json, print_line, remark, say
from penstock.cli.table import Column, Table
from penstock.cli.text import plural, printable

if TYPE_CHECKING:
    from penstock.conformance.case import Case
    from penstock.conformance.runner import Result, Target

__all__ = ["test"]

EXIT_NO: Final = 1
EXIT_UNREACHABLE: Final = 3

_VERDICTS: Final = ("pass", "fail", "not offered", "not testable", "error")
_TITLES: Final = ("RFC", "CASES", *(verdict.upper() for verdict in _VERDICTS))


class Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT; an IPv6 address stands in brackets."""

    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return host and port."""
        host, colon, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65_536:
            self.fail(f"{value!r} is not HOST:PORT, such as 127.0.0.1:25 or [::1]:25", param, ctx)
        return host, int(port)


class Mailbox(click.ParamType[str]):
    """An address that can stand in a command."""

    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address."""
        text = str(value)
        local, _, domain = text.rpartition("@")
        if (
            not local
            or not domain
            or not text.isascii()
            or not text.isprintable()
            or set(" <>{}\\") & set(text)
        ):
            self.fail(f"{value!r} is not LOCAL-PART@DOMAIN", param, ctx)
        return text


@click.group(cls=Noun, example="penstock test conformance 127.0.0.1:2525")
def test() -> None:
    """Tests of mail servers, this one or others."""


@test.command(
    "conformance",
    example="penstock test conformance 127.0.0.1:2525 --recipient you@example.org --only 5321",
)
@click.argument("address", type=Address())
@click.option("--recipient", type=Mailbox(), help="Whose mail the server takes.  [postmaster]")
@click.option(
    "--relay-recipient",
    type=Mailbox(),
    help="Somebody elsewhere; the server takes mail to any local-part of that domain.",
)
@click.option("--foreign-recipient", type=Mailbox(), help="Somebody whose mail it does not take.")
@click.option("--sender", type=Mailbox(), help="The reverse-path.  [conformance@ recipient's domain]")
@click.option(
    "--helo", default="conformance.test", show_default=True, metavar="NAME", help="Our name in EHLO."
)
@click.option("--user", metavar="NAME", help="Somebody who may log on; with --password-file.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="His password, the first line of a file.",
)
@click.option(
    "--maildir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Where mail to the recipient is delivered: cases then look at it too.",
)
@click.option("--implicit-tls", is_flag=True, help="TLS begins with the connection (RFC 8314).")
@click.option("--submission", "is_submission", is_flag=True, help="It takes mail from users (RFC 6409).")
@click.option(
    "--lmtp", "is_lmtp", is_flag=True, help="It speaks LMTP (RFC 2033), and is asked of that alone."
)
@click.option("--only", type=int, multiple=True, metavar="RFC", help="Only this RFC; may be given again.")
@click.option("--case", "names", multiple=True, metavar="ID", help="Only this case; may be given again.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
)
@click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Cases at a time.")
@pass_options
def conformance(
    options: Options,
    /,
    *,
    address: tuple[str, int],
    only: tuple[int, ...],
    names: tuple[str, ...],
    user: str | None,
    password_file: Path | None,
    **more: Any,
) -> int:
    """Ask a server for every rule of the SMTP RFCs, a dialogue each.

    Sends mail to the recipients named, a few hundred small messages. Ends with 1 if a MUST is not kept. A
    rule of an extension that EHLO does not announce is `not offered`; one for which something is missing,
    such as an address, is `not testable`, and the reason says what.
    """
    from penstock.conformance.runner import Unreachable, probe, run

    cases = _chosen(only, names)
    target = _target(address, user, password_file, more)
    try:
        offer = probe(target)
    except Unreachable as error:
        say(printable(f"penstock: {error}"))
        return EXIT_UNREACHABLE
    is_shown = sys.stderr.isatty() and not options.quiet

    def progress(done: int) -> None:
        if is_shown:
            sys.stderr.write(f"\r{done} of {len(cases)}")
            sys.stderr.flush()

    results = list(run(target, cases, offer, progress=progress))
    if is_shown:
        sys.stderr.write("\r\x1b[K")
    if options.json:
        print_json(map(_as_json, results))
    else:
        _print(options, results)
    failed = Counter(result.case.level for result in results if result.outcome.verdict == "fail")
    remark(
        options,
        f"{plural(len(results), 'case')}: {failed['MUST']} MUST and {failed['SHOULD']} SHOULD are not kept.",
    )
    return EXIT_NO if failed["MUST"] else 0


def _chosen(only: Sequence[int], names: Sequence[str]) -> list[Case]:
    """Return the cases that are wanted.

    Raises:
        click.UsageError: There is no such RFC or case.
    """
    from penstock.conformance.case import all_cases

    cases = all_cases()
    rfcs = {case.rfc for case in cases}
    if unknown := set(only) - rfcs:
        known = ", ".join(map(str, sorted(rfcs)))
        raise click.UsageError(f"no cases of RFC {min(unknown)}; there are: {known}")
    if strange := set(names) - {case.id for case in cases}:
        raise click.UsageError(f"no case {min(strange)}; `--json` shows the ids")
    return [case for case in cases if (not only or case.rfc in only) and (not names or case.id in names)]


def _target(
    address: tuple[str, int], user: str | None, password_file: Path | None, more: dict[str, Any]
) -> Target:
    from penstock.conformance.runner import Target

    if (user is None) != (password_file is None):
        raise click.UsageError("--user and --password-file go together")
    login = None
    if user is not None and password_file is not None:
        try:
            lines = password_file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise click.UsageError(f"{password_file}: {error}") from None
        login = (user, lines[0] if lines else "")
    helo = more.pop("helo")
    addresses = ("sender", "recipient", "relay_recipient", "foreign_recipient")
    told: dict[str, Any] = {name: more.pop(name) or "" for name in addresses}
    if not helo.isascii() or not helo.isprintable() or not helo or set(" {}") & set(helo):
        raise click.UsageError("--helo is a domain or an address literal")
    return Target(
        host=address[0],
        port=address[1],
        is_tls=more.pop("implicit_tls"),
        client=helo,
        user=login,
        **told,
        **more,
    )


def _as_json(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "case": case.id,
        "rfc": case.rfc,
        "section": case.section,
        "level": case.level,
        "rule": case.rule,
        "verdict": str(result.outcome.verdict),
        "reason": result.outcome.reason or None,
        "seconds": round(result.took_s, 3),
    }


def _print(options: Options, results: Sequence[Result]) -> None:
    table = Table([Column(title=title, is_number=True) for title in _TITLES], columns_max=columns())
    for line in table.lines(_counts(results)):
        print_line(line)
    shown = {"fail", "error"} | ({"not testable"} if not options.quiet else set())
    for result in results:
        verdict = result.outcome.verdict
        if verdict in shown or options.verbose:
            case = result.case
            print_line(f"\n{verdict.upper()}  {case.id}  (RFC {case.rfc} {case.section}, {case.level})")
            print_line(f"  {case.rule}")
            if result.outcome.reason:
                print_line(printable(f"  {result.outcome.reason}"))


def _counts(results: Sequence[Result]) -> Iterator[list[str]]:
    for rfc in (*sorted({result.case.rfc for result in results}), None):
        those = [result for result in results if rfc in (None, result.case.rfc)]
        counts = Counter(str(result.outcome.verdict) for result in those)
        name = "all" if rfc is None else str(rfc)
        yield [name, str(len(those)), *(str(counts[verdict] or "·") for verdict in _VERDICTS)]
