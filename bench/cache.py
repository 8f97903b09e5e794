"""Writing the whole last-known-good cache at many services: p99 of a change meanwhile, against without.

The daemon is made to write it by another time stamp on the file. Changes that begin or end while the new file
grows beside it count as meanwhile; right after it is in place nothing is written for a while, and the same number
of changes counts as without. Each change is of another service, and is timed from the return of its commit to the
worker's verdict.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.figure import Outcome, Scope, below, median, percentile
from bench.receiver import Receiver, Worker
from bench.scene import PREFIX, BenchBroken, Scene, scene
from bench.services import revise
from config_daemon.daemon.keeper import SHARE
from config_daemon.store.writer import SqliteWriter

GAP_SECONDS = (0.002, 0.010)
CYCLES_A_RUN = 3
WRITTEN_SECONDS = 60.0


def measure(scope: Scope) -> Outcome:
    """Measure meanwhile and without in turns; the 99th percentiles are taken over a run's cycles."""
    count = scope.of(10_000, 2_000)
    with scene(count, relaxed=True) as here:
        with Receiver(here.url, f"{PREFIX}/config/+", count) as everything:
            here.start_daemon()
            everything.take()
        here.quiet()
        with (
            Receiver(here.url, f"{PREFIX}/config/+", 1, Worker(here.public_key, here.services)) as ours,
            here.store.writer() as writer,
        ):
            ours.drain(2.0)
            change = _changer(ours, writer, itertools.cycle(here.services))
            runs = [_run(here, change, CYCLES_A_RUN) for _ in range(scope.repetitions)]
    ratio = median([run["meanwhile_p99"] / run["without_p99"] for run in runs])
    title = f"writing the LKG at {count} services: p99 of a change meanwhile ÷ without"
    return Outcome([below(title, ratio, 2.0, None, "{:.2f}")], {"runs": runs})


def _changer(ours: Receiver, writer: SqliteWriter, services: Iterator[str]) -> Callable[[], float]:
    def change() -> float:
        service = next(services)
        time.sleep(random.uniform(*GAP_SECONDS))
        version = revise(writer, [service], time.time_ns() % (1 << 50))[0].version
        committed = time.monotonic_ns()
        while (received := ours.take(30.0)).version != version or not received.topic.endswith(service):
            pass
        return (received.last_ns - committed) / 1e9

    return change


def _run(here: Scene, change: Callable[[], float], cycles: int) -> dict[str, Any]:
    meanwhile: list[float] = []
    without: list[float] = []
    writing: list[float] = []
    for _ in range(cycles):
        these, seconds = _while_written(here, change)
        writing.append(seconds)
        meanwhile += these
        without += [change() for _ in these]
        time.sleep(SHARE * seconds)  # the daemon rests as long before it writes again
    return {
        "meanwhile_p99": percentile(meanwhile, 99), "without_p99": percentile(without, 99),
        "meanwhile_p50": percentile(meanwhile, 50), "without_p50": percentile(without, 50),
        "write_seconds": writing, "meanwhile": meanwhile, "without": without,
    }  # fmt: skip


def _while_written(here: Scene, change: Callable[[], float]) -> tuple[list[float], float]:
    """Have the cache written; return how long each change took meanwhile, and how long the writing.

    Raises: BenchBroken when it is not written, or without a change meanwhile.
    """
    cache = here.files.cache
    growing = cache.with_name(f".{cache.name}.{here.daemon.pid}.new")
    before, these = cache.stat().st_ino, list[float]()
    os.utime(cache)  # no longer the file that the daemon knows
    began: float | None = None
    give_up = time.monotonic() + WRITTEN_SECONDS
    while cache.stat().st_ino == before and time.monotonic() < give_up:
        was_growing, started = growing.exists(), time.monotonic()
        took = change()
        if was_growing or growing.exists() or cache.stat().st_ino != before:
            began = began or started
            these.append(took)
    if began is None or cache.stat().st_ino == before:
        raise BenchBroken(f"no change while the cache was written anew within {WRITTEN_SECONDS:.0f} s")
    return these, time.monotonic() - began
