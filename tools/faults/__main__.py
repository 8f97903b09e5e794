"""`python -m tools.faults`: run faults and say what the checker found; `--fault NAME --seed N` plays one again."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from tools.faults.run import Result, run
from tools.faults.table import FAULTS


def main() -> int:
    """Run what was asked for; return 1 when any law was broken."""
    arguments = _arguments()
    rows = {int(row) for row in arguments.rows}
    chosen = [one for one in FAULTS.values() if one.name in arguments.fault or one.row in rows]
    if not arguments.fault and not rows:
        chosen = list(FAULTS.values())
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 30)
    bad = 0
    for turn in range(arguments.runs):
        for one in sorted(chosen, key=lambda fault: (fault.row, fault.name)):
            result = run(
                one, seed + turn, full=arguments.full, keep=arguments.keep and arguments.keep / one.name
            )
            bad += bool(result.violations)
            tell(result)
            if arguments.results:
                with arguments.results.open("a") as results:
                    results.write(json.dumps(result.line()) + "\n")
    print(f"{bad} runs with violations")
    return 1 if bad else 0


def tell(result: Result) -> None:
    """Print one line for a run, and one for each violation."""
    end = "-" if result.settled_seconds is None else f"{result.settled_seconds:.1f}"
    print(
        f"row {result.row} {result.fault}: seed {result.seed}, {result.seconds:.1f} s, settled in {end} s, "
        f"{result.acknowledged} acknowledged, {result.refused} refused, {result.applied} applied, "
        f"{len(result.violations)} violations",
        flush=True,
    )
    for violation in result.violations:
        print(f"  {violation}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME", help="which; all of them without"
    )
    parser.add_argument("--rows", nargs="*", default=[], help="numbers of rows")
    parser.add_argument("--seed", type=int, help="what chance follows from; printed when it is not given")
    parser.add_argument("--runs", type=int, default=1, help="how often, each time with the next seed")
    parser.add_argument("--full", action="store_true", help="durations and counts as the campaign names them")
    parser.add_argument("--results", type=Path, help="a file that gets one JSON line for each run")
    parser.add_argument("--keep", type=Path, help="a folder to keep everything in, for a person to look at")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
