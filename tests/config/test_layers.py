"""Profile, main file, drop-ins, --set: which one wins, what is noted, what only the main file may say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.config.problems import Problem
from tests.config.conftest import FakeHost, Folder

LAN = '[receive_connector.lan]\nremote_ip_ranges = ["10.20.0.0/16"]\n'


def hops(folder: Folder, *overrides: str) -> int:
    (connector,) = folder.load(overrides=overrides).receive_connectors
    return connector.max_hop_count


def test_later_layers_win_key_by_key(folder: Folder) -> None:
    folder.write(LAN)
    assert hops(folder) == 30
    folder.write(LAN + "max_hop_count = 31\n")
    assert hops(folder) == 31
    folder.write("[receive_connector.lan]\nmax_hop_count = 32\n", "conf.d/10.toml")
    assert hops(folder) == 32
    folder.write("receive_connector.lan.max_hop_count = 33\n", "conf.d/20.toml")
    assert hops(folder) == 33
    assert hops(folder, "receive_connector.lan.max_hop_count=34") == 34
    assert (
        hops(folder, "receive_connector.lan.max_hop_count=34", "receive_connector.lan.max_hop_count=35") == 35
    )


def test_drop_ins_come_in_byte_order(folder: Folder) -> None:
    folder.write(LAN)
    for number, name in enumerate(["é.toml", "z.toml", "a.toml", "B.toml", "10.toml", "9.toml"]):
        folder.write(f"[receive_connector.lan]\nmax_hop_count = {number + 1}\n", f"conf.d/{name}")
    config = folder.load()
    names = [os.path.basename(file) for file in config.files]
    assert names == ["penstock.toml", "10.toml", "9.toml", "B.toml", "a.toml", "z.toml", "é.toml"]
    assert config.receive_connectors[0].max_hop_count == 1


@pytest.mark.parametrize("name", ["x.toml.bak", ".x.toml", "x.conf", "x"])
def test_other_files_beside_drop_ins_are_left_alone(folder: Folder, name: str) -> None:
    folder.write(LAN)
    folder.write("no TOML at all", f"conf.d/{name}")
    assert folder.load().files == (str(folder.main),)


def test_lists_are_replaced_never_joined(folder: Folder) -> None:
    folder.write(LAN)
    folder.write('[receive_connector.lan]\nremote_ip_ranges = ["10.30.0.1"]\n', "conf.d/1.toml")
    assert folder.load().receive_connectors[0].remote_ip_ranges == ("10.30.0.1",)


def test_connector_is_removed_by_disabling_it(folder: Folder) -> None:
    folder.write(
        LAN + '[send_connector.out]\nusage = "custom"\naddress_spaces = ["*"]\nsmart_hosts = ["a.example"]\n'
    )
    folder.write(
        "receive_connector.lan.enabled = false\nsend_connector.out.enabled = false\n", "conf.d/1.toml"
    )
    config = folder.load()
    assert (config.receive_connectors, config.listeners) == ((), ())
    assert [(send.name, send.enabled) for send in config.send_connectors] == [("out", False)]
    assert [(problem.code, problem.line) for problem in config.warnings] == [("C201", 0)]


def test_what_is_disabled_need_not_be_complete(folder: Folder) -> None:
    config = folder.load(
        '[receive_connector.a]\nenabled = false\nusage = "relay"\nbindings = ["127.0.0.1:25"]\n'
        'remote_ip_ranges = ["0.0.0.0/0"]\n'
        '[send_connector.b]\nenabled = false\nusage = "internet"\naddress_spaces = ["*"]\n'
    )
    assert config.receive_connectors == ()
    assert config.send_connectors[0].smart_hosts == ()


def test_profiles_connector_is_in_force_once_it_has_ranges(folder: Folder) -> None:
    assert folder.load("").listeners == ()
    assert folder.load(LAN).listeners == (("0.0.0.0", 25), ("::", 25))


def test_name_of_the_profiles_connector_is_free_while_it_is_not_in_force(folder: Folder) -> None:
    config = folder.load(
        '[send_connector.lan]\nusage = "custom"\naddress_spaces = ["*"]\nsmart_hosts = ["a.example"]\n'
    )
    assert [send.name for send in config.send_connectors] == ["lan"]


def test_overrides_of_one_file_by_another_are_noted(folder: Folder) -> None:
    folder.write(LAN + 'max_hop_count = 31\ntarpit_interval = "1s"\n')
    drop_in = folder.write(
        '[receive_connector.lan]\ntarpit_interval = "2s"\nmax_hop_count = 32\n', "conf.d/1.toml"
    )
    config = folder.load(overrides=["receive_connector.lan.max_hop_count = 33"])
    assert config.warnings == ()
    assert [(note.code, note.severity, note.file, note.line, note.path) for note in config.notes] == [
        ("C301", "note", str(drop_in), 2, "receive_connector.lan.tarpit_interval"),
        ("C301", "note", str(drop_in), 3, "receive_connector.lan.max_hop_count"),
        ("C301", "note", "--set", 1, "receive_connector.lan.max_hop_count"),
    ]
    assert [note.message for note in config.notes] == [
        f"This overrides {folder.main}:4.",
        f"This overrides {folder.main}:3.",
        f"This overrides {drop_in}:3.",
    ]


def test_problem_of_a_drop_in_names_the_drop_in(folder: Folder) -> None:
    folder.write(LAN)
    drop_in = folder.write("\n[receive_connector.lan]\n  max_hop_count = 999\n", "conf.d/1.toml")
    (problem,) = folder.problems()
    assert problem.place == f"{drop_in}:3:19"


def test_problem_of_a_table_in_several_files_is_where_it_was_first_opened(folder: Folder) -> None:
    folder.write('\n[send_connector.out]\nusage = "custom"\naddress_spaces = ["*"]\n')
    folder.write("[send_connector.out]\nport = 26\n", "conf.d/1.toml")
    (problem,) = folder.problems()
    assert (problem.code, problem.place) == ("C123", f"{folder.main}:2:17")


@pytest.mark.parametrize(
    "text",
    [
        *("[server]\n", '[server]\nname = "x"\n', '[spool]\npath = "/x"\n', '[control]\nsocket = "/x"\n'),
        *('profile = "relay"\n', "config_version = 1\n", 'control.metrics = "127.0.0.1:1"\n'),
    ],
)
def test_drop_in_must_not_say_what_belongs_to_the_main_file(folder: Folder, text: str) -> None:
    folder.write(LAN)
    drop_in = folder.write(text, "conf.d/1.toml")
    (problem,) = folder.problems()
    assert (problem.code, problem.file, problem.line) == ("C112", str(drop_in), 1)


def test_command_line_may_say_everything(folder: Folder) -> None:
    folder.write(LAN)
    config = folder.load(
        overrides=[
            *(
                "profile=relay",
                "config_version=1",
                "server.name=relay1",
                "server.io_threads=3",
                "server.fqdn='a.b'",
            ),
            *("queue.message_retry_interval=00:01:00", 'queue.message_expiration_timeout="1d"'),
            *('accepted_domain."a.example".type=internal_relay', "control.metrics = [::1]:9925"),
            'receive_connector.lan.remote_ip_ranges=["10.0.0.1", "10.0.0.2"]',
        ]
    )
    assert (config.server_name, config.io_threads, config.fqdn) == ("relay1", 3, "a.b")
    assert (config.queue.message_retry_interval_ms, config.queue.message_expiration_ms) == (
        60_000,
        86_400_000,
    )
    assert (config.default_domain, config.metrics) == ("a.example", ("::1", 9925))
    assert config.receive_connectors[0].remote_ip_ranges == ("10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize(
    "option", ["server.name", "", "=", "a b=1", "server.name=a\nb", "x" * 4_097 + "=1", "[a]=1"]
)
def test_what_is_no_key_and_value_is_refused(folder: Folder, option: str) -> None:
    folder.write(LAN)
    (problem,) = folder.problems(overrides=["server.name=x", option])
    assert (problem.code, problem.file, problem.line, problem.column) == ("C115", "--set", 2, 1)


def test_problem_of_the_command_line_names_the_option(folder: Folder) -> None:
    folder.write(LAN)
    (problem,) = folder.problems(overrides=["server.name=x", "queue.message_retry_interval=soon"])
    assert (problem.place, problem.source_line) == ("--set:2:30", "queue.message_retry_interval=soon")
    assert problem.fix is None


def test_relative_path_begins_in_the_folder_of_its_file(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir("/")
    folder.write("", "r")
    folder.write('[spool]\npath = "../spool"\n[log]\ndirectory = "/logs/./x"\n' + LAN)
    folder.write(
        '[accepted_domain."a.example"]\ntype = "authoritative"\n'
        'recipients = { file = "../r" }\ndeliver_to = { maildir = "drop" }\n',
        "conf.d/1.toml",
    )
    config = folder.load(overrides=["control.socket=run/control.sock"])
    assert config.spool_path == str(tmp_path.parent / "spool")
    assert config.log_directory == "/logs/x"
    assert config.accepted_domains[0].recipients_file == str(tmp_path / "r")
    assert config.accepted_domains[0].maildir == str(tmp_path / "conf.d" / "drop")
    assert config.control_socket == "/run/control.sock"


def test_longest_path_of_a_socket(folder: Folder) -> None:
    longest = "/" + "a" * 106
    assert folder.load(f'[control]\nsocket = "{longest}"\n').control_socket == longest


def test_white_space_around_a_range_means_nothing(folder: Folder) -> None:
    config = folder.load(
        '[receive_connector.lan]\nremote_ip_ranges = [" 10.20.0.0/16 ", " 10.0.0.1 - 10.0.0.9 "]\n'
    )
    assert config.receive_connectors[0].remote_ip_ranges == ("10.20.0.0/16", "10.0.0.1 - 10.0.0.9")
    assert config.warnings == ()


def test_host_stands_in_for_what_is_not_configured(folder: Folder) -> None:
    folder.write(LAN)
    config = folder.load(host=FakeHost("Relay1.Own.Example", cores=7))
    assert (config.server_name, config.fqdn, config.io_threads) == ("Relay1", "relay1.own.example", 3)
    assert config.receive_connectors[0].fqdn == "relay1.own.example"


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (32, 16), (256, 16)])
def test_io_threads_follow_the_cores(folder: Folder, cores: int, threads: int) -> None:
    folder.write(LAN)
    assert folder.load(host=FakeHost(cores=cores)).io_threads == threads


@pytest.mark.parametrize(("fqdn", "known"), [("relay1", "relay1"), ("no name", "localhost")])
def test_host_without_a_full_name_is_warned_of(folder: Folder, fqdn: str, known: str) -> None:
    folder.write(LAN)
    config = folder.load(host=FakeHost(fqdn))
    assert config.fqdn == known
    assert [problem.code for problem in config.warnings] == ["C202"]


def test_relay_domain_that_a_connector_covers_is_not_warned_of(folder: Folder) -> None:
    def codes(space: str) -> list[str]:
        config = folder.load(
            f'{LAN}[accepted_domain."a.example"]\ntype = "internal_relay"\n'
            f'[send_connector.out]\nusage = "custom"\naddress_spaces = ["{space}"]\n'
            'smart_hosts = ["b.example"]\n'
        )
        return [problem.code for problem in config.warnings]

    assert codes("*") == codes("a.example") == codes("--") == []
    assert codes("*.a.example") == codes("b.example") == ["C205"]


def test_connectors_may_share_an_address_and_port(folder: Folder) -> None:
    config = folder.load(
        '[receive_connector.a]\nusage = "relay"\nbindings = ["127.0.0.1:25", "[::1]:25"]\n'
        'remote_ip_ranges = ["10.0.0.1"]\n'
        '[receive_connector.b]\nusage = "Internet"\nbindings = ["[::1]:25", "127.0.0.1:26", "127.0.0.1:0"]\n'
        '[receive_connector.c]\nusage = "internet"\nbindings = ["127.0.0.1:0", "0.0.0.0:0"]\n'
    )
    assert [str(listener) for listener in config.listeners] == [
        *("127.0.0.1:25", "[::1]:25", "127.0.0.1:26", "127.0.0.1:0", "0.0.0.0:0"),
    ]
    assert [connector.listeners for connector in config.receive_connectors] == [(0, 1), (1, 2, 3), (3, 4)]
    assert config.receive_connectors[1].remote_ip_ranges == ("0.0.0.0/0", "::/0")


def test_default_domain_is_the_one_that_says_so_or_the_first(folder: Folder) -> None:
    text = (
        '[accepted_domain."A.example"]\ntype = "internal_relay"\n'
        '[accepted_domain."b.example"]\ntype = "internal_relay"\n'
    )
    assert folder.load("").default_domain == ""
    assert folder.load(text).default_domain == "a.example"
    assert folder.load(text + "default = true\n").default_domain == "b.example"


def test_errors_of_all_files_come_in_the_order_of_the_files(folder: Folder) -> None:
    folder.write("[server]\nname = 1\n")
    folder.write("[queue]\nx = 1\n", "conf.d/2.toml")
    folder.write("[log]\n\n\ny = 1\n", "conf.d/1.toml")
    problems: tuple[Problem, ...] = folder.problems(overrides=["z=1"])
    assert [(os.path.basename(problem.file), problem.line) for problem in problems] == [
        *(("penstock.toml", 2), ("1.toml", 4), ("2.toml", 2), ("--set", 1)),
    ]
