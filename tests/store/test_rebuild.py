"""A database made anew: what is taken from where, what is lost and said to be lost, what stays in place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.errors import (
    CacheError,
    ConfigDaemonError,
    StoreLocked,
    StoreUnavailable,
    UsageError,
    VersionConflict,
)
from config_daemon.store import audit, chain_walk, journal, marks
from config_daemon.store.adopt import adopt_store
from config_daemon.store.choice import Source
from config_daemon.store.finishing import finish, is_under_way
from config_daemon.store.journal import Intent
from config_daemon.store.ports import Edit, Tombstone
from config_daemon.store.reports import StoreReports
from config_daemon.store.seals import RowSealer
from tests.store.conftest import EPOCH, NOW, SEALER, Store, merged
from tests.store.rebuilding import HMAC, LATER, House, garble_page, pages_of


@pytest.fixture
def house(store: Store) -> House:
    """A store with four services, the last of them deleted, and a cache of all of it."""
    house = House(store)
    store.set("router", model="r", gain=3)
    for gain in (2, 3):
        store.set("stt-worker", model="m", gain=gain)
    store.set("tts-worker", model="t")
    store.delete("tts-worker")
    house.publish()
    return house


def test_from_the_cache_alone_every_service_comes_back_with_its_version(house: House) -> None:
    house.lose_database()
    done = house.rebuild("lkg", reason="disk died")
    store = house.store
    assert store.values("stt-worker") == {"gain": 3, "model": "m"}
    assert store.values("router") == {"gain": 3, "model": "r"}
    assert [row and row.version for row in map(store.row, ("stt-worker", "router", "tts-worker"))] == [
        2,
        1,
        2,
    ]
    assert isinstance(store.row("tts-worker"), Tombstone)
    facts = store.reader().facts()
    assert facts.epoch == done.epoch != EPOCH
    assert (facts.schema_version, facts.model_hash) == (3, "")
    assert store.sql("PRAGMA journal_mode") == [("wal",)]
    assert store.sql("SELECT last_rebuild FROM config_epoch") == [(LATER,)]
    assert store.set("stt-worker", gain=4).version == 3
    assert store.set("tts-worker", model="t").version == 3
    assert store.items("router") == {"gain": "3", "model": '"r"'}
    assert done.lost == {"services": {}, "after": {"feed": house.cached.head.feed.seq, "at": NOW},
                         "history_rows": None, "secrets": None, "workers": None}  # fmt: skip


def test_the_definitions_that_rows_are_known_to_fit_are_those_of_before(house: House) -> None:
    house.rebuild("rest")
    assert house.store.reader().facts().model_hash == "0" * 64
    house.rebuild("nothing")
    assert house.store.reader().facts().model_hash == "f" * 64


def test_a_value_that_is_default_or_fixed_belongs_to_no_row(house: House) -> None:
    house.store.set("router", gain=1.0, tags=["x"])
    house.publish()
    house.lose_database()
    house.rebuild("lkg", fixed={"router": {"model"}})
    assert house.store.values("router") == {"tags": ["x"]}


def test_a_service_that_nothing_defines_keeps_everything(house: House) -> None:
    house.publish(extra={"nameless": {"gain": 1.0, "a": {"b": 2}}})
    house.lose_database()
    house.rebuild("lkg")
    assert house.store.values("nameless") == {"gain": 1.0, "a": {"b": 2}}


def test_acknowledged_rows_above_the_cache_are_taken_as_they_are(house: House) -> None:
    store = house.store
    store.set("stt-worker", gain=7)
    store.set("router", model="newer")
    store.commit(Edit("tts-worker", merged(model="back")))
    house.unpublished("only-here")
    done = house.rebuild("lkg")
    assert (store.values("stt-worker")["gain"], store.values("router")["model"]) == (7, "newer")
    assert store.values("tts-worker") == {"model": "back"}
    assert store.values("only-here") == {"gain": 9}
    assert [row and row.version for row in map(store.row, ("stt-worker", "router"))] == [3, 2]
    assert (done.lost["services"], done.lost["after"]) == ({}, None)
    assert done.lost["history_rows"] == 10


def test_of_the_same_version_the_row_is_more_than_its_message(house: House) -> None:
    """What `.env` covers, and a default that somebody set, is in no message."""
    house.publish(instead={"router": {"model": "from .env", "gain": 3}})
    house.rebuild("rest", fixed={"router": {"model"}})
    assert house.store.values("router") == {"model": "r", "gain": 3}


def _put_older_copy_back(house: House, *gains: int) -> None:
    """Publish version 3 of a service, then go on from a copy of before, as somebody does by hand."""
    store, copy = house.store, house.store.path.with_name("copy")
    store.sql(f"VACUUM INTO '{copy}'")
    store.set("stt-worker", gain=8)
    house.publish()
    house.lose_database()
    copy.rename(store.path)
    beside = Store(store.files.folder)
    for gain in gains:
        beside.set("stt-worker", gain=gain)
    beside.close()


def test_of_two_branches_what_was_published_counts_and_the_other_is_told(house: House) -> None:
    _put_older_copy_back(house, 5)
    done = house.rebuild("rest")
    assert house.store.values("stt-worker")["gain"] == 8
    assert done.lost["services"] == {"stt-worker": {"from": 3, "to": 3}}


def test_a_newer_row_of_another_branch_is_taken_and_told(house: House) -> None:
    _put_older_copy_back(house, 5, 6)
    done = house.rebuild("rest")
    assert house.store.values("stt-worker")["gain"] == 6
    assert done.lost["services"] == {"stt-worker": {"from": 4, "to": 4}}


def test_an_older_row_of_another_branch_is_told(house: House) -> None:
    """Written into the copy, acknowledged, and overtaken by what was published before it was put back."""
    store, copy = house.store, house.store.path.with_name("copy")
    store.sql(f"VACUUM INTO '{copy}'")
    store.set("stt-worker", gain=8)
    store.set("stt-worker", gain=9)
    house.publish()
    house.lose_database()
    copy.rename(store.path)
    beside = Store(store.files.folder)
    beside.set("stt-worker", gain=5)
    beside.close()
    done = house.rebuild("rest")
    assert house.store.values("stt-worker")["gain"] == 9
    assert done.lost["services"] == {"stt-worker": {"from": 3, "to": 4}}


def test_of_a_branch_that_leads_to_the_same_the_row_is_taken_and_nothing_told(house: House) -> None:
    """What `.env` covers and what is the default is in no message; the row has it."""
    house.store.set("router", gain=1.0)
    house.publish(instead={"router": {"model": "from .env", "gain": 1.0}})
    house.store.sql("DELETE FROM change_feed")
    done = house.rebuild("rest", fixed={"router": {"model"}})
    assert house.store.values("router") == {"model": "r", "gain": 1.0}
    assert done.lost["services"] == {}


def test_rows_that_were_altered_come_from_the_cache_and_are_told(house: House) -> None:
    store = house.store
    store.set("stt-worker", gain=7)
    store.sql("UPDATE service_configs SET config_json = '{}' WHERE service = 'stt-worker'")
    store.sql("UPDATE service_configs SET config_epoch = 'x' WHERE service = 'router'")
    done = house.rebuild("rest")
    assert store.values("stt-worker") == {"gain": 3, "model": "m"}
    assert done.lost["services"] == {"stt-worker": {"from": 3, "to": 2}, "router": {"from": 1, "to": 1}}
    assert done.lost["after"] is None


def test_a_row_that_somebody_put_back_or_removed_is_not_believed(house: House) -> None:
    store = house.store
    old = store.sql("SELECT * FROM service_configs WHERE service = 'stt-worker'")[0]
    store.set("stt-worker", gain=7)
    house.publish()
    store.sql("DELETE FROM service_configs")
    store.sql(f"INSERT INTO service_configs VALUES ({','.join('?' * len(old))})", old)  # noqa: S608
    done = house.rebuild("lkg")
    assert (store.values("stt-worker")["gain"], store.values("router")["gain"]) == (7, 3)
    assert set(done.lost["services"]) == {"stt-worker", "router"}, "the feed says that both were touched"


def test_a_cache_of_an_earlier_life_counts_for_nothing(house: House) -> None:
    store = house.store
    old = store.files.cache.read_bytes()
    house.rebuild("rest")
    store.set("stt-worker", gain=9)
    store.files.cache.write_bytes(old)
    with pytest.raises(CacheError, match="another life"):
        house.rebuild("lkg")
    done = house.rebuild("rest")
    assert store.values("stt-worker")["gain"] == 9
    assert done.lost["services"] == {}


def nameless(path: Path) -> None:
    """Put rows without a service's name into it, as damage to a record's head does; the shape stays ours."""
    db = apsw.Connection(str(path))
    trigger = next(iter(db.execute("SELECT sql FROM sqlite_schema WHERE name = 'feed_config_insert'")))[0]
    db.execute("DROP TRIGGER feed_config_insert")
    for name in (None, b"router", "a", "No Name"):
        db.execute("INSERT INTO service_configs VALUES (?,'{}',7,?,?,'x','','')", (name, EPOCH, NOW))
    db.execute(trigger)
    db.close()


def test_rows_without_a_services_name_hinder_nothing(house: House) -> None:
    house.store.close()
    nameless(house.store.path)
    done = house.rebuild("rest")
    assert (done.services, set(done.lost["services"])) == (3, {"a"})
    assert house.store.values("router") == {"model": "r", "gain": 3}


def test_a_copy_with_a_row_without_a_services_name_is_refused(house: House) -> None:
    copy = house.store.path.with_name("copy.db")
    house.store.sql(f"VACUUM INTO '{copy}'")
    nameless(copy)
    with pytest.raises(StoreUnavailable, match="was not taken"):
        house.rebuild("file", file=copy)


def within_seconds(pipe: Path, work: Callable[[], object]) -> None:
    """Do what would wait for ever for somebody who writes into a pipe."""
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            done.result(5)
        except TimeoutError:
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            raise


def test_a_pipe_is_refused_as_a_copy(house: House) -> None:
    pipe = house.store.path.with_name("pipe")
    with pytest.raises(StoreUnavailable, match="no regular file"):
        within_seconds(pipe, lambda: house.rebuild("file", file=pipe))


def test_a_pipe_in_the_databases_place_holds_nothing_up(house: House) -> None:
    house.lose_database()
    within_seconds(house.store.path, lambda: house.rebuild("lkg"))
    assert house.store.values("router") == {"model": "r", "gain": 3}


@pytest.mark.parametrize("table", ["service_configs", "sqlite_autoindex_service_configs_1", "change_feed"])
def test_what_can_be_read_of_a_damaged_database_is_taken_and_the_rest_told(house: House, table: str) -> None:
    store = house.store
    for number in range(300):
        house.unpublished(f"s-{number:03}", {"gain": number, "text": "x" * 100})
    acknowledged = {f"s-{number:03}": number for number in range(300)}
    store.close()
    leaves = pages_of(store.path, table)
    garble_page(store.path, leaves[len(leaves) // 2])
    done = house.rebuild("rest")
    lost, known = done.lost["services"], house.store
    there = {name: known.values(name)["gain"] for name in acknowledged if known.row(name) is not None}
    assert len(there) > 200
    assert {name: gain for name, gain in acknowledged.items() if name not in there}.keys() <= lost.keys()
    assert there.items() <= acknowledged.items()
    if table == "change_feed":
        assert done.lost["after"] == {"feed": house.cached.head.feed.seq, "at": NOW}


def test_a_loss_that_the_feed_cannot_show_is_told_by_what_others_saw(house: House) -> None:
    """Commits that were only in the `-wal` are gone with it, and their places too."""
    store, before = house.store, house.store.path.with_name("before.db")
    place_before = store.changes().place
    store.sql(f"VACUUM INTO '{before}'")
    store.set("stt-worker", gain=8)
    newest = store.changes().place
    store.close()
    house.lose_database()
    before.rename(store.path)
    done = house.rebuild("rest", known={"stt-worker": 3}, places=(newest,))
    assert newest.seq > place_before.seq
    assert done.lost["services"] == {"stt-worker": {"from": 3, "to": 2}}
    assert done.lost["after"] == {"feed": house.cached.head.feed.seq, "at": NOW}


def test_without_a_cache_what_can_be_read_is_taken(house: House) -> None:
    house.store.files.cache.unlink()
    done = house.rebuild("rest")
    assert house.store.values("stt-worker") == {"gain": 3, "model": "m"}
    assert isinstance(house.store.row("tts-worker"), Tombstone)
    assert (done.services, done.lost["services"], done.lost["after"]) == (3, {}, None)
    assert "no cache" in done.source


def test_with_nothing_to_take_nothing_is_changed(house: House) -> None:
    house.store.files.cache.unlink()
    house.store.close()
    house.store.path.write_bytes(b"rubbish" * 1000)
    before = house.everything()
    with pytest.raises(StoreUnavailable, match="nothing can be read"):
        house.rebuild("rest")
    with pytest.raises(CacheError):
        house.rebuild("lkg")
    with pytest.raises(CacheError):
        house.rebuild("lkg-alone")
    assert house.everything() == before
    done = house.rebuild("nothing")
    assert house.store.changes().services == ()
    assert done.services == 0


def test_a_cache_with_a_wrong_seal_is_no_source(house: House) -> None:
    cache = house.store.files.cache
    cache.write_bytes(cache.read_bytes().replace(b'"gain":3', b'"gain":4'))
    house.store.path.unlink()
    with pytest.raises(CacheError):
        house.rebuild("lkg")
    with pytest.raises(StoreUnavailable):
        house.rebuild("rest")


def test_of_another_database_nothing_is_taken(house: House) -> None:
    house.unpublished("stranger")
    done = house.rebuild("lkg-alone")
    assert house.store.changes().services == ("router", "stt-worker", "tts-worker")
    assert done.lost["after"] == {"feed": house.cached.head.feed.seq, "at": NOW}


def test_a_database_that_somebody_holds_is_not_rebuilt(house: House) -> None:
    house.store.close()
    holder = apsw.Connection(str(house.store.path))
    holder.pragma("locking_mode", "EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE; COMMIT")
    with pytest.raises(StoreLocked):
        house.rebuild("rest")
    holder.close()
    assert house.rebuild("rest").services == 3


def test_the_old_database_is_kept_whole_with_its_wal(house: House) -> None:
    writer = house.store.writer()
    writer.commit([Edit("stt-worker", merged(gain=5))], by="test")
    names = {path.name for path in house.store.files.folder.glob("config.db*")}
    assert "config.db-wal" in names
    done = house.rebuild("rest")
    folder = house.store.files.quarantine / done.quarantine
    assert {path.name for path in folder.iterdir()} == names
    db = apsw.Connection(str(folder / "config.db"))
    assert list(db.execute("SELECT version FROM service_configs WHERE service = 'stt-worker'")) == [(3,)]
    db.close()
    written = writer.commit([Edit("stt-worker", merged(gain=6))], by="test")
    assert written[0].version == 4, "a connection to the old file goes over to the new one"
    assert house.store.values("stt-worker")["gain"] == 6


def test_the_newest_five_databases_are_kept(house: House) -> None:
    other = house.store.files.quarantine / "config.db.put-back"
    other.mkdir(parents=True)
    for _ in range(7):
        last = house.rebuild("rest")
    folders = [path for path in house.store.files.quarantine.iterdir() if path.is_dir()]
    assert len(folders) == 6
    assert other in folders, "somebody else's"
    assert house.store.files.quarantine / last.quarantine in folders


def test_of_caches_of_earlier_lives_the_newest_five_are_kept(house: House) -> None:
    for _ in range(7):
        last = house.rebuild("rest")
        house.store.files.cache.write_text("another")
    last = house.rebuild("rest")
    kept = {path.name for path in house.store.files.quarantine.glob("lkg.bad-*")}
    assert len(kept) == 5
    assert f"lkg.bad-rebuild-{last.epoch[:8]}" in kept


def test_of_other_folders_in_the_quarantine_none_is_removed(house: House) -> None:
    others = [house.store.files.quarantine / f"2025-0{number}" for number in range(8)]
    for other in others:
        other.mkdir(parents=True)
    house.rebuild("rest")
    assert all(other.exists() for other in others)


def test_a_quarantine_that_is_a_link_is_refused_and_nothing_changed(house: House, tmp_path: Path) -> None:
    """Who may write in the folder could else have databases moved, and folders removed, anywhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    house.store.files.quarantine.symlink_to(elsewhere)
    house.store.close()
    before = house.everything()
    for replace in (lambda: house.rebuild("rest"), lambda: adopted(house)):
        with pytest.raises(StoreUnavailable, match="symbolic link"):
            replace()
    assert house.everything() == before
    assert not list(elsewhere.iterdir())


