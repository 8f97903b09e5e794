"""Which files are taken for a store, and what is said about the others."""

from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from config_daemon.errors import (
    SchemaMismatch,
    StoreCannotOpen,
    StoreCorrupted,
    StoreError,
    StoreLocked,
    StoreMissing,
    StoreUnavailable,
)
from config_daemon.store.connection import FORMAT_VERSION
from config_daemon.store.ports import Edit
from config_daemon.store.schema import create
from tests.store.conftest import EPOCH, NOW, OTHER_EPOCH, SEALER, Store, merged, names

FORK = multiprocessing.get_context("fork")


def refused(store: Store, kind: type[StoreError]) -> StoreError:
    """Return the error that reading and writing agree on."""
    seen = []
    for use in (store.reader().facts, store.reader().moved, lambda: store.set(gain=2)):
        with pytest.raises(StoreError) as error:
            use()
        assert type(error.value) is kind
        seen.append(error.value)
    return seen[0]


@pytest.fixture
def empty_folder(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_new_store_is_empty_and_says_what_it_is(store: Store) -> None:
    assert store.reader().facts() == (EPOCH, 1, "0" * 64)
    changes = store.changes()
    assert changes.services == ()
    assert store.changes(changes.place)[:2] == changes[:2]
    assert store.sql("PRAGMA journal_mode") == [("wal",)]
    assert store.sql("PRAGMA integrity_check") == [("ok",)]


def test_a_new_store_is_one_file_for_owner_and_group(empty_folder: Store) -> None:
    empty_folder.create()
    assert names(empty_folder.files.folder) == ["config.db"]
    assert stat.S_IMODE(empty_folder.path.stat().st_mode) == 0o660


def test_the_files_beside_the_database_are_for_the_group_too(store: Store) -> None:
    reader = store.reader()
    store.set(gain=2)
    assert reader.moved()
    for suffix in ("-wal", "-shm"):
        beside = store.path.with_name(store.path.name + suffix)
        assert stat.S_IMODE(beside.stat().st_mode) == 0o660


def test_a_missing_database_is_not_made(empty_folder: Store) -> None:
    error = refused(empty_folder, StoreMissing)
    assert str(empty_folder.path) in error.message
    assert not empty_folder.path.exists()


def test_a_database_in_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere")
    with pytest.raises(StoreMissing):
        store.reader().moved()
    with pytest.raises(StoreUnavailable, match=r"the lock .* cannot be taken"):
        store.set(gain=2)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_is_no_database(empty_folder: Store) -> None:
    empty_folder.path.mkdir()
    refused(empty_folder, StoreCannotOpen)


def test_an_empty_file_is_no_store_and_stays_empty(empty_folder: Store) -> None:
    empty_folder.path.touch()
    refused(empty_folder, StoreCorrupted)
    assert empty_folder.path.stat().st_size == 0


def test_text_is_no_store_and_stays_as_it_is(empty_folder: Store) -> None:
    text = "gain=2\n" * 1000
    empty_folder.path.write_text(text)
    refused(empty_folder, StoreCorrupted)
    assert empty_folder.path.read_text() == text


def test_the_database_of_another_program_is_no_store(empty_folder: Store) -> None:
    empty_folder.sql("CREATE TABLE service_configs(service TEXT)")
    refused(empty_folder, StoreCorrupted)
    assert empty_folder.sql("SELECT name FROM sqlite_master") == [("service_configs",)]


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1])
def test_a_store_of_another_format_is_not_touched(store: Store, version: int) -> None:
    store.sql(f"PRAGMA user_version={version}")
    assert str(version) in refused(store, SchemaMismatch).message


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE config_epoch",
        "ALTER TABLE config_epoch RENAME config_epoch TO epoch",
    ],
)
def test_a_store_of_another_shape_is_a_mismatch(store: Store, damage: str) -> None:
    store.sql(damage)
    for use in (store.reader().facts, lambda: store.set(gain=2)):
        with pytest.raises(SchemaMismatch):
            use()


def test_a_column_that_somebody_added_is_no_obstacle(store: Store) -> None:
    for table in ("service_configs", "deleted_services", "config_items", "config_history", "change_feed"):
        store.sql(f"ALTER TABLE {table} ADD COLUMN note TEXT")
    assert store.set(gain=2).version == 1
    assert store.delete().version == 2
    assert store.set(gain=3).version == 3


@pytest.mark.parametrize("table", ["config_epoch", "change_feed"])
def test_a_store_that_lost_what_identifies_it_is_damaged(store: Store, table: str) -> None:
    store.sql(f"DELETE FROM {table}")  # noqa: S608
    use = store.changes if table == "change_feed" else store.reader().facts
    with pytest.raises(StoreCorrupted):
        use()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE config_epoch SET config_epoch = x'00'",
        "UPDATE schema_version SET version = 'one'",
        "UPDATE schema_version SET model_hash = x'00'",
    ],
)
def test_what_identifies_a_store_is_of_its_kind_or_damaged(store: Store, damage: str) -> None:
    store.sql(damage)
    with pytest.raises(StoreCorrupted):
        store.reader().facts()


