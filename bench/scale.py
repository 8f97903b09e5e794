"""Changing one of many services, against changing one of ten: latency, and the daemon's processor time.

Two houses stand side by side, each with its broker and its daemon, and are changed in turns. Latency runs
from the return of the commit to the worker's verdict. Processor time is what the daemon used from before
the first change until it was quiet, thus with the last-known-good cache that it writes meanwhile.
The configs are small here, and the broker's saving is relaxed (see scene.py).
"""

from __future__ import annotations

import random
import time
from typing import Any

from bench.figure import Outcome, Scope, below, median, percentile
from bench.receiver import Receiver, Worker
from bench.scene import PREFIX, Scene, scene
from bench.services import revise

FEW = 10
GAP_SECONDS = (0.06, 0.12)
TEXTS = 1


def measure(scope: Scope) -> Outcome:
    """Measure both houses in turns."""
    many, changes = scope.of(100_000, 5_000), scope.of(60, 20)
    with scene(FEW, texts=TEXTS, relaxed=True) as small, scene(many, texts=TEXTS, relaxed=True) as large:
        houses = {"few": small, "many": large}
        loading = {name: _load(house) for name, house in houses.items()}
        runs = [_run(houses, changes) for _ in range(scope.repetitions)]
    latency = median([run["many"]["p50"] / run["few"]["p50"] for run in runs])
    cpu = median([run["many"]["cpu_seconds"] / run["few"]["cpu_seconds"] for run in runs])
    title = f"changing 1 of {many} ÷ 1 of {FEW} services"
    lines = [
        below(f"{title}: latency, p50", latency, 1.5, 1.2, "{:.2f}"),
        below(f"{title}: daemon CPU", cpu, 1.5, 1.2, "{:.2f}"),
    ]
    return Outcome(lines, {"runs": runs, "loading_seconds": loading})


def _load(house: Scene) -> float:
    """Start a house's daemon and wait until everything is published; return how long that took."""
    count = len(house.services)
    with Receiver(house.url, f"{PREFIX}/config/+", count) as everything:
        began = house.start_daemon()
        seconds = (everything.take().last_ns - began) / 1e9
    house.quiet(600.0)
    return seconds


def _run(houses: dict[str, Scene], changes: int) -> dict[str, Any]:
    return {name: _change(house, changes) for name, house in houses.items()}


def _change(house: Scene, changes: int) -> dict[str, Any]:
    chosen = house.services[:: max(1, len(house.services) // FEW)][:FEW]
    house.quiet(600.0)
    seconds = []
    worker = Worker(house.public_key, house.services)
    with house.store.writer() as writer, Receiver(house.url, f"{PREFIX}/config/+", 1, worker) as ours:
        ours.drain(1.0)  # what is retained
        before = house.cpu_seconds()
        for number in range(changes):
            service = chosen[number % FEW]
            time.sleep(random.uniform(*GAP_SECONDS))
            version = revise(writer, [service], time.time_ns() % (1 << 50))[0].version
            committed = time.monotonic_ns()
            while (received := ours.take(30.0)).version != version or not received.topic.endswith(service):
                pass
            seconds.append((received.last_ns - committed) / 1e9)
        changing = house.cpu_seconds() - before
    house.quiet(600.0)
    return {
        "p50": percentile(seconds, 50),
        "p99": percentile(seconds, 99),
        "cpu_seconds": house.cpu_seconds() - before,
        "cpu_seconds_while_changing": changing,
        "seconds": seconds,
    }
