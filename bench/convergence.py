"""How soon it is known that workers applied a change, and whether those who shout hold a change up.

Known: `status.db` says that the service has converged on the version. The clock starts when the commit returned. The
baseline is a plain publish until the last of as many plain subscribers has it. The flood is a thousand small forged
statuses a second and fifty of 200 kB; its baseline is the same flood on topics that nobody follows. The broker does
not write its file after each change here, since a flood of retained messages would measure its disk.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.synchronize import Event
from typing import Any

from bench.baseline import Publisher
from bench.crowd import Crowd, keys_of
from bench.figure import Line, Outcome, Scope, below, median, percentile
from bench.receiver import Receiver, Worker, connected
from bench.scene import BASELINE_PREFIX, PREFIX, Scene, scene, until
from bench.services import revise
from config_daemon.store.edgeboard import EdgeView
from config_daemon.store.ports import WorkerRow
from config_daemon.store.workers import write

SIZES = (1, 100, 1000)
SMALL, BIG, BIG_BYTES = 1000, 50, 200_000  # a second
BEAT_SECONDS = 0.02
SETTLED_SECONDS = 60.0


def measure(scope: Scope) -> Outcome:
    """Measure all three."""
    sizes = [size for size in SIZES if size <= scope.of(1000, 100)]
    lines: list[Line] = []
    raw: dict[str, Any] = {}
    for size in sizes:
        raw[str(size)] = found = _reported(size, scope)
        for label in ("p50", "p99"):
            ratio = median([run[f"ours_{label}"] / run[f"plain_{label}"] for run in found["runs"]])
            ours = 1000 * median([run[f"ours_{label}"] for run in found["runs"]])
            lines.append(Line(
                f"commit → known to be applied by {size} ÷ publish → received by as many, {label}", "—", "—",
                f"{ratio:.1f} ({ours:.0f} ms)", None,
            ))  # fmt: skip
        if "wiped" in found:
            lines.append(
                Line(
                    f"a wiped broker → {size} workers known again", "—", "—", f"{found['wiped']:.2f} s", None
                )
            )
    raw["flood"] = runs = _flooded(scope)
    for label in ("p50", "p99"):
        ratio = median([run[f"heard_{label}"] / run[f"unheard_{label}"] for run in runs])
        lines.append(
            below(
                f"commit → verified under a flood of statuses ÷ of others, {label}",
                ratio,
                1.10,
                None,
                "{:.2f}",
            )
        )
    return Outcome(lines, raw)


def _reported(size: int, scope: Scope) -> dict[str, Any]:
    with scene(1, relaxed=True) as here:
        service = here.services[0]
        _expect(here, size)
        here.start_daemon()
        topic = f"{PREFIX}/config/{service}"
        plain_topic = f"{BASELINE_PREFIX}/config/{service}"
        view = EdgeView(here.files.status)
        with (
            Crowd(here.url, topic, size, service, here.public_key),
            Crowd(here.url, plain_topic, size) as plain,
            Publisher(here.url) as publisher,
        ):
            until(lambda: _known(view, service, 1), "all workers are known", SETTLED_SECONDS)
            runs = [_run(here, view, plain, publisher, service, scope) for _ in range(scope.repetitions)]
            found: dict[str, Any] = {"runs": runs}
            if size == max(SIZES):
                found["wiped"] = _wiped(here, view, service)
    return found


def _run(
    here: Scene, view: EdgeView, plain: Crowd, publisher: Publisher, service: str, scope: Scope
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    with here.store.writer() as writer:
        for _ in range(scope.of(20, 3)):
            version = revise(writer, [service], time.time_ns() % (1 << 50))[0].version
            committed = time.monotonic_ns()
            until(lambda v=version: _known(view, service, v), "converged", 60.0, 0.001)  # type: ignore[misc]
            seconds["ours"].append((time.monotonic_ns() - committed) / 1e9)
            time.sleep(random.uniform(0.5, 0.7))
            published = publisher.publish([service], b"x" * 1200)
            seconds["plain"].append((plain.take() - published) / 1e9)
            time.sleep(random.uniform(0.6, 0.7))  # a worker's word is verified once a second
    return {
        f"{name}_{label}": percentile(values, percent)
        for name, values in seconds.items()
        for label, percent in (("p50", 50), ("p99", 99))
    } | {"seconds": seconds}


def _wiped(here: Scene, view: EdgeView, service: str) -> float:
    version = view.convergence(service)[service]["config_version"]
    here.broker.kill()
    here.broker.wipe()
    until(lambda: not _known(view, service, version) or True, "gone", 1.0)
    here.broker.start()
    began = time.monotonic()
    with here.store.writer() as writer:
        version = revise(writer, [service], time.time_ns() % (1 << 50))[0].version
    until(lambda: _known(view, service, version), "converged again", 120.0, 0.01)
    return time.monotonic() - began


def _known(view: EdgeView, service: str, version: int) -> bool:
    body = view.convergence(service).get(service, {})
    return bool(body.get("converged")) and body["config_version"] == version


def _expect(here: Scene, count: int) -> None:
    """Write the rows of all workers in one transaction."""

    def rows(db: Any, deed: Any) -> None:
        epoch = db.execute("SELECT config_epoch FROM config_epoch").fetchall()[0][0]
        for number in range(count):
            keys = keys_of(number).public
            row = WorkerRow(
                keys.worker,
                keys.verify_key,
                keys.box_key,
                (here.services[0],),
                1,
                deed.now,
                deed.by,
                deed.now,
                deed.by,
            )
            write(db, deed.sealer, epoch, row)

    with here.store.writer() as writer:
        writer.change_workers(rows, by="bench", reason=None)


def _flooded(scope: Scope) -> list[dict[str, float]]:
    with scene(10, relaxed=True) as here:
        _expect(here, 1000)
        worker = Worker(here.public_key, here.services)
        with Receiver(here.url, f"{PREFIX}/config/+", 1, worker) as ours:
            here.start_daemon()
            for _ in here.services:
                ours.take(30.0)
            here.quiet()
            return [_flood_run(here, ours, scope) for _ in range(scope.repetitions)]


def _flood_run(here: Scene, ours: Receiver, scope: Scope) -> dict[str, float]:
    found: dict[str, float] = {}
    context = multiprocessing.get_context("spawn")
    for name, prefix in (("unheard", "elsewhere/status"), ("heard", f"{PREFIX}/status")):
        stop = context.Event()
        flood = context.Process(target=_flood, args=(here.url, prefix, here.services[0], stop), daemon=True)
        flood.start()
        time.sleep(2.0)
        cpu, began = here.cpu_seconds(), time.monotonic()
        seconds = _latencies(here, ours, scope.of(150, 20))
        found[f"{name}_cpu"] = (here.cpu_seconds() - cpu) / (time.monotonic() - began)
        found |= {f"{name}_p50": percentile(seconds, 50), f"{name}_p99": percentile(seconds, 99)}
        stop.set()
        flood.join()
        time.sleep(0.5)
    return found


def _latencies(here: Scene, ours: Receiver, samples: int) -> list[float]:
    seconds = []
    with here.store.writer() as writer:
        for number in range(samples):
            service = here.services[number % len(here.services)]
            time.sleep(random.uniform(0.06, 0.12))
            version = revise(writer, [service], time.time_ns() % (1 << 50))[0].version
            committed = time.monotonic_ns()
            while (received := ours.take(10.0)).version != version or not received.topic.endswith(service):
                pass
            seconds.append((received.last_ns - committed) / 1e9)
    return seconds


def _flood(url: str, prefix: str, service: str, stop: Event) -> None:
    client = connected(url, f"bench-flood-{prefix.replace('/', '-')}", 0)
    client.loop_start()
    small, big, beat, due = b"x" * 900, b"y" * BIG_BYTES, 0, time.monotonic()
    names = [keys_of(number).public.worker for number in range(SMALL)]
    while not stop.is_set():
        beat, due = beat + 1, due + BEAT_SECONDS
        for place in range(round(SMALL * BEAT_SECONDS)):
            client.publish(
                f"{prefix}/{service}/{names[(20 * beat + place) % len(names)]}", small, qos=1, retain=True
            )
        client.publish(f"{prefix}/{service}/{names[beat % BIG]}", big, qos=1, retain=True)
        time.sleep(max(0.0, due - time.monotonic()))
    client.disconnect()
    client.loop_stop()