def adopted(house: House) -> Intent:
    return adopt_store(
        house.store.files, SEALER, house.numbers(), highest_seen=5, now=LATER, by="test", reason=None,
        request="r-1",
    )  # fmt: skip


def test_marks_release_the_new_epoch_and_numbers_go_on_above_everything(house: House) -> None:
    numbers = house.numbers()
    numbers.hold("not-the-newest", "config.db", "it lacks a change")
    done = house.rebuild("rest", highest_seen=10**12)
    known = marks.load(house.store.files.marks, (HMAC,))
    assert known is not None
    assert (known.epoch, known.held, known.reserved >= 10**12) == (done.epoch, None, True)
    assert known.feed is not None
    assert house.store.reader().holds(known.feed)
    assert house.store.files.cache.exists() is False, "it belongs to the life before"
    assert list(house.store.files.quarantine.glob("lkg.bad-rebuild-*"))
    assert known.audit is not None
    assert audit.Trail(house.store.path, known.audit).heads() == audit.present_heads(house.store.path)


def test_the_new_chains_hold_the_heads_of_the_old(house: House) -> None:
    before = audit.present_heads(house.store.path)
    house.numbers().write(audit=before)
    house.rebuild("rest", reason="why not")
    history, access = chain_walk.verify(house.store.path)
    assert (history.breaks, access.breaks) == ((), ())
    assert history.begun is not None and history.begun.known == before.history
    assert house.store.sql("SELECT user_id, action, reason, timestamp FROM access_log") == [
        ("test", "rebuild", "why not", LATER)
    ]


