"""What parts are told beyond what the configuration says."""

from __future__ import annotations

import pytest

from penstock.assembly import segment_bytes

MB = 1 << 20


@pytest.mark.parametrize(
    ("disk_mb", "segment_mb"), [(1, 1), (20, 1), (56, 3), (512, 32), (1024, 64), (1 << 20, 64)]
)
def test_a_file_system_has_room_for_sixteen_segments(disk_mb: int, segment_mb: int) -> None:
    assert segment_bytes(disk_mb * MB) == segment_mb * MB
