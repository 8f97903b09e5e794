"""Activating a new signing key: how long until the last of 100 workers runs what it signed.

The clock starts when `keys rotate --activate` is called and, for the second figure, when it has returned.
The workers share one process of Python, a thread each, and follow ten services.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figure import Line, Outcome, Scope, median
from bench.scene import Scene, scene, until
from config_daemon.store.ground import load_ground
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import of_key
from config_daemon.wire.topics import Topics
from config_daemon.worker.client import Link, Subscriber
from config_daemon.worker.follow import Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.report import Report
from config_daemon.worker.trust import Trust

SERVICES, WORKERS = 10, 100
PATIENCE_SECONDS = 120.0


def measure(scope: Scope) -> Outcome:
    """Rotate and retire again and again."""
    with scene(SERVICES) as house:
        house.start_daemon()
        count = scope.of(WORKERS, 10)
        with _fleet(house, count) as fleet:
            runs = [_rotate(house, fleet) for _ in range(scope.repetitions)]
    called, returned = (median([run[name] for run in runs]) for name in ("called", "returned"))
    told = f"{called:.2f} s; {max(0.0, returned):.2f} s"
    title = f"a new key activated, until the last of {count} workers runs what it signed: from the call; from its end"
    return Outcome([Line(title, "", "", told, None)], {"runs": runs})


class _Fleet:
    """What every worker applied last: (generation, number), and when."""

    def __init__(self) -> None:
        self._applied: dict[str, tuple[tuple[int, int], int]] = {}
        self._lock = threading.Lock()

    def note(self, worker: str, report: Report) -> None:
        if report.state == "applied" and report.service != "keyring" and report.sequence is not None:
            with self._lock:
                place = (report.generation or 0, report.sequence)
                self._applied[worker] = (place, time.monotonic_ns())

    def last_ns_above(self, number: int, count: int) -> int | None:
        """Return when the last worker applied something above a number; None before that."""
        with self._lock:
            found = [at for (_, reached), at in self._applied.values() if reached > number]
        return max(found) if len(found) == count else None

    @property
    def highest(self) -> int:
        """Return the highest number that any worker applied."""
        with self._lock:
            return max((place[1] for place, _ in self._applied.values()), default=0)

    def __len__(self) -> int:
        return len(self._applied)


@contextlib.contextmanager
def _fleet(house: Scene, count: int) -> Iterator[tuple[_Fleet, int]]:
    fleet, subscribers, threads = _Fleet(), [], []
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as folder:
        for number in range(count):
            worker, service = f"worker-{number}", house.services[number % len(house.services)]
            subscriber = _worker(house, fleet, Path(folder) / worker, worker, service)
            subscribers.append(subscriber)
            threads.append(threading.Thread(target=subscriber.run, daemon=True))
            threads[-1].start()
        try:
            until(lambda: len(fleet) == count, "every worker applied something", PATIENCE_SECONDS)
            yield fleet, count
        finally:
            for subscriber in subscribers:
                subscriber.stop()
            for thread in threads:
                thread.join(10.0)


def _worker(house: Scene, fleet: _Fleet, folder: Path, worker: str, service: str) -> Subscriber:
    topics = Topics()
    trust = Trust(of_key(load_ground(house.data, {}, {}).keys.public_key()), [service], topics)
    made: list[Any] = []
    lookout = Lookout(trust, [service], topics, worker, lambda topic, raw: made[0].publish(topic, raw))
    follower = Follower(
        trust, Keep(folder, trust.anchor), [service], topics, lambda handed: None,
        lambda report: fleet.note(worker, report), lookout,
    )  # fmt: skip
    follower.start()
    link = Link(BrokerAddress.parse(house.url), worker)
    made.append(
        Subscriber(link, [*lookout.filters, topics.config(service)], follower.receive, tick=follower.tick)
    )
    subscriber: Subscriber = made[0]
    return subscriber


def _rotate(house: Scene, fleet: tuple[_Fleet, int]) -> dict[str, float]:
    workers, count = fleet
    house.command("keys", "rotate")
    house.quiet()
    before = workers.highest
    called = time.monotonic_ns()
    house.command("keys", "rotate", "--activate", "--without-backup")
    returned = time.monotonic_ns()
    last = until(
        lambda: workers.last_ns_above(before, count), "every worker runs it", PATIENCE_SECONDS, 0.005
    )
    house.command("keys", "rotate", "--retire")
    return {"called": (last - called) / 1e9, "returned": (last - returned) / 1e9}
