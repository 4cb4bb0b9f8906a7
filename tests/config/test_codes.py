"""Every code: where it points, and what it proposes. What «marks» enclose is what must be pointed at."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from penstock.config.problems import CODES, Problem
from tests.config.conftest import Folder, unmark
from tests.support.certificates import install

GROUPS = 'permission_groups = ["anonymous_users", "relay_clients"]'
MINE = 'permission_groups = ["mine"]'
OWN_GROUP = '[permission_group.mine]\nmembers = "anonymous"\nrights = ["accept_any_recipient"]'


class Case(NamedTuple):
    """A configuration with one problem."""

    code: str
    text: str
    path: str
    fix: str | None = None


def lan(*lines: str, ranges: str = '["10.20.0.0/16"]') -> str:
    """The profile's connector, with ranges and further lines."""
    return "\n".join(["[receive_connector.lan]", f"remote_ip_ranges = {ranges}", *lines, ""])


def out(*lines: str, name: str = "out", usage: str = '"custom"', hosts: str = '["mail.example"]') -> str:
    """A send connector."""
    head = [
        f"[send_connector.{name}]",
        f"usage = {usage}",
        'address_spaces = ["*"]',
        f"smart_hosts = {hosts}",
    ]
    return "\n".join([*head, *lines, ""])


def certificate(chain: str = '"mail.chain.pem"', key: str = '"mail.key"') -> str:
    """A certificate; files as `tests.support.certificates` has them."""
    return f"[certificate.mail]\nchain = {chain}\nkey = {{ file = {key} }}\n"


def domain(*lines: str, name: str = '"own.example"', kind: str = "internal_relay") -> str:
    """An accepted domain."""
    return "\n".join([f"[accepted_domain.{name}]", f'type = "{kind}"', *lines, ""])


RECIPIENTS = 'recipients = { file = "recipients" }'
DELIVER_TO = 'deliver_to = { maildir = "drop" }'
BIND = 'bindings = ["127.0.0.1:25"]'
BINDINGS_65 = ", ".join(['"127.0.0.1:25"'] * 65)
LAN = "receive_connector.lan"
OUT = "send_connector.out"
OWN = 'accepted_domain."own.example"'
RANGES = f"{LAN}.remote_ip_ranges"
SOME_RANGES = 'remote_ip_ranges = ["10.20.0.0/16"]'

MAIL = "certificate.mail"
NAME = 'tls_certificate_name = "NAME"'
TLS_1_2 = 'tls_minimum = "1.2"'
IMPLICIT = certificate() + lan(
    'tls_certificate_name = "mail"', BIND, 'implicit_tls_bindings = [«"127.0.0.1:25"»]'
)

