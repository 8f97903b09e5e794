"""Rows 1 to 12: the daemon or a writer dies, at a known place or anywhere."""

from __future__ import annotations

import json
import signal
import time

from config_daemon.errors import CacheError
from config_daemon.store import cache
from tools.faults.children import Child
from tools.faults.hands import client, live
from tools.faults.notes import HEALTH
from tools.faults.run import fault
from tools.faults.stage import Stage

RESTART_SECONDS = 3.0


@fault(1, "kill-before-commit", rate=0)
def kill_before_commit(stage: Stage) -> None:
    """A writer dies inside its transaction: nobody got an answer, nothing of it is there."""
    doomed = stage.writing_process(100, f"before_commit:kill:{stage.rng.randint(2, 12)}")
    stage.must(doomed.wait() == -signal.SIGKILL, "the writer was to die at its failpoint")
    stage.pass_time(0.4)  # whoever published it anyway would have done so by now
    with stage.traffic(50):
        stage.pass_time(stage.scaled(0.2, 10))


@fault(3, "kill-after-commit", rate=0)
def kill_after_commit(stage: Stage) -> None:
    """A writer dies after its commit, the daemon before it is sent: a restart sends it once."""
    daemon = _die_at(stage, "after_seal")
    doomed = stage.writing_process(200, "after_commit:kill:1")
    stage.must(doomed.wait() == -signal.SIGKILL, "the writer was to die at its failpoint")
    stage.must(daemon.wait() == -signal.SIGKILL, "the daemon was to die at its failpoint")
    versions = stage.stored_versions()
    service = next(name for name, version in versions.items() if version == 2)
    with client(stage) as listener:
        stage.start_daemon()
        stage.until(lambda: stage.in_force(versions), "what was committed")
        stage.must(
            len(live(listener, service)) == 1,
            f"exactly one message for it, not {len(live(listener, service))}",
        )


@fault(3, "missed-while-down", rate=0)
def missed_while_down(stage: Stage) -> None:
    """What is committed while no daemon runs is sent by the next one."""
    stage.kill_daemon()
    with stage.traffic(100):
        stage.pass_time(0.3)
    stage.start_daemon()


@fault(4, "kill-after-send", rate=0)
def kill_after_send(stage: Stage) -> None:
    """The daemon dies between sending and the broker's answer; so do its seals that nobody saw."""
    points = ("after_reserve", "after_seal", "after_send")
    for point in points if stage.full else [stage.rng.choice(points)]:
        daemon = _die_at(stage, point)
        stage.write_each()
        stage.must(daemon.wait() == -signal.SIGKILL, f"the daemon was to die {point}")
        stage.start_daemon()
        stage.until(lambda: stage.in_force(stage.stored_versions()), f"everything in force after {point}")


@fault(5, "kill-before-cache", rate=0)
def kill_before_cache(stage: Stage) -> None:
    """The daemon dies after the broker's answer and before the cache knows: nobody is told of trouble."""
    looked_at = len(stage.services)  # the read-back confirms each of them once
    points = (("after_confirm", looked_at + 1), ("before_lkg_rename", 1), ("after_lkg", 1))
    for point, times in points if stage.full else [stage.rng.choice(points)]:
        daemon = _die_at(stage, point, times)
        stage.write_each()
        stage.must(daemon.wait() == -signal.SIGKILL, f"the daemon was to die {point}")
        stage.start_daemon()
        stage.until(lambda: stage.in_force(stage.stored_versions()), f"everything in force after {point}")
        stage.must(
            not stage.conditions & {"lkg-tampered", "not-the-newest"}, f"no condition; {stage.conditions}"
        )


@fault(6, "kill-in-cache-write", rate=10)
def kill_in_cache_write(stage: Stage) -> None:
    """kill -9 at a system call of writing the cache: the file is the old or the new one, never a part."""
    for turn in range(int(stage.scaled(1, 30))):
        daemon = stage.daemon
        assert daemon is not None
        files = stage.files
        paths = [files.cache.with_name(f".{files.cache.name}.{daemon.pid}.new"), files.cache,
                 files.cache.with_name(f"{files.cache.name}.1")]  # fmt: skip
        call = stage.rng.randint(1, 12) if not stage.full else turn % 15 + 1
        tracer = stage.trace(daemon.pid, paths, f"signal=SIGKILL:when={call}")
        stage.until(
            lambda daemon=daemon: not daemon.running, f"the daemon to die at call {call} of the cache's write"
        )
        tracer.kill()
        try:
            cache.load(files.cache, stage.ground.keys.hmac_keys())
        except CacheError as error:
            stage.must(False, f"the cache after call {call}: {error}")
        stage.start_daemon()
        stage.until(stage.connected, "the daemon again")


@fault(7, "kill-in-commit", rate=0)
def kill_in_commit(stage: Stage) -> None:
    """kill -9 at a system call of a commit: what was acknowledged is there, the rest whole or not at all."""
    database = stage.files.database
    paths = [database, database.with_name("config.db-wal"), database.with_name("config.db-shm")]
    for turn in range(int(stage.scaled(2, 60))):
        call = stage.rng.randint(10, 60) if not stage.full else turn + 10
        doomed = stage.writing_process(200, wrap=stage.tracing(paths, f"signal=SIGKILL:when={call}"))
        stage.must(doomed.wait() != 0, "the writer was to die")


@fault(9, "stop-under-load", rate=50)
def stop_under_load(stage: Stage) -> None:
    """SIGTERM: the daemon drains, writes its cache, says good-bye and ends, within ten seconds."""
    for _ in range(int(stage.scaled(1, 20))):
        stage.pass_time(stage.rng.uniform(0.1, 0.6))
        began = time.monotonic()
        stage.expect(ok=False, event="stopped")
        assert stage.daemon is not None
        stage.must(stage.daemon.stop() == 0, "a stop ends with 0")
        stage.must(time.monotonic() - began < 10, "a stop takes less than ten seconds")
        stage.must(json.loads(stage.retained_on(HEALTH))["event"] == "stopped", "the good-bye is retained")
        cache.load(stage.files.cache, stage.ground.keys.hmac_keys())
        stage.start_daemon()
        stage.until(stage.connected, "the daemon again")


@fault(10, "frozen-daemon", rate=10)
def frozen_daemon(stage: Stage) -> None:
    """SIGSTOP: the broker tells the will; on SIGCONT the daemon comes back and sends nothing old."""
    assert stage.daemon is not None
    stage.daemon.signal(signal.SIGSTOP)
    stage.see(within=10, ok=False, event="offline")  # 1.5 keepalives, and what the broker takes to look
    stage.pass_time(stage.scaled(0.2, 60))
    stage.daemon.signal(signal.SIGCONT)


@fault(12, "kill-at-random", rate=50)
def kill_at_random(stage: Stage) -> None:
    """kill -9 at random under 50 writes a second, again and again; what recovery takes is kept."""
    recoveries = []
    for _ in range(int(stage.scaled(2, 100))):
        stage.pass_time(stage.rng.uniform(0.02, 0.8))
        began = time.monotonic()
        stage.kill_daemon()
        stage.start_daemon()
        stage.until(stage.connected, "the daemon again")
        recoveries.append(round(time.monotonic() - began, 3))
    stage.figures |= {"kills": {"daemon": len(recoveries)}, "recovery_seconds": {"daemon": recoveries}}


def _die_at(stage: Stage, point: str, times: int = 1) -> Child:
    """Replace the daemon by one that dies when it passes a point for the n-th time."""
    stage.kill_daemon()
    return stage.start_daemon(f"{point}:kill:{times}")
