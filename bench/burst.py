"""Many services changed in one transaction: verified per second, against as many plain messages per second.

Ours runs from the return of the commit to the verdict on the last service; the baseline from before the
first publish to the last receipt. The broker's saving is relaxed for both (see scene.py).
"""

from __future__ import annotations

import time
from typing import Any

from bench.baseline import FILTER, Publisher
from bench.figure import Outcome, Scope, above, median
from bench.receiver import Receiver, Worker
from bench.scene import PREFIX, Scene, scene
from bench.services import revise


def measure(scope: Scope) -> Outcome:
    """Measure both in turns on one broker."""
    count = scope.of(10_000, 1_000)
    with scene(count, relaxed=True) as here:
        worker = Worker(here.public_key, here.services)
        with (
            Receiver(here.url, f"{PREFIX}/config/+", count, worker) as ours,
            Receiver(here.url, FILTER, count) as plain,
            Publisher(here.url) as publisher,
        ):
            here.start_daemon()
            size = ours.take().payload_bytes
            runs = []
            for number in range(scope.repetitions):
                here.quiet()
                runs.append(_run(here, ours, plain, publisher, size, 2 + number))
    ratio = median([run["ours_per_second"] / run["plain_per_second"] for run in runs])
    title = f"{count} services changed in one transaction, verified per second ÷ plain"
    return Outcome([above(title, ratio, 0.30, 0.45, "{:.2f}")], {"runs": runs, "payload_bytes": size})


def _run(
    here: Scene, ours: Receiver, plain: Receiver, publisher: Publisher, size: int, revision: int
) -> dict[str, Any]:
    with here.store.writer() as writer:
        before, began = here.cpu_seconds(), time.monotonic_ns()
        revise(writer, here.services, revision)
        committed = time.monotonic_ns()
        seconds = (ours.take().last_ns - committed) / 1e9
        cpu_seconds = here.cpu_seconds() - before
    here.quiet()
    published = publisher.publish(here.services, b"x" * size)
    plain_seconds = (plain.take().last_ns - published) / 1e9
    count = len(here.services)
    return {
        "ours_per_second": count / seconds,
        "plain_per_second": count / plain_seconds,
        "commit_seconds": (committed - began) / 1e9,
        "daemon_cpu_seconds": cpu_seconds,
    }