ERRORS = [
    Case("C100", "[server« »x]", ""),
    Case("C100", "[queue]\nmessage_retry_interval = «15m»", "", 'message_retry_interval = "15m"'),
    Case("C100", "[server]\nname = «first»", "", 'name = "first"'),
    Case("C100", "[server]\nname = «nexus»", "", 'name = "nexus"'),
    Case("C100", "[control]\nmetrics = 127.0«.0.1:9925»", "", 'metrics = "127.0.0.1:9925"'),
    Case("C100", f"{domain()}default = «True»", "", "default = true"),
    Case("C100", f"{domain()}default = «yes»", "", "default = true"),
    Case("C100", f"{domain()}default = «Off»", "", "default = false"),
    Case("C100", f"{domain()}default = «$false»", "", "default = false"),
    Case("C100", '[server]\nname = "a"\n«name» = "b"', ""),
    Case("C100", '[server]\nname = "a«\x07»"', ""),
    Case("C100", '[server]\nname = "é" «x»', ""),
    Case("C100", f"{'a.' * 32}a«.»b = 1", ""),
    Case("C100", f"{out()}port = «9223372036854775808»", ""),
    Case(
        "C101",
        '[queue]\n«mesage_retry_interval» = "1m"',
        "queue.mesage_retry_interval",
        'message_retry_interval = "1m"',
    ),
    Case(
        "C101",
        out('«SourceIPAddress» = "10.0.0.1"'),
        f"{OUT}.SourceIPAddress",
        'source_ip_address = "10.0.0.1"',
    ),
    Case("C101", "[«que»]", "que", "[queue]"),
    Case(
        "C101",
        f"{lan()}[«recieve_connector».two]",
        "recieve_connector",
        "[receive_connector.two]",
    ),
    Case("C101", '«tls» = "x"', "tls"),
    Case("C101", '«message_retry_interval» = "1m"', "message_retry_interval"),
    Case("C101", lan('«dialect» = "x"'), f"{LAN}.dialect"),
    Case("C101", '[log]\n«"é \\" x"» = 1', 'log."é \\" x"'),
    Case(
        "C101",
        domain('recipients = { file = "recipients", «flie» = 1 }'),
        f"{OWN}.recipients.flie",
    ),
    Case(
        "C102",
        '[send_connector.«out»]\naddress_spaces = ["*"]\nsmart_hosts = ["a"]',
        f"{OUT}.usage",
        'usage = "custom"',
    ),
    Case(
        "C102",
        '[receive_connector.«"a b"»]\nusage = "internet"',
        'receive_connector."a b".bindings',
        'bindings = ["0.0.0.0:25", "[::]:25"]',
    ),
    Case("C102", domain("«recipients» = {}"), f"{OWN}.recipients.file"),
    Case(
        "C103",
        lan('connection_timeout = "5m"', 'connection_inactivity_timeout = «"5m1ms"»'),
        f"{LAN}.connection_inactivity_timeout",
    ),
    Case(
        "C103",
        out('source_ip_address = "10.0.0.1"', hosts='["mail.example", «"2001:db8::1"»]'),
        f"{OUT}.smart_hosts[1]",
    ),
    Case("C104", "[queue]\nmessage_retry_interval = «900»", "queue.message_retry_interval"),
    Case("C104", '[queue]\nmessage_retry_interval = «"900"»', "queue.message_retry_interval"),
    Case("C104", lan("max_message_size = «37748736»"), f"{LAN}.max_message_size"),
    Case("C105", "[server]\nname = «1»", "server.name"),
    Case(
        "C105",
        "[queue]\nmessage_retry_interval = «00:05:00»",
        "queue.message_retry_interval",
        'message_retry_interval = "00:05:00"',
    ),
    Case("C105", lan('max_hop_count = «"30"»'), f"{LAN}.max_hop_count", "max_hop_count = 30"),
    Case("C105", lan("max_hop_count = «30.0»"), f"{LAN}.max_hop_count"),
    Case("C105", lan("max_hop_count = «true»"), f"{LAN}.max_hop_count"),
    Case("C105", lan('enabled = «"False"»'), f"{LAN}.enabled", "enabled = false"),
    Case("C105", lan("enabled = «0»"), f"{LAN}.enabled"),
    Case("C105", lan('bindings = «"0.0.0.0:25"»'), f"{LAN}.bindings", 'bindings = ["0.0.0.0:25"]'),
    Case("C105", lan("bindings = [«25»]"), f"{LAN}.bindings[0]"),
    Case("C105", lan("«bindings» = {}"), f"{LAN}.bindings"),
    Case("C105", "server = «1»", "server"),
    Case("C105", 'receive_connector = «["lan"]»', "receive_connector"),
    Case("C105", 'receive_connector.lan = «"x"»', "receive_connector.lan"),
    Case(
        "C105",
        domain(RECIPIENTS, 'deliver_to = «"drop"»', kind="authoritative"),
        f"{OWN}.deliver_to",
        DELIVER_TO,
    ),
    Case("C105", 'profile = «["relay"]»', "profile"),
    Case("C105", 'config_version = «"1"»', "config_version"),
    Case("C106", lan('max_message_size = «"49 MB"»'), f"{LAN}.max_message_size"),
    Case("C106", lan("max_hop_count = «0»"), f"{LAN}.max_hop_count"),
    Case("C106", lan("bindings = «[]»"), f"{LAN}.bindings"),
    Case("C106", lan('bindings = ["127.0.0.1:25", «"127.0.0.1:65536"»]'), f"{LAN}.bindings[1]"),
    Case("C106", lan(f"bindings = «[{BINDINGS_65}]»"), f"{LAN}.bindings"),
    Case("C106", f'[control]\nsocket = «"/{"a" * 107}"»', "control.socket"),
    Case("C107", out(usage='«"costum"»'), f"{OUT}.usage", 'usage = "custom"'),
    Case("C107", lan('usage = «"x"»'), f"{LAN}.usage"),
    Case("C108", '[server]\nfqdn = «"relay.example."»', "server.fqdn", 'fqdn = "relay.example"'),
    Case(
        "C108",
        lan('bindings = [\n  "127.0.0.1:25",\n  «"localhost:26"»,\n]'),
        f"{LAN}.bindings[1]",
        '"127.0.0.1:26"',
    ),
    Case("C108", f'[receive_connector.«17»]\nusage = "internet"\n{BIND}', "receive_connector.17"),
    Case("C108", out(name='«"a/b"»'), 'send_connector."a/b"'),
    Case("C108", domain(name='«"own example"»'), 'accepted_domain."own example"'),
    Case("C108", '[spool]\npath = «""»', "spool.path"),
    Case("C109", "config_version = «2»", "config_version", "config_version = 1"),
    Case("C109", 'profile = «"embedded"»', "profile"),
    Case("C109", lan('usage = «"Partner"»'), f"{LAN}.usage"),
    Case("C109", out(usage='«"m365_connector"»'), f"{OUT}.usage"),
    Case("C110", lan() + out(name="«LAN»"), "send_connector.LAN"),
    Case("C110", out() + out(name="«Out»"), "send_connector.Out"),
    Case("C111", domain() + domain(name='«"Own.Example"»'), 'accepted_domain."Own.Example"'),
    Case(
        "C111",
        domain("default = true") + domain("default = «true»", name='"b.example"'),
        'accepted_domain."b.example".default',
    ),
    Case("C120", lan(ranges='["10.20.0.0/16", «"0.0.0.0/0"»]'), f"{RANGES}[1]"),
    Case("C120", lan(ranges='[«"0.0.0.0-255.255.255.255"»]'), f"{RANGES}[0]"),
    Case("C120", lan(ranges='[«"::/0"»]'), f"{RANGES}[0]"),
    Case("C120", lan(ranges='[«"8.8.0.0/15"»]'), f"{RANGES}[0]"),
    Case("C120", lan(ranges='[«"2001:da8::/31"»]'), f"{RANGES}[0]"),
    Case("C120", lan('usage = "RELAY"', ranges='[«"0.0.0.0/0"»]'), f"{RANGES}[0]"),
    # Whatever the usage: it is the right that counts, and anybody's groups can have it.
    Case("C120", lan('usage = "internet"', GROUPS, ranges='[«"0.0.0.0/0"»]'), f"{RANGES}[0]"),
    Case("C120", lan('usage = "custom"', MINE, OWN_GROUP, ranges='[«"0.0.0.0/0"»]'), f"{RANGES}[0]"),
    Case(
        "C120",
        '[permission_group.anonymous_users]\nrights = ["submit", "AcceptAnyRecipient"]\n'
        + lan('usage = "internet"', ranges='[«"0.0.0.0/0"»]'),
        f"{RANGES}[0]",
    ),
    Case(
        "C122",
        f'[receive_connector.«apps»]\nusage = "internet"\n{BIND}\n{GROUPS}',
        "receive_connector.apps",
        SOME_RANGES,
    ),
    Case(
        "C121",
        domain(name='«"own.example"»', kind="Authoritative"),
        OWN,
        'recipients = { file = "recipients" }\ndeliver_to = { maildir = "DIRECTORY" }',
    ),
    Case("C121", domain(DELIVER_TO, name='«"own.example"»', kind="authoritative"), OWN, RECIPIENTS),
    Case(
        "C122", f'[receive_connector.«apps»]\nusage = "relay"\n{BIND}', "receive_connector.apps", SOME_RANGES
    ),
    Case("C122", "[receive_connector.«lan»]\nmax_hop_count = 20", "receive_connector.lan", SOME_RANGES),
    Case(
        "C123",
        '[send_connector.«out»]\nusage = "internet"\naddress_spaces = ["*"]',
        OUT,
        'smart_hosts = ["mail.example.com"]',
    ),
    Case("C124", domain('«deliver_to» = { maildir = "drop" }'), f"{OWN}.deliver_to"),
    Case("C125", domain('recipients = { file = «"missing"» }'), f"{OWN}.recipients.file"),
    Case("C125", domain('recipients = { file = «"."» }'), f"{OWN}.recipients.file"),
    Case("C133", lan('permission_groups = [«"mine"»]'), f"{LAN}.permission_groups[0]"),
    Case(
        "C133",
        lan('permission_groups = [«"relay_client"»]'),
        f"{LAN}.permission_groups[0]",
        '"relay_clients"',
    ),
    Case(
        "C133",
        lan('permission_groups = [«"AnonymousUsers"»]'),
        f"{LAN}.permission_groups[0]",
        '"anonymous_users"',
    ),
    Case(
        "C133",
        lan('permission_groups = [«"ExchangeUsers"»]'),
        f"{LAN}.permission_groups[0]",
        '"authenticated_users"',
    ),
    Case(
        "C103", lan("smtp_utf8_enabled = «true»\neight_bit_mime_enabled = false"), f"{LAN}.smtp_utf8_enabled"
    ),
    Case("C126", lan('bindings = ["0.0.0.0:25", «"127.0.0.1:25"»]'), f"{LAN}.bindings[1]"),
    Case("C126", lan('bindings = ["[::1]:25", «"[::]:25"»]'), f"{LAN}.bindings[1]"),
    Case(
        "C135",
        lan('protocol = "lmtp"', 'bindings = ["127.0.0.1:24", «"127.0.0.1:25"»]'),
        f"{LAN}.bindings[1]",
    ),
    Case(
        "C103",
        lan('protocol = "lmtp"', 'bindings = ["127.0.0.1:24"]', "pipelining_enabled = «false»"),
        f"{LAN}.pipelining_enabled",
    ),
    Case("C120", lan('proxy_protocol_ranges = [«"0.0.0.0/0"»]'), f"{LAN}.proxy_protocol_ranges[0]"),
    Case("C120", lan('xclient_ranges = ["10.0.0.5", «"8.0.0.0/8"»]'), f"{LAN}.xclient_ranges[1]"),
    Case("C108", lan('proxy_protocol_ranges = [«"10.0.0.5/40"»]'), f"{LAN}.proxy_protocol_ranges[0]"),
    Case("C103", IMPLICIT, f"{LAN}.implicit_tls_bindings[0]"),
    Case("C125", certificate(chain='«"no.pem"»'), f"{MAIL}.chain"),
    Case("C125", certificate(key='«"no.key"»'), f"{MAIL}.key.file"),
    Case("C125", certificate(chain='«"."»'), f"{MAIL}.chain"),
    Case("C127", certificate(chain='«"mail.key"»'), f"{MAIL}.chain"),
    Case("C127", certificate(key='«"other.key"»'), f"{MAIL}.key.file"),
    Case("C132", certificate(key='«"exposed.key"»'), f"{MAIL}.key.file"),
    Case(
        "C105",
        '[certificate.mail]\nchain = "mail.chain.pem"\nkey = «"mail.key"»',
        f"{MAIL}.key",
        'key = { file = "mail.key" }',
    ),
    Case(
        "C102",
        '[certificate.«mail»]\nkey = { file = "mail.key" }',
        f"{MAIL}.chain",
        'chain = "fullchain.pem"',
    ),
    Case(
        "C108",
        '[certificate.«"a/b"»]\nchain = "mail.chain.pem"\nkey = { file = "mail.key" }',
        'certificate."a/b"',
    ),
    Case("C105", lan("tls_certificate_name = «true»"), f"{LAN}.tls_certificate_name"),
    Case("C106", lan("tls_certificate_name = «[]»"), f"{LAN}.tls_certificate_name"),
    Case("C107", lan('tls_minimum = «"1.20"»'), f"{LAN}.tls_minimum", TLS_1_2),
    Case(
        "C128",
        certificate() + lan('tls_certificate_name = «["mail", "post"]»'),
        f"{LAN}.tls_certificate_name",
    ),
    Case("C129", lan("require_tls = «true»"), f"{LAN}.require_tls", NAME),
    Case("C129", lan('implicit_tls_bindings = «["0.0.0.0:465"]»'), f"{LAN}.implicit_tls_bindings", NAME),
    Case("C129", lan('tls_client_certificate = «"ask"»'), f"{LAN}.tls_client_certificate", NAME),
    Case("C126", lan(BIND) + '[control]\nmetrics = «"127.0.0.1:25"»', "control.metrics"),
]

