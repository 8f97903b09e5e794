"""A rebuild that dies at any step: the old store whole or the new one whole, and no acknowledged write lost."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import apsw
import pytest

from config_daemon import failpoints
from config_daemon.errors import CacheError
from config_daemon.store import audit, finishing, journal, marks
from config_daemon.store.adopt import adopt_store
from config_daemon.store.choice import Source
from config_daemon.store.finishing import finish, is_under_way
from config_daemon.store.ports import Edit, Row
from tests.store.conftest import EPOCH, SEALER, Store, merged
from tests.store.rebuilding import HMAC, LATER, House

BEFORE_THE_MOVE = ("rebuild_built", "rebuild_intended")
AFTER_THE_MOVE = (
    "rebuild_database_moved", "rebuild_moved", "rebuild_placed", "rebuild_epoch_told", "rebuild_cache_aside",
    "rebuild_marked",
)  # fmt: skip


@pytest.fixture
def house(store: Store) -> House:
    house = House(store)
    for gain in (1, 2, 3):
        store.set("stt-worker", model="m", gain=gain)
    store.set("router", model="r")
    store.sql(f"VACUUM INTO '{store.files.folder / 'copy'}'")
    house.publish()
    die(
        house, lambda: (store.set("stt-worker", gain=4), os.kill(os.getpid(), signal.SIGKILL))
    )  # only in the -wal
    return house


def die(house: House, work: Callable[[], object], point: str = "") -> None:
    """Do something in another process, and make sure that it was killed, at a failpoint when one is named."""
    house.store.close()
    said = house.store.files.folder / "said"
    child = os.fork()
    if child == 0:
        sys.stderr = said.open("w")
        failpoints.arm(f"{point}:kill" if point else "")
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, said.read_text()
    assert said.read_text() == (f"failpoint reached: {point}\n" if point else "")


def die_at(house: House, point: str, source: Source = "rest") -> None:
    """Have a rebuild die at a point."""
    copy = house.store.files.folder / "copy"
    die(house, lambda: house.rebuild(source, highest_seen=10**6, file=copy), point)


def adopt(house: House) -> None:
    adopt_store(
        house.store.files, SEALER, house.numbers(), highest_seen=10**6, now=LATER, by="test", reason=None
    )


def finished(house: House) -> None:
    finish(house.store.files, finishing.numbers_of(house.store.files, (HMAC,), 1))


def start_again(house: House) -> None:
    """Do what every start does first; a second time it has nothing to do."""
    assert is_under_way(house.store.files, (HMAC,))
    finished(house)
    assert not is_under_way(house.store.files, (HMAC,))


def check_whole(house: House) -> None:
    """Check that rows, marks, chains and cache are of one life, and nothing half done lies about."""
    store = house.store
    facts, row = store.reader().facts(), store.row()
    assert isinstance(row, Row) and row.epoch == facts.epoch
    assert store.sql("PRAGMA integrity_check") == [("ok",)]
    assert not [path for way in ("*.new*", "*.rebuild*") for path in store.files.folder.glob(way)]
    known = marks.load(store.files.marks, (HMAC,))
    if facts.epoch == EPOCH:
        assert store.files.cache.exists()
    else:
        assert known is not None and known.feed is not None and known.audit is not None
        assert (known.epoch, known.held, known.reserved >= 10**6) == (facts.epoch, None, True)
        assert store.reader().holds(known.feed)
        assert audit.Trail(store.path, known.audit).heads() == audit.present_heads(store.path)
        assert not store.files.cache.exists()


@pytest.mark.parametrize("point", BEFORE_THE_MOVE)
def test_killed_before_the_move_the_old_store_stays_with_all_that_comes_into_it(
    house: House, point: str
) -> None:
    """Nobody hinders a command from writing while no daemon lives: what it was promised must not go away."""
    die_at(house, point)
    assert house.store.set("stt-worker", gain=5).version == 5
    start_again(house)
    check_whole(house)
    assert house.store.reader().facts().epoch == EPOCH
    assert house.store.values()["gain"] == 5
    assert house.rebuild("rest").state == "done"
    assert house.store.values()["gain"] == 5


@pytest.mark.parametrize("what", ["rest", "file"])
@pytest.mark.parametrize("point", AFTER_THE_MOVE)
def test_killed_after_the_move_the_new_store_is_finished(house: House, point: str, what: Source) -> None:
    die_at(house, point, what)
    start_again(house)
    check_whole(house)
    assert house.store.reader().facts().epoch != EPOCH
    assert house.store.values()["gain"] == (4 if what == "rest" else 3)
    assert house.store.set("stt-worker", gain=9).version == 5, "version 4 was given, whatever is kept"
    intent = journal.load(house.store.files.rebuild_info, (HMAC,))
    assert intent is not None
    kept = house.store.files.quarantine / intent.quarantine
    assert {path.name for path in kept.iterdir()} == {"config.db", "config.db-wal", "config.db-shm"}
    assert (intent.state, intent.at) == ("done", LATER)


@pytest.mark.parametrize("point", ["rebuild_database_moved", "rebuild_moved"])
def test_nobody_writes_while_there_is_no_database(house: House, point: str) -> None:
    """Between the move and the next start nothing is there to be opened, and nothing is made by opening."""
    die_at(house, point)
    with pytest.raises(Exception, match="no database"):
        house.store.writer().commit([Edit("stt-worker", merged(gain=6))], by="test")
    assert not house.store.path.exists()
    start_again(house)
    assert house.store.values()["gain"] == 4


def test_what_is_written_between_the_death_and_the_next_start_is_kept(house: House) -> None:
    die_at(house, "rebuild_placed")
    house.store.set("stt-worker", gain=6)
    start_again(house)
    check_whole(house)
    assert house.store.values()["gain"] == 6


@pytest.mark.parametrize("point", ["rebuild_moved", "rebuild_placed"])
def test_killed_where_there_was_no_database_it_is_finished(house: House, point: str) -> None:
    house.lose_database()
    die_at(house, point)
    start_again(house)
    check_whole(house)
    assert house.store.values()["gain"] == 3


def test_killed_while_it_finishes_it_is_finished_by_the_next(house: House) -> None:
    die_at(house, "rebuild_moved")
    for point in ("rebuild_placed", "rebuild_cache_aside", "rebuild_marked"):
        die(house, lambda: finished(house), point)
    start_again(house)
    check_whole(house)
    assert house.store.values()["gain"] == 4


@pytest.mark.parametrize(
    ("point", "adopted"),
    [
        ("rebuild_intended", False), ("adopt_committed", True), ("rebuild_epoch_told", True),
        ("rebuild_cache_aside", True),
    ],
)  # fmt: skip
def test_a_killed_adoption_is_finished_or_never_was(house: House, point: str, adopted: bool) -> None:
    """Killed between the database's commit and marks, it left chains that nobody had adopted, for ever."""
    die(house, lambda: adopt(house), point)
    house.store.set("stt-worker", gain=6)
    start_again(house)
    check_whole(house)
    assert (house.store.reader().facts().epoch != EPOCH) is adopted
    assert house.store.values()["gain"] == 6


