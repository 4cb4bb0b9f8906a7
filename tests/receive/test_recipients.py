from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.receive.recipients import PROBLEMS_MAX, RecipientsFile, plain_address


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("You@Contoso.Example", "you@contoso.example"),
        ('"you"@contoso.example', "you@contoso.example"),
        (r'"a\"b\\c"@contoso.example', r'a"b\c@contoso.example'),
        ('"a@b"@contoso.example', "a@b@contoso.example"),
        ('""@contoso.example', "@contoso.example"),
    ],
)
def test_addresses_are_compared_without_case_and_needless_quotes(address: str, plain: str) -> None:
    assert plain_address(address) == plain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipients"
    path.write_text(
        "# people\n\n  You@Contoso.Example   # comment\na#b@contoso.example\n"
        '"J. Doe"@contoso.example\n@Lists.Contoso.Example\n',
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(
    ("address", "exists"),
    [
        ("you@contoso.example", True),
        ("YOU@CONTOSO.EXAMPLE", True),
        ('"you"@contoso.example', True),
        ("a#b@contoso.example", True),
        ('"j. doe"@contoso.example', True),
        ("anything@lists.contoso.example", True),
        ("anything@sub.lists.contoso.example", False),
        ("nobody@contoso.example", False),
        ("# people", False),
        ("", False),
    ],
)
def test_addresses_of_the_file_exist(path: Path, address: str, exists: bool) -> None:
    assert (address in RecipientsFile(str(path))) is exists


def test_changed_file_is_read_again(path: Path) -> None:
    file = RecipientsFile(str(path))
    path.write_text("new@contoso.example\n", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert "new@contoso.example" not in file
    file.refresh()
    assert "new@contoso.example" in file
    assert "you@contoso.example" not in file


def test_addresses_stay_in_force_while_the_file_is_away(path: Path) -> None:
    file = RecipientsFile(str(path))
    moved = path.rename(path.with_suffix(".away"))
    file.refresh()
    assert "you@contoso.example" in file
    assert str(path) in file.problem
    moved.rename(path)
    file.refresh()
    assert file.problem == ""


def test_file_must_be_there_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RecipientsFile(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "line",
    ["you", "*@contoso.example", "You <you@contoso.example>", "a@b.example, c@b.example", "smtp:a@b.example"],
)
def test_line_that_is_no_address_is_told_of(path: Path, line: str) -> None:
    path.write_text(f"me@contoso.example\n{line}  # a comment\n", encoding="utf-8")
    file = RecipientsFile(str(path))
    assert [problem.partition(": ")[0] for problem in file.lines] == [f"{path}:2"]
    assert "me@contoso.example" in file
    path.write_text(
        '@contoso.example\n"a b"@contoso.example\nj\u00f6@[192.0.2.1]\n\n# none\n', encoding="utf-8"
    )
    file.refresh()
    assert file.lines == []


def test_no_more_lines_are_told_of_than_anybody_reads(path: Path) -> None:
    path.write_text("nobody\n" * (PROBLEMS_MAX + 1), encoding="utf-8")
    assert len(RecipientsFile(str(path)).lines) == PROBLEMS_MAX
