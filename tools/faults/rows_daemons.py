"""Rows 54, 64 and 65: two daemons, a crash on the way there and back, an older database."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from config_daemon.store.files import Files
from config_daemon.store.status import StatusView
from tools.faults.children import Child
from tools.faults.hands import client, command, copy_database, put_database, retained
from tools.faults.run import fault
from tools.faults.stage import Stage


@fault(54, "second-daemon", rate=20)
def second_daemon(stage: Stage) -> None:
    """A second daemon is started on the same folder: the lock keeps it out, the first goes on."""
    second = Child(
        [sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(stage.data)],
        {"MQTT_URL": stage.url("daemon"), **stage.environment}, stage.folder / "logs" / "second.log",
    )  # fmt: skip
    stage.must(second.wait() not in (0, None), "the second one ends with an error")
    assert stage.daemon is not None
    stage.must(stage.daemon.running, "the first one runs")


@fault(54, "copied-daemon", rate=0, options={"patience": 20})
def copied_daemon(stage: Stage) -> None:
    """A copy of the whole folder runs as well: one of the two holds within half a minute, nobody goes back."""
    stage.note("forked")  # two daemons with one key: their health and beacons may have the same numbers
    stage.kill_daemon()
    copy = stage.folder / "copy"
    shutil.copytree(stage.data, copy, ignore=shutil.ignore_patterns("config.db*", "status.db*"))
    copy_database(stage).rename(Files.below(copy).database)  # no file of SQLite's is opened by anybody else
    stage.start_daemon()
    stage.until(stage.connected, "the daemon")
    twin = Child(
        [sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(copy)],
        {"MQTT_URL": stage.url("daemon"), **stage.environment}, stage.folder / "logs" / "twin.log",
    )  # fmt: skip
    try:
        writer, began = stage.writer(), time.monotonic()
        writer.write(stage.services[0])
        stage.until(lambda: _holds(stage.data) or _holds(copy), "that one of them holds", 30)
        stage.figures["held_after_seconds"] = round(time.monotonic() - began, 3)
    finally:
        twin.kill()
    if _holds(stage.data):
        code, told = command(stage, "adopt", "--db", "--yes", "--reason", "the other one was a copy")
        stage.must(code == 0, f"a person takes this database for the true one; {told}")
    stage.kill_daemon()
    stage.start_daemon()


def _holds(folder: Path) -> bool:
    return "not-the-newest" in {row[0] for row in StatusView(Files.below(folder).status).conditions()}


@fault(65, "restored-and-written", rate=0)
def restored_and_written(stage: Stage) -> None:
    """An older database is restored and written past its old height: held, and nothing is overwritten in silence."""
    old = copy_database(stage)
    stage.write_each()
    stage.until(lambda: stage.in_force(stage.stored_versions()), "the second versions")
    stage.until(stage.cache_is_new, "the cache")
    _restore_and_write(stage, old)


@fault(65, "restored-before-cache", rate=0)
def restored_before_cache(stage: Stage) -> None:
    """The same, but the daemon died before its cache knew the newest: what the broker shows has to tell."""
    old = copy_database(stage)
    stage.kill_daemon()
    daemon = stage.start_daemon("before_lkg_rename:kill:2")  # the first time is after the read-back
    stage.until(stage.connected, "the daemon")
    stage.pass_time(0.5)
    stage.writer().write(stage.services[0])
    stage.must(daemon.wait() != 0, "the daemon was to die before its cache was in place")
    stage.until(lambda: stage.in_force(stage.stored_versions()), "the second versions")
    _restore_and_write(stage, old, within=5.0)


def _restore_and_write(stage: Stage, old: Path, within: float = 0.0) -> None:
    stage.kill_daemon()
    newest = copy_database(stage, "newest")
    put_database(stage, old)
    writer = stage.writer()
    for _ in range(3):
        for service in stage.services:
            version = writer.write(service)
            stage.note(
                "lost", service=service, versions=[version]
            )  # the newest database comes back in the end
    writer.close()
    stage.wrong(within=within)
    stage.start_daemon()
    stage.see(condition="not-the-newest", ok=False, mode="read-only-fallback")
    stage.pass_time(0.5)
    stage.must(
        all(version < 3 for version in stage.versions_of("edge-1").values()), "nothing of it is published"
    )
    stage.right()
    stage.kill_daemon()
    put_database(stage, newest)
    stage.start_daemon()
    stage.until(stage.connected, "the daemon")
    if _holds(stage.data):  # of what the broker showed, only a person can say that it is explained
        code, told = command(stage, "adopt", "--db", "--yes", "--reason", "the newest is back")
        stage.must(code == 0, f"a person takes the database for the true one; {told}")
    stage.until(lambda: stage.view.daemon().get("mode") == "normal", "well again")


@fault(
    64, "there-and-back", rate=0, options={"overlays": {"svc-0": {"fixed": ["as shipped", "there", "back"]}}}
)
def there_and_back(stage: Stage) -> None:
    """`.env` goes there and back around a crash, the broker shows the first message: workers end on what is wanted."""
    environment, cache = stage.files.environment, stage.files.cache
    plain, topic = environment.read_text(), f"system/config/{stage.services[0]}"

    def say(value: str) -> None:
        beside = environment.with_name(".env.swp")
        beside.write_text(f"{plain}SVC_0__FIXED={value}\n")
        beside.chmod(0o600)
        beside.replace(environment)

    def runs() -> object:
        given = (
            line["config"]["fixed"]
            for line in reversed(stage.reports("edge-1"))
            if line.get("given") == "svc-0"
        )
        return next(given, None)

    say("back")
    stage.until(lambda: runs() == "back", "the first value")
    stage.until(stage.confirmed, "the broker's word")
    first = retained(stage)[topic]
    stage.until(lambda: json.loads(first)["checksum"].encode() in cache.read_bytes(), "the cache")
    kept = cache.read_bytes()
    say("there")
    stage.until(lambda: runs() == "there", "the second value")
    stage.kill_daemon()
    cache.write_bytes(kept)
    say("back")
    with client(stage) as attacker:
        attacker.publish(topic, stage.theirs(first), retain=True)
    stage.start_daemon()
    # nobody asks the workers: they are asked for evidence by a beacon that lists less than they hold
    stage.until(stage.connected, "the daemon")
    stage.workers["edge-1"].kill()
    stage.start_worker("edge-1")
    stage.until(lambda: runs() == "back", "what is wanted", 90)
