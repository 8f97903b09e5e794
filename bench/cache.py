"""Writing the last-known-good cache at many services: p99 of a change meanwhile, against without.

A change after a long quiet time starts a write; all changes until the new file is in place count as
meanwhile. Right after a write none begins for a while, and the same number of changes counts as without.
Each change is of another service, and is timed from the return of its commit to the worker's verdict.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.figure import Outcome, Scope, below, median, percentile
from bench.receiver import Receiver, Worker
from bench.scene import PREFIX, Scene, scene, until
from bench.services import revise
from config_daemon.daemon.keeper import SHARE
from config_daemon.store.writer import SqliteWriter

GAP_SECONDS = (0.002, 0.010)
CYCLES_A_RUN = 3


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
        mark = _mark(here)
        change()  # starts a write, after the quiet time below
        began = time.monotonic()
        these = []
        while _mark(here) == mark:
            these.append(change())
        writing.append(time.monotonic() - began)
        if time.monotonic() - began > 30.0:
            continue
        meanwhile += these[:-1]  # the last one may have begun during the write and ended after it
        without += [change() for _ in these[:-1]]
        _settle(here, writing[-1])
    return {
        "meanwhile_p99": percentile(meanwhile, 99), "without_p99": percentile(without, 99),
        "meanwhile_p50": percentile(meanwhile, 50), "without_p50": percentile(without, 50),
        "write_seconds": writing, "meanwhile": meanwhile, "without": without,
    }  # fmt: skip


def _settle(here: Scene, write_seconds: float) -> None:
    """Wait for the write that the changes above still cause, and until the next one may begin at once."""
    mark = _mark(here)
    until(lambda: _mark(here) != mark, "the cache is written again", 120.0)
    time.sleep(1.5 * SHARE * write_seconds)


def _mark(here: Scene) -> tuple[int, int]:
    found = here.files.cache.stat()
    return found.st_ino, found.st_mtime_ns
