"""Many commits at random gaps of 0-50 ms: each version, or a later one, reaches the wire within a second.

Four kinds of writer take equal parts: one long-lived connection or a new one for each commit, with
synchronous FULL and NORMAL. "Confirmed" is read off the wire: a worker has verified that version of the
service or a later one, at most 1 s after the commit returned.
"""

from __future__ import annotations

import bisect
import random
import time
from contextlib import nullcontext
from typing import Any

from bench.figure import Line, Outcome, Scope, percentile
from bench.receiver import Received, Receiver, Worker
from bench.scene import PREFIX, Scene, scene
from bench.services import revise
from config_daemon.store.writer import SqliteWriter

SERVICES = 10
GAP_SECONDS = 0.05
WITHIN_SECONDS = 1.0
KINDS = tuple((life, level) for life in ("long-lived", "one-shot") for level in ("FULL", "NORMAL"))


def measure(scope: Scope) -> Outcome:
    """Commit, and see which commits the wire told of in time."""
    total = scope.of(10_000, 400)
    late: dict[str, int] = {}
    waits: list[float] = []
    with (
        scene(SERVICES) as here,
        Receiver(here.url, f"{PREFIX}/config/+", 1, Worker(here.public_key, here.services)) as ours,
    ):
        here.start_daemon()
        ours.drain(3.0)
        for life, level in KINDS:
            found = _run(here, ours, life == "long-lived", level, total // len(KINDS))
            late[f"{life} {level}"] = sum(wait > WITHIN_SECONDS for wait in found)
            waits += found
    in_time = len(waits) - sum(late.values())
    title = f"of {len(waits)} commits at random gaps of 0-50 ms: on the wire within 1 s"
    line = Line(title, "all", "", f"{in_time} of {len(waits)}", in_time == len(waits), in_time == len(waits))
    raw: dict[str, Any] = {"late": late, **{f"p{p}": percentile(waits, p) for p in (50, 99, 100)}}
    return Outcome([line], raw)


def _run(here: Scene, ours: Receiver, long_lived: bool, level: str, count: int) -> list[float]:
    """Return for each commit after how many seconds it was on the wire; infinite when it never was."""
    commits: list[tuple[str, int, int]] = []
    received: list[Received] = []
    with here.store.writer(level) if long_lived else nullcontext() as kept:
        for _ in range(count):
            time.sleep(random.uniform(0.0, GAP_SECONDS))
            service = random.choice(here.services)
            with nullcontext(kept) if kept is not None else here.store.writer(level) as writer:
                assert isinstance(writer, SqliteWriter)
                version = revise(writer, [service], time.time_ns() % (1 << 50))[0].version
                commits.append((service, version, time.monotonic_ns()))
            while ours.waiting():
                received.append(ours.take())
    received += ours.drain(2 * WITHIN_SECONDS)
    return _waits(commits, received)


def _waits(commits: list[tuple[str, int, int]], received: list[Received]) -> list[float]:
    seen: dict[str, tuple[list[int], list[int]]] = {}
    for one in received:  # in the order of arrival; a worker takes only what is newer, so versions rise
        versions, moments = seen.setdefault(one.topic.rpartition("/")[2], ([], []))
        versions.append(one.version)
        moments.append(one.last_ns)
    waits = []
    for service, version, committed in commits:
        versions, moments = seen.get(service, ([], []))
        place = bisect.bisect_left(versions, version)
        waits.append((moments[place] - committed) / 1e9 if place < len(versions) else float("inf"))
    return waits
