"""Cold start: an empty broker and a daemon that never ran, against as many plain messages per second.

Ours runs from the making of the daemon's process to the verdict on the last service, thus with the
interpreter's start, the definitions, and reading, checking and signing everything; the subscriber is
there before. The baseline is measured on the same broker just after. The broker's saving is relaxed for
both (see scene.py).
"""

from __future__ import annotations

from typing import Any

from bench.baseline import FILTER, Publisher
from bench.figure import Outcome, Scope, above, median
from bench.receiver import Receiver, Worker
from bench.scene import PREFIX, Scene, scene


def measure(scope: Scope) -> Outcome:
    """Measure both in turns, on a new broker for each pair."""
    count = scope.of(10_000, 1_000)
    with scene(count, relaxed=True) as here:
        runs = [_run(here) for _ in range(scope.repetitions)]
    ratio = median([run["ours_per_second"] / run["plain_per_second"] for run in runs])
    title = f"cold start of {count} services, verified per second ÷ plain"
    return Outcome([above(title, ratio, 0.30, 0.50, "{:.2f}")], {"runs": runs})


def _run(here: Scene) -> dict[str, Any]:
    here.stop_daemon()
    here.forget()
    here.new_broker()
    count = len(here.services)
    worker = Worker(here.public_key, here.services)
    with (
        Receiver(here.url, f"{PREFIX}/config/+", count, worker) as ours,
        Receiver(here.url, FILTER, count) as plain,
        Publisher(here.url) as publisher,
    ):
        began = here.start_daemon()
        received = ours.take()
        cpu_seconds = here.cpu_seconds()
        here.quiet()
        published = publisher.publish(here.services, b"x" * received.payload_bytes)
        plain_seconds = (plain.take().last_ns - published) / 1e9
    return {
        "ours_per_second": count / ((received.last_ns - began) / 1e9),
        "plain_per_second": count / plain_seconds,
        "first_message_seconds": (received.first_ns - began) / 1e9,
        "daemon_cpu_seconds": cpu_seconds,
    }