WARNINGS = [
    Case("C202", '[server]\nfqdn = «"relay"»\n' + lan(), "server.fqdn", 'fqdn = "relay.example.com"'),
    Case(
        "C203",
        lan() + '[receive_connector.apps]\nusage = "Relay"\nbindings = ["[::]:25"]\n'
        'remote_ip_ranges = ["10.20.0.11", «"10.20.0.0/16"»]',
        "receive_connector.apps.remote_ip_ranges[1]",
    ),
    Case("C204", lan() + certificate(chain='«"short.chain.pem"»'), f"{MAIL}.chain"),
    Case(
        "C207",
        lan() + certificate(chain='«"expired.chain.pem"»', key='"expired.key"'),
        f"{MAIL}.chain",
    ),
    Case("C205", lan() + domain(name='«"a.example"»'), 'accepted_domain."a.example"'),
    Case("C208", lan("deliver_by_enabled = «true»"), f"{LAN}.deliver_by_enabled"),
    Case("C206", lan(ranges='[«"10.20.0.11/16"»]'), f"{RANGES}[0]", '"10.20.0.0/16"'),
]

ELSEWHERE = {"C112", "C113", "C114", "C115", "C132", "C134", "C201", "C209", "C210", "C301"}
"""Codes of files and layers, not of a text alone: test_sources.py, test_layers.py, test_authentication.py,
test_profiles.py."""


