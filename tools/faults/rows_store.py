"""Rows 32 to 36: the database is locked or damaged."""

from __future__ import annotations

import random
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
from tools.faults.notes import HEALTH
from tools.faults.run import fault
from tools.faults.stage import Stage

PAGE = 4096
CORRUPTED: dict[str, Any] = {"status": "corrupted", "mode": "read-only-fallback", "ok": False}


# locks --------------------------------------------------------------------------------------------


@fault(32, "locked-at-start", rate=0)
def locked_at_start(stage: Stage) -> None:
    """Somebody holds the whole database when the daemon starts: fallback within a second, back within two."""
    stage.kill_daemon()
    with locked(stage, "exclusive"):
        stage.start_daemon()
        stage.until(stage.connected, "the daemon")
        stage.see(
            within=1.5, status="locked", mode="read-only-fallback", event="db-locked", lkg_cache_valid=True
        )
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
    overwrite(
        path,
        _page_of(stage, "service_configs") * PAGE,
        bytes_of(path, _page_of(stage, "config_items") * PAGE, PAGE),
    )


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
            stage.must(
                not live(listener, service), f"nothing is published for {service} after {damage.__name__}"
            )
        stage.right()
    stage.kill_daemon()
    put_database(stage, good)
    stage.start_daemon()
    stage.until(lambda: stage.connected() and stage.confirmed(), f"well again after {damage.__name__}")


@fault(35, "damaged-at-start", rate=0)
def damaged_at_start(stage: Stage) -> None:
    """Every damage of a database file, found by the daemon that starts on it."""
    for damage in DAMAGES if stage.full else stage.rng.sample(DAMAGES, 1):
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
    connection.execute(
        "UPDATE service_configs SET updated_by = updated_by"
    )  # what makes the daemon read it again
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
    writer = stage.writer()
    for service in stage.services:
        writer.write(service, padding="y" * 3500)  # so that many a flip meets one
    stage.until(lambda: stage.in_force(stage.stored_versions()), "the rows of some size")
    stage.kill_daemon()
    checkpoint(stage)
    good, rng = copy_database(stage), stage.rng
    wanted, sealer = _rows(good, stage), stage.ground.keys.row_sealer()
    changed = found = 0
    for _ in range(int(stage.scaled(200, 1000))):
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
    stage.figures |= {
        "flips": int(stage.scaled(200, 1000)),
        "that_changed_something": changed,
        "found": found,
    }
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
