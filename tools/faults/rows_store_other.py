"""Rows 37 to 42 and 55: the database is gone, another one, of another shape; odd rows; many writers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from tools.faults.hands import checkpoint, client, copy_database, live, overwrite, put_database, truncate
from tools.faults.rows_store import CORRUPTED, PAGE
from tools.faults.run import fault
from tools.faults.stage import Stage
from tools.faults.traffic import Writer

BAD_TEXTS = (
    "{",
    '{"token":"a-1","token":"b-1","count":1}',
    '{"count":NaN}',
    '{"count":1152921504606846976}',
    "[]",
    "7",
)


@fault(37, "deleted", rate=0)
def deleted(stage: Stage) -> None:
    """The database is deleted, under the running daemon and before a start: no empty one takes its place."""
    for running in (True, False) if stage.full else [stage.rng.random() < 0.5]:
        if not running:
            stage.kill_daemon()
        checkpoint(stage)
        good = copy_database(stage)
        for suffix in ("", "-wal", "-shm"):
            stage.files.database.with_name(f"config.db{suffix}").unlink(missing_ok=True)
        if not running:
            stage.start_daemon()
        stage.wrong()
        stage.see(event="db-missing", **CORRUPTED)
        stage.must(not stage.files.database.exists(), "no database is made")
        stage.right()
        put_database(stage, good)
        stage.until(lambda: stage.connected() and stage.view.daemon().get("mode") == "normal", "well again")


def _replaced(stage: Stage, other: Path, condition: str) -> None:
    """Put another database in the place of ours under the running daemon, and ours back."""
    good = copy_database(stage, "newest")
    stage.until(stage.confirmed, "the broker's word")
    with client(stage) as listener:
        put_database(stage, other)
        stage.wrong()
        stage.see(condition=condition, ok=False, mode="read-only-fallback")
        stage.pass_time(0.3)
        for service in stage.services:
            stage.must(not live(listener, service), f"nothing is published for {service}")
        stage.right()
        put_database(stage, good)
    stage.until(lambda: stage.view.daemon().get("mode") == "normal", "well again")


@fault(38, "older-copy", rate=0)
def older_copy(stage: Stage) -> None:
    """An older copy takes the database's place: it lacks what was read before, and nothing is published."""
    old = copy_database(stage)
    stage.write_each()
    stage.until(lambda: stage.in_force(stage.stored_versions()), "the second versions")
    _replaced(stage, old, "not-the-newest")


@fault(38, "foreign-database", rate=0)
def foreign_database(stage: Stage) -> None:
    """Another program's database takes the place of ours."""
    other = stage.folder / "scratch" / "other.db"
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE shopping(item); INSERT INTO shopping VALUES ('milk')")
    connection.close(True)
    _replaced(stage, other, "db-corrupted")


@fault(39, "log-lost", rate=0)
def log_lost(stage: Stage) -> None:
    """The -wal is deleted, cut or damaged: commits are gone, SQLite calls it well, and the daemon does not."""
    ways: list[Callable[[Path], object]] = [
        lambda wal: wal.unlink(), lambda wal: truncate(wal, 0), lambda wal: overwrite(wal, 0, bytes(32)),
        lambda wal: overwrite(wal, 32 + 24 + PAGE // 2, b"\xff" * 8),
    ]  # fmt: skip
    for spoil in ways if stage.full else stage.rng.sample(ways, 1):
        checkpoint(stage)
        stage.write_each()
        stage.until(lambda: stage.in_force(stage.stored_versions()), "what is in the log")
        stage.until(stage.confirmed, "the broker's word")
        stage.until(lambda: stage.cache_is_new(), "the cache")
        good = copy_database(stage, "newest")
        wal = stage.files.database.with_name("config.db-wal")
        stage.kill_daemon()  # it has the database open alone, and so the log stays
        spoil(wal)
        stage.start_daemon()
        stage.wrong()
        stage.see(condition="not-the-newest", ok=False, mode="read-only-fallback")
        stage.right()
        stage.kill_daemon()
        put_database(stage, good)
        stage.start_daemon()
        stage.until(lambda: stage.connected() and stage.view.daemon().get("mode") == "normal", "well again")


@fault(41, "another-shape", rate=0)
def another_shape(stage: Stage) -> None:
    """A newer format, a table that is gone: read-only, nothing migrated, well when the right one is back."""
    ways = ("PRAGMA user_version = 99", "ALTER TABLE service_configs RENAME TO elsewhere")
    for statement in ways if stage.full else [stage.rng.choice(ways)]:
        stage.kill_daemon()
        good = copy_database(stage)
        connection = apsw.Connection(str(stage.files.database))
        connection.execute(statement)
        connection.close(True)
        stage.start_daemon()
        stage.wrong()
        stage.see(status="schema-mismatch", mode="read-only-fallback", ok=False)
        stage.right()
        stage.kill_daemon()
        put_database(stage, good)
        stage.start_daemon()
        stage.until(stage.connected, "the daemon")


@fault(42, "odd-rows", rate=0)
def odd_rows(stage: Stage) -> None:
    """Rows hold what no writer of ours writes, under seals that fit: that service is named, the others go on."""
    for text in BAD_TEXTS if stage.full else stage.rng.sample(BAD_TEXTS, 1):
        odd, other = stage.services[:2]
        connection = apsw.Connection(str(stage.files.database))
        version, epoch, at, by, seal, good = connection.execute(
            "SELECT version, config_epoch, updated_at, updated_by, row_seal, config_json FROM service_configs"
            " WHERE service = ?", (odd,)
        ).get  # fmt: skip
        sealed = stage.ground.keys.row_sealer().seal("service_configs", odd, version, epoch, text, at, by)
        put = "UPDATE service_configs SET config_json = ?, row_seal = ? WHERE service = ?"
        connection.execute(put, (text, sealed, odd))
        stage.see(condition="row-invalid")
        newer = stage.writer().write(other)
        stage.until(lambda newer=newer, other=other: stage.in_force({other: newer}), "the other service")
        connection.execute(put, (good, seal, odd))
        connection.close(True)
        stage.until(lambda: "row-invalid" not in stage.conditions, "well again")


@fault(55, "fifty-writers", rate=0)
def fifty_writers(stage: Stage) -> None:
    """Many write the same row at once, each on the version that it saw: one wins each version."""
    service, rounds = stage.services[0], int(stage.scaled(2, 10))
    writers = [stage.writer() for _ in range(int(stage.scaled(8, 50)))]
    for _ in range(rounds):
        seen, won = stage.stored_versions()[service], []
        gate = threading.Barrier(len(writers))

        def strive(writer: Writer, seen: int = seen, won: list[int | None] = won, gate: Any = gate) -> None:
            gate.wait()
            won.append(writer.write(service, expect=seen))

        threads = [threading.Thread(target=strive, args=(writer,)) for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stage.must(
            [one for one in won if one] == [seen + 1], f"one of them wins, with version {seen + 1}: {won}"
        )


@fault(55, "writers-as-processes", rate=0)
def writers_as_processes(stage: Stage) -> None:
    """Processes write the same services at once, and are killed in the midst of it."""
    writers = [stage.writing_process(50) for _ in range(int(stage.scaled(2, 20)))]
    logs = [stage.folder / "acks" / f"w{number + 2}.jsonl" for number in range(len(writers))]
    stage.until(
        lambda: all(log.exists() and log.read_bytes().count(b'"ack"') >= 8 for log in logs), "writes by all"
    )
    for writer in writers:
        writer.kill()
