"""Twenty small rounds of the kill rig; any number by hand with `python -m tests.rig.kill`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.rig.kill import Rig


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_acknowledged_mail_survives_kill_9_and_second_copies_are_named(tmp_path: Path) -> None:
    seed = int(os.environ.get("PENSTOCK_SEED") or random.SystemRandom().randrange(1 << 32))
    verdict = Rig(tmp_path, messages=400, connections=20, seed=seed).run(20)
    print(verdict)
    assert verdict.is_clean(), str(verdict)
    assert verdict.rounds == 20, str(verdict)