def assert_points(problem: Problem, case: Case, severity: str, folder: Folder) -> None:
    expected = unmark(case.text)
    assert (problem.code, problem.severity, problem.file) == (case.code, severity, str(folder.main))
    assert (problem.line, problem.column, problem.width) == expected.places[0]
    assert (problem.path, problem.fix) == (case.path, case.fix)
    assert problem.source_line == expected.text.split("\n")[problem.line - 1]
    assert problem.message.isprintable()


def certificates(folder: Folder) -> None:
    for name in ("mail", "other", "expired"):
        install(folder.path, name)
    chain = (folder.path / "mail.chain.pem").read_text(encoding="ascii")
    end = "-----END CERTIFICATE-----\n"
    folder.write(chain.partition(end)[0] + end, "short.chain.pem")
    exposed = folder.path / "exposed.key"
    exposed.write_bytes((folder.path / "mail.key").read_bytes())
    exposed.chmod(0o640)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: f"{case.code} {case.path}")
def test_error_points_at_its_place(folder: Folder, case: Case) -> None:
    folder.write("you@own.example\n", "recipients")
    certificates(folder)
    (problem,) = folder.problems(unmark(case.text).text)
    assert_points(problem, case, "error", folder)


@pytest.mark.parametrize("case", WARNINGS, ids=lambda case: f"{case.code} {case.path}")
def test_warning_points_at_its_place_and_blocks_nothing(folder: Folder, case: Case) -> None:
    certificates(folder)
    (problem,) = folder.load(unmark(case.text).text).warnings
    assert_points(problem, case, "warning", folder)


