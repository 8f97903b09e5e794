"""The demo worker on a machine without a clock: it believes that it started in 1970."""

from __future__ import annotations

import sys
import time

from config_daemon.cli.demo_worker import main

_started, _now = time.time_ns(), time.time_ns
time.time_ns = lambda: _now() - _started + 5_000_000_000  # type: ignore[assignment]
time.time = lambda: time.time_ns() / 1e9  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(main())
