"""`config-daemon get SERVICE` as a process, beside a running daemon: the median of its wall-clock time."""

from __future__ import annotations

import subprocess
import time

from bench.figure import Outcome, Scope, below, median
from bench.receiver import Receiver
from bench.scene import PREFIX, BenchBroken, program, scene


def measure(scope: Scope) -> Outcome:
    """Run the command again and again."""
    seconds = []
    with scene(10) as here:
        with Receiver(here.url, f"{PREFIX}/config/+", 10) as everything:
            here.start_daemon()
            everything.take()
        argv = [*program(), "get", here.services[0], "--data", str(here.data)]
        for _ in range(scope.of(30, 5) + 1):
            began = time.perf_counter()
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            seconds.append(time.perf_counter() - began)
            if done.returncode:
                raise BenchBroken(f"get failed: {done.stderr.strip()}")
    milliseconds = [1000 * one for one in seconds[1:]]  # the first one fills the disk's cache
    line = below(
        "`config-daemon get` as a process", median(milliseconds), 250.0, 150.0, "{:.0f} ms", strictly=True
    )
    return Outcome([line], {"milliseconds": milliseconds})
