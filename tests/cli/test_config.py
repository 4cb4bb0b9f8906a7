"""`penstock config check`, and `serve` as far as it concerns the configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli.program import run

GOOD = """\
profile = "relay"
[server]
fqdn = "relay.penstock.test"
[receive_connector.apps]
usage = "relay"
bindings = ["127.0.0.1:2525"]
remote_ip_ranges = ["127.0.0.0/8"]
[send_connector.out]
usage = "custom"
address_spaces = ["*"]
smart_hosts = ["127.0.0.1"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def check(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Check a configuration; return the exit code, what is data and what is not."""
    code = run(["--config", str(config), "config", "check", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_good_configuration_is_a_0(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = check(config, capsys)
    assert (code, out) == (0, "")
    assert str(config) in err
    assert "accepted" in err
    assert check(config, capsys, "-q") == (0, "", "")
    assert check(config, capsys, "--json", "-q") == (0, "", "")


def test_a_default_that_is_not_there_is_told_of_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "penstock.toml"
    monkeypatch.setattr("penstock.cli.options.DEFAULT_CONFIG", absent)
    monkeypatch.setattr("penstock.cli.config.DEFAULT_CONFIG", absent)
    monkeypatch.delenv("PENSTOCK_CONFIG", raising=False)
    for arguments in (["serve"], ["config", "check"]):
        assert run(arguments) == 2
        assert "--config FILE" in capsys.readouterr().err
        assert run(["--config", str(absent), *arguments]) == 2
        assert "--config FILE" not in capsys.readouterr().err


def test_every_error_has_its_place_and_the_code_is_2(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(GOOD + 'colour = "red"\n[queue]\nmesage_retry_interval = "1m"\n', encoding="utf-8")
    code, out, err = check(config, capsys)
    assert code == 2
    assert f"{config}:12:1" in out
    assert f"{config}:14:1" in out
    assert "message_retry_interval" in out
    assert "refused: 2 errors" in err
    code, out, _ = check(config, capsys, "--json")
    assert code == 2
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["severity"], row["line"]) for row in rows] == [("error", 12), ("error", 14)]


def test_overrides_are_checked_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(config, capsys, "--set", "server.name=relay2", "--set", "server.io_threads=2")[0] == 0
    code, out, _ = check(config, capsys, "--set", "server.nmae=relay2")
    assert code == 2
    assert "nmae" in out


def test_a_missing_file_is_a_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = check(tmp_path / "gone.toml", capsys)
    assert code == 2
    assert "gone.toml" in out


def test_serve_refuses_what_check_refuses_and_says_it_on_stderr(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--check-only"]):
        assert run(["--config", str(config), "serve", "--set", "server.nmae=x", *more]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "refused: 1 error" in printed.err
        assert "nmae" in printed.err


def test_serve_check_only_starts_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(config.parent.iterdir())
    assert run(["--config", str(config), "serve", "--check-only"]) == 0
    assert sorted(config.parent.iterdir()) == before
    assert capsys.readouterr().out == ""
