"""A broker that lost everything: how long until it holds every service's message again.

The clock starts when the broker that was wiped listens again and stops when a subscriber has the last
message; what the daemon waits before it connects anew (0.5 to 1.5 s) is part of it.
"""

from __future__ import annotations

import time

from bench.figure import Line, Outcome, Scope, median
from bench.receiver import Receiver
from bench.scene import PREFIX, Scene, scene

SIZES = (10, 1_000, 10_000)


def measure(scope: Scope) -> Outcome:
    """Measure each size."""
    raw = {size: _heal(size, scope.repetitions) for size in SIZES if size <= scope.of(10_000, 1_000)}
    lines = [
        Line(f"a wiped broker healed, {size} services", "", "", f"{median(seconds):.1f} s", None)
        for size, seconds in raw.items()
    ]
    return Outcome(lines, {"seconds": raw})


def _heal(size: int, repetitions: int) -> list[float]:
    with scene(size, relaxed=True) as house:
        with Receiver(house.url, f"{PREFIX}/config/+", size) as everything:
            house.start_daemon()
            everything.take(120.0)
        return [_once(house, size) for _ in range(repetitions)]


def _once(house: Scene, size: int) -> float:
    house.quiet(300.0)
    house.broker.wipe()
    began = time.monotonic_ns()
    with Receiver(house.url, f"{PREFIX}/config/+", size) as everything:
        return (everything.take(120.0).last_ns - began) / 1e9
