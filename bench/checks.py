"""Resolution and validation of one config, in this process: the slowest of all services' medians.

Every shipped service is measured with its defaults, and a dropped-in one with a config of about 1 KB.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.figure import Outcome, Scope, below, median
from bench.services import config, drop_schemas
from config_daemon.catalog.catalog import Catalog
from config_daemon.core.resolve import resolve


def measure(scope: Scope) -> Outcome:
    """Measure each definition."""
    rounds = scope.of(500, 50)
    with tempfile.TemporaryDirectory() as folder:
        drop_schemas(Path(folder), ["bench-dropped-in"])
        catalog = Catalog.load(Path(folder))
        raw: dict[str, Any] = {}
        for service in catalog.names():
            definition = catalog.get(service)
            assert definition is not None
            stored = config(service, 1) if service == "bench-dropped-in" else {}
            effective = definition.effective(stored)
            raw[service] = {
                "resolve_seconds": _time(rounds, resolve, definition, stored, {}),
                "check_seconds": _time(rounds, definition.check, effective),
            }
    slowest = {
        kind: 1000 * max(one[f"{kind}_seconds"] for one in raw.values()) for kind in ("resolve", "check")
    }
    lines = [
        below("resolution of one config, slowest service", slowest["resolve"], 100.0, None, "{:.3f} ms"),
        below(
            "validation of one config, slowest service",
            slowest["check"],
            1.0,
            None,
            "{:.3f} ms",
            strictly=True,
        ),
    ]
    return Outcome(lines, raw)


def _time(rounds: int, call: Callable[..., Any], *arguments: Any) -> float:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call(*arguments)
        seconds.append(time.perf_counter() - began)
    return median(seconds)
