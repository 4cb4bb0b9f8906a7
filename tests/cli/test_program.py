"""Global options, help, what is loaded, and the ways of ending that need a process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import penstock.cli.program as program
from penstock.cli.options import Options
from penstock.cli.program import root, run
from penstock.cli.serve import EXIT_BUG, EXITS
from tests.control.fake import FakeViews, message_row
from tests.control.running import running

PACKAGE = Path(program.__file__).resolve().parents[1]
# PYTHONUNBUFFERED would hide what becomes of output that is still buffered at the end.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONUNBUFFERED": ""}


def process(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program, or code, in a process of its own."""
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "penstock", *arguments]
    return subprocess.run(
        command, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=60, check=False
    )


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group."""
    yield path
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


COMMANDS = sorted(commands(root))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help_with_an_example(
    words: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, option]) == 0
    text = capsys.readouterr().out
    assert "Usage: penstock" in text
    example = text.split("Example:\n")[1].strip()
    assert example.startswith("penstock ")
    assert " ".join(words) in example


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_example_can_be_parsed(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    command: click.Command = root
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    example = (command.epilog or "").rpartition("\n")[2].split()[1:]
    called: list[str] = []
    for path in COMMANDS:
        leaf: click.Command = root
        for word in path:
            leaf = leaf.commands[word]  # type: ignore[attr-defined]
        if not isinstance(leaf, click.Group):
            monkeypatch.setattr(leaf, "callback", lambda *_, path=path, **__: called.append(" ".join(path)))
    assert run(example) == 0
    assert called[0].startswith(" ".join(words))


def test_documents_name_every_command_option_and_exit_code() -> None:
    text = (PACKAGE.parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
    for words in COMMANDS:
        if words and words not in {("queue",), ("message",), ("config",)}:
            assert f"| `{' '.join(words)}" in text
    for parameter in root.params:
        assert f"`{max(parameter.opts, key=len)}" in text
    constants = {value for name, value in vars(program).items() if name.startswith("EXIT_")}
    codes = {0, 1, 2, EXIT_BUG, *constants, *(code for _, code in EXITS)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes


@pytest.mark.parametrize("module", ["penstock.cli", "penstock.client"])
def test_a_command_loads_nothing_of_the_engine(module: str) -> None:
    done = process(code=f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))")
    loaded = set(json.loads(done.stdout))
    heavy = {"trio", "h11", "rich", "pydantic", "prometheus_client", "dns", "asyncio", "tomllib", "logging"}
    assert loaded & heavy == set()
    ours = {name for name in loaded if name.startswith("penstock.")}
    assert {name.split(".")[1] for name in ours} <= {"cli", "client", "errors"}
    if module == "penstock.client":
        assert "click" not in loaded


def test_a_read_command_loads_nothing_of_the_engine_when_it_runs(tmp_path: Path) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('[control]\nsocket = "s"\n', encoding="utf-8")
    code = (
        "import json, sys; from penstock.cli.program import run; "
        f"codes = [run(['--config', {str(config)!r}, *a.split()]) for a in ('queue list', 'status --utc')]; "
        "print(json.dumps([codes, sorted(sys.modules)]))"
    )
    with running(tmp_path / "s", FakeViews()):
        done = process(code=code)
    codes, loaded = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0], done.stderr
    assert set(loaded) & {"trio", "h11", "rich", "pydantic", "prometheus_client", "asyncio"} == set()


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--json"], "json", True),
        (["--utc"], "utc", True),
        (["--no-color"], "no_color", True),
        (["-q"], "quiet", True),
        (["--verbose"], "verbose", True),
        (["--socket", "/s"], "socket", "/s"),
        (["--config", "/c"], "config", Path("/c")),
    ],
)
def test_options_may_stand_before_between_and_after(
    arguments: list[str], name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Options] = []
    listing = root.commands["queue"].commands["list"]  # type: ignore[attr-defined]
    monkeypatch.setattr(listing, "callback", lambda: seen.append(click.get_current_context().obj))
    for line in (
        [*arguments, "queue", "list"],
        ["queue", *arguments, "list"],
        ["queue", "list", *arguments],
    ):
        assert run(line) == 0
        assert getattr(seen.pop(), name) == value
    assert run(["queue", "list"]) == 0
    assert getattr(seen.pop(), name) == getattr(Options(), name)


def test_the_socket_is_what_is_said_then_what_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sought(*arguments: str) -> str:
        assert run([*arguments, "status"]) == 3
        return capsys.readouterr().err.split(" at ")[1].splitlines()[0].partition(":")[0]

    conf = tmp_path / "etc" / "penstock.toml"
    conf.parent.mkdir()
    conf.write_text('[control]\nsocket = "../run/s"\n', encoding="utf-8")
    silent = tmp_path / "silent.toml"
    silent.write_text('control = "no table"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert sought("--config", "etc/penstock.toml") == f"{tmp_path}/run/s"
    assert sought("--config", str(silent)) == "/run/penstock/control.sock"
    assert sought("--config", str(conf), "--socket", "other") == f"{tmp_path}/other"
    assert sought("--socket", "/first", "--socket", "/last") == "/last"
    monkeypatch.setenv("PENSTOCK_CONFIG", str(conf))
    assert sought() == f"{tmp_path}/run/s"
    monkeypatch.setenv("PENSTOCK_SOCKET", "/from/environment")
    assert sought() == "/from/environment"
    assert sought("--socket", "/said") == "/said"


@pytest.mark.parametrize("content", [None, b"a =", b"\xff\xfe"])
def test_a_configuration_that_cannot_be_read_is_a_2(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "penstock.toml"
    if content is not None:
        config.write_bytes(content)
    assert run(["--config", str(config), "status"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert str(config) in printed.err


def test_version_without_a_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("penstock ")
    assert run(["version"]) == 0
    assert "Python 3." in capsys.readouterr().out
    assert run(["--json", "version"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"version", "python"}


def test_a_bug_is_a_line_and_with_v_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(root.commands["version"], "callback", broken)
    assert run(["version"]) == 70
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "bug" in text
    assert "ZeroDivisionError" in text
    assert run(["-v", "version"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_control_c_is_a_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(root.commands["version"], "callback", interrupted)
    assert run(["version"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    views = FakeViews()
    views.message_rows = [message_row(f"{n:013}") for n in range(5000)]
    with running(tmp_path / "s", views):
        command = [sys.executable, "-m", "penstock", "--socket", str(tmp_path / "s"), "message", "list"]
        for more in ([], ["--json"]):
            with subprocess.Popen(
                [*command, "--limit", "5000", *more],
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as started:
                assert started.stdout is not None
                assert started.stderr is not None
                started.stdout.readline()
                started.stdout.close()
                assert started.stderr.read() == b""
                assert started.wait(30) == 128 + signal.SIGPIPE


def redirected(where: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a shell does with redirections."""
    line = f'exec "$0" -m penstock "$@" {where}'
    command = ["/bin/sh", "-c", line, sys.executable, *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", ["queue list", "status", "version", "--help"])
@pytest.mark.parametrize(
    ("where", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_an_output_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, command: str, where: str, reason: str
) -> None:
    with running(tmp_path / "s", FakeViews()):
        done = redirected(where, "--socket", str(tmp_path / "s"), *command.split())
    assert done.returncode == 1
    assert f"penstock: {reason}\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", ">&- 2>&-", "<&- >/dev/full 2>&1"])
@pytest.mark.parametrize(
    ("command", "code"),
    [("serve", 2), ("queue lst", 2), ("--socket /nowhere message show x", 3)],
)
def test_an_error_that_nobody_can_be_told_has_its_code_all_the_same(
    tmp_path: Path, where: str, command: str, code: int
) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('colour = "red"\n', encoding="utf-8")
    assert redirected(where, "--config", str(config), *command.split()).returncode == code


def test_no_descriptor_of_a_closed_stream_is_given_to_a_file() -> None:
    code = (
        "import os, sys; from penstock.cli.output import hold_streams; "
        "[os.close(number) for number in (0, 1, 2)]; hold_streams(); "
        "sys.exit(os.open(os.devnull, os.O_RDONLY))"
    )
    assert process(code=code).returncode >= 3


def test_letters_that_the_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    views = FakeViews()
    views.queue_rows[0]["name"] = "bücher.example"
    with running(tmp_path / "s", views):
        done = process("--socket", str(tmp_path / "s"), "queue", "list", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "b\\xfccher.example" in done.stdout