def test_history_begins_with_what_was_found_and_leads_nowhere_else(house: House) -> None:
    """Undoing what is not known would make a service be what it never was."""
    house.rebuild("rest")
    house.store.set("stt-worker", gain=9)
    house.store.set("router", gain=9)
    reports = StoreReports(house.store.path, SEALER)
    assert reports.at_version("stt-worker", 2).values == {"gain": 3, "model": "m"}
    assert reports.known("router") == {"gain": "9", "model": '"r"'}
    for service, version in (("stt-worker", 1), ("tts-worker", 1), ("router", 0)):
        with pytest.raises(ConfigDaemonError, match="was lost when the store was rebuilt"):
            reports.at_version(service, version)


def test_a_version_that_was_lost_is_not_given_again(house: House) -> None:
    """Who read it before the loss would else write over somebody's other change of the same number."""
    store = house.store
    house.lose_database()
    house.rebuild("lkg", known={"stt-worker": 4})
    assert store.set("stt-worker", gain=7).version == 5
    with pytest.raises(VersionConflict):
        store.edit("stt-worker", merged(gain=9), expect=4)
    reports = StoreReports(store.path, SEALER)
    assert reports.at_version("stt-worker", 2).values["gain"] == 3
    for lost in (3, 4):
        with pytest.raises(ConfigDaemonError, match=f"version {lost} of stt-worker was lost"):
            reports.at_version("stt-worker", lost)


