"""`penstock explain connect`: what it prints, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli.program import run

CONFIG = """\
profile = "relay"
[server]
fqdn = "relay.penstock.test"
[receive_connector.apps]
usage = "relay"
bindings = ["127.0.0.1:2525", "127.0.0.1:2526"]
remote_ip_ranges = ["127.0.0.0/8"]
message_rate_limit = "5/min"
[receive_connector.mx]
usage = "internet"
bindings = ["127.0.0.1:2526"]
[accepted_domain."contoso.example"]
type = "internal_relay"
[send_connector.out]
usage = "custom"
address_spaces = ["*"]
smart_hosts = ["127.0.0.1"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def connect(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(["--config", str(config), "explain", "connect", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_peer_that_is_taken_is_a_0(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = connect(config, capsys, "--from", "127.0.0.9", "--to", "a@far.example")
    assert (code, err) == (0, "")
    assert out.startswith("127.0.0.9 meets receive connector apps on 127.0.0.1:2525.\n")
    assert "message_rate_limit: 5 in 60 s, counted for 127.0.0.9" in out
    assert "RCPT      to a@far.example: taken" in out


def test_a_peer_that_is_refused_is_a_1_and_says_by_which_reply(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = connect(config, capsys, "--from", "192.0.2.1", "--to", "a@far.example")
    assert code == 1
    assert "RCPT      to a@far.example: 550 5.7.54 " in out
    code, out, _ = connect(config, capsys, "--from", "192.0.2.1", "--listener", "127.0.0.1:2525")
    assert code == 1
    assert (
        out.splitlines()[0] == "192.0.2.1 is turned away on 127.0.0.1:2525: no receive connector covers it."
    )


def test_json_has_it_all_in_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = connect(config, capsys, "--json", "--from", "192.0.2.1", "--auth", "erp")
    assert code == 0
    (line,) = out.splitlines()
    told = json.loads(line)
    assert (told["peer"], told["login"], told["connector"]) == ("192.0.2.1", "erp", "mx")
    # Nobody has said where it connects: the first binding that covers it.
    assert told["listener"] == "127.0.0.1:2526"
    assert [one["connector"] for one in told["candidates"]] == ["apps", "mx"]
    assert told["limits"]["message_rate_limit"] == "unlimited"
    assert (told["sender_reply"], told["recipient_reply"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "10.1.2"), "'10.1.2'"),
        (("--from", "127.0.0.1", "--to", "a b@c"), "a b@c"),
        (("--from", "127.0.0.1", "--listener", "127.0.0.1:25"), "127.0.0.1:2525, 127.0.0.1:2526"),
        ((), "--from"),
    ],
)
def test_what_cannot_be_asked_is_a_2(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = connect(config, capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_proxy_is_said_to_be_one(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proxies = ("--set", 'receive_connector.apps.proxy_protocol_ranges=["127.0.0.4/31"]')
    code, out, _ = connect(config, capsys, "--from", "127.0.0.5", *proxies)
    assert (code, "127.0.0.5 has to begin with the PROXY protocol" in out) == (0, True)
    # The proxies of a listener are those of all its connectors.
    elsewhere = ("--from", "127.0.0.4", "--listener", "127.0.0.1:2526", *proxies)
    assert "begin with the PROXY protocol" in connect(config, capsys, *elsewhere)[1]
    assert "PROXY" not in connect(config, capsys, "--from", "127.0.0.6", *proxies)[1]
