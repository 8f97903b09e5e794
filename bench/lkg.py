"""The last-known-good cache: how long writing it takes, with HMAC and sync, and reading it back, verified."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.figure import Line, Outcome, Scope, median
from bench.services import names
from bench.trusting import sealed
from config_daemon.core.sealed import Sealed
from config_daemon.daemon.keeper import SLICE
from config_daemon.store.cache import Draft, Head, load
from config_daemon.store.ports import Place

SIZES = (100, 1_000, 10_000)
KEY = b"k" * 32
HEAD = Head("0" * 8, "2026-01-01T00:00:00.000Z", 1, 1, Place(1, "0" * 16), 1, "bench")


def measure(scope: Scope) -> Outcome:
    """Measure each size; the loop does the same in slices between its turns."""
    lines, raw = [], {}
    for size in (one for one in SIZES if one <= scope.of(10_000, 1_000)):
        kept = {name: sealed(name, number) for number, name in enumerate(names(size), 1)}
        with tempfile.TemporaryDirectory(prefix="config-daemon-bench-") as folder:
            path = Path(folder) / "config.lkg.json"
            write = [_seconds(partial(_write, path, kept)) for _ in range(scope.repetitions)]
            read = [_seconds(partial(_read, path, size)) for _ in range(scope.repetitions)]
        raw[size] = {"write": write, "read": read}
        for what, seconds in (("written", write), ("read and verified", read)):
            told = f"{1000 * median(seconds):.1f} ms"
            lines.append(Line(f"LKG of {size} services, {what}", "", "", told, None))
    return Outcome(lines, {"seconds": raw})


def _write(path: Path, kept: dict[str, Sealed]) -> None:
    draft = Draft(path, HEAD, kept)
    while draft.write(SLICE):
        pass
    draft.put_in_place(KEY)


def _read(path: Path, size: int) -> None:
    found = load(path, [KEY])
    assert found is not None and len(found.sealed) == size


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
