"""docs/reliability.md is what the results say, and tells what was not done."""

from __future__ import annotations

from typing import Any

from tools.faults.names import ROWS
from tools.faults.report import PAGE, RESULTS, page, read
from tools.faults.table import FAULTS


def result(**changes: Any) -> dict[str, Any]:
    return {
        "row": 12, "fault": "kill-at-random", "seed": 5, "full": True, "seconds": 60.0, "violations": [],
        "settled_seconds": 1.5, "acknowledged": 10, "refused": 0, "applied": 20, "heard": 30, "kind": "real",
        "figures": {"kills": {"daemon": 2}, "recovery_seconds": {"daemon": [1.0, 3.0]}}, **changes,
    }  # fmt: skip


def test_the_page_is_what_the_results_make_of_it() -> None:
    assert PAGE.read_text() == page(read(RESULTS)), "run `python -m tools.faults.report`"


def test_every_fault_belongs_to_a_row_of_the_campaign() -> None:
    assert {fault.row for fault in FAULTS.values()} <= ROWS.keys()


def test_a_violation_is_told_with_the_command_that_repeats_it() -> None:
    text = page([result(), result(seed=6, violations=["N4 edge-1 went back", "N6 no health at the end"])])
    assert "2 real runs of 1 faults" in text
    assert "4 kills at random" in text
    assert "| 12 | `kill-at-random` | 2 | 2 | 5, 6 | 2.0 | 1.5 s | 1 |" in text
    assert (
        "`python -m tools.faults --fault kill-at-random --seed 6 --full`: N4 edge-1 went back (and 1 more)"
        in text
    )


def test_what_was_scaled_down_or_not_run_is_told() -> None:
    text = page([result(full=False)])
    assert "than the campaign names: rows 12." in text
    assert "| 16 | a broker away for long | not in these results |" in text
    assert "## What is not promised" in text
