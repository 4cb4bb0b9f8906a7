"""What may lie where a configuration is expected: each oddity is one clear problem."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from penstock.config.loader import load
from penstock.errors import ConfigError
from tests.config.conftest import FakeHost, Folder, told

LAN = '[receive_connector.lan]\nremote_ip_ranges = ["10.20.0.0/16"]\n'
FILE_BYTES_MAX = 1 << 20


def unreadable(path: Path) -> str:
    """Return what is said of a file that cannot be read."""
    with pytest.raises(ConfigError) as refused:
        load(path)
    (problem,) = told(refused.value)
    assert (problem.code, problem.place, problem.path) == ("C114", str(path), "")
    return problem.message


def test_missing_file(tmp_path: Path) -> None:
    assert unreadable(tmp_path / "none.toml") == "No such file or directory."


def test_directory(tmp_path: Path) -> None:
    assert unreadable(tmp_path) == "This is a directory, not a file."


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert unreadable(tmp_path / "pipe") == "This is not a regular file."


def test_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert unreadable(tmp_path / "socket") == "No such device or address."


def test_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert unreadable(tmp_path / "loop") == "Too many levels of symbolic links."


def test_file_of_the_largest_size_is_read_and_one_octet_more_is_not(folder: Folder) -> None:
    text = LAN + "#"
    folder.load(text + "x" * (FILE_BYTES_MAX - len(text)))
    folder.write(text + "x" * (FILE_BYTES_MAX - len(text) + 1))
    assert unreadable(folder.main) == "The file is larger than 1 MB."


def test_byte_order_mark_of_utf8_means_nothing(folder: Folder) -> None:
    folder.main.write_bytes(b"\xef\xbb\xbf" + LAN.encode())
    assert len(load(folder.main, host=FakeHost()).receive_connectors) == 1
    folder.main.write_bytes(b"\xef\xbb\xbfx = 1\n")
    (problem,) = folder.problems()
    assert (problem.line, problem.column) == (1, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(folder: Folder, encoding: str) -> None:
    mark = b"" if encoding == "utf-16" else "\ufeff".encode(encoding)
    folder.main.write_bytes(mark + LAN.encode(encoding))
    assert unreadable(folder.main) == "The file is UTF-16. Save it as UTF-8."


def test_octets_that_are_not_utf8_are_pointed_at(folder: Folder) -> None:
    folder.main.write_bytes("[server]\r\n# é ".encode() + "Büro\r\n".encode("latin-1"))
    (problem,) = folder.problems()
    assert (problem.code, problem.line, problem.column, problem.source_line) == (
        "C114",
        2,
        6,
        "# é B\ufffdro",
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ends_of_lines_do_not_move_places(folder: Folder, end: str) -> None:
    (problem,) = folder.problems(f"# é{end}[queue]{end}  x = 1{end}")
    assert (problem.line, problem.column, problem.source_line) == (3, 3, "  x = 1")


def test_mistakes_of_syntax_are_told_one_a_line(folder: Folder) -> None:
    problems = folder.problems("a = = 1\nb = 2\nc = x y z\nd = 1m\n[e\n")
    assert {problem.code for problem in problems} == {"C100"}
    assert [problem.line for problem in problems] == [1, 3, 4, 5]


def test_list_without_an_end_is_told_of_once(folder: Folder) -> None:
    problems = folder.problems('a = 1m\nb = ["x"\nc = 1\n\n[d]\ne = [1, 2]\n')
    assert [(problem.code, problem.line) for problem in problems] == [("C100", 1), ("C100", 3)]
    assert "no `]` at its end" in problems[1].message


def test_file_that_is_no_toml_at_all_is_told_of_briefly(folder: Folder) -> None:
    assert len(folder.problems("<xml/>\n" * 10_000)) == 10


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a." * 100_000 + "a = 1", "=" * 100_000, "[a." * 30_000]
)
def test_nesting_and_length_break_nothing(folder: Folder, text: str) -> None:
    assert {problem.code for problem in folder.problems(text)} == {"C100"}


def test_syntax_of_all_files_is_told_at_once_and_nothing_that_follows_from_it(folder: Folder) -> None:
    folder.write("[server\n")
    folder.write("x = \n[spool]\n", "conf.d/1.toml")
    folder.write('[spool]\npath = "/x"\n', "conf.d/2.toml")
    problems = folder.problems(overrides=["x"])
    assert sorted((problem.code, os.path.basename(problem.file)) for problem in problems) == [
        *(("C100", "1.toml"), ("C100", "penstock.toml"), ("C112", "2.toml"), ("C115", "--set")),
    ]


@pytest.mark.parametrize(("mode", "is_safe"), [(0o644, True), (0o600, True), (0o664, False), (0o646, False)])
def test_drop_in_that_others_may_write_is_refused(folder: Folder, mode: int, *, is_safe: bool) -> None:
    folder.write(LAN)
    drop_in = folder.write('[queue]\nmessage_retry_interval = "1m"\n', "conf.d/1.toml")
    drop_in.chmod(mode)
    if is_safe:
        folder.load()
    else:
        (problem,) = folder.problems()
        assert (problem.code, problem.place) == ("C113", str(drop_in))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("owner", "is_safe"), [(0, True), (12_345, False)])
def test_drop_in_belongs_to_root_or_the_service(folder: Folder, owner: int, *, is_safe: bool) -> None:
    folder.write(LAN)
    os.chown(folder.write("", "conf.d/1.toml"), owner, owner)
    if is_safe:
        folder.load()
    else:
        assert [problem.code for problem in folder.problems()] == ["C113"]


def test_folder_of_drop_ins_that_is_none(folder: Folder) -> None:
    folder.write(LAN)
    folder.write("", "conf.d")
    (problem,) = folder.problems()
    assert (problem.code, problem.message) == ("C114", "Not a directory.")


@pytest.mark.parametrize(("count", "is_read"), [(256, True), (257, False)])
def test_drop_ins_are_bounded(folder: Folder, count: int, *, is_read: bool) -> None:
    folder.write(LAN)
    for number in range(count):
        folder.write("", f"conf.d/{number:03}.toml")
    if is_read:
        assert len(folder.load().files) == count + 1
    else:
        (problem,) = folder.problems()
        assert problem.message == "There are 257 drop-ins; at most 256 are read."


def test_name_that_is_not_utf8_can_be_printed(folder: Folder, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.toml")
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert told(refused.value)[0].file == f"{tmp_path}/\\xff.toml"
