"""`python -m bench`: measure, print one table, keep the raw numbers.

Laws: exit code 0 whether promises hold or not, since a measurement is no test; 1 only when the bench
itself breaks.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from bench.figure import Line, Measure, Outcome, Scope

FIGURES = (
    "latency", "burst", "cold", "scale", "commits", "idle", "checks", "command", "cache", "trusting", "heal", "rotate",
    "fallback", "damage", "lkg", "worker", "convergence", "agent",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--only", nargs="+", choices=FIGURES, default=FIGURES, metavar="NAME", help=", ".join(FIGURES)
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="repetitions (default 5; quick 2)")
    chosen = parser.parse_args(arguments)
    scope = Scope(chosen.repeat or (2 if chosen.quick else 5), chosen.quick)
    lines: list[Line] = []
    broken = []
    for name in chosen.only:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            outcome = _measure(name, scope)
        except Exception as error:  # noqa: BLE001 - one broken figure must not hide the others
            print(f"{name} broke: {type(error).__name__}: {error}", file=sys.stderr)
            broken.append(name)
            continue
        _keep(name, scope, outcome, time.monotonic() - began)
        lines.extend(outcome.lines)
    print(table(lines))
    if scope.quick:
        print("\n--quick: sizes are small; these figures show that the bench runs and nothing more.")
    return 1 if broken else 0


def table(lines: Sequence[Line]) -> str:
    """Return the rows as a Markdown table."""
    rows = [("figure", "reach", "aim", "measured", "verdict"), ("---",) * 5]
    rows += [
        (
            line.figure,
            line.reach,
            line.aim,
            line.measured,
            line.verdict + (f": {line.note}" if line.note else ""),
        )
        for line in lines
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def _measure(name: str, scope: Scope) -> Outcome:
    measure: Measure = importlib.import_module(f"bench.{name}").measure
    return measure(scope)


def _keep(name: str, scope: Scope, outcome: Outcome, seconds: float) -> None:
    RESULTS.mkdir(exist_ok=True)
    kept: dict[str, Any] = {
        "figure": name, "quick": scope.quick, "repetitions": scope.repetitions, "seconds": seconds,
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "system": platform.platform(),
                    "python": platform.python_version(), "memory_bytes": psutil.virtual_memory().total},
        "lines": [{**{f: getattr(line, f) for f in line.__slots__}, "verdict": line.verdict} for line in outcome.lines],
        "raw": outcome.raw,
    }  # fmt: skip
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    (RESULTS / f"{stamp}-{name}.json").write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    sys.exit(main())
