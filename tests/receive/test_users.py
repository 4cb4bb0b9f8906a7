from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.receive import user_edits
from penstock.receive.passwords import parameters_of
from penstock.receive.users import (
    LINE_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    Problem,
    User,
    UserFile,
    exposure,
    read_line,
    read_name,
)

STORED = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
SMALL = STORED.replace("19456", "7168")
ERP = User(name="erp@contoso.example", stored=STORED, created="2026-11-24")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


@pytest.mark.parametrize(
    ("line", "user"),
    [
        ("", None),
        ("   ", None),
        ("# erp:x:", None),
        (f"erp:{STORED}", User(name="erp", stored=STORED)),
        (f"erp:{STORED}:\r", User(name="erp", stored=STORED)),
        (f"ERP@Contoso.Example:{STORED}:created=2026-11-24", ERP),
        (f"erp@contoso.example:{STORED}:disabled,created=2026-11-24", replace(ERP, is_disabled=True)),
    ],
)
def test_a_line_is_a_user_or_nothing(line: str, user: User | None) -> None:
    assert read_line(line) == user
    if user is not None:
        assert read_line(user.line()) == user


@pytest.mark.parametrize(
    "line",
    [
        "erp",
        "erp:",
        "erp:secret",
        f":{STORED}:",
        f" # erp:{STORED}:",
        f"erp:{STORED}:disabled:more",
        f"erp:{STORED}:disable",
        f"erp:{STORED}:created=today",
        f"erp:{STORED.replace('m=19456', 'm=4000000')}:",
        "x" * (LINE_CHARACTERS_MAX + 1),
    ],
)
def test_a_line_that_cannot_be_used_is_told_of_without_its_secret(line: str) -> None:
    with pytest.raises(Problem) as problem:
        read_line(line)
    assert "A" * 43 not in str(problem.value)
    assert "secret" not in str(problem.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a", "a"),
        ("7", "7"),
        ("Scan-3f_a+b.c@Contoso.example", "scan-3f_a+b.c@contoso.example"),
        ("x" * NAME_CHARACTERS_MAX, "x" * NAME_CHARACTERS_MAX),
        ("x" * (NAME_CHARACTERS_MAX + 1), None),
        ("", None),
        ("-a", None),
        ("#a", None),
        ("a b", None),
        ("a:b", None),
        ("a\n", None),
        ("ü", None),
        ("a/b", None),
    ],
)
def test_names(text: str, name: str | None) -> None:
    if name is not None:
        assert read_name(text) == name
        return
    with pytest.raises(Problem):
        read_name(text)


def test_a_hash_is_not_shown() -> None:
    assert "argon2id" not in repr(ERP)


def test_a_bad_line_leaves_out_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "users"
    write(path, f"# who may log in\nerp:{STORED}:\nscan:secret:\nERP:{SMALL}:\nups:{STORED}:disabled\n")
    file = UserFile(str(path))
    assert list(file.users) == ["erp", "ups"]
    assert file.users["erp"].stored == STORED
    problems = list(file.problems())
    assert [problem.partition(": ")[0] for problem in problems] == [f"{path}:3", f"{path}:4"]
    assert "first line counts" in problems[1]


def test_users_follow_their_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    write(path, f"erp:{STORED}:\n")
    file = UserFile(str(path))
    user_edits.change(path, "ups", lambda _: User(name="ups", stored=STORED))
    file.refresh()
    assert list(file.users) == ["erp", "ups"]
    path.chmod(0o640)
    file.refresh()
    assert list(file.users) == ["erp", "ups"]
    assert "can be read or changed by others" in next(file.problems())
    path.chmod(0o600)
    file.refresh()
    assert not list(file.problems())
    path.unlink()
    file.refresh()
    assert list(file.users) == ["erp", "ups"]
    assert "No such file" in next(file.problems())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_file_that_others_could_read_or_change_is_not_taken(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "users"
    write(path, f"erp:{STORED}:\n", mode)
    with pytest.raises(Problem, match="chmod 600"):
        UserFile(str(path))


def test_a_file_of_somebody_else_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users"
    write(path, "")
    assert exposure(os.stat(path)) == ""
    assert exposure(os.stat(tmp_path)) == "is not a regular file"
    fields = list(os.stat(path))
    for owner, reader, is_taken in [(7, 7, True), (0, 7, True), (8, 7, False), (8, 0, True)]:
        fields[stat.ST_UID] = owner
        monkeypatch.setattr(os, "geteuid", lambda reader=reader: reader)
        assert (exposure(os.stat_result(fields)) == "") is is_taken


def test_the_stand_in_costs_what_most_users_cost(tmp_path: Path) -> None:
    path = tmp_path / "users"
    write(path, "")
    assert parameters_of(UserFile(str(path)).stand_in) == (19_456, 2, 1)
    write(path, f"a:{SMALL}:\nb:{SMALL}:\nc:{STORED}:\n")
    assert parameters_of(UserFile(str(path)).stand_in) == (7_168, 2, 1)


def test_a_change_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(f"# first\n\nerp:{STORED}:\n".encode() + b"\xff not ours\n" + f"ups:{STORED}:".encode())
    user_edits.change(path, "erp", lambda old: old and replace(old, is_disabled=True))
    expected = (
        f"# first\n\nerp:{STORED}:disabled\n".encode() + b"\xff not ours\n" + f"ups:{STORED}:\n".encode()
    )
    assert path.read_bytes() == expected
    user_edits.change(path, "erp", lambda _: None)
    assert path.read_bytes() == b"# first\n\n\xff not ours\n" + f"ups:{STORED}:\n".encode()
    assert [user.name for user in user_edits.users_in(path)] == ["ups"]


def test_a_change_makes_the_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "users"
    old_mask = os.umask(0)
    try:
        user_edits.change(path, "erp", lambda _: ERP)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["users"]


def test_a_change_that_fails_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "users"
    write(path, f"erp:{STORED}:\n")

    def fail(_: User | None) -> User:
        raise KeyError("no")

    with pytest.raises(KeyError):
        user_edits.change(path, "erp", fail)
    assert path.read_text() == f"erp:{STORED}:\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["users"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write(tmp_path / "real" / "users", "")
    (tmp_path / "users").symlink_to("real/users")
    user_edits.change(tmp_path / "users", "erp", lambda _: ERP)
    assert (tmp_path / "users").is_symlink()
    assert (tmp_path / "real" / "users").read_text() == ERP.line() + "\n"


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "users"

    def add(number: int) -> None:
        for step in range(5):
            name = f"u{number}-{step}"
            user_edits.change(path, name, lambda _, name=name: User(name=name, stored=STORED))  # type: ignore[misc]

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(user_edits.users_in(path)) == 20
