"""Every row of the campaign once, scaled down, with the checker's verdict: `make faults` in little."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.faults.run import run
from tools.faults.table import FAULTS

SEED = 20260314
IN_CHECK = sorted(name for name, fault in FAULTS.items() if fault.in_check)


@pytest.mark.parametrize("name", IN_CHECK)
def test_nothing_is_lost_and_nobody_is_lied_to(name: str, tmp_path: Path) -> None:
    result = run(FAULTS[name], SEED, keep=tmp_path)
    assert not result.violations, f"python -m tools.faults --fault {name} --seed {SEED}: {result.violations}"
