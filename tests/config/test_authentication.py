"""Who may log in, and how: rules that join keys, and the file of users."""

from __future__ import annotations

import pytest

from penstock.config.loader import user_store_file
from penstock.errors import ConfigError
from tests.config.conftest import Folder
from tests.config.test_codes import LAN, lan
from tests.config.test_tls import MAIL
from tests.support.certificates import install

KEY = f"{LAN}.auth_mechanism"
STORE = '[user_store.local]\nfile = "users"\n'
WITH_TLS = 'auth_mechanism = ["tls", "basic_auth", "basic_auth_require_tls"]'


def users(folder: Folder, mode: int = 0o600) -> None:
    folder.write("", "users").chmod(mode)


def codes(folder: Folder, text: str) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in folder.problems(text)]


def test_nobody_logs_in_by_default(folder: Folder) -> None:
    config = folder.load(lan())
    (connector,) = config.receive_connectors
    assert (connector.takes_passwords, connector.passwords_require_tls) == (False, False)
    assert (connector.max_logon_failures, connector.auth_tarpit_ms) == (3, 5_000)
    assert config.users_file is None


@pytest.mark.parametrize("spelling", ["basic_auth", "BasicAuth", "BASICAUTH"])
def test_basic_auth_takes_passwords(folder: Folder, spelling: str) -> None:
    users(folder)
    config = folder.load(lan(f'auth_mechanism = ["{spelling}"]') + STORE)
    (connector,) = config.receive_connectors
    assert (connector.takes_passwords, connector.passwords_require_tls) == (True, False)
    assert config.users_file == str(folder.path / "users")
    assert not config.warnings


@pytest.mark.parametrize("value", ["[]", '["none"]', '["None"]'])
def test_none_is_nothing(folder: Folder, value: str) -> None:
    (connector,) = folder.load(lan(f"auth_mechanism = {value}")).receive_connectors
    assert not connector.takes_passwords


@pytest.mark.parametrize("value", ['["basic_auth_require_tls"]', '["basic_auth", "basic_auth_require_tls"]'])
def test_basic_auth_require_tls_needs_basic_auth_and_tls(folder: Folder, value: str) -> None:
    users(folder)
    (problem,) = folder.problems(lan(f"auth_mechanism = {value}") + STORE)
    assert (problem.code, problem.path, problem.fix) == ("C103", KEY, WITH_TLS)
    assert problem.message == "basic_auth_require_tls works only together with basic_auth and tls."
    assert (problem.line, problem.column, problem.width) == (3, 1, len("auth_mechanism"))


def test_none_stands_alone(folder: Folder) -> None:
    users(folder)
    assert codes(folder, lan('auth_mechanism = ["none", "basic_auth"]') + STORE) == [("C103", KEY)]


@pytest.mark.parametrize("word", ["integrated", "exchange_server"])
def test_what_is_not_there_yet_is_refused(folder: Folder, word: str) -> None:
    ((code, path),) = codes(folder, lan(f'auth_mechanism = ["{word}"]'))
    assert code == "C109"
    assert path.startswith(KEY)


def test_tls_needs_a_certificate(folder: Folder) -> None:
    (problem,) = folder.problems(lan('auth_mechanism = ["tls"]'))
    assert (problem.code, problem.path) == ("C129", KEY)


def test_clients_log_in_over_tls_and_send_five_messages_a_minute(folder: Folder) -> None:
    users(folder)
    install(folder.path, "mail")
    (connector,) = folder.load(
        MAIL + lan('usage = "client"', 'tls_certificate_name = "mail"', ranges='["0.0.0.0/0"]') + STORE
    ).receive_connectors
    assert (connector.takes_passwords, connector.passwords_require_tls) == (True, True)
    assert [group.name for group in connector.permission_groups] == ["authenticated_users"]
    assert (connector.message_rate, connector.message_rate_source) == ((5, 60_000), "user")


def test_basic_auth_needs_a_user_store(folder: Folder) -> None:
    (problem,) = folder.problems(lan('auth_mechanism = ["basic_auth"]'))
    assert (problem.code, problem.path) == ("C134", KEY)
    assert problem.fix == STORE.rstrip("\n")


