from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.program import run
from penstock.receive.passwords import matches
from penstock.receive.users import UserFile

SECRET = "open sesame"


class Users:
    """The command line on a file of users."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.path = folder / "users"
        self.config = folder / "penstock.toml"
        self.config.write_text('[user_store.local]\nfile = "users"\n', encoding="utf-8")
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run(["--config", str(self.config), "user", *arguments])
        printed = self._capsys.readouterr()
        assert SECRET not in printed.out + printed.err
        assert "argon2" not in printed.out + printed.err
        return code, printed.out, printed.err

    def file(self) -> UserFile:
        return UserFile(str(self.path))


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Users:
    return Users(tmp_path, monkeypatch, capsys)


def test_a_user_is_added_changed_and_removed(users: Users) -> None:
    code, out, err = users("add", "Erp@contoso.example", stdin=f"{SECRET}\n")
    assert (code, out) == (0, "")
    assert "erp@contoso.example may log in" in err
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    erp = users.file().users["erp@contoso.example"]
    assert matches(erp.stored, SECRET)
    assert users("passwd", "erp@contoso.example", stdin="another one\r\n")[0] == 0
    changed = users.file().users["erp@contoso.example"]
    assert matches(changed.stored, "another one")
    assert changed.created == erp.created
    assert users("disable", "erp@contoso.example")[0] == 0
    assert users.file().users["erp@contoso.example"].is_disabled
    assert users("enable", "ERP@contoso.example")[0] == 0
    assert not users.file().users["erp@contoso.example"].is_disabled
    assert users("remove", "erp@contoso.example")[0] == 0
    assert users.path.read_bytes() == b""


def test_a_list_has_names_and_no_secret(users: Users) -> None:
    assert users("list") == (0, "", f"0 users in {users.path}\n")
    users("add", "erp", stdin=f"{SECRET}\n")
    users("add", "scan-3f", stdin=f"{SECRET}\n")
    users("disable", "scan-3f")
    code, out, _ = users("list")
    created = users.file().users["erp"].created
    assert (code, out) == (0, f"erp      enabled   {created}\nscan-3f  disabled  {created}\n")
    code, out, _ = users("list", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"name": "erp", "enabled": True, "created": created},
        {"name": "scan-3f", "enabled": False, "created": created},
    ]


def test_what_is_there_or_is_not_there_ends_with_1(users: Users) -> None:
    users("add", "erp", stdin=f"{SECRET}\n")
    before = users.path.read_bytes()
    code, _, err = users("add", "ERP", stdin="another one\n")
    assert code == 1
    assert "penstock user passwd erp" in err
    for verb in ("passwd", "disable", "enable", "remove"):
        code, _, err = users(verb, "nobody", stdin=f"{SECRET}\n")
        assert (code, err) == (1, "penstock: there is no user nobody\n")
    assert users.path.read_bytes() == before


@pytest.mark.parametrize("password", ["", "\n", "short\n", "pass\tword\n", "x" * 256 + "\n"])
def test_a_password_that_cannot_be_taken_changes_nothing(users: Users, password: str) -> None:
    assert users("add", "erp", stdin=password)[0] == 2
    assert not users.path.exists()


@pytest.mark.parametrize("name", ["a b", "a:b", "#a", "ü", ""])
def test_a_name_that_cannot_be_one_ends_with_2(users: Users, name: str) -> None:
    assert users("add", name, stdin=f"{SECRET}\n")[0] == 2


def test_a_password_is_asked_for_twice_on_a_terminal(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    answers = iter([SECRET, "open sesamf", SECRET, SECRET])
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: next(answers))
    monkeypatch.setattr(io, "StringIO", Terminal)
    assert users("add", "erp")[0] == 0
    assert matches(users.file().users["erp"].stored, SECRET)
    assert next(answers, None) is None


def test_the_file_can_be_named(users: Users, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert users("add", "erp", "--file", str(other), stdin=f"{SECRET}\n")[0] == 0
    assert list(UserFile(str(other)).users) == ["erp"]
    assert not users.path.exists()


def test_without_a_user_store_it_is_said_what_to_write(users: Users) -> None:
    users.config.write_text("", encoding="utf-8")
    code, _, err = users("list")
    assert code == 2
    assert "[user_store.local]" in err


def test_a_file_that_cannot_be_changed_is_told_of(users: Users, tmp_path: Path) -> None:
    code, _, err = users("add", "erp", "--file", str(tmp_path / "missing" / "users"), stdin=f"{SECRET}\n")
    assert code == 1
    assert "No such file or directory" in err


def test_starting_loads_nothing_that_hashes(tmp_path: Path) -> None:
    script = (
        "import sys, penstock.cli.program as p; p.run(['user', '--help']); "
        "print(sorted({'argon2', 'cffi', 'trio', 'pydantic', 'penstock._core'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
