"""`python -m tools.faults.report`: write docs/reliability.md from what the results files say, and from nothing else.

Laws: a number on that page is counted here; a row that was not run is told as such, with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tools.faults.names import NOT_RUN, ROWS
from tools.faults.soak import percentiles, recovery_seconds

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
SHOWN_SEEDS = 3

_HEAD = """# What was tried, and what came of it

Made by `python -m tools.faults.report` from the lines in `tools/faults/results/`; nobody writes here by hand. Each run
starts a broker, the daemon, two workers and writers as real processes on real files, lets one fault happen, and has a
checker judge it that shares no code with the product ([how](../tests/faults/README.md)). What it judges:

| law | says |
|---|---|
| N1 | every acknowledged write is in the database or superseded; others are there whole or not at all |
| N2 | in the end the broker holds, for each service, exactly the newest sealed bytes |
| N3 | every worker runs what the broker holds |
| N4 | no worker ever ran what was not committed, nor anything older than before; no number was used twice |
| N5 | history tells each changed key once, each change under one id, each version from 1 without a gap |
| N6 | health said what was wrong in time, never that all is well while it was not, and is well in the end |
| N7 | no secret is in a log, a topic, a message, a command line or a file that is not meant for it |
"""

_PROMISES = """
## What is not promised

- Availability under a hostile broker: whoever owns it can hold everything back. Workers say `stale` or `frozen` then.
- Power loss, beyond what was tried: processes were killed, the machine was not. What a disk does with data that it
  acknowledged and had not written is in nobody's hands here.
- A whole host put back to an earlier state, cache and marks with it, is not noticed by the host itself; the daemon
  learns of it when the broker or a worker shows what it holds.
"""


def main() -> int:
    """Write the page, or say whether it is what the results make of it."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults.report", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 1 when the page is not what it should be"
    )
    arguments = parser.parse_args()
    text = page(read(RESULTS))
    if arguments.check:
        return int(not PAGE.exists() or PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


def read(folder: Path) -> list[dict[str, Any]]:
    """Return all results, in the order of files and lines."""
    return [
        json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]


def page(results: list[dict[str, Any]]) -> str:
    """Return the page's text."""
    parts = [_HEAD, *_sums(results), *_table(results), *_violations(results), *_absent(results), _PROMISES]
    return "\n".join(part.rstrip("\n") if part == _PROMISES else part for part in parts) + "\n"


def _sums(results: list[dict[str, Any]]) -> Iterator[str]:
    real = [result for result in results if result["kind"] == "real"]
    kills = sum(sum(result["figures"].get("kills", {}).values()) for result in real)
    bad = [result for result in real if result["violations"]]
    yield "## In sum\n"
    yield (
        f"- {len(real)} real runs of {len({result['fault'] for result in real})} faults, "
        f"{sum(result['seconds'] for result in real) / 3600:.1f} hours of them; none was simulated"
    )
    yield f"- {kills} kills at random times under 50 writes a second; {percentiles(_recoveries(real))}"
    yield (
        f"- {sum(result['acknowledged'] for result in real)} acknowledged writes, "
        f"{sum(result['applied'] for result in real)} applied configs"
    )
    yield f"- {len(bad)} runs with a violation" + (", told below" if bad else "")
    yield (
        '\nAgain: `make faults` runs every row in full, `make faults ROWS="12 35" SEED=7` some of them, '
        "`make soak RUNS=300` kills at random,\n`python -m tools.faults --fault NAME --seed N` repeats one run "
        "(with `--full`, as it was run in full)."
    )


def _recoveries(results: Iterable[dict[str, Any]]) -> list[float]:
    return recovery_seconds(result["figures"] for result in results)


def _table(results: list[dict[str, Any]]) -> Iterator[str]:
    runs: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        runs[result["row"], result["fault"]].append(result)
    yield "\n## Rows\n"
    yield "Settled: the longest time from a fault's end until broker, workers and health were as they should be.\n"
    yield "| row | fault | runs | in full | seeds | minutes | settled within | violations |"
    yield "|---|---|---|---|---|---|---|---|"
    for (row, fault), some in sorted(runs.items()):
        settled = [one["settled_seconds"] for one in some if one["settled_seconds"] is not None]
        yield (
            f"| {row} | `{fault}` | {len(some)} | {sum(one['full'] for one in some)} | {_seeds(some)} | "
            f"{sum(one['seconds'] for one in some) / 60:.1f} | {max(settled, default=0):.1f} s | "
            f"{sum(bool(one['violations']) for one in some)} |"
        )


def _words(rows: list[int]) -> str:
    return "rows " + ", ".join(map(str, rows))


def _seeds(results: list[dict[str, Any]]) -> str:
    seeds = sorted({result["seed"] for result in results})
    if len(seeds) <= SHOWN_SEEDS:
        return ", ".join(map(str, seeds))
    if seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}–{seeds[-1]}"
    return f"{', '.join(map(str, seeds[:SHOWN_SEEDS]))} … {seeds[-1]}"


def _violations(results: list[dict[str, Any]]) -> Iterator[str]:
    bad = [result for result in results if result["violations"]]
    if not bad:
        return
    yield "\n## Violations\n"
    yield "What each comes from is in [tests/faults](../tests/faults/README.md).\n"
    for result in bad:
        how = f"`{_command(result)}`"
        yield f"- {how}: {_line(result['violations'][0])}" + (
            f" (and {len(result['violations']) - 1} more)" if len(result["violations"]) > 1 else ""
        )


def _command(result: dict[str, Any]) -> str:
    if result["fault"] == "soak":
        kills = sum(result["figures"].get("kills", {}).values())
        return f"python -m tools.faults.soak --runs {kills} --each {kills} --seed {result['seed']}"
    full = " --full" if result["full"] else ""
    return f"python -m tools.faults --fault {result['fault']} --seed {result['seed']}{full}"


def _line(text: str) -> str:
    """Return a violation without the paths of the machine that found it."""
    words = ["(a path)" if word.lstrip("'\"(").startswith("/") else word for word in text[:200].split()]
    return " ".join(words)


def _absent(results: list[dict[str, Any]]) -> Iterator[str]:
    done = {result["row"] for result in results}
    in_full = {result["row"] for result in results if result["full"]}
    scaled = sorted(done - in_full)
    if scaled:
        yield f"\n## Run scaled down only\n\nShorter, or less often, than the campaign names: {_words(scaled)}."
    yield "\n## Not run\n\n| row | fault | why |\n|---|---|---|"
    for row, what in ROWS.items():
        if row not in done:
            yield f"| {row} | {what} | {NOT_RUN.get(row, 'not in these results')} |"


if __name__ == "__main__":
    sys.exit(main())
