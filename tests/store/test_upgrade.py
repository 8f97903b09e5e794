"""An older database is migrated whole, or is as it was; the copy made of it is there in either case."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from config_daemon.errors import SchemaMismatch, SchemaOutdated, StoreCorrupted, StoreError, StoreLocked
from config_daemon.store import connection as opening
from config_daemon.store import locks, quarantine, upgrade
from config_daemon.store.connection import FORMAT_VERSION
from config_daemon.store.ports import BadRow
from config_daemon.store.schema import migrations
from tests.store.conftest import NOW, SEALER, Store, names

ROOT = Path(__file__).parents[2]
STAMP = NOW.replace(":", "")
COPY = f"config.db.format-{FORMAT_VERSION}.{STAMP}"
SECOND = "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO notes(note) VALUES ('of a later format');"
THIRD = "ALTER TABLE service_configs ADD COLUMN note TEXT NOT NULL DEFAULT '';"
NEXT = [*migrations(), SECOND]
# fits while the connection lives that wrote it, and is no schema for the next one
TORN = "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'torn' WHERE name = 'access_log';"
PROGRAM = """
import json, os, sys
from pathlib import Path
from config_daemon import failpoints
from config_daemon.store.files import Files
from config_daemon.store.upgrade import upgrade
from tests.store.conftest import NOW, SEALER
failpoints.arm(os.environ["CONFIG_DAEMON_FAILPOINT"])
upgrade(Files.below(Path(sys.argv[1])), SEALER, now=NOW, begun=lambda: None, scripts=json.loads(sys.argv[2]))
"""


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a row, a tombstone and a row that somebody edited, part of it only in the `-wal`."""
    store.set(gain=1)
    store.set("router", gain=2)
    store.delete("router")
    store.set("tts-worker", gain=3)
    store.sql("UPDATE service_configs SET config_json = '{\"gain\":9}' WHERE service = 'tts-worker'")
    return store


def run(store: Store, scripts: Sequence[str], now: str = NOW) -> Path | None:
    store.close()
    return upgrade.upgrade(store.files, SEALER, now=now, begun=lambda: None, scripts=scripts)


def version(path: Path) -> int:
    with closing(opening.connect(path, any_format=True)) as connection:
        found: int = connection.pragma("user_version")
        return found


def rows_of(store: Store) -> dict[str, Any]:
    return {
        table: store.sql(
            f"SELECT service, version, config_epoch, hex(row_seal), updated_by FROM {table} ORDER BY 1"  # noqa: S608
            if table == "service_configs"
            else f"SELECT service, version, config_epoch, hex(row_seal), deleted_by FROM {table} ORDER BY 1"  # noqa: S608
        )
        for table in ("service_configs", "deleted_services")
    } | {"history": store.sql("SELECT * FROM config_history"), "feed": store.sql("SELECT * FROM change_feed")}


def test_the_format_is_the_number_of_scripts() -> None:
    assert len(migrations()) == FORMAT_VERSION


def test_an_older_database_gets_all_missing_scripts_and_keeps_what_it_held(filled: Store) -> None:
    before = filled.content()
    assert run(filled, [*NEXT, THIRD]) == filled.path.with_name(COPY)
    assert version(filled.path) == FORMAT_VERSION + 2
    assert filled.sql("SELECT note FROM notes") == [("of a later format",)]
    after = filled.content()
    assert {table: after[table] for table in before if table != "service_configs"} == {
        table: before[table] for table in before if table != "service_configs"
    }
    copy = Store(filled.files.folder)
    copy.path = filled.path.with_name(COPY)
    assert copy.content() == before
    assert (version(copy.path), copy.path.stat().st_mode & 0o777) == (FORMAT_VERSION, 0o660)


