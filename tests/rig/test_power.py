"""Three small rounds of the power rig; any number by hand with `python -m tests.rig.power`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.rig.power import obstacle, run


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_acknowledged_mail_survives_power_cuts(tmp_path: Path) -> None:
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    seed = int(os.environ.get("PENSTOCK_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}")
    verdict, _ = run(tmp_path, rounds=3, messages=300, connections=20, seed=seed)
    print(verdict)
    assert verdict.is_clean(), str(verdict)
    assert verdict.rounds == 3, str(verdict)