def test_nor_is_it_after_the_next_rebuild_which_lost_nothing(house: House) -> None:
    house.lose_database()
    house.rebuild("lkg", known={"stt-worker": 4})
    done = house.rebuild("rest")
    assert done.lost["services"] == {}
    assert house.store.set("stt-worker", gain=7).version == 5


def test_nor_in_an_empty_store(house: House) -> None:
    house.rebuild("nothing")
    store = house.store
    assert StoreReports(store.path, SEALER).lost() == []
    assert store.edit("stt-worker", merged(model="n"), expect=0).version == 3
    assert store.set("tts-worker", model="n").version == 3


def test_nor_after_a_copy_was_restored(house: House, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    house.store.sql(f"VACUUM INTO '{copy}'")
    house.store.set("stt-worker", gain=7)
    house.rebuild("file", file=copy)
    assert house.store.set("stt-worker", gain=8).version == 4
    assert [table.breaks for table in chain_walk.verify(house.store.path)] == [(), ()]


def test_a_made_up_version_leaves_room_for_more(house: House) -> None:
    house.store.sql("UPDATE service_configs SET version = ? WHERE service = 'router'", ((1 << 53) - 1,))
    house.rebuild("rest")
    assert house.store.set("router", gain=5).version == 2


def test_the_journal_says_what_was_done_and_lost(house: House) -> None:
    house.store.set("stt-worker", gain=7)
    house.store.sql("UPDATE service_configs SET row_seal = '' WHERE service = 'stt-worker'")
    done = house.rebuild("lkg", reason="test")
    told = json.loads(house.store.files.rebuild_info.read_text())
    assert journal.load(house.store.files.rebuild_info, (HMAC,)) == done
    assert (told["state"], told["kind"], told["by"], told["reason"], told["at"]) == (
        "done", "restore", "test", "test", LATER,
    )  # fmt: skip
    assert told["lost"]["services"] == {"stt-worker": {"from": 3, "to": 2}}
    epoch = json.loads(house.store.files.epoch.read_text())
    assert (epoch["config_epoch"], epoch["last_rebuild"]) == (done.epoch, LATER)


# a copy ---------------------------------------------------------------------------------------------


def test_a_copy_comes_with_its_history_and_tells_which_versions_go_back(house: House, tmp_path: Path) -> None:
    store, copy = house.store, tmp_path / "copy.db"
    store.sql(f"VACUUM INTO '{copy}'")
    history = store.history("key, version, change_id")
    store.set("stt-worker", gain=7)
    store.set("stt-worker", gain=8)
    house.unpublished("newer")
    done = house.rebuild("file", file=copy)
    assert store.values("stt-worker") == {"gain": 3, "model": "m"}
    assert done.lost["services"] == {"stt-worker": {"from": 4, "to": 2}, "newer": {"from": 1, "to": 0}}
    assert store.history("key, version, change_id") == history
    assert [table.breaks for table in chain_walk.verify(store.path)] == [(), ()]
    assert store.reader().facts().epoch == done.epoch
    assert copy.exists()


@pytest.mark.parametrize("source", ["rest", "file"])
def test_the_group_may_use_the_new_database(house: House, tmp_path: Path, source: Source) -> None:
    copy = tmp_path / "copy.db"
    house.store.sql(f"VACUUM INTO '{copy}'")
    copy.chmod(0o400)
    house.rebuild(source, file=copy)
    assert house.store.path.stat().st_mode & 0o777 == 0o660


def test_a_copy_is_read_with_its_wal(house: House, tmp_path: Path) -> None:
    writer = house.store.writer()
    writer.commit([Edit("stt-worker", merged(gain=5))], by="test")
    for path in house.store.files.folder.glob("config.db*"):
        (tmp_path / "else").mkdir(exist_ok=True)
        (tmp_path / "else" / path.name).write_bytes(path.read_bytes())
    writer.close()
    house.rebuild("file", file=tmp_path / "else" / "config.db")
    assert house.store.values("stt-worker")["gain"] == 5


def _beside_its_tombstone(seal: str) -> str:
    """Return what brings a deleted service's row back, as somebody does who copies rows about."""
    values = ("tts-worker", "{}", 1, EPOCH, NOW, "x", seal, SEALER.key_id)
    return f"INSERT INTO service_configs VALUES {values}"  # noqa: S608


_LIVE_SEAL = SEALER.seal("service_configs", "tts-worker", 1, EPOCH, "{}", NOW, "x")
_HIDDEN_TRIGGER = (  # where `_` stands for any character, this is a name of SQLite's own
    "CREATE TRIGGER sqliteXquiet AFTER INSERT ON change_feed"
    " BEGIN DELETE FROM change_feed WHERE seq = NEW.seq; END"
)


def _alter(path: Path, *statements: str) -> None:
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda p: _alter(p, "UPDATE service_configs SET config_json = '{}' WHERE service = 'router'"), "router"),
        (lambda p: _alter(p, "UPDATE deleted_services SET version = 9"), "tts-worker"),
        (lambda p: _alter(p, _beside_its_tombstone("bad")), "tts-worker"),
        (lambda p: _alter(p, _beside_its_tombstone(_LIVE_SEAL)), "tts-worker"),
        (lambda p: _alter(p, "UPDATE config_epoch SET config_epoch = 'x'"), "stt-worker"),
        (lambda p: _alter(p, "DROP TRIGGER feed_config_update"), "tables or triggers"),
        (lambda p: _alter(p, _HIDDEN_TRIGGER), "tables or triggers"),
        (lambda p: _alter(p, "PRAGMA application_id = 1"), "not a config-daemon database"),
        (lambda p: _alter(p, "PRAGMA user_version = 99"), "format 99"),
        (lambda p: p.write_bytes(p.read_bytes()[:20000]), "damaged"),
        (lambda p: p.write_bytes(b""), "not a config-daemon database"),
        (lambda p: p.unlink(), "No such file"),
    ],
)  # fmt: skip
def test_a_copy_with_anything_wrong_is_refused_and_nothing_changed(
    house: House, tmp_path: Path, spoil: Callable[[Path], Any], told: str
) -> None:
    copy = tmp_path / "copy.db"
    house.store.sql(f"VACUUM INTO '{copy}'")
    spoil(copy)
    house.store.close()
    before = house.everything()
    with pytest.raises(ConfigDaemonError, match=told) as refused:
        house.rebuild("file", file=copy)
    assert refused.value.exit_code == 69
    assert house.everything() == before


