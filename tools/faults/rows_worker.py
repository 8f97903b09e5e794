"""Rows 56 and 68: a worker dies between its steps, its disk fails, its floor is lost, its clock is off, it refuses."""

from __future__ import annotations

import signal
from typing import Any

from tools.faults.hands import Clock
from tools.faults.run import fault
from tools.faults.stage import Stage

YEAR = 365 * 86400.0


@fault(56, "worker-killed-in-step", rate=0)
def worker_killed_in_step(stage: Stage) -> None:
    """kill -9 between keeping and applying, and between applying and saying so: it starts from what it kept."""
    at_start = len(stage.services)  # what was kept is applied once more
    points = (("worker_after_persist", 1), ("worker_after_apply", at_start + 1))
    for point, times in points if stage.full else [stage.rng.choice(points)]:
        stage.workers["edge-1"].kill()
        doomed = stage.start_worker("edge-1", f"{point}:kill:{times}")
        stage.until(lambda doomed=doomed: _said_since(stage, doomed.pid), "the worker")
        stage.write_each()
        stage.must(doomed.wait() == -signal.SIGKILL, f"the worker was to die {point}")
        stage.start_worker("edge-1")
        stage.until(lambda: stage.in_force(stage.stored_versions()), f"everything in force after {point}")


@fault(56, "worker-killed-at-random", rate=50)
def worker_killed_at_random(stage: Stage) -> None:
    """kill -9 of a worker at random under load."""
    for _ in range(int(stage.scaled(3, 100))):
        stage.pass_time(stage.rng.uniform(0.02, 0.5))
        worker = stage.rng.choice(sorted(stage.workers))
        stage.workers[worker].kill()
        stage.start_worker(worker)


@fault(56, "worker-cannot-keep", rate=0, options={"patience": 20})
def worker_cannot_keep(stage: Stage) -> None:
    """A worker cannot make anything durable: it keeps the old, and takes the new when it can."""
    state = stage.folder / "state-edge-1"
    state.rename(stage.folder / "state-away")
    state.write_text("no folder")
    before = stage.versions_of("edge-1")
    stage.write_each()
    stage.until(lambda: any(one.get("errors") for one in stage.reports("edge-1")), "the worker's word")
    stage.must(stage.versions_of("edge-1") == before, "nothing is applied that was not kept")
    state.unlink()
    (stage.folder / "state-away").rename(state)


@fault(56, "floor-damaged", rate=0, options={"patience": 45})
def floor_damaged(stage: Stage) -> None:
    """The file with a worker's floor is damaged while it is down: `floor-lost`, and the beacon says what is today's."""
    worker = stage.workers["edge-1"]
    worker.kill()
    state = stage.folder / "state-edge-1" / f"{stage.services[0]}.state"
    content = bytearray(state.read_bytes())
    content[stage.rng.randrange(len(content))] ^= 1 << stage.rng.randrange(8)
    state.write_bytes(content)
    again = stage.start_worker("edge-1")
    stage.until(
        lambda: any("floor-lost" in one.get("flags", ()) for one in _said_since(stage, again.pid)),
        "floor-lost",
    )
    stage.write_each()


@fault(56, "worker-clock-off", rate=20)
def worker_clock_off(stage: Stage) -> None:
    """A worker's clock is a year ahead or behind: every config is applied all the same."""
    clock = Clock(stage)
    clock.turn(stage.rng.choice((YEAR, -YEAR)))
    stage.workers["edge-1"].kill()
    stage.start_worker("edge-1", **clock.environment)
    stage.pass_time(stage.scaled(0.5, 30))


@fault(68, "refused-then-mended", rate=0)
def refused_then_mended(stage: Stage) -> None:
    """A program refuses a config: it starts from the last good one; once it was mended it takes the refused one."""
    stage.workers["edge-1"].kill()
    stage.start_worker("edge-1", EDGE_REFUSES="unknown to me")
    good, service = stage.versions_of("edge-1"), stage.services[0]
    stage.writer().write(service, padding="unknown to me")
    for _ in range(int(stage.scaled(1, 2))):
        stage.until(
            lambda: any(one.get("reason") == "invalid" for one in stage.reports("edge-1")), "the refusal"
        )
        stage.must(stage.versions_of("edge-1")[service] == good[service], "the good one runs")
        stage.workers["edge-1"].kill()
        again = stage.start_worker("edge-1", EDGE_REFUSES="unknown to me")
        stage.until(lambda again=again: _said_since(stage, again.pid), "the worker")
    stage.workers["edge-1"].kill()
    stage.start_worker("edge-1")


def _said_since(stage: Stage, pid: int) -> list[dict[str, Any]]:
    """Return what a worker's process said after its start."""
    said = stage.reports("edge-1")
    begins = [number for number, line in enumerate(said) if line.get("start") == pid]
    return said[begins[-1] + 1 :] if begins else []
