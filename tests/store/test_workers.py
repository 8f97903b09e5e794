"""Expected workers: whose rows are believed, what follows when they change, and that they outlive a migration."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from config_daemon.errors import NotAllowed, NotFound
from config_daemon.store import upgrade
from config_daemon.store.adopt import adopt_database
from config_daemon.store.connection import FORMAT_VERSION
from config_daemon.store.ports import Workers
from config_daemon.store.rebuild import Order
from config_daemon.store.schema import migrations
from config_daemon.store.workers import Outcome, add, remove
from config_daemon.wire.workerkeys import PublicKeys, WorkerKeys
from tests.store.conftest import EPOCH, NOW, OTHER_EPOCH, SEALER, Store
from tests.store.rebuilding import House


def keys_of(worker: str, seed: int = 1) -> PublicKeys:
    return WorkerKeys(worker, bytes([seed]) * 32, bytes([seed + 100]) * 32).public


def enrol(store: Store, keys: PublicKeys, *services: str, replace: bool = False) -> Outcome:
    writer = store.writer()
    wanted = services or ("stt-worker",)
    return writer.change_workers(
        lambda db, deed: add(db, deed, keys, wanted, replace), by="test", reason="x"
    )[0]


def log(store: Store) -> list[tuple[str, str]]:
    return store.sql("SELECT action, key FROM access_log WHERE service IS NULL ORDER BY id")


def expected(store: Store) -> Workers:
    return store.reader().workers()


def test_a_worker_is_read_as_it_was_added(store: Store) -> None:
    assert enrol(store, keys_of("box-1"), "tts-worker", "stt-worker") == "added"
    (row,) = expected(store).rows.values()
    assert (row.worker, row.services, row.version, row.keys) == (
        "box-1", ("stt-worker", "tts-worker"), 1, keys_of("box-1"),
    )  # fmt: skip
    assert log(store) == [("worker-add", f"box-1 {keys_of('box-1').fingerprint}")]


def test_the_same_again_changes_nothing_and_other_services_do(store: Store) -> None:
    enrol(store, keys_of("box-1"))
    place = store.changes().place
    assert enrol(store, keys_of("box-1")) == "unchanged"
    assert store.changes(place)[:3] == ((), place, False)
    assert enrol(store, keys_of("box-1"), "router") == "services"
    assert (expected(store).rows["box-1"].services, expected(store).rows["box-1"].version) == (("router",), 2)
    assert len(log(store)) == 2


def test_other_keys_for_a_known_name_need_a_word(store: Store) -> None:
    enrol(store, keys_of("box-1"))
    with pytest.raises(NotAllowed) as error:
        enrol(store, keys_of("box-1", 2))
    assert keys_of("box-1").fingerprint in error.value.message
    assert "--replace" in error.value.suggestion
    assert expected(store).rows["box-1"].keys == keys_of("box-1")
    assert enrol(store, keys_of("box-1", 2), replace=True) == "replaced"
    assert expected(store).rows["box-1"].keys == keys_of("box-1", 2)


def test_a_key_belongs_to_one_worker(store: Store) -> None:
    enrol(store, keys_of("box-1"))
    with pytest.raises(NotAllowed, match="box-1"):
        enrol(store, keys_of("box-2"), replace=True)
    assert list(expected(store).rows) == ["box-1"]


def test_a_removed_worker_is_expected_no_more(store: Store) -> None:
    enrol(store, keys_of("box-1"))
    writer = store.writer()
    writer.change_workers(lambda db, deed: remove(db, deed, "box-1"), by="test", reason=None)
    assert expected(store) == Workers({}, ())
    assert log(store)[-1] == ("worker-remove", "box-1")
    with pytest.raises(NotFound):
        writer.change_workers(lambda db, deed: remove(db, deed, "box-1"), by="test", reason=None)
    assert len(log(store)) == 2


@pytest.mark.parametrize(
    "column", ["verify_key", "box_key", "services", "added_at", "added_by", "updated_by", "version"]
)
def test_a_row_that_was_altered_is_not_believed(store: Store, column: str) -> None:
    enrol(store, keys_of("box-1"))
    place = store.changes().place
    value = "9" if column == "version" else f"replace({column}, substr({column}, 3, 1), 'e') || 'f'"
    store.sql(f"UPDATE workers SET {column} = {value}")  # noqa: S608
    assert expected(store) == Workers({}, ("box-1",))
    assert store.changes(place).workers


@pytest.mark.parametrize("seal", ["'x'", "x'ff00ff'", "NULL || 'a'"])
def test_a_row_that_holds_no_text_harms_no_other(store: Store, seal: str) -> None:
    enrol(store, keys_of("box-1"))
    enrol(store, keys_of("box-2", 2))
    store.sql(f"UPDATE OR IGNORE workers SET row_seal = coalesce({seal}, '') WHERE worker = 'box-1'")  # noqa: S608
    assert (list(expected(store).rows), expected(store).altered) == (["box-2"], ("box-1",))


def test_an_altered_row_gives_way_to_keys_that_somebody_means(store: Store) -> None:
    enrol(store, keys_of("box-1"))
    store.sql("UPDATE workers SET services = '[\"router\"]'")
    with pytest.raises(NotAllowed, match="altered"):
        enrol(store, keys_of("box-1"))
    assert enrol(store, keys_of("box-1"), replace=True) == "replaced"
    assert expected(store).altered == ()


def test_a_change_of_a_worker_is_no_change_of_a_service(store: Store) -> None:
    store.set(gain=1)
    place = store.changes().place
    enrol(store, keys_of("box-1"))
    changes = store.changes(place)
    assert (changes.services, changes.workers) == ((), True)
    store.set(gain=2)
    assert store.changes(changes.place)[::2] == (("stt-worker",), False)


def test_a_row_of_another_epoch_is_not_believed_and_adopting_takes_the_good_ones_along(store: Store) -> None:
    enrol(store, keys_of("box-1"))
    enrol(store, keys_of("box-2", 2))
    store.sql("UPDATE workers SET box_key = replace(box_key, '6', '7') WHERE worker = 'box-2'")
    adopt_database(store.path, SEALER, epoch=OTHER_EPOCH, now=NOW, by="t", reason=None, known=None)
    assert (list(expected(store).rows), expected(store).altered) == (["box-1"], ("box-2",))
    store.sql("UPDATE config_epoch SET config_epoch = ?", (EPOCH,))
    assert expected(store).rows == {}


# other formats, other databases -------------------------------------------------------------------


@pytest.fixture
def older(store: Store) -> Store:
    """A store as the program before wrote it, with a row."""
    store.set(gain=1)
    store.close()
    for name in ("feed_worker_insert", "feed_worker_update", "feed_worker_delete"):
        store.sql(f"DROP TRIGGER {name}")
    store.sql("DROP TABLE workers")
    store.sql("PRAGMA user_version = 1")
    return store


def shape(store: Store) -> set[str]:
    return {sql for (sql,) in store.sql("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}


def test_the_format_before_is_what_its_script_makes(older: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.files.folder.mkdir()
    shutil.copy(older.path, other.path)
    other.sql("SELECT 1")
    for name in ("table", "index", "trigger"):
        for (each,) in other.sql(
            "SELECT name FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
            (name,),
        ):
            other.sql(f"DROP {name} IF EXISTS {each}")
    for statement in [migrations()[0]]:
        other.sql(statement)
    assert shape(older) == shape(other)


def test_an_older_store_gets_the_table_and_keeps_everything(older: Store) -> None:
    before = older.content()
    copy = upgrade.upgrade(older.files, SEALER, now=NOW, begun=lambda: None)
    assert copy is not None
    assert copy.name.startswith("config.db.format-1.")
    after = older.content()
    assert {table: after[table] for table in before} == before
    assert older.sql("PRAGMA user_version") == [(FORMAT_VERSION,)]
    assert expected(older) == Workers({}, ())
    enrol(older, keys_of("box-1"))
    assert list(expected(older).rows) == ["box-1"]


@pytest.fixture
def house(store: Store) -> House:
    house = House(store)
    store.set(gain=1)
    enrol(store, keys_of("box-1"))
    house.publish()
    return house


def test_a_rebuild_takes_the_workers_along(house: House) -> None:
    enrol(house.store, keys_of("box-2", 2))
    house.store.sql("UPDATE workers SET services = '[]' WHERE worker = 'box-2'")
    done = house.rebuild("rest")
    assert done.lost["workers"] == 1
    assert (list(expected(house.store).rows), expected(house.store).altered) == (["box-1"], ())


@pytest.mark.parametrize("source", ["lkg-alone", "nothing"])
def test_what_is_made_without_the_database_before_says_who_is_lost(house: House, source: Order) -> None:
    done = house.rebuild(source)  # type: ignore[arg-type]
    assert done.lost["workers"] == {"lkg-alone": None, "nothing": 1}[source]  # type: ignore[index]
    assert expected(house.store) == Workers({}, ())


def test_a_copy_of_the_format_before_is_restored(house: House, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    house.store.sql("VACUUM INTO ?", (str(copy),))
    old = Store(tmp_path)
    old.path = copy
    old.sql("DROP TABLE workers")
    old.sql("PRAGMA user_version = 1")
    before = copy.read_bytes()
    done = house.rebuild("file", file=copy)
    assert (done.lost["workers"], done.services) == (1, 1)
    assert expected(house.store) == Workers({}, ())
    assert copy.read_bytes() == before


def test_a_copy_with_workers_is_restored_with_them(house: House, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    house.store.sql("VACUUM INTO ?", (str(copy),))
    done = house.rebuild("file", file=copy)
    assert (done.lost["workers"], list(expected(house.store).rows)) == (0, ["box-1"])
