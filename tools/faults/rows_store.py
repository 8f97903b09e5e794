"""Rows 32 to 42 and 55: the database is locked, damaged, gone, another one, or holds what nobody should have written."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from config_daemon.errors import StoreError
from config_daemon.store.ports import Row
from config_daemon.store.sqlite import SqliteReader
from tools.faults.hands import (
    bytes_of,
    checkpoint,
    client,
    copy_database,
    flip,
    live,
    locked,
    overwrite,
    put_database,
    truncate,
)
from tools.faults.run import fault
from tools.faults.stage import HEALTH, Stage
from tools.faults.traffic import Writer

PAGE = 4096
CORRUPTED = {"status": "corrupted", "mode": "read-only-fallback", "ok": False}


# locks --------------------------------------------------------------------------------------------


@fault(32, "locked-at-start", rate=0)
def locked_at_start(stage: Stage) -> None:
    """Somebody holds the whole database when the daemon starts: fallback within a second, back within two."""
    stage.kill_daemon()
    with locked(stage, "exclusive"):
        stage.start_daemon()
        stage.until(stage.connected, "the daemon")
        stage.see(within=1.5, status="locked", mode="read-only-fallback", event="db-locked", lkg_cache_valid=True)
        stage.wrong(within=1.5)
        stage.pass_time(stage.scaled(1.6, 300))
        stage.right()
    stage.expect(within=2.5, status="healthy", mode="normal", ok=True)


@fault(33, "short-locks", rate=20)
def short_locks(stage: Stage) -> None:
    """Locks of 20 ms at random: nobody is refused, health does not flap."""
    with locked(stage, "short"), client(stage) as listener:
        stage.pass_time(stage.scaled(1.5, 600))
        said = [message.payload for message in list(listener.messages) if message.topic == HEALTH]
        stage.must(not [raw for raw in said if b'"locked"' in raw], "no health says locked")


# damage -------------------------------------------------------------------------------------------


def _header(path: Path, stage: Stage) -> None:
    overwrite(path, 0, bytes(16))


def _first_page(path: Path, stage: Stage) -> None:
    overwrite(path, 0, bytes(PAGE))


def _noise(path: Path, stage: Stage) -> None:
    overwrite(path, 0, stage.rng.randbytes(8192))


def _text(path: Path, stage: Stage) -> None:
    truncate(path, 0)
    overwrite(path, 0, b"this is no database\n")


def _empty(path: Path, stage: Stage) -> None:
    truncate(path, 0)


def _short(path: Path, stage: Stage) -> None:
    truncate(path, 50)


def _half(path: Path, stage: Stage) -> None:
    truncate(path, path.stat().st_size // PAGE // 2 * PAGE)


def _schema_zeroed(path: Path, stage: Stage) -> None:
    overwrite(path, 100, bytes(PAGE - 100))


def _tables_zeroed(path: Path, stage: Stage) -> None:
    """Zero the root page of the configs: the one that holds the rows."""
    overwrite(path, _page_of(stage, "service_configs") * PAGE, bytes(PAGE))


def _torn(path: Path, stage: Stage) -> None:
    overwrite(path, _page_of(stage, "service_configs") * PAGE + PAGE // 2, bytes(PAGE // 2))


def _misdirected(path: Path, stage: Stage) -> None:
    """Put a copy of another page where the rows are."""
    overwrite(path, _page_of(stage, "service_configs") * PAGE, bytes_of(path, _page_of(stage, "config_items") * PAGE, PAGE))


def _byte_in_a_row(path: Path, stage: Stage) -> None:
    page = _page_of(stage, "service_configs")
    at = bytes_of(path, page * PAGE, PAGE).rindex(b'"token":"') + len(b'"token":"')
    overwrite(path, page * PAGE + at, b"X")


def _not_utf8(path: Path, stage: Stage) -> None:
    page = _page_of(stage, "service_configs")
    at = bytes_of(path, page * PAGE, PAGE).rindex(b'"token":"') + len(b'"token":"')
    overwrite(path, page * PAGE + at, b"\xff")


DAMAGES: tuple[Callable[[Path, Stage], None], ...] = (
    _header, _first_page, _noise, _text, _empty, _short, _half, _schema_zeroed, _tables_zeroed, _torn, _misdirected,
    _byte_in_a_row, _not_utf8,
)  # fmt: skip


def _page_of(stage: Stage, table: str) -> int:
    """Return where a table begins, counted from 0; from a copy, since the file may be damaged by now."""
    connection = apsw.Connection(str(stage.folder / "scratch" / "good.db"))
    found = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
    connection.close(True)
    return int(found) - 1


def _damaged(stage: Stage, damage: Callable[[Path, Stage], None]) -> None:
    """Damage the database and put it back: corrupted, the broker untouched, and well again."""
    stage.kill_daemon()
    checkpoint(stage)
    good = copy_database(stage)
    with client(stage) as listener:
        damage(stage.files.database, stage)
        stage.wrong(within=0)  # not even the first word of the daemon that starts may be a good one
        stage.start_daemon()
        stage.see(**CORRUPTED)
        stage.pass_time(0.5)  # whoever published a guess would have done so by now
        for service in stage.services:
            stage.must(not live(listener, service), f"nothing is published for {service} after {damage.__name__}")
        stage.right()
    stage.kill_daemon()
    put_database(stage, good)
    stage.start_daemon()
    stage.until(lambda: stage.connected() and stage.confirmed(), f"well again after {damage.__name__}")


@fault(35, "damaged-at-start", rate=0)
def damaged_at_start(stage: Stage) -> None:
    """Every damage of a database file, found by the daemon that starts on it."""
    for damage in DAMAGES if stage.full else stage.rng.sample(DAMAGES, 2):
        _damaged(stage, damage)


@fault(35, "header-lost", rate=0)
def header_lost(stage: Stage) -> None:
    """The first bytes of the file are gone while nobody looks; the daemon that starts serves from its cache."""
    _damaged(stage, _header)


@fault(36, "flipped-while-running", rate=0)
def flipped_while_running(stage: Stage) -> None:
    """A byte of a row changes under the running daemon: found when that page is read again."""
    checkpoint(stage)
    good = copy_database(stage)
    _byte_in_a_row(stage.files.database, stage)
    connection = apsw.Connection(str(stage.files.database))
    connection.execute("UPDATE service_configs SET updated_by = updated_by")  # what makes the daemon read it again
    connection.close(True)
    stage.wrong()
    stage.see(condition="rows-corrupted", **CORRUPTED)
    stage.right()
    stage.kill_daemon()
    put_database(stage, good)
    stage.start_daemon()


@fault(34, "bits-flipped", rate=0)
def bits_flipped(stage: Stage) -> None:
    """Bits flip anywhere: whatever changes a config is found by the reader, and nothing of it is published."""
    stage.kill_daemon()
    checkpoint(stage)
    good, rng = copy_database(stage), stage.rng
    wanted, sealer = _rows(good, stage), stage.ground.keys.row_sealer()
    changed = found = 0
    for _ in range(int(stage.scaled(40, 1000))):
        bad = stage.folder / "scratch" / "bad.db"
        bad.write_bytes(_with_a_bit_flipped(good.read_bytes(), rng))
        reader = SqliteReader(bad, sealer)
        try:
            rows = dict(reader.read(stage.services))
        except StoreError:
            changed, found = changed + 1, found + 1
            continue
        finally:
            reader.close()
        if rows != wanted:
            changed += 1
            found += all(not isinstance(row, Row) or row == wanted.get(name) for name, row in rows.items())
    stage.figures |= {"flips": int(stage.scaled(40, 1000)), "that_changed_something": changed, "found": found}
    stage.must(changed == found, f"{changed - found} flips changed a config and were not found")
    for _ in range(int(stage.scaled(1, 20))):
        put_database(stage, good)
        flip(stage.files.database, rng, PAGE)
        stage.start_daemon()
        stage.until(lambda: stage.view.daemon().get("pid") == stage.daemon.pid, "the daemon")  # type: ignore[union-attr]
        stage.pass_time(0.3)
        stage.kill_daemon()
    put_database(stage, good)
    stage.start_daemon()


def _rows(path: Path, stage: Stage) -> dict[str, object]:
    reader = SqliteReader(path, stage.ground.keys.row_sealer())
    try:
        return dict(reader.read(stage.services))
    finally:
        reader.close()


def _with_a_bit_flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


# gone, or another one -----------------------------------------------------------------------------


@fault(37, "deleted", rate=0)
def deleted(stage: Stage) -> None:
    """The database is deleted, under the running daemon and before a start: no empty one takes its place."""
    for running in (True, False):
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
    for spoil in ways if stage.full else stage.rng.sample(ways, 2):
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


BAD_TEXTS = ("{", '{"token":"a-1","token":"b-1","count":1}', '{"count":NaN}', '{"count":1152921504606846976}', "[]", "7")


@fault(42, "odd-rows", rate=0)
def odd_rows(stage: Stage) -> None:
    """Rows hold what no writer of ours writes, under seals that fit: that service is named, the others go on."""
    for text in BAD_TEXTS if stage.full else stage.rng.sample(BAD_TEXTS, 2):
        odd, other = stage.services[:2]
        connection = apsw.Connection(str(stage.files.database))
        columns = "version, config_epoch, updated_at, updated_by, row_seal, config_json"
        version, epoch, at, by, seal, good = connection.execute(
            f"SELECT {columns} FROM service_configs WHERE service = ?", (odd,)).get  # noqa: S608
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
        stage.must([one for one in won if one] == [seen + 1], f"one of them wins, with version {seen + 1}: {won}")


@fault(55, "writers-as-processes", rate=0)
def writers_as_processes(stage: Stage) -> None:
    """Processes write the same services at once, and are killed in the midst of it."""
    writers = [stage.writing_process(50) for _ in range(int(stage.scaled(2, 20)))]
    logs = [stage.folder / "acks" / f"w{number + 2}.jsonl" for number in range(len(writers))]
    stage.until(lambda: all(log.exists() and log.read_bytes().count(b'"ack"') >= 8 for log in logs), "writes by all")
    for writer in writers:
        writer.kill()
