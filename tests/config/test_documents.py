"""What is written about the configuration: the document, the example, what the other tests write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.config.keys import Choice
from penstock.config.loader import load
from penstock.config.model import NAMED_TABLES, TABLES, Table, Top, key_names
from penstock.config.problems import CODES
from penstock.config.sources import read_profile
from penstock.config.tree import plain
from tests.config.conftest import FakeHost, Folder
from tests.support.daemon import Settings, configuration

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| `(?P<key>[a-z_0-9.]+)` \| (?P<type>[^|]+) \| (?P<default>[^|]+) \| (?P<meaning>.+) \|$"
)
TABLE_HEADING = re.compile(r"^## `\[(?P<table>[a-z_]+)(?:\..*)?\]`")


def documented() -> Iterator[tuple[str, str, str]]:
    """Yield table, key and default of every row of the document; the table of the top keys is empty."""
    table = ""
    for line in DOCUMENT.splitlines():
        heading = TABLE_HEADING.match(line)
        if heading is not None:
            table = heading["table"]
        row = ROW.match(line)
        if row is not None:
            yield table, row["key"], row["default"]


def written(value: object) -> str:
    """A value as the document has it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def profile_defaults() -> dict[tuple[str, str], str]:
    profile = plain(read_profile("relay"))
    tables = {name: profile[name] for name in TABLES} | profile["defaults"]
    return {
        (table, key): written(value)
        for table, keys in tables.items()
        for key, value in keys.items()
        # Which permission groups a connector has its usage says.
        if key != "permission_groups"
    }


def test_every_key_is_a_row_of_the_document() -> None:
    rows = {(table, key.partition(".")[0]) for table, key, _ in documented()}
    tables: dict[str, type[Table]] = {"": Top, **TABLES, **NAMED_TABLES}
    assert rows == {(table, key) for table, model in tables.items() for key in model.model_fields}


def test_every_name_is_in_the_document() -> None:
    named = set(re.findall(r"`([a-z_0-9]+)`", DOCUMENT))
    assert {key for key in key_names() if key not in named} == set()


def test_defaults_of_the_document_are_those_of_the_profile() -> None:
    defaults = {(table, key): default for table, key, default in documented() if default.startswith("`")}
    top = {("", key): written(field.default) for key, field in Top.model_fields.items()}
    assert defaults == profile_defaults() | top


def test_every_code_is_documented_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| (C\d{3}) \| (.+?) \|", DOCUMENT, re.MULTILINE))
    assert rows == CODES


def test_words_of_every_choice_are_documented() -> None:
    tables: list[type[Table]] = [Top, *TABLES.values(), *NAMED_TABLES.values()]
    choices = {
        kind
        for model in tables
        for field in model.model_fields.values()
        for kind in field.metadata
        if isinstance(kind, Choice)
    }
    assert choices
    assert {word for choice in choices for word in choice.words if f'`"{word}"`' not in DOCUMENT} == set()


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL))
def test_examples_of_the_document_are_accepted(folder: Folder, text: str) -> None:
    folder.write("", "contoso.recipients")
    folder.load(text)


def test_first_example_is_a_relay_for_this_machine() -> None:
    config = load(ROOT / "examples" / "first.toml", host=FakeHost())
    assert config.warnings == ()
    assert config.listeners == (("127.0.0.1", 2525),)
    (domain,) = config.accepted_domains
    assert (domain.name, domain.maildir) == ("penstock.test", str(ROOT / "var" / "drop"))
    assert config.spool_path == str(ROOT / "var" / "spool")
    assert config.control_socket == str(ROOT / "var" / "control.sock")
    assert config.send_connectors == ()


def test_commented_smart_host_of_the_first_example_works(folder: Folder) -> None:
    text = (ROOT / "examples" / "first.toml").read_text(encoding="utf-8")
    before, _, after = text.partition("# [send_connector.out]")
    connector, _, rest = after.partition("\n\n")
    text = f"{before}[send_connector.out]{connector.replace(chr(10) + '# ', chr(10))}\n\n{rest}"
    folder.write("", "first.recipients")
    (send,) = folder.load(text).send_connectors
    assert send.smart_hosts == (("127.0.0.1", 2_526),)


def test_configuration_of_the_end_to_end_tests_is_accepted(folder: Folder) -> None:
    folder.write("", "recipients")
    settings = Settings(
        smart_host_port=2_526,
        receive_port=2_525,
        metrics_port=9_925,
        max_connections=5_200,
        extra={"queue": ['queue_glitch_retry_interval = "1s"', 'message_retry_interval = "1s"']},
    )
    config = folder.load(configuration(folder.path, settings))
    assert config.warnings == ()
    assert config.receive_connectors[0].max_inbound_connection_per_source == 5_200
    assert config.send_connectors[0].smart_hosts == (("127.0.0.1", 2_526),)
    assert (config.queue.glitch_retry_interval_ms, config.queue.message_retry_interval_ms) == (1_000, 1_000)
    assert config.refuse_mail_below_bytes == 16 << 20
