"""The profiles: what the document says of them, what is in force, that it can be printed and read again."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.program import run
from penstock.config.loader import effective, effective_profile
from penstock.config.rendering import as_toml
from penstock.route.permissions import Right, rights_of
from tests.config.conftest import Folder
from tests.support.certificates import install

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
PROFILES = ("relay", "exchange", "iis")
ROWS = re.findall(r"^\| `([a-z_.]+)` \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", DOCUMENT, re.MULTILINE)
STORE = '\n[user_store.local]\nfile = "users"\n'
MAIL = '[certificate.mail]\nchain = "mail.chain.pem"\nkey = { file = "mail.key" }\n'
FRONTEND = '[receive_connector.client_frontend]\ntls_certificate_name = "mail"\n'


def rendered(profile: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `config render` prints of a profile."""
    assert run(["config", "render", "--profile", profile]) == 0
    return tomllib.loads(capsys.readouterr().out)


def row(name: str) -> list[str]:
    """The cells of a row of the document that is about no single key."""
    (found,) = re.findall(rf"^\| {name} \| (.+) \|$", DOCUMENT, re.MULTILINE)
    return [cell.replace("`", "") for cell in found.split(" | ")]


@pytest.mark.parametrize("column", range(3), ids=PROFILES)
def test_each_profile_is_what_the_document_says(column: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = rendered(PROFILES[column], capsys)
    assert len(ROWS) > 20
    for path, *values in ROWS:
        table, key = path.split(".")
        tables = found["receive_connector"].values() if table == "receive_connector" else [found[table]]
        wanted = tomllib.loads(f"value = {values[column]}")["value"]
        assert {each[key] for each in tables} == {wanted}, path
    connectors = found["receive_connector"]
    assert ", ".join(connectors) == row("receive connectors")[column]
    ports = [
        {int(binding.rpartition(":")[2]) for binding in each["bindings"]} for each in connectors.values()
    ]
    assert ", ".join(str(port) for (port,) in ports) == row("ports")[column]
    assert ", ".join(each["usage"] for each in connectors.values()) == row("usage")[column]


@pytest.mark.parametrize("column", range(3), ids=PROFILES)
def test_what_is_in_force_without_further_ado(folder: Folder, column: int) -> None:
    config = folder.load(f'profile = "{PROFILES[column]}"')
    names = ", ".join(connector.name for connector in config.receive_connectors)
    assert (names or "none") == row("in force without further ado")[column]
    assert [warning.code for warning in config.warnings] == {
        "relay": ["C201"],
        "exchange": ["C210"],
        "iis": [],
    }[PROFILES[column]]
    # Whoever it lets in may not send to others.
    for connector in config.receive_connectors:
        assert Right.ACCEPT_ANY_RECIPIENT not in rights_of(connector.permission_groups)


def test_client_frontend_comes_into_force_with_a_certificate_and_a_user_store(folder: Folder) -> None:
    folder.write("", "users").chmod(0o600)
    install(folder.path, "mail")
    text = f'profile = "Exchange"\n{MAIL}{FRONTEND}'
    assert [problem.code for problem in folder.problems(text)] == ["C134"]
    config = folder.load(text + STORE)
    assert config.warnings == ()
    assert [(connector.name, connector.usage) for connector in config.receive_connectors] == [
        ("default_frontend", "internet"),
        ("client_frontend", "client"),
    ]
    assert sorted(listener.port for listener in config.listeners) == [25, 25, 587, 587]
    frontend = config.receive_connectors[1]
    assert (frontend.takes_passwords, frontend.passwords_require_tls) == (True, True)
    assert (frontend.message_rate, frontend.message_rate_source) == ((5, 60_000), "user")


def test_connector_of_a_profile_can_be_switched_off(folder: Folder) -> None:
    text = 'profile = "exchange"\n[receive_connector]\nclient_frontend.enabled = false\n'
    config = folder.load(text)
    assert config.warnings == ()
    assert [connector.name for connector in config.receive_connectors] == ["default_frontend"]


def test_connector_of_a_profile_that_is_in_force_has_its_name_alone(folder: Folder) -> None:
    out = '[send_connector."{}"]\nusage = "custom"\naddress_spaces = ["*"]\nsmart_hosts = ["mail.example"]\n'
    (problem,) = folder.problems('profile = "iis"\n' + out.format("Default"))
    assert (problem.code, problem.path) == ("C110", "send_connector.Default")
    folder.load('profile = "exchange"\n' + out.format("client_frontend"))


def test_own_connectors_have_the_defaults_of_the_profile(folder: Folder) -> None:
    text = '[receive_connector.in]\nusage = "relay"\nbindings = ["127.0.0.1:2525"]\n'
    text += 'remote_ip_ranges = ["127.0.0.1"]\n'
    found = {}
    for profile in PROFILES:
        config = folder.load(f'profile = "{profile}"\n{text}')
        (own,) = (connector for connector in config.receive_connectors if connector.name == "in")
        found[profile] = own.max_message_bytes, own.max_hop_count, own.submission_fixups
    assert found == {
        "relay": (36 << 20, 30, True),
        "exchange": (36 << 20, 30, True),
        "iis": (2 << 20, 15, True),
    }


@pytest.mark.parametrize("profile", ["dev", "embedded"])
def test_profiles_that_do_not_exist_yet_are_refused(
    folder: Folder, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (problem,) = folder.problems(f'profile = "{profile}"')
    assert (problem.code, problem.path) == ("C109", "profile")
    assert run(["config", "render", "--profile", profile]) == 2
    assert "not possible in this version" in capsys.readouterr().err


def test_keys_that_delivery_does_not_have_yet_are_unknown(folder: Folder) -> None:
    (problem,) = folder.problems('profile = "iis"\n[queue]\nretry_intervals = ["15m", "30m"]\n')
    assert (problem.code, problem.path) == ("C101", "queue.retry_intervals")


@pytest.mark.parametrize("arguments", [["--set", "server.name=a"], ["--origin"]])
def test_a_profile_alone_is_about_no_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "render", "--profile", "relay", *arguments]) == 2
    assert "--profile" in capsys.readouterr().err