def test_every_code_has_a_case() -> None:
    assert {case.code for case in (*ERRORS, *WARNINGS)} | ELSEWHERE == CODES.keys()


def test_all_problems_are_told_at_once_in_the_order_of_the_file(folder: Folder) -> None:
    text = unmark(
        '[server]\nname = «"a b"»\n«nme» = 1\n[queue]\nmessage_retry_interval = «5»\n'
        '[receive_connector.lan]\nremote_ip_ranges = [«"10.0.0.1/33"», «"8.0.0.0/8"», «"10.9.0.9/16"»]\n'
        '[send_connector.«lan»]\nusage = "custom"\naddress_spaces = [«";"»]\n[«quue»]\n'
    )
    problems = folder.problems(text.text)
    assert tuple((problem.line, problem.column, problem.width) for problem in problems) == text.places
    assert [problem.code for problem in problems] == [
        *("C108", "C101", "C104", "C108", "C120", "C206", "C110", "C108", "C101"),
    ]


@pytest.mark.parametrize("size", ["64 KB", "48 MB"])
def test_message_size_at_its_limits(folder: Folder, size: str) -> None:
    (connector,) = folder.load(lan(f'max_message_size = "{size}"')).receive_connectors
    assert connector.max_message_bytes in {64 << 10, 48 << 20}