def test_the_same_command_again_ends_what_it_began(house: House) -> None:
    """The cache that it began with is aside by then: done a second time, it would fail on a store that is whole."""
    die_at(house, "rebuild_cache_aside", "lkg")
    done = house.rebuild("lkg")
    check_whole(house)
    assert (done.state, done.services, house.store.values()["gain"]) == ("done", 2, 4)
    assert [path.name for path in house.store.files.quarantine.iterdir() if path.is_dir()] == [
        done.quarantine
    ]


def test_a_copy_is_taken_as_it_is_now(house: House) -> None:
    """What died had taken the file that lay there before; who names it again means the one that lies there now."""
    copy = house.store.files.folder / "copy"
    die_at(house, "rebuild_cache_aside", "file")
    newer = house.store.files.quarantine.glob("*/config.db")
    db = apsw.Connection(str(next(newer)))
    copy.unlink()
    db.execute(f"VACUUM INTO '{copy}'")
    db.close()
    house.rebuild("file", file=copy)
    check_whole(house)
    assert house.store.values()["gain"] == 4


@pytest.mark.parametrize("request_id", ["r-1", "r-2"])
def test_a_request_is_done_once(house: House, request_id: str) -> None:
    copy = house.store.files.folder / "copy"
    die(house, lambda: house.rebuild("file", file=copy, request="r-1"), "rebuild_cache_aside")
    done = house.rebuild("file", file=copy, request=request_id)
    assert done.id == request_id
    folders = [path for path in house.store.files.quarantine.iterdir() if path.is_dir()]
    assert len(folders) == (1 if request_id == "r-1" else 2)