def test_rows_are_what_they_were_to_who_reads_them(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    services = ["stt-worker", "router", "tts-worker"]
    before, place = filled.reader().read(services), filled.changes().place
    assert isinstance(before["tts-worker"], BadRow)
    run(filled, NEXT)
    monkeypatch.setattr(opening, "FORMAT_VERSION", FORMAT_VERSION + 1)
    assert filled.reader().read(services) == before
    assert filled.reader().holds(place)
    filled._writer = None
    assert filled.set(gain=4).version == 2


def test_a_database_of_this_format_is_not_touched(filled: Store) -> None:
    before = filled.content()
    filled.close()
    files = names(filled.files.folder)
    assert run(filled, migrations()) is None
    assert names(filled.files.folder) == files
    assert filled.content() == before


@pytest.mark.parametrize(
    "ruin", [f"PRAGMA user_version={FORMAT_VERSION + 2}", "PRAGMA user_version=0", "PRAGMA application_id=7"]
)
def test_a_newer_or_foreign_database_is_left_to_its_readers(filled: Store, ruin: str) -> None:
    filled.sql(ruin)
    before = filled.content()
    assert run(filled, NEXT) is None
    assert filled.content() == before
    assert not filled.path.with_name(COPY).exists()


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    assert run(Store(tmp_path), NEXT) is None
    assert names(tmp_path) == []


def test_readers_and_writers_of_an_older_database_say_who_migrates_it(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.close()
    filled._writer = None
    monkeypatch.setattr(opening, "FORMAT_VERSION", FORMAT_VERSION + 1)
    for use in (filled.reader().facts, lambda: filled.set(gain=2)):
        with pytest.raises(SchemaOutdated) as error:
            use()
        assert f"has format {FORMAT_VERSION}" in error.value.message
        assert "daemon migrates it when it starts" in error.value.suggestion
    filled.sql(f"PRAGMA user_version={FORMAT_VERSION + 2}")
    with pytest.raises(SchemaMismatch) as newer:
        filled.reader().facts()
    assert not isinstance(newer.value, SchemaOutdated)


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE notes (id INTEGER); this is no statement;",
        "CREATE TABLE notes (id INTEGER); SELECT * FROM nowhere;",
        "UPDATE service_configs SET config_json = '{}' WHERE service = 'stt-worker';",
        "UPDATE config_epoch SET config_epoch = '0a9b8c7d-6e5f-4a4b-8c3d-2e1f0a9b8c7d';",
        "DELETE FROM deleted_services;",
        "DROP TABLE service_configs;",
    ],
)
def test_a_script_that_fails_or_alters_rows_changes_nothing(filled: Store, script: str) -> None:
    before = filled.content()
    with pytest.raises(StoreError):
        run(filled, [*NEXT, script])
    assert version(filled.path) == FORMAT_VERSION
    assert filled.content() == before
    assert filled.path.with_name(COPY).exists()
    assert not quarantine.folder_of(filled.path).exists(), "it never was in force"
    assert run(filled, NEXT, now="2026-01-02T03:04:06.000Z") is not None, "a mended program goes on"


def test_a_database_that_does_not_verify_on_disk_is_put_back(filled: Store) -> None:
    before = filled.content()
    filled.close()
    with closing(opening.connect(filled.path)) as still_open:  # so that there is a `-wal` to move away
        rows = opening.rows(still_open, "SELECT count(*) FROM access_log")
        assert rows == [(0,)]
        with pytest.raises(StoreCorrupted, match="was put back as it was"):
            run(filled, [*NEXT, TORN])
        opening.drop(still_open)
    assert version(filled.path) == FORMAT_VERSION
    assert filled.content() == before
    (folder,) = quarantine.folder_of(filled.path).iterdir()
    assert names(folder) == ["config.db", "config.db-shm", "config.db-wal"]
    assert not list(filled.files.folder.glob(".*"))