def complete(folder: Folder) -> str:
    """The example of a whole relay, with its files where they can be read."""
    folder.write("", "users").chmod(0o600)
    install(folder.path, "mail")
    text = (ROOT / "examples" / "onpremises.toml").read_text(encoding="utf-8")
    for name, own in (
        ("/etc/penstock/tls/fullchain.pem", "mail.chain.pem"),
        ("/etc/penstock/tls/relay1.key", "mail.key"),
        ("/etc/penstock/users", "users"),
    ):
        assert name in text
        text = text.replace(name, own)
    return text


def test_example_of_a_whole_relay_is_accepted(folder: Folder) -> None:
    config = folder.load(complete(folder))
    assert config.warnings == ()
    devices, apps, submission = config.receive_connectors
    assert (devices.name, apps.name, submission.name) == ("devices", "apps", "submission")
    assert (devices.bare_linefeed, devices.lenient_syntax, devices.submission_fixups) == (
        "normalise",
        True,
        True,
    )
    assert (apps.bare_linefeed, apps.lenient_syntax, apps.submission_fixups) == ("reject", False, True)
    assert (submission.submission_fixups, submission.takes_passwords) == (True, True)
    assert len(config.listeners) == 5


def test_what_is_printed_can_be_read_again_from_anywhere(folder: Folder, tmp_path: Path) -> None:
    folder.write('[receive_connector.apps]\nsender_domains = ["b.example"]\n', "conf.d/1.toml")
    before = folder.load(complete(folder), overrides=["receive_connector.devices.usage=Relay"])
    in_force = {connector.name for connector in before.receive_connectors}
    tree = effective(folder.main, overrides=["receive_connector.devices.usage=Relay"])
    text = "\n".join(as_toml(tree, before.profile, in_force=in_force))
    assert 'usage = "Relay"' not in text
    (tmp_path / "elsewhere").mkdir()
    after = Folder(tmp_path / "elsewhere").load(text)
    fields = ("receive_connectors", "send_connectors", "accepted_domains", "listeners", "queue", "users_file")
    assert [getattr(after, field) for field in fields] == [getattr(before, field) for field in fields]
    assert (after.spool_path, after.log_directory) == (before.spool_path, before.log_directory)


def test_origins_name_file_and_line(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    main = folder.write('profile = "iis"\n[server]\nname = "a"\nfqdn = "a.example"\n')
    drop_in = folder.write("[receive_connector.default]\nmax_hop_count = 20\n", "conf.d/1.toml")
    override = ["--set", "queue.max_outbound_connections=7"]
    assert run(["--config", str(main), "config", "render", "--origin", *override]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, origin in (
        ('name = "a"', f"# {main}:3"),
        ("max_hop_count = 20", f"# {drop_in}:2"),
        ("max_outbound_connections = 7", "# --set:1"),
    ):
        assert lines[lines.index(line) - 1] == origin
    assert not lines[lines.index("max_protocol_errors = 100") - 1].startswith("#")


def test_a_configuration_with_errors_is_not_printed(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    main = folder.write("[queue]\nnonsense = 1\n")
    assert run(["--config", str(main), "config", "render"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, "C101" in printed.err) == ("", True)


def test_every_profile_can_be_printed_whole() -> None:
    for profile in PROFILES:
        lines = list(as_toml(effective_profile(profile), profile))
        assert tomllib.loads("\n".join(lines))["profile"] == profile
