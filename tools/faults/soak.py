"""`python -m tools.faults.soak`: kill -9 at random times under 50 writes a second, as often as one likes.

Mostly the daemon, sometimes a worker or the broker; the checker judges after every few kills, on a stage of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.faults.__main__ import tell
from tools.faults.run import Fault, Result, run
from tools.faults.stage import Stage

VICTIMS, WEIGHTS = ("daemon", "worker", "broker"), (80, 15, 5)
RATE = 50.0


def killing(stage: Stage, kills: int) -> None:
    """Kill somebody at random, and have them back; what the daemon's recovery took is kept."""
    recoveries: dict[str, list[float]] = {victim: [] for victim in VICTIMS}
    for _ in range(kills):
        stage.pass_time(stage.rng.uniform(0.0, 1.0))
        victim = stage.rng.choices(VICTIMS, WEIGHTS)[0]
        began = time.monotonic()
        if victim == "daemon":
            stage.kill_daemon()
            stage.start_daemon()
            stage.until(stage.connected, "the daemon")
        elif victim == "worker":
            name = stage.rng.choice(sorted(stage.workers))
            stage.workers[name].kill()
            stage.start_worker(name)
        else:
            stage.broker.kill()
            stage.until(lambda: "broker-down" in stage.conditions, "the daemon's word of a lost broker")
            began = time.monotonic()
            stage.broker.start()
            stage.until(stage.connected, "the daemon at its broker", 100)
        recoveries[victim].append(round(time.monotonic() - began, 3))
    stage.figures |= {
        "kills": {victim: len(times) for victim, times in recoveries.items()},
        "recovery_seconds": recoveries,
    }


def main() -> int:
    """Kill until it was often enough; return 1 when any law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="kills in all")
    parser.add_argument("--each", type=int, default=20, help="kills before the checker judges")
    parser.add_argument("--seed", type=int, help="what chance follows from; printed when it is not given")
    parser.add_argument("--results", type=Path, help="a file that gets one JSON line for each judgement")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 30)
    results = []
    for turn in range(-(-arguments.runs // arguments.each)):
        kills = min(arguments.each, arguments.runs - turn * arguments.each)
        results.append(soak(kills, seed + turn))
        tell(results[-1])
        if arguments.results:
            with arguments.results.open("a") as lines:
                lines.write(json.dumps(results[-1].line()) + "\n")
    print(summary(results))
    return 1 if any(result.violations for result in results) else 0


def soak(kills: int, seed: int) -> Result:
    """Kill so often on one stage, and have it judged."""
    one = Fault(12, "soak", lambda stage: killing(stage, kills), rate=RATE, options={"patience": 120.0})
    return run(one, seed)  # a thousand kills would be the row in full


def summary(results: list[Result]) -> str:
    """Return what to tell of all runs."""
    times = recovery_seconds(result.figures for result in results)
    bad = sum(len(result.violations) for result in results)
    return f"{len(times)} kills of the daemon, {bad} violations; {percentiles(times)}"


def recovery_seconds(figures: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return what every recovery of the daemon took."""
    return sorted(
        second for one in figures for second in one.get("recovery_seconds", {}).get("daemon", ())
    )  # fmt: skip


def percentiles(times: list[float]) -> str:
    """Return p50 and p99 in words."""
    if len(times) < 2:
        return "no recovery was measured"
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return f"recovery p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, worst {times[-1]:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