def test_without_a_copy_that_is_whole_nothing_changes(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = filled.content()

    def check(connection: Any, path: Path, thorough: bool) -> None:
        opening.check(connection, path, thorough)
        if path != filled.path:
            raise StoreCorrupted(f"{path} is damaged")

    monkeypatch.setattr(upgrade, "check", check)
    with pytest.raises(StoreCorrupted):
        run(filled, NEXT)
    assert (version(filled.path), filled.content()) == (FORMAT_VERSION, before)
    assert not list(filled.files.folder.glob("*.format-*"))
    assert not list(filled.files.folder.glob(".*"))


def test_a_damaged_database_is_not_migrated(filled: Store) -> None:
    filled.close()
    filled.sql("PRAGMA journal_mode=DELETE")
    (root,) = filled.sql("SELECT rootpage FROM sqlite_master WHERE name = 'idx_config_items_key'")[0]
    filled.close()
    with filled.path.open("r+b") as stream:
        stream.seek((root - 1) * 4096)
        stream.write(bytes(4096))
    before = filled.path.read_bytes()
    with pytest.raises(StoreCorrupted):
        run(filled, NEXT)
    assert filled.path.read_bytes() == before


def test_nobody_writes_meanwhile(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "LOCK_SECONDS", 0.0)
    with locks.shared(filled.files.store_lock, 1), pytest.raises(StoreLocked):
        run(filled, NEXT)
    assert version(filled.path) == FORMAT_VERSION

    def begun() -> None:
        assert locks.is_held(filled.files.store_lock) is False

    seen = []
    monkeypatch.setattr(
        upgrade.failpoints,
        "reached",
        lambda point: seen.append((point, locks.is_held(filled.files.store_lock))),
    )
    upgrade.upgrade(filled.files, SEALER, now=NOW, begun=begun, scripts=NEXT)
    assert seen == [
        (point, True) for point in ("amid_store_copy", "after_store_copy", "before_upgrade", "after_upgrade")
    ]


def test_only_the_newest_copies_are_kept(filled: Store) -> None:
    for number in range(8):
        filled.path.with_name(f"config.db.format-1.2025-01-0{number + 1}T000000.000Z").touch()
    run(filled, NEXT)
    kept = sorted(path.name for path in filled.files.folder.glob("config.db.format-*"))
    assert len(kept) == upgrade.KEPT_COPIES + 1
    assert kept[-1] == COPY


def die_at(store: Store, point: str, scripts: Sequence[str]) -> None:
    """Migrate in another process that dies at a point, and make sure that it did."""
    store.close()
    dead = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(store.files.folder), json.dumps(list(scripts))],
        cwd=ROOT, env=os.environ | {"CONFIG_DAEMON_FAILPOINT": f"{point}:kill"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (dead.returncode, dead.stderr) == (-signal.SIGKILL, f"failpoint reached: {point}\n")


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("amid_store_copy", FORMAT_VERSION),
        ("after_store_copy", FORMAT_VERSION),
        ("before_upgrade", FORMAT_VERSION),
        ("after_upgrade", FORMAT_VERSION + 1),
    ],
)
def test_killed_at_any_step_one_format_is_whole_and_the_next_start_goes_on(
    filled: Store, point: str, left: int
) -> None:
    before = rows_of(filled)
    die_at(filled, point, NEXT)
    assert (version(filled.path), rows_of(filled)) == (left, before)
    assert filled.sql("PRAGMA integrity_check") == [("ok",)]
    assert filled.path.with_name(COPY).exists() is (point != "amid_store_copy")
    run(filled, NEXT, now="2026-01-02T03:04:06.000Z")
    assert (version(filled.path), rows_of(filled)) == (FORMAT_VERSION + 1, before)
    assert filled.sql("PRAGMA integrity_check") == [("ok",)]
    copies = list(filled.files.folder.glob("config.db.format-*"))
    assert copies
    assert all(version(copy) == FORMAT_VERSION for copy in copies)
    assert not list(filled.files.folder.glob(".*"))


@pytest.mark.parametrize(
    "point", ["before_put_back", "rebuild_database_moved", "amid_put_back", "after_put_back"]
)
@pytest.mark.parametrize("mended", [True, False])
def test_killed_while_it_is_put_back_the_next_start_ends_it(filled: Store, point: str, mended: bool) -> None:
    before = rows_of(filled)
    die_at(filled, point, [*NEXT, TORN])
    later = "2026-01-02T03:04:06.000Z"
    if mended:
        run(filled, NEXT, now=later)
    else:
        with pytest.raises(StoreCorrupted):
            run(filled, [*NEXT, TORN], now=later)
    assert (version(filled.path), rows_of(filled)) == (FORMAT_VERSION + mended, before)
    assert filled.sql("PRAGMA integrity_check") == [("ok",)]
    assert not list(filled.files.folder.glob(".*"))
    folders = list(quarantine.folder_of(filled.path).iterdir())
    assert len(folders) == (1 if mended else 2)
    assert all("config.db" in names(folder) for folder in folders)