@pytest.mark.parametrize("other", ["rest", "file", "nothing"])
def test_another_command_does_what_it_says(house: House, other: Source) -> None:
    die_at(house, "rebuild_moved", "lkg")
    done = house.rebuild(other, file=house.store.files.folder / "copy")
    assert done.services == (0 if other == "nothing" else 2)
    assert len([path for path in house.store.files.quarantine.iterdir() if path.is_dir()]) == 2


def test_a_tombstone_that_cannot_be_read_stops_nobody_who_has_a_database(house: House) -> None:
    house.rebuild("rest")
    house.store.files.rebuild_info.write_text("{")
    assert not is_under_way(house.store.files, (HMAC,))
    house.lose_database()
    with pytest.raises(Exception, match="info cannot be read"):
        is_under_way(house.store.files, (HMAC,))


def test_a_journal_leads_nowhere_else(house: House) -> None:
    """Who writes it may not have files moved to places of their choice."""
    done = house.rebuild("rest")
    info = house.store.files.rebuild_info
    info.write_text(info.read_text().replace(done.quarantine, "../../elsewhere"))
    with pytest.raises(Exception, match="cannot be read"):
        journal.load(info, (HMAC,))


def test_marks_obey_no_journal_that_somebody_wrote(house: House) -> None:
    """Else a file without a seal of ours would end a hold, or use up all numbers."""
    store, backup = house.store, house.store.path.with_name("backup.db")
    store.sql(f"VACUUM INTO '{backup}'")
    house.rebuild("rest")
    before = house.numbers().marks
    house.lose_database()
    backup.rename(store.path)
    info = store.files.rebuild_info
    forged = json.loads(info.read_text()) | {"state": "under-way", "epoch": EPOCH, "number": (1 << 53) - 1}
    info.write_text(json.dumps(forged))
    finished(house)
    assert house.numbers().marks == before


def test_no_journal_uses_up_the_numbers(house: House) -> None:
    die_at(house, "rebuild_placed", "lkg")
    info = house.store.files.rebuild_info
    intent = journal.load(info, (HMAC,))
    assert intent is not None
    journal.write(info, replace(intent, number=(1 << 53) - 1), HMAC)
    finished(house)
    assert house.numbers().last < 1 << 52


def test_a_journal_is_read_with_an_older_key_too(house: House) -> None:
    die_at(house, "rebuild_moved", "lkg")
    newer = bytes(32)
    assert finish(house.store.files, finishing.numbers_of(house.store.files, (newer, HMAC), 1)) is not None
    assert house.store.path.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"lost": 5}, {"lost": []}, {"lost": None}, {"lost": {"services": 5}}, {"lost": {"services": {"a": 5}}},
        {"lost": {"services": {"a": {"from": "x", "to": 1}}}}, {"lost": {"services": {"a": {"from": 1}}}},
        {"lost": {"after": "x"}}, {"lost": {"after": {"feed": 1}}}, {"lost": {"secrets": "x"}}, {"kind": "other"},
        {"state": "other"}, {"by": 5}, {"reason": 5}, {"services": "x"}, {"number": True}, {"quarantine": None},
        {"replaces": 1},
    ],
)  # fmt: skip
def test_a_journal_of_other_types_is_none_of_ours(house: House, change: dict[str, Any]) -> None:
    done, info = house.rebuild("rest"), house.store.files.rebuild_info
    journal.write(info, replace(done, **change), HMAC)
    with pytest.raises(CacheError):
        journal.load(info, (HMAC,))
    journal.write(info, done, HMAC)
    assert journal.load(info, (HMAC,)) == done