def test_there_is_one_user_store(folder: Folder) -> None:
    users(folder)
    second = '[user_store.other]\nfile = "users"\n'
    assert codes(folder, STORE + second) == [("C109", "user_store.other")]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_of_users_is_its_owners_alone(folder: Folder, mode: int) -> None:
    users(folder, mode)
    (problem,) = folder.problems(STORE)
    assert (problem.code, problem.path) == ("C132", "user_store.local.file")
    assert "chmod 600" in problem.message


def test_a_file_of_users_that_is_not_there_is_made_by_a_command(folder: Folder) -> None:
    (problem,) = folder.problems(STORE)
    assert (problem.code, problem.path) == ("C125", "user_store.local.file")
    assert "penstock user add" in problem.message


@pytest.mark.parametrize(
    ("ranges", "is_warned"),
    [
        ('["10.20.0.0/16", "fd00::/8", "127.0.0.1"]', False),
        ('["192.0.2.7"]', True),
        ('["10.20.0.0/16", "192.0.2.0/24"]', True),
        ('["2001:db8::/64"]', True),
    ],
)
def test_passwords_in_clear_from_public_addresses_are_warned_of(
    folder: Folder, ranges: str, is_warned: bool
) -> None:
    users(folder)
    warnings = folder.load(lan('auth_mechanism = ["basic_auth"]', ranges=ranges) + STORE).warnings
    assert [(warning.code, warning.path, warning.fix) for warning in warnings] == (
        [("C209", KEY, WITH_TLS)] if is_warned else []
    )


def test_the_file_of_users_is_found_in_a_configuration_that_is_refused(folder: Folder) -> None:
    folder.write(lan('auth_mechanism = ["basic_auth"]', "max_hop_count = 0"))
    assert user_store_file(folder.main) is None
    folder.write(STORE, "conf.d/users.toml")
    assert user_store_file(folder.main) == str(folder.path / "conf.d" / "users")
    folder.write("[user_store.local]\nfile = 1\n", "conf.d/users.toml")
    with pytest.raises(ConfigError):
        user_store_file(folder.main)
    folder.write("[", "conf.d/users.toml")
    with pytest.raises(ConfigError):
        user_store_file(folder.main)


TRUSTED = ('permission_groups = ["exchange_servers"]', 'auth_mechanism = ["{}"]')


@pytest.mark.parametrize("spelling", ["external_authoritative", "ExternalAuthoritative"])
def test_listed_peers_are_servers_of_ours(folder: Folder, spelling: str) -> None:
    text = lan(*(line.format(spelling) for line in TRUSTED))
    (connector,) = folder.load(text).receive_connectors
    assert connector.trusts_peers
    assert not folder.load(lan()).receive_connectors[0].trusts_peers


def test_usage_internal_trusts_who_is_listed(folder: Folder) -> None:
    head = '[receive_connector.hub]\nusage = "internal"\nbindings = ["0.0.0.0:2525"]\n'
    ranges = 'remote_ip_ranges = ["10.20.0.11"]\n'
    # Its preset has TLS, which needs a certificate.
    assert codes(folder, head + ranges) == [("C129", "receive_connector.hub.auth_mechanism")]
    alone = 'auth_mechanism = ["external_authoritative"]\n'
    (connector,) = folder.load(head + ranges + alone).receive_connectors
    assert connector.trusts_peers
    assert [group.name for group in connector.permission_groups] == ["exchange_servers"]
    assert codes(folder, head + alone) == [("C122", "receive_connector.hub")]


@pytest.mark.parametrize("other", ["basic_auth", "basic_auth_require_tls"])
def test_whoever_is_trusted_need_not_log_in(folder: Folder, other: str) -> None:
    users(folder)
    text = lan(TRUSTED[0], f'auth_mechanism = ["external_authoritative", "{other}"]') + STORE
    assert ("C103", KEY) in codes(folder, text)


def test_trust_without_a_group_of_servers_is_refused(folder: Folder) -> None:
    (problem,) = folder.problems(lan('auth_mechanism = ["external_authoritative"]'))
    assert (problem.code, problem.path) == ("C103", KEY)
    assert problem.fix == 'permission_groups = ["exchange_servers"]'


@pytest.mark.parametrize("spelling", ["external_authoritative", "ExternalAuthoritative"])
def test_trust_in_the_whole_internet_is_an_open_relay(folder: Folder, spelling: str) -> None:
    text = lan(*(line.format(spelling) for line in TRUSTED)).replace("10.20.0.0/16", "8.0.0.0/8")
    assert codes(folder, text) == [("C120", "receive_connector.lan.remote_ip_ranges[0]")]
