"""Commit → verified at a worker, against plain publish → receive.

The clock of ours starts when `SqliteWriter.commit` returned, just after COMMIT under synchronous=FULL,
with a long-lived writer; it stops when the worker's `Trust.judge` has returned. The baseline's runs from
before `publish` to the entry of the subscriber's callback. Both alternate, with a random gap before each.
"""

from __future__ import annotations

import random
import time
from typing import Any

from bench.baseline import FILTER, Publisher
from bench.figure import BASELINE_LIMIT_SECONDS, Line, Outcome, Scope, below, median, percentile, voided
from bench.receiver import Receiver, Worker
from bench.scene import PREFIX, Scene, scene
from bench.services import revise

GAP_SECONDS = (0.06, 0.12)  # above the pace of one message a topic and 50 ms
SERVICES = 10


def measure(scope: Scope) -> Outcome:
    """Measure both in turns on one broker."""
    samples = scope.of(300, 40)
    with scene(SERVICES) as here:
        worker = Worker(here.public_key, here.services)
        with (
            Receiver(here.url, f"{PREFIX}/config/+", 1, worker) as ours,
            Receiver(here.url, FILTER, 1) as plain,
        ):
            here.start_daemon()
            size = max(ours.take(30.0).payload_bytes for _ in here.services)
            here.quiet()
            with Publisher(here.url) as publisher:
                runs = [_run(here, ours, plain, publisher, size, samples) for _ in range(scope.repetitions)]
    return Outcome(_lines(runs), {"runs": runs, "payload_bytes": size})


def _run(
    here: Scene, ours: Receiver, plain: Receiver, publisher: Publisher, size: int, samples: int
) -> dict[str, Any]:
    random.seed(samples)
    seconds: dict[str, list[float]] = {"ours": [], "ours_from_begin": [], "plain": []}
    with here.store.writer() as writer:
        for number in range(samples):
            service = here.services[number % len(here.services)]
            time.sleep(random.uniform(*GAP_SECONDS))
            began = time.monotonic_ns()
            version = revise(writer, [service], time.time_ns() % (1 << 50))[0].version
            committed = time.monotonic_ns()
            while (received := ours.take(10.0)).version != version or not received.topic.endswith(service):
                pass
            seconds["ours"].append((received.last_ns - committed) / 1e9)
            seconds["ours_from_begin"].append((received.last_ns - began) / 1e9)
            time.sleep(random.uniform(*GAP_SECONDS))
            published = publisher.publish([service], b"x" * size)
            seconds["plain"].append((plain.take(10.0).last_ns - published) / 1e9)
    return {
        f"{name}_{label}": percentile(values, percent)
        for name, values in seconds.items()
        for label, percent in (("p50", 50), ("p99", 99))
    } | {"seconds": seconds}


def _lines(runs: list[dict[str, Any]]) -> list[Line]:
    lines = []
    for label, reach, aim in (("p50", 2.2, 1.7), ("p99", 4.0, 2.5)):
        ratio = median([run[f"ours_{label}"] / run[f"plain_{label}"] for run in runs])
        lines.append(below(f"commit → verified ÷ publish → receive, {label}", ratio, reach, aim, "{:.2f}"))
    slow = [run["plain_p50"] for run in runs if run["plain_p50"] > BASELINE_LIMIT_SECONDS]
    if slow:
        why = f"baseline p50 {1000 * max(slow):.2f} ms in {len(slow)} of {len(runs)} runs, above 1 ms"
        return [voided(line, why) for line in lines]
    return lines
