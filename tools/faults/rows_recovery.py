"""Rows 8, 32, 45 and 63: the database is made anew under load and kills; nobody can write; the disk fails."""

from __future__ import annotations

import json
import subprocess
import sys

from tools.faults.hands import locked
from tools.faults.run import fault
from tools.faults.stage import Stage

POINTS = (
    "rebuild_built", "rebuild_intended", "rebuild_database_moved", "rebuild_moved", "rebuild_placed",
    "rebuild_epoch_told", "rebuild_cache_aside", "rebuild_marked",
)  # fmt: skip


def _rebuild(stage: Stage) -> None:
    """Have the database made anew, and note which services the command lists as lost."""
    done = subprocess.run(
        [sys.executable, "-m", "config_daemon.cli.main", "rebuild", "--force", "--yes", "--json", "--reason", "tried",
         "--data", str(stage.data)], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    stage.must(done.returncode == 0, f"the database is made anew; {done.stderr[-300:]}")
    lost = json.loads(done.stdout)["lost"]["services"]
    stage.note("rebuilt", lost=sorted(lost))
    stage.figures["listed_as_lost"] = lost


@fault(63, "rebuilt-under-load", rate=50, options={"patience": 20})
def rebuilt_under_load(stage: Stage) -> None:
    """The database is made anew while people write: what was acknowledged is in it, or listed as lost."""
    stage.pass_time(0.3)
    _rebuild(stage)
    stage.pass_time(0.3)
    stage.until(lambda: stage.view.daemon().get("mode") == "normal", "normal again")


@fault(8, "killed-in-rebuild", rate=0, options={"patience": 20})
def killed_in_rebuild(stage: Stage) -> None:
    """The daemon dies at a step of making the database anew: the next start finishes it, or gives it up whole."""
    for point in POINTS if stage.full else [stage.rng.choice(POINTS)]:
        stage.kill_daemon()
        daemon = stage.start_daemon(f"{point}:kill:1")
        stage.until(stage.connected, "the daemon")
        asking = subprocess.Popen(
            [sys.executable, "-m", "config_daemon.cli.main", "rebuild", "--force", "--yes", "--data", str(stage.data)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        stage.note("rebuilt", lost=[])
        stage.must(daemon.wait() != 0, f"the daemon was to die at {point}")
        asking.kill()
        asking.wait()
        stage.start_daemon()
        stage.until(
            lambda: stage.connected() and stage.view.daemon().get("mode") == "normal", f"normal after {point}"
        )
        stage.write_each()
        stage.until(lambda: stage.in_force(stage.stored_versions()), f"what was written after {point}")


@fault(32, "writers-locked-out", rate=0)
def writers_locked_out(stage: Stage) -> None:
    """Somebody keeps all writers out while the daemon runs: locked within a second, well within two."""
    with locked(stage, "writers"):
        stage.wrong(within=1.5)
        stage.see(within=1.5, status="locked", mode="read-only-fallback", event="db-locked")
        stage.pass_time(stage.scaled(0.5, 300))
        stage.right()
    stage.see(within=2.5, status="healthy", mode="normal", ok=True)


@fault(45, "commits-that-fail", rate=0)
def commits_that_fail(stage: Stage) -> None:
    """Writing or syncing the database fails for a writer: no answer for what is not on the disk, and it goes on."""
    database = stage.files.database
    paths = [database, database.with_name("config.db-wal")]
    calls = (("pwrite64", "when=60+40"), ("fdatasync", "when=10+10"))
    for call, when in calls if stage.full else [stage.rng.choice(calls)]:
        failing = stage.tracing(paths, f"error=EIO:{when}", call)
        writer = stage.writing_process(50, wrap=failing)
        log = stage.folder / "acks" / f"{writer.log.stem}.jsonl"
        stage.until(
            lambda log=log: log.exists() and log.read_bytes().count(b'"refused"') >= 2, "writes that failed"
        )
        writer.kill()


@fault(45, "reads-that-fail", rate=0, options={"patience": 20})
def reads_that_fail(stage: Stage) -> None:
    """Reading the database fails for the daemon, for a while: it says so, publishes nothing else, and is well again."""
    assert stage.daemon is not None
    paths = [stage.files.database, stage.files.database.with_name("config.db-wal")]
    tracer = stage.trace(stage.daemon.pid, paths, "error=EIO", "pread64")
    stage.writer().write(stage.services[0])
    stage.wrong()
    stage.see(within=8, ok=False, mode="read-only-fallback")
    stage.right()
    tracer.stop()
    stage.until(lambda: stage.view.daemon().get("mode") == "normal", "well again", 30)
