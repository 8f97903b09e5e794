"""The idle daemon: processor time over a while in which nothing happens, and resident memory.

What follows from the start is over by then: the read-back 30 s after the last change, and the cache, which is
written once more after a rest of twenty times as long as it took while everything was being confirmed.

Memory is the resident set of the daemon's process once everything is published and the cache is written.
"""

from __future__ import annotations

import time

from bench.figure import Outcome, Scope, below
from bench.receiver import Receiver
from bench.scene import PREFIX, scene

SETTLING_SECONDS = 75.0


def measure(scope: Scope) -> Outcome:
    """Measure one daemon with many services."""
    count, seconds = scope.of(10_000, 1_000), scope.of(60, 5)
    with scene(count, relaxed=True) as here:
        with Receiver(here.url, f"{PREFIX}/config/+", count) as everything:
            here.start_daemon()
            everything.take()
        settling = time.monotonic()
        here.quiet()
        if not scope.quick:
            time.sleep(max(0.0, SETTLING_SECONDS - (time.monotonic() - settling)))
            here.quiet()
        began, before = time.monotonic(), here.cpu_seconds()
        time.sleep(seconds)
        share = (here.cpu_seconds() - before) / (time.monotonic() - began)
        memory = here.daemon.memory_full_info()
    megabytes = memory.rss / 1e6
    lines = [
        below(f"idle CPU with {count} services", 100 * share, 0.5, 0.2, "{:.2f} %"),
        below(f"memory with {count} services", megabytes, 90.0, 65.0, "{:.0f} MB"),
    ]
    return Outcome(lines, {"seconds": seconds, "rss_bytes": memory.rss, "uss_bytes": memory.uss})
