from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock import _core
from penstock.cli.program import run


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    _core.Engine(spool=str(path), inline=True, options={"segment_bytes": 65536, "map_bytes": 1 << 24}).close()
    return path


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_sound_spool_is_checked_and_counted(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spool", "check", "--spool", str(spool), "--json"]) == 0
    assert told(capsys)["problems"] == []
    assert run(["spool", "stat", "--spool", str(spool), "--json"]) == 0
    found = told(capsys)
    assert (found["path"], found["messages"], found["epoch"]) == (str(spool), 0, 1)
    assert not found["is_restored"]


def test_damaged_index_is_found_and_salvaged(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = spool / "shard-00" / "index" / "data.mdb"
    data.write_bytes(data.read_bytes()[:5000])
    assert run(["spool", "check", "--spool", str(spool)]) == 1
    assert "index" in capsys.readouterr().out
    assert run(["spool", "salvage", "--spool", str(spool), "--dry-run"]) == 0
    assert run(["spool", "check", "--spool", str(spool)]) == 1, "a dry run changes nothing"
    assert run(["spool", "salvage", "--spool", str(spool), "--yes", "-q"]) == 0
    assert run(["spool", "check", "--spool", str(spool)]) == 0


def test_salvage_asks(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = spool / "shard-00" / "index" / "data.mdb"
    data.unlink()
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run(["spool", "salvage", "--spool", str(spool)]) == 130
    assert not data.exists()


def test_spool_in_use_ends_with_its_own_code(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = _core.Engine(spool=str(spool), inline=True, options={"map_bytes": 1 << 24})
    try:
        assert run(["spool", "salvage", "--yes", "--spool", str(spool)]) == 72
    finally:
        engine.close()
    assert "is the daemon running?" in capsys.readouterr().err


def test_spool_in_use_is_checked_and_counted_as_far_as_it_goes(
    spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = _core.Engine(spool=str(spool), inline=True, options={"map_bytes": 1 << 24})
    try:
        assert run(["spool", "check", "--spool", str(spool)]) == 0
        assert "no index and no blob, for the daemon has them: all sound" in capsys.readouterr().err
        assert run(["spool", "stat", "--spool", str(spool)]) == 0
        out = capsys.readouterr().out
        assert "by a daemon" in out
        assert "Messages" not in out
        assert run(["spool", "stat", "--spool", str(spool), "--json"]) == 0
        found = told(capsys)
    finally:
        engine.close()
    assert (found["is_in_use"], found["messages"], found["epoch"]) == (True, None, None)
    assert isinstance(found["index_bytes"], int)


def test_no_spool_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spool", "check", "--spool", str(tmp_path)]) == 1
    assert "there is no spool" in capsys.readouterr().err


def test_backup_is_brought_back_and_held_until_released(
    spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, restored = tmp_path / "copy", tmp_path / "restored"
    assert run(["spool", "backup", str(copy), "--spool", str(spool)]) == 0
    assert run(["spool", "restore", str(copy), "--spool", str(restored)]) == 0
    engine = _core.Engine(spool=str(restored), inline=True, options={"map_bytes": 1 << 24})
    assert engine.recovery["is_restored"]
    assert engine.recovery["salvaged"]["reason"] == "it is missing"
    engine.close()
    assert run(["spool", "restore", str(copy), "--spool", str(restored)]) == 1, "there is one already"
    capsys.readouterr()
    assert run(["spool", "release", "--spool", str(restored), "--json"]) == 0
    assert told(capsys) == {"released": True}
    assert run(["spool", "release", "--spool", str(restored), "--json"]) == 0
    assert told(capsys) == {"released": False}
