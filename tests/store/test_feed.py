"""Who looks at the feed sees every change, whoever made it, and never mistakes another database for this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config_daemon.errors import StoreCorrupted
from config_daemon.store.ports import BadRow, Edit, Place, Row, Tombstone
from config_daemon.store.seals import RowSealer
from tests.store.conftest import MASTER_KEY, SEALER, Store, merged

ROW = "SELECT 'tts-worker', config_json, version, config_epoch, updated_at, updated_by, row_seal, row_seal_key_id"


def copy_of(store: Store, folder: Path) -> Path:
    """Return a copy of the database as a backup makes it."""
    folder.mkdir()
    store.sql("VACUUM INTO ?", (str(folder / "config.db"),))
    return folder / "config.db"


def test_changes_since_a_place_come_in_the_order_of_the_last_one(store: Store) -> None:
    start = store.changes().place
    for service in ("router", "stt-worker", "tts-worker", "router"):
        store.set(service, gain=store.changes().place.seq)
    changes = store.changes(start)
    assert changes.services == ("stt-worker", "tts-worker", "router")
    assert store.changes(changes.place).services == ()
    store.delete("stt-worker")
    assert store.changes(changes.place).services == ("stt-worker",)


def test_one_commit_of_many_services_is_seen_whole(store: Store) -> None:
    start = store.changes().place
    store.commit(*(Edit(service, merged(gain=2)) for service in ("router", "stt-worker", "tts-worker")))
    assert sorted(store.changes(start).services or ()) == ["router", "stt-worker", "tts-worker"]


def test_without_a_place_everything_that_exists_is_told(store: Store) -> None:
    store.set("stt-worker", gain=1)
    store.set("router", gain=1)
    store.delete("router")
    assert sorted(store.changes().services or ()) == ["router", "stt-worker"]


def test_a_commit_that_changes_nothing_is_no_change(store: Store) -> None:
    store.set(gain=2)
    place = store.changes().place
    store.set(gain=2)
    assert store.changes()[:2] == (("stt-worker",), place)


@pytest.mark.parametrize(
    ("statement", "seen"),
    [
        (
            f"INSERT INTO service_configs {ROW} FROM service_configs WHERE service = 'stt-worker'",
            ["tts-worker"],
        ),
        ("UPDATE service_configs SET config_json = '{}' WHERE service = 'stt-worker'", ["stt-worker"]),
        ("UPDATE service_configs SET updated_by = 'x'", ["stt-worker"]),
        ("UPDATE service_configs SET service = 'tts-worker'", ["stt-worker", "tts-worker"]),
        ("DELETE FROM service_configs", ["stt-worker"]),
        ("REPLACE INTO service_configs SELECT * FROM service_configs", ["stt-worker"]),
        ("UPDATE deleted_services SET version = 9", ["router"]),
        ("DELETE FROM deleted_services", ["router"]),
        ("INSERT INTO encrypted_secrets VALUES (1, 'stt-worker', 'k', 'v', 'id', '', '')", ["stt-worker"]),
    ],
)
def test_changes_made_by_hand_are_seen(store: Store, statement: str, seen: list[str]) -> None:
    store.set("stt-worker", gain=1)
    store.set("router", gain=1)
    store.delete("router")
    reader = store.reader()
    place = reader.changes(None).place
    reader.moved()
    store.sql(statement)
    assert reader.moved()
    assert sorted(reader.changes(place).services or ()) == seen


def test_a_place_is_its_number_and_its_token(store: Store) -> None:
    store.set(gain=1)
    place = store.changes().place
    assert store.changes(place).services == ()
    for other in (
        Place(place.seq, "0" * 16),
        Place(place.seq + 1, place.token),
        Place(0, ""),
        Place(-1, place.token),
    ):
        assert store.changes(other)[:2] == (None, place)


def test_places_of_two_stores_differ_from_the_first_on(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Store(tmp_path / "other").create()
    assert other.changes().place.seq == store.changes().place.seq
    assert other.changes(store.changes().place).services is None


def test_a_restored_older_copy_lacks_the_place_also_when_it_has_grown_past_it(
    store: Store, tmp_path: Path
) -> None:
    store.set(gain=1)
    older = copy_of(store, tmp_path / "backup")
    store.set(gain=2)
    place = store.changes().place
    store.close()
    for suffix in ("-wal", "-shm"):
        store.path.with_name(store.path.name + suffix).unlink(missing_ok=True)
    older.replace(store.path)
    assert store.changes(place).services is None
    for gain in range(3, 9):
        store.set(gain=gain)
    assert store.changes().place.seq > place.seq
    assert store.changes(place).services is None


def test_moved_tells_of_the_commits_of_others_once(store: Store) -> None:
    reader = store.reader()
    assert reader.moved()  # it has not looked before
    assert not reader.moved()
    store.set(gain=1)
    assert reader.moved()
    assert not reader.moved()
    store.sql("UPDATE config_epoch SET last_rebuild = 'x'")
    assert reader.moved()
    reader.read(["stt-worker"])
    reader.changes(None)
    assert not reader.moved()


def test_moved_tells_of_a_commit_made_while_the_reader_was_closed(store: Store) -> None:
    """A new connection counts from the start again, and its number may be the old one."""
    reader = store.reader()
    reader.moved()
    reader.close()
    store.set(gain=1)
    assert reader.moved()
    reader.close()
    assert reader.moved()


def put_away(store: Store, folder: Path) -> None:
    """Move the database and what belongs to it, as a recovery does, whoever has it open."""
    for suffix in ("", "-wal", "-shm"):
        store.path.with_name(store.path.name + suffix).rename(folder / f"away.db{suffix}")


def test_a_replaced_file_is_noticed_and_read_at_once(store: Store, tmp_path: Path) -> None:
    """`data_version` alone stays still."""
    store.set(gain=1)
    reader = store.reader()
    reader.moved()
    other = copy_of(store, tmp_path / "other")
    twin = Store(other.parent)
    twin.set(gain=7)
    twin.close()
    put_away(store, tmp_path)
    other.replace(store.path)
    assert reader.moved()
    assert not reader.moved()
    found = reader.read(["stt-worker"])["stt-worker"]
    assert isinstance(found, Row)
    assert (found.version, found.text) == (2, '{"gain":7}')


def test_closing_the_replaced_file_takes_nothing_from_the_new_one(store: Store, tmp_path: Path) -> None:
    """The old connection must not clear away the journal that now belongs to the new file."""
    store.set(gain=1)
    reader = store.reader()
    reader.moved()
    other = copy_of(store, tmp_path / "other")
    put_away(store, tmp_path)
    other.rename(store.path)
    store.writer().commit([Edit("stt-worker", merged(gain=2))], by="test")
    assert reader.moved()
    assert Store(store.files.folder).values() == {"gain": 2}


def test_the_writer_follows_a_replaced_file(store: Store, tmp_path: Path) -> None:
    """A commit into the file that was moved away would be acknowledged and lost."""
    store.set(gain=1)
    restored = copy_of(store, tmp_path / "backup")

    def replaced_meanwhile(_services: Any, _adopt: bool) -> None:
        if restored.exists() and store.values() == {"gain": 2}:
            put_away(store, tmp_path)
            restored.rename(store.path)

    writer = store.writer(refusal=replaced_meanwhile)  # asked between the lock and the transaction
    writer.commit([Edit("stt-worker", merged(gain=2))], by="test")
    assert writer.commit([Edit("stt-worker", merged(model="base"))], by="test")[0].version == 2
    assert store.values() == {"gain": 1, "model": "base"}


def test_read_finds_every_kind_in_any_number(store: Store) -> None:
    store.set("stt-worker", gain=1)
    store.set("tts-worker", gain=1)
    store.set("router", gain=1)
    store.delete("router")
    store.sql("UPDATE service_configs SET version = 5 WHERE service = 'tts-worker'")
    names = [f"nobody-{n}" for n in range(1200)]
    found = store.reader().read([*names[:600], "router", "stt-worker", *names[600:], "tts-worker"])
    assert {name: type(row) for name, row in found.items()} == {
        "router": Tombstone, "stt-worker": Row, "tts-worker": BadRow,
    }  # fmt: skip
    assert store.reader().read([]) == {}


def test_a_service_deleted_while_it_is_read_is_there_or_deleted_but_not_absent(store: Store) -> None:
    store.set("router", gain=1)
    store.delete("router")
    store.set("stt-worker", gain=1)

    class Meanwhile(RowSealer):
        """Lets somebody delete a service when the tombstones were read and the rows were not."""

        def fits(self, seal: str, *row: Any) -> bool:
            if row[0] == "deleted_services":
                store.delete("stt-worker")
            return SEALER.fits(seal, *row)

    found = store.reader(Meanwhile.from_master_key("m", MASTER_KEY)).read(["router", "stt-worker"])
    assert {name: type(row) for name, row in found.items()} == {"router": Tombstone, "stt-worker": Row}
    assert isinstance(store.row("stt-worker"), Tombstone)


def test_an_empty_feed_is_damage(store: Store) -> None:
    store.sql("DELETE FROM change_feed")
    for since in (None, Place(1, "0" * 16)):
        with pytest.raises(StoreCorrupted):
            store.changes(since)


def test_a_name_that_is_no_text_is_no_service(store: Store) -> None:
    store.set(gain=1)
    place = store.changes().place
    store.sql("UPDATE service_configs SET service = x'00'")
    assert store.changes().services == ()
    assert store.changes(place).services == ("stt-worker",)


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE change_feed ADD COLUMN model_hash", "ALTER TABLE change_feed ADD COLUMN config_epoch"],
        [
            "CREATE TABLE other(id, config_epoch, created_at, last_rebuild)",
            "INSERT INTO other SELECT 1, config_epoch, 'now', NULL FROM config_epoch",
            "INSERT INTO other VALUES (1, 'another', 'now', NULL)",
            "DROP TABLE config_epoch",
            "ALTER TABLE other RENAME TO config_epoch",
        ],
    ],
    ids=["more columns", "a second epoch"],
)
def test_facts_are_the_same_however_they_are_asked_for(store: Store, statements: list[str]) -> None:
    place = store.changes().place
    store.set("router", gain=5)
    for statement in statements:
        store.sql(statement)
    facts, changes = store.reader().facts(), store.changes(place)
    assert changes.services == ("router",)
    assert changes.facts == store.changes(None).facts == facts
    assert store.changes(changes.place).services == ()
