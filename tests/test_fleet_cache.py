"""What the last-known-good cache must not forget, and what is said when it, or the store beside it, is lost.

Each of these was found by a review whose only task was to break recovery.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import closing
from functools import partial, partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw
import pytest

from config_daemon.store import connection, sqlite
from config_daemon.store.cache import Cache, Draft, additions, load
from tests.fleet import Fleet
from tests.fleet_host import by_hand
from tests.fleet_laws import STT, TTS


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def cached(fleet: Fleet) -> Cache:
    found = load(fleet.host.files.cache, fleet.host.ground.keys.hmac_keys())
    assert found is not None
    return found


def lose_database(fleet: Fleet) -> None:
    fleet.close_writer()
    for suffix in ("", "-wal", "-shm"):
        (fleet.host.folder / f"config.db{suffix}").unlink(missing_ok=True)


def restored(fleet: Fleet) -> dict[str, Any]:
    """Have a daemon lose its database and a person restore the cache; return the services that are told as lost."""
    fleet.crash_daemon()
    lose_database(fleet)
    fleet.start_daemon()
    fleet.until(lambda: "db-missing" in fleet.conditions)
    fleet.ask("restore", what="lkg")
    fleet.run(5.0)
    return dict(json.loads(fleet.host.files.rebuild_info.read_text())["lost"]["services"])


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A fleet of so many services that their messages do not stay in memory."""
    monkeypatch.setattr(Draft, "__init__", partialmethod(Draft.__init__, in_memory=0))
    monkeypatch.setattr("config_daemon.daemon.past.cache.load", partial(load, in_memory=0))
    with closing(Fleet.settled(tmp_path)) as made:
        made.run(20.0)  # until the cache holds everything
        yield made


# where a large fleet's messages lie -------------------------------------------------------------------


def held_in_memory(fleet: Fleet) -> list[str]:
    return [
        name
        for name, entry in fleet.process.parts.plan.services.items()
        if entry.sealed and entry.sealed._raw
    ]


def test_a_large_fleet_s_wiped_broker_gets_back_the_same_bytes(large: Fleet) -> None:
    assert not held_in_memory(large)
    before = dict(large.server.retained)
    large.server.wipe()
    large.until(lambda: not large.differences())
    topics = [large.topics.config(service) for service in (STT, TTS)]
    assert [large.server.retained[topic] for topic in topics] == [before[topic] for topic in topics]


def test_a_large_fleet_s_wiped_broker_gets_them_back_while_the_database_is_lost(large: Fleet) -> None:
    before = large.server.retained[large.topics.config(TTS)]
    large.crash_daemon()
    lose_database(large)
    large.server.wipe()
    large.start_daemon()
    large.until(lambda: large.server.retained.get(large.topics.config(TTS)) == before)
    assert not held_in_memory(large)


@pytest.mark.parametrize("wiped", [True, False])
def test_what_cannot_be_read_back_any_more_is_sealed_anew(large: Fleet, wiped: bool) -> None:
    """Whoever destroys the file in place takes nothing from the fleet while the database is good."""
    with large.host.files.cache.open("r+b") as stream:
        stream.truncate(0)
    if wiped:
        large.server.wipe()
    large.commit(STT, 77)
    large.run(30.0)
    assert not large.differences()
    found = load(large.host.files.cache, large.host.ground.keys.hmac_keys())
    assert found is not None
    assert found.sealed.keys() == {STT, TTS}
    assert found.sealed[TTS].read() == large.server.retained[large.topics.config(TTS)]


