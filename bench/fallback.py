"""Fallback: from a lock or damage to the health message that says so, and from its end to the one that says well.

Both are timed at a subscriber of the health topic. The lock is another process's exclusive transaction; the
damage is the file's first page, overwritten on the disk and put back.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.figure import Outcome, Scope, below
from bench.scene import PREFIX, Scene, scene
from tests.raw_client import RawClient

SERVICES = 1_000
PAGE_BYTES = 4096
LOCKER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def measure(scope: Scope) -> Outcome:
    """Measure each cause as often as asked for; the worst counts, since these are promises."""
    raw: dict[str, list[tuple[float, float]]] = {}
    with scene(scope.of(SERVICES, 50), relaxed=True) as here:
        here.start_daemon()
        with contextlib.closing(RawClient(here.url)) as client:
            client.subscribe(f"{PREFIX}/health/config-daemon")
            _says(client, "healthy")
            for name, cause in (("a lock", _lock), ("damage", _damage)):
                raw[name] = [_once(here, client, cause) for _ in range(scope.repetitions)]
    lines = []
    for name, seconds in raw.items():
        entries, exits = zip(*seconds, strict=True)
        lines += [
            below(f"fallback after {name}, worst of {len(entries)}", max(entries), 1.0, None, "{:.2f} s"),
            below(f"back after the end of {name}, worst of {len(exits)}", max(exits), 2.0, None, "{:.2f} s"),
        ]
    return Outcome(lines, {"seconds": raw})


def _once(here: Scene, client: RawClient, cause: Callable[[Path], Iterator[None]]) -> tuple[float, float]:
    """Return how long the daemon took to say so, and to say that all is well again."""
    here.quiet()
    client.clear()
    with contextlib.contextmanager(cause)(here.files.database):
        began = time.monotonic()
        entered = _says(client, "locked" if cause is _lock else "corrupted") - began
        client.clear()
    ended = time.monotonic()
    return entered, _says(client, "healthy") - ended


def _says(client: RawClient, status: str) -> float:
    """Return when health said so."""

    def look(messages: list) -> float:  # type: ignore[type-arg]
        found = (one.at for one in messages if json.loads(one.payload)["database_status"] == status)
        return next(found, 0.0)

    return float(client.wait_for(look, seconds=30.0))


def _lock(database: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def _damage(database: Path) -> Iterator[None]:
    # by `dd`: whoever opens and closes the file in a process with a connection drops its locks
    kept = database.with_name("first-page")
    _copy(database, kept)
    _copy(Path("/dev/zero"), database)
    try:
        yield
    finally:
        _copy(kept, database)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(
        ["dd", f"if={source}", f"of={target}", f"bs={PAGE_BYTES}", "count=1", "conv=notrunc", "status=none"],
        check=True,
    )
    os.sync()