def test_a_copy_of_another_house_is_refused(house: House, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Store(tmp_path / "other").create()
    other.writer().commit([Edit("router", merged(gain=1))], by="test")
    stranger = RowSealer.from_master_key("other", bytes(32))
    other.close()
    with pytest.raises(StoreUnavailable, match="router"):
        house.rebuild("file", file=other.path, sealer=stranger)


@pytest.mark.parametrize("name", ["config.db", ".config.db.rebuild", "config.db\0", "a\0b"])
def test_the_database_is_no_copy_of_itself(house: House, name: str) -> None:
    if name == ".config.db.rebuild":
        house.store.path.with_name(name).touch()
    with pytest.raises(UsageError):
        house.rebuild("file", file=house.store.path.with_name(name))


def test_a_path_that_cannot_be_looked_at_is_refused(house: House) -> None:
    with pytest.raises(StoreUnavailable):
        house.rebuild("file", file=Path("x" * 300))


def test_a_copy_beside_the_database_stays_where_it_is(house: House) -> None:
    copy = house.store.path.with_name("config.db.new")
    house.store.sql(f"VACUUM INTO '{copy}'")
    house.store.set("stt-worker", gain=7)
    house.rebuild("file", file=copy)
    assert copy.exists()
    assert house.store.values("stt-worker")["gain"] == 3


# trouble --------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_database_in_its_place(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule behind building first: whatever fails before the move has changed nothing."""
    house.store.close()
    before = house.everything()

    for place in ("store.building.fill", "store.journal.replace_durably", "store.marks.replace_durably"):
        with monkeypatch.context() as patch:
            patch.setattr(f"config_daemon.{place}", _full)
            with pytest.raises(StoreUnavailable, match="No space left"):
                house.rebuild("rest")
        assert house.everything() == before
    house.rebuild("rest")


def _in_the_way(house: House) -> Path:
    """Have a rebuild fail when the old database should be moved, as on a full disk or for want of rights."""
    blocker = house.store.files.quarantine
    blocker.write_text("in the way")
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        house.rebuild("rest")
    intent = journal.load(house.store.files.rebuild_info, (HMAC,))
    assert intent is not None and intent.state == "abandoned"
    return blocker


def test_a_rebuild_that_could_not_move_anything_never_comes_to_life(house: House) -> None:
    """Weeks later the true database was lost, and the old build took its place with the values of then."""
    _in_the_way(house).unlink()
    for gain in (5, 6, 7):
        house.store.set("stt-worker", gain=gain)
    house.publish()
    house.lose_database()
    assert not is_under_way(house.store.files, (HMAC,))
    house.rebuild("lkg", known={"stt-worker": 5})
    assert house.store.values("stt-worker")["gain"] == 7


def test_not_even_where_giving_it_up_failed_as_well(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("config_daemon.store.finishing.abandon", _full)
        house.store.files.quarantine.write_text("in the way")
        with pytest.raises(StoreUnavailable):
            house.rebuild("rest")
    house.store.files.quarantine.unlink()
    house.store.set("stt-worker", gain=5)
    for path in house.store.files.folder.glob("config.db*"):
        path.unlink()
    finish(house.store.files, house.numbers())
    assert not house.store.path.exists()
    assert not is_under_way(house.store.files, (HMAC,))


def test_a_rebuild_that_fails_in_mid_move_puts_everything_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = house.store.writer()
    writer.commit([Edit("stt-worker", merged(gain=5))], by="test")
    monkeypatch.setattr("config_daemon.store.quarantine.sync_folder", _full)
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        house.rebuild("rest")
    monkeypatch.undo()
    assert house.store.values("stt-worker")["gain"] == 5
    assert house.store.reader().facts().epoch == EPOCH
    assert not is_under_way(house.store.files, (HMAC,))


def _full(*_: object) -> None:
    raise OSError(28, os.strerror(28))


def test_with_many_services_it_says_that_it_is_alive(house: House) -> None:
    """A watchdog that ends the daemon in mid-rebuild ends the next one there, too."""
    calls: list[None] = []
    for number in range(450):
        house.unpublished(f"s-{number:03}")
    house.rebuild("rest", alive=lambda: calls.append(None))
    assert len(calls) > 450 // 200


def test_an_adoption_is_in_the_journal_too(house: House) -> None:
    done = adopted(house)
    assert journal.load(house.store.files.rebuild_info, (HMAC,)) == done
    assert (done.kind, done.id, done.state, done.services) == ("adopt-db", "r-1", "done", 3)
    assert house.numbers().marks.epoch == done.epoch == house.store.reader().facts().epoch
