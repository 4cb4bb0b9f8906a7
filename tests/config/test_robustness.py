"""Whatever is written, a configuration is taken or refused with places that exist; nothing else happens."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.model import NAMED_TABLES, TABLES, Table, Top
from penstock.config.render import as_json, as_text
from penstock.errors import ConfigError
from tests.config.conftest import Folder, told

TEXT = """\
config_version = 1
profile = "relay"
[server]
name = "relay1"
[receive_connector.lan]
remote_ip_ranges = ["10.20.0.0/16", "fd00:20::/48"]
max_message_size = "20 MB"
[accepted_domain."contoso.example"]
type = "internal_relay"
[send_connector.out]
usage = "custom"
address_spaces = ["SMTP:*;5"]
smart_hosts = ["[2001:db8::7]:2525"]
[queue]
message_retry_interval = "00:05:00"
"""

VALUES = [
    '"x"',
    '""',
    "0",
    "-1",
    "1.5",
    "nan",
    "true",
    "1979-05-27",
    "00:05:00",
    "[]",
    '[[""]]',
    "{}",
    "{ a = {} }",
]

TABLE_MODELS: dict[str, type[Table]] = {
    "": Top,
    **TABLES,
    **{f'{name}."a.b"': model for name, model in NAMED_TABLES.items()},
}


def check(folder: Folder, text: str) -> None:
    """Load a text; if it is refused, every problem has to be in it, and to be printable."""
    try:
        config = folder.load(text)
    except ConfigError as refused:
        problems = told(refused)
        assert any(problem.severity == "error" for problem in problems)
    else:
        problems = config.warnings
    lines = text.removeprefix("\ufeff").split("\n")
    for problem in problems:
        assert 0 <= problem.line <= len(lines)
        assert problem.line == 0 or 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert as_json(problem).isascii()
    assert as_text(problems).replace("\n", "").isprintable()


@given(st.integers(0, len(TEXT)), st.integers(0, 20), st.text(max_size=20))
def test_any_change_of_a_text_is_taken_or_refused(at: int, removed: int, inserted: str) -> None:
    with tempfile.TemporaryDirectory() as path:
        check(Folder(Path(path)), TEXT[:at] + inserted + TEXT[at + removed :])


@given(st.text(alphabet="ab.=[]{}\"',#\\ \n\r\t01:-_é\x00\ufeff"))
def test_any_text_is_taken_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as path:
        check(Folder(Path(path)), text)


@pytest.mark.parametrize("value", VALUES)
def test_any_value_of_any_key_is_taken_or_refused(folder: Folder, value: str) -> None:
    for table, model in TABLE_MODELS.items():
        for key in model.model_fields:
            check(folder, f"[{table}]\n{key} = {value}\n" if table else f"{key} = {value}\n")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("table", [*TABLES, *NAMED_TABLES, "receive_connector.lan", "defaults"])
def test_any_value_of_any_table_is_taken_or_refused(folder: Folder, table: str, value: str) -> None:
    check(folder, f"{table} = {value}\n")