def test_a_service_that_was_forgotten_while_its_bytes_were_lost_stops_nothing(
    large: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config_daemon.daemon.keeper.SLICE", 1)
    keeper = large.process.parts.keeper
    large.commit(STT, 31)
    large.until(lambda: keeper._draft is not None)
    with large.host.files.cache.open("r+b") as stream:
        stream.truncate(0)
    by_hand(large.host.files.database, "DELETE FROM service_configs WHERE service = 'tts-worker'")
    large.server.wipe()
    large.run(60.0)
    assert large.retained(STT).config_version == 2
    assert cached(large).sealed.keys() == {STT}


# what is added to a large fleet's cache ------------------------------------------------------------------


@pytest.fixture
def adding(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A fleet that is large enough for its changes to be written beside the cache."""
    monkeypatch.setattr("config_daemon.daemon.keeper.LARGE", 0)
    monkeypatch.setattr("config_daemon.daemon.keeper.MOST_ADDED", 2)
    fleet.run(20.0)
    return fleet


def sequences(fleet: Fleet) -> dict[str, int]:
    return {name: one.sequence for name, one in cached(fleet).sealed.items()}


def shown(fleet: Fleet) -> dict[str, int]:
    return {service: fleet.retained(service).sequence for service in (STT, TTS)}


def test_a_change_is_added_and_the_whole_stays_as_it_is(adding: Fleet) -> None:
    whole = adding.host.files.cache
    before = whole.stat().st_ino, whole.read_bytes()
    for value in (31, 32, 33):
        adding.commit(STT, value)
        adding.run(10.0)
        assert sequences(adding) == shown(adding)
    assert (whole.stat().st_ino, whole.read_bytes()) == before
    assert cached(adding).added == {STT}
    assert cached(adding).head.feed.seq == adding.process.parts.sight.place.seq


def test_when_much_has_changed_the_whole_is_written_anew(adding: Fleet) -> None:
    for service, value in ((STT, 31), (TTS, 32)):
        adding.commit(service, value)
        adding.run(10.0)
    assert sequences(adding) == shown(adding)
    assert not cached(adding).added
    assert not additions(adding.host.files.cache).exists()


def test_a_daemon_without_its_database_goes_on_from_both_files(adding: Fleet) -> None:
    adding.commit(STT, 31)
    adding.run(10.0)
    before = dict(shown(adding))
    adding.crash_daemon()
    lose_database(adding)
    adding.server.wipe()
    adding.start_daemon()
    adding.until(lambda: "db-missing" in adding.conditions)
    adding.run(10.0)
    assert shown(adding) == before


def test_a_later_daemon_adds_to_what_it_found(adding: Fleet) -> None:
    adding.commit(STT, 31)
    adding.run(10.0)
    whole = adding.host.files.cache.read_bytes()
    adding.crash_daemon()
    adding.start_daemon()
    adding.commit(STT, 32)
    adding.run(20.0)
    assert adding.host.files.cache.read_bytes() == whole
    assert sequences(adding) == shown(adding)


@pytest.mark.parametrize("point", ["before_lkg_rename", "after_lkg"])
@pytest.mark.parametrize("services", [(STT,), (STT, TTS)], ids=["one added", "the whole anew"])
def test_a_daemon_that_dies_while_it_writes_leaves_a_good_cache(
    adding: Fleet, point: str, services: tuple[str, ...]
) -> None:
    adding.commit(STT, 30)
    adding.run(10.0)
    before = sequences(adding)
    adding.host.die_at(point)
    for service in services:
        adding.commit(service, 41)
    adding.until(lambda: adding.host.process is None)
    adding.host.spare()
    assert sequences(adding) in (before, shown(adding))
    adding.start_daemon()
    adding.run(20.0)
    assert sequences(adding) == shown(adding)


def test_what_was_added_to_another_cache_does_not_count(adding: Fleet) -> None:
    adding.commit(STT, 31)
    adding.run(10.0)
    old = additions(adding.host.files.cache).read_bytes()
    adding.commit(TTS, 32)  # now the whole is written anew
    adding.run(10.0)
    adding.stop_daemon()
    additions(adding.host.files.cache).write_bytes(old)
    assert sequences(adding) == shown(adding)


@pytest.mark.parametrize("lost", ["added", "whole"])
def test_a_file_of_the_two_that_was_damaged_makes_the_cache_untrusted(adding: Fleet, lost: str) -> None:
    adding.commit(STT, 31)
    adding.run(10.0)
    adding.stop_daemon()
    path = adding.host.files.cache
    (additions(path) if lost == "added" else path).write_bytes(b'{"x":1}')
    adding.start_daemon()
    adding.until(lambda: adding.health.get("event") == "lkg-tampered")
    aside = sorted(one.name for one in adding.host.files.quarantine.iterdir())
    assert len(aside) == 2
    assert aside[1] == f"{aside[0]}.added"
    adding.run(20.0)
    assert sequences(adding) == shown(adding)


@pytest.mark.parametrize("lost", ["added", "whole"])
@pytest.mark.parametrize("changed_at_once", [False, True])
def test_a_file_of_the_two_that_somebody_took_away_is_noticed(
    adding: Fleet, lost: str, changed_at_once: bool
) -> None:
    adding.commit(STT, 31)
    adding.run(10.0)
    path = adding.host.files.cache
    (additions(path) if lost == "added" else path).unlink()
    if changed_at_once:
        adding.commit(STT, 32)
    adding.run(20.0)
    assert sequences(adding) == shown(adding)


# what it holds --------------------------------------------------------------------------------------


def test_a_broker_that_refuses_a_newer_version_takes_the_older_one_from_nobody(fleet: Fleet) -> None:
    fleet.server.denied.add(fleet.topics.config(TTS))
    fleet.commit(TTS, 11)
    fleet.run(3.0)
    fleet.commit(STT, 21)
    fleet.run(30.0)
    assert cached(fleet).sealed[TTS].fingerprint.config_version == 1
    assert cached(fleet).head.uncovered == {TTS: 2}
    fleet.server.denied.clear()
    assert restored(fleet)[TTS] == {"from": 2, "to": 1}


def test_whoever_defaces_a_topic_all_the_time_has_the_cache_forget_nothing(fleet: Fleet) -> None:
    for number in range(20):
        fleet.deface(TTS, b"x%d" % number)
        fleet.run(0.5)
        if number % 5 == 0:
            fleet.commit(STT, 30 + number)
        assert TTS in cached(fleet).sealed


def test_a_deleted_service_goes_on_counting_after_its_topic_was_defaced(fleet: Fleet) -> None:
    fleet.commit(TTS, None)
    fleet.run(10.0)
    for number in range(12):
        fleet.deface(TTS, b"x%d" % number)
        fleet.run(0.5)
        fleet.commit(STT, 30 + number)
        fleet.run(0.5)
    restored(fleet)
    assert fleet.commit(TTS, 5).version == 3


def test_an_acknowledged_change_that_was_never_published_is_told_as_lost(fleet: Fleet) -> None:
    with patch.object(fleet.process.parts.judge, "_limit", 10):  # as a config that is too large
        fleet.commit(TTS, 11)
        fleet.run(13.0)
    assert cached(fleet).head.uncovered == {TTS: 2}
    assert restored(fleet)[TTS] == {"from": 2, "to": 1}


def test_a_clean_stop_while_the_cache_is_written_leaves_the_newest_in_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.run(20.0)
    monkeypatch.setattr("config_daemon.daemon.keeper.SLICE", 1)
    keeper = fleet.process.parts.keeper
    fleet.commit(STT, 31)
    fleet.until(lambda: keeper._draft is not None)
    fleet.commit(TTS, 41)
    fleet.until(lambda: fleet.retained(TTS).config_version == 2 and not len(fleet.process.parts.plan))
    assert keeper._draft is not None
    fleet.stop_daemon()
    held = {name: one.fingerprint.config_version for name, one in cached(fleet).sealed.items()}
    assert held == {STT: 2, TTS: 2}


def test_a_write_of_the_cache_that_fails_at_a_clean_stop_is_tried_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.run(20.0)
    put_in_place, failures = Draft.put_in_place, [OSError(errno.ENOSPC, "full for a moment")]

    def put(self: Draft, key: bytes) -> None:
        if failures:
            raise failures.pop()
        put_in_place(self, key)

    monkeypatch.setattr(Draft, "put_in_place", put)
    fleet.commit(STT, 31)
    keeper = fleet.process.parts.keeper
    fleet.until(lambda: keeper._writing)
    fleet.stop_daemon()
    assert not failures
    assert cached(fleet).sealed[STT].fingerprint.config_version == 2


def test_a_disk_that_hangs_is_waited_for_once_at_a_clean_stop(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.run(20.0)
    waits: list[float | None] = []
    monkeypatch.setattr("tests.fleet_host._Later.join", lambda _self, timeout=None: waits.append(timeout))
    fleet.commit(STT, 31)
    keeper = fleet.process.parts.keeper
    fleet.until(lambda: keeper._writing)
    waits.clear()
    fleet.stop_daemon()
    assert len(waits) == 1


# whether it is there ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "overwritten"])
def test_a_cache_that_somebody_took_away_is_written_anew(fleet: Fleet, how: str) -> None:
    path = fleet.host.files.cache
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"{}")
    fleet.run(15.0)
    assert TTS in cached(fleet).sealed
    assert fleet.health["lkg_cache_valid"] is True


def test_a_cache_that_is_taken_away_during_a_fallback_is_no_source_any_more(fleet: Fleet) -> None:
    lose_database(fleet)
    fleet.until(lambda: "db-missing" in fleet.conditions)
    fleet.host.files.cache.unlink()
    fleet.run(10.0)
    assert "needs-restore" in fleet.conditions
    assert fleet.health["lkg_cache_valid"] is False


# one trouble after the other --------------------------------------------------------------------------


def test_a_full_disk_is_forgotten_where_the_store_cannot_be_read_any_more(fleet: Fleet) -> None:
    with patch.object(sqlite, "has_room", lambda _folder: False):
        fleet.run(2.0)
        assert "disk-full" in fleet.conditions
        lose_database(fleet)
        fleet.run(1.0)
    fleet.run(5.0)
    assert fleet.conditions == {"db-missing"}


def test_damage_is_not_forgotten_over_a_lock(fleet: Fleet) -> None:
    fleet.stop_daemon()
    _break_an_index(fleet)
    fleet.start_daemon()
    fleet.until(lambda: "db-corrupted" in fleet.conditions)
    fleet.lock_database()
    fleet.run(2.0)
    fleet.unlock_database()
    fleet.run(20.0)
    assert "db-corrupted" in fleet.conditions
    assert fleet.health["ok"] is False


def _break_an_index(fleet: Fleet) -> None:
    """Have an index lack a row, as a lost write of its page does: only the thorough check finds it."""
    fleet.close_writer()
    path = str(fleet.host.files.database)
    definition = (
        "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = 'idx_config_items_key'"
    )
    with closing(apsw.Connection(path)) as db:
        (row,) = list(db.execute(definition))
        _unlock_schema(db)
        db.execute("DELETE FROM sqlite_schema WHERE name = 'idx_config_items_key'")
    with closing(apsw.Connection(path)) as db:
        db.execute("UPDATE config_items SET key = 'zz' WHERE id = (SELECT min(id) FROM config_items)")
        _unlock_schema(db)
        db.execute("INSERT INTO sqlite_schema VALUES (?,?,?,?,?)", row)
    connection.inspect(fleet.host.files.database, thorough=False)  # finds nothing


def _unlock_schema(db: apsw.Connection) -> None:
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    db.pragma("writable_schema", 1)
