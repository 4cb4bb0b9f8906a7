"""A configuration in a folder of its own, as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Settings, configuration


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration; return its path."""

    def write(name: str = "engine", **settings: object) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        path = folder / "penstock.toml"
        given = Settings(**{"receive_port": 0, **settings})  # type: ignore[arg-type]
        path.write_text(configuration(folder, given), encoding="utf-8")
        (folder / "recipients").write_text("@penstock.test\n", encoding="utf-8")
        return path

    return write