@pytest.mark.parametrize(
    "damage", ["DELETE FROM config_epoch", "UPDATE config_epoch SET config_epoch = x'00'"]
)
def test_nothing_is_written_into_a_store_without_an_epoch(store: Store, damage: str) -> None:
    store.sql(damage)
    with pytest.raises(StoreCorrupted):
        store.set(gain=2)


def test_a_store_is_never_made_over_one_that_exists(store: Store) -> None:
    store.set(gain=2)
    before = store.content()
    with pytest.raises(StoreUnavailable, match="exists"):
        create(store.path, epoch=OTHER_EPOCH, model_hash="1" * 64, now=NOW)
    assert store.content() == before


def test_a_store_is_not_made_in_the_place_of_a_link_to_a_disk_that_is_away(empty_folder: Store) -> None:
    empty_folder.path.symlink_to(empty_folder.files.folder / "unmounted" / "config.db")
    with pytest.raises(StoreUnavailable):
        empty_folder.create()
    assert empty_folder.path.is_symlink()


def _create_at_once(path: Path, gate: object, epoch: str, answers: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    try:
        create(path, epoch=epoch, model_hash="0" * 64, now=NOW)
    except StoreUnavailable:
        answers.put(None)  # type: ignore[attr-defined]
    else:
        answers.put(epoch)  # type: ignore[attr-defined]


def test_of_two_that_make_a_store_at_once_one_wins(tmp_path: Path) -> None:
    for turn in range(10):
        folder = tmp_path / str(turn)
        folder.mkdir()
        gate, answers = FORK.Barrier(2), FORK.Queue()
        makers = [
            FORK.Process(target=_create_at_once, args=(folder / "config.db", gate, epoch, answers))
            for epoch in (EPOCH, OTHER_EPOCH)
        ]
        for maker in makers:
            maker.start()
        won = [answer for answer in (answers.get(timeout=20), answers.get(timeout=20)) if answer]
        for maker in makers:
            maker.join()
        assert [Store(folder).reader().facts().epoch] == won
        assert names(folder) == ["config.db"]


def test_what_a_killed_maker_left_is_no_obstacle(empty_folder: Store) -> None:
    empty_folder.path.with_name(f".{empty_folder.path.name}.new").write_bytes(b"half a database")
    empty_folder.path.with_name(f".{empty_folder.path.name}.{os.getpid()}.new").write_bytes(
        b"half a database"
    )
    empty_folder.create()
    assert empty_folder.reader().facts().epoch == EPOCH


def test_a_store_in_a_rollback_journal_is_put_back_into_wal_by_its_next_writer(store: Store) -> None:
    """A restored copy (VACUUM INTO) is in another mode, in which writers and the daemon block each other."""
    store.sql("PRAGMA journal_mode=DELETE")
    store.set(gain=2)
    assert store.sql("PRAGMA journal_mode") == [("wal",)]


def _hold_exclusively(path: Path, held: object, let_go: object) -> None:
    connection = apsw.Connection(str(path))
    connection.pragma("locking_mode", "EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    held.set()  # type: ignore[attr-defined]
    let_go.wait(30)  # type: ignore[attr-defined]
    connection.execute("ROLLBACK")
    connection.close()


@pytest.fixture
def let_go(store: Store) -> Iterator[Callable[..., None]]:
    """Let another process hold the whole database until this is called."""
    held, enough = FORK.Event(), FORK.Event()
    locker = FORK.Process(target=_hold_exclusively, args=(store.path, held, enough))
    locker.start()
    assert held.wait(20)

    def end(*_: object) -> None:
        enough.set()

    yield end
    end()
    locker.join(20)


def test_a_held_database_is_locked_and_waited_for_by_writers_only(
    store: Store, let_go: Callable[..., None]
) -> None:
    reader = store.reader()
    for use in (
        reader.moved,
        reader.facts,
        lambda: reader.changes(None),
        lambda: reader.read(["stt-worker"]),
    ):
        with pytest.raises(StoreLocked):
            use()
    writer = store.writer(refusal=let_go)  # asked when the writer has begun
    assert writer.commit([Edit("stt-worker", merged(gain=2))], by="test")[0].version == 1
    assert reader.moved()
    assert reader.facts().epoch == EPOCH


def test_a_path_with_every_special_character_is_only_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "100% of?mode=ro&#data + ü;"
    folder.mkdir()
    store = Store(folder).create()
    assert store.set(gain=2).version == 1
    assert store.values() == {"gain": 2}
    store.close()


def test_the_sealer_in_use_does_not_show_its_key() -> None:
    assert SEALER.key_id in repr(SEALER)
    assert repr(bytes(range(8)))[2:10] not in repr(SEALER)