LIMITS = [
    ("lan", "max_hop_count", "1", "500", "0", "501"),
    ("lan", "max_message_size", '"64 KB"', '"48 MB"', '"63 KB"', '"49153 KB"'),
    ("lan", "max_header_size", '"1 KB"', '"4 MB"', '"1023 B"', '"4097 KB"'),
    ("lan", "max_recipients_per_message", "1", "5000", "0", "5001"),
    ("lan", "max_protocol_errors", "1", "10000", "0", "10001"),
    ("lan", "tarpit_interval", '"0s"', '"10m"', '"0"', '"10m1ms"'),
    ("lan", "max_logon_failures", "0", "10", "-1", "11"),
    ("lan", "auth_tarpit_interval", '"0s"', '"10m"', '"0"', '"10m1ms"'),
    ("lan", "max_inbound_connection", "1", "50000", "0", "50001"),
    ("lan", "max_inbound_connection_per_source", "1", "50000", "-1", "50001"),
    ("lan", "max_inbound_connection_percentage_per_source", "1", "100", "0", "101"),
    ("lan", "message_rate_limit", '"1/24h"', '"999999999/s"', '"0/s"', '"1000000000/s"'),
    ("back_pressure", "memory_high", "73", "100", "72", "101"),
    ("back_pressure", "descriptors_high", "81", "100", "80", "101"),
    ("back_pressure", "queue_length_medium", "1", "1000000000", "0", "1000000001"),
    ("back_pressure", "commit_latency_high", '"2001ms"', '"1m"', '"2s"', '"1m1ms"'),
    ("lan", "connection_timeout", '"5m"', '"1d"', '"999ms"', '"1d1ms"'),
    ("lan", "connection_inactivity_timeout", '"1s"', '"10m"', '"999ms"', '"10m1ms"'),
    ("lan", "min_throughput", '"1 B/s"', '"1 MB/s"', '"0 B/s"', '"1025 KB/s"'),
    ("lan", "min_throughput_grace", '"10s"', '"10m"', '"9999ms"', '"10m1ms"'),
    ("lan", "tls_handshake_timeout", '"1s"', '"5m"', '"999ms"', '"5m1ms"'),
    ("out", "port", "1", "65535", "0", "65536"),
    ("out", "max_outbound_connections_per_domain", "1", "50000", "0", "50001"),
    ("out", "smtp_max_messages_per_connection", "1", "10000", "0", "10001"),
    ("queue", "queue_glitch_retry_count", "0", "15", "-1", "16"),
    ("queue", "queue_glitch_retry_interval", '"1s"', '"12h"', '"999ms"', '"12h1ms"'),
    ("queue", "transient_failure_retry_count", "0", "15", "-1", "16"),
    ("queue", "transient_failure_retry_interval", '"1s"', '"12h"', '"999ms"', '"12h1ms"'),
    ("queue", "outbound_connection_failure_retry_interval", '"1s"', '"20d"', '"0s"', '"20d1ms"'),
    ("queue", "message_retry_interval", '"1s"', '"1d"', '"999ms"', '"1d1ms"'),
    ("queue", "message_expiration_timeout", '"5s"', '"90d"', '"4s"', '"90d1ms"'),
    ("queue", "max_outbound_connections", "1", "50000", "0", "50001"),
    ("server", "io_threads", "1", "64", "0", "65"),
    ("spool", "refuse_mail_below", '"1 MB"', '"1024 TB"', '"1023 KB"', '"1025 TB"'),
    ("spool", "safety_net_hold_time", '"0s"', '"90d"', '"-1s"', '"90d1ms"'),
    ("spool", "safety_net_max_size", '"1 MB"', '"1024 TB"', '"1023 KB"', '"1025 TB"'),
]


@pytest.mark.parametrize(
    ("table", "key", "lowest", "highest", "below", "above"), LIMITS, ids=lambda value: value
)
def test_each_limit_holds_at_its_ends_and_not_one_past_them(
    folder: Folder, table: str, key: str, lowest: str, highest: str, below: str, above: str
) -> None:

    def text(value: str) -> str:
        line = f"{key} = {value}"
        return {"lan": lan(line), "out": out(line)}.get(table, f"[{table}]\n{line}\n")

    for value in (lowest, highest):
        folder.load(text(value))
    for value in (below, above):
        (problem,) = folder.problems(text(value))
        assert problem.path.endswith(key)
