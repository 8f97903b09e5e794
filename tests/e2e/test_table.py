"""The decision table: what a daemon says on the wire, and does, for each state of database, cache and broker."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from config_daemon.catalog.catalog import Catalog
from config_daemon.store.ports import Edit
from config_daemon.store.writer import SqliteWriter
from tests.broker_fixtures import ClientFactory
from tests.cli.conftest import Cli
from tests.e2e.house import House, until
from tests.e2e.living import NORMAL, Living
from tests.e2e.lockers import begin_exclusive, locking_mode, shm_locks
from tests.e2e.pasts import CACHE, DATABASE, MARKS, Past, remove, take_over
from tests.e2e.test_weather import conditions, confirmed, facts
from tests.e2e.wire import CONFIG, SERVICES, Said, Wire
from tests.fleet_host import by_hand
from tests.real_broker import Broker

FALLBACK = "read-only-fallback"


class Start(NamedTuple):
    """A row at the start of a daemon: what is done to the folder before, and what health says then, in order.

    `reads` is where `get` has its answer from, `wiped` that the broker lost everything, `more` what it got beside.
    """

    prepare: Callable[[Path, Past, ExitStack], object]
    says: list[Said]
    reads: str = "database"
    wiped: bool = False
    shows_later: bool = False


def _bad_cache(folder: Path, _past: Past, _stack: ExitStack) -> None:
    cache = folder / CACHE[0]
    content = cache.read_bytes()
    assert b"0.2" in content
    cache.write_bytes(content.replace(b"0.2", b"0.9"))


def _locked(folder: Path, _past: Past, stack: ExitStack) -> None:
    stack.enter_context(locking_mode(folder / "config.db"))


def _locked_without_cache(folder: Path, past: Past, stack: ExitStack) -> None:
    remove(folder, *CACHE)
    _locked(folder, past, stack)


def _patch(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(content)


def _corrupt(folder: Path, _past: Past, _stack: ExitStack) -> None:
    _patch(folder / "config.db", 0, bytes(100))


def _corrupt_without_cache(folder: Path, past: Past, stack: ExitStack) -> None:
    remove(folder, *CACHE)
    _corrupt(folder, past, stack)


def _bad_row(folder: Path, _past: Past, _stack: ExitStack) -> None:
    by_hand(folder / "config.db", EDIT_BY_HAND)


def _directory(folder: Path, _past: Past, _stack: ExitStack) -> None:
    remove(folder, *DATABASE)
    (folder / "config.db").mkdir()


EDIT_BY_HAND = (
    """UPDATE service_configs SET config_json = '{"vad_threshold":0.9}' WHERE service = 'stt-worker'"""
)
RECOVERED = NORMAL._replace(event="recovered")
LOCKED = Said("locked", FALLBACK, False, True, "db-locked")
CORRUPTED = Said("corrupted", FALLBACK, False, True, "db-corrupted")
MISSING, CANNOT_OPEN = CORRUPTED._replace(event="db-missing"), CORRUPTED._replace(event="db-cantopen")
BAD_ROW = CORRUPTED._replace(event="rows-corrupted:1")
NOT_THE_NEWEST = Said("healthy", FALLBACK, False, True, "not-the-newest")
READ_ONLY = NOT_THE_NEWEST._replace(event="db-readonly")
FULL = NOT_THE_NEWEST._replace(event="disk-full")
NO_SOURCE = Said("locked", FALLBACK, False, False, "no-source")
NEEDS_RESTORE = Said("corrupted", FALLBACK, False, False, "needs-restore")


UNCHECKED = NORMAL._replace(ok=False)  # before the broker has shown what it retains


def _cache_made(event: str) -> list[Said]:
    """Return what health says while a cache is made, first and last: it is valid only afterwards."""
    return [UNCHECKED._replace(lkg_cache_valid=False, event=event), NORMAL._replace(event=event)]


def _is_told(told: list[Said], says: list[Said]) -> bool:
    """Tell whether health said this; between, perhaps, that all is well but for the cache, which may go too fast."""
    between = says[-1]._replace(lkg_cache_valid=False)
    return [one for one in told if one != between or one in says] == says


STARTS = {
    "ok, cache valid": Start(lambda *_: None, [UNCHECKED, NORMAL]),
    "ok, without the marked feed row": Start(
        lambda folder, past, _: take_over(folder, past.earlier), [NOT_THE_NEWEST], "lkg"
    ),
    "ok, broker holds our own message that we cannot explain": Start(
        lambda *_: None, [UNCHECKED, NOT_THE_NEWEST], "lkg", shows_later=True
    ),
    "ok, cache invalid": Start(_bad_cache, _cache_made("lkg-tampered")),
    "ok, cache missing": Start(lambda folder, *_: remove(folder, *CACHE), _cache_made("lkg-created")),
    "ok, no cache, no marks, own messages retained": Start(
        lambda folder, *_: remove(folder, *CACHE, *MARKS),
        [
            _cache_made("initialised")[0],
            NOT_THE_NEWEST._replace(lkg_cache_valid=False, event="foreign-state"),
        ],
    ),
    "ok, no cache, no marks, nothing retained": Start(
        lambda folder, *_: remove(folder, *CACHE, *MARKS), _cache_made("initialised"), wiped=True
    ),
    "locked, cache valid": Start(_locked, [LOCKED], "lkg", wiped=True),
    "locked, cache missing": Start(_locked_without_cache, [NO_SOURCE], "nowhere"),
    "corrupt, cache valid": Start(_corrupt, [CORRUPTED], "lkg", wiped=True),
    "corrupt, cache missing": Start(_corrupt_without_cache, [NEEDS_RESTORE], "nowhere"),
    "some rows a bad seal": Start(_bad_row, [BAD_ROW], "lkg", wiped=True),
    "missing file, cache and marks exist": Start(
        lambda folder, *_: remove(folder, *DATABASE), [MISSING], "lkg", wiped=True
    ),
    "missing file, marks exist": Start(
        lambda folder, *_: remove(folder, *DATABASE, *CACHE), [NEEDS_RESTORE], "nowhere"
    ),
    "CANTOPEN": Start(_directory, [CANNOT_OPEN], "lkg", wiped=True),
    "READONLY": Start(lambda folder, *_: _patch(folder / "config.db", 18, b"\x09"), [READ_ONLY]),
}


@pytest.mark.parametrize("row", STARTS)
def test_at_start(row: str, past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path) -> None:
    start, folder = STARTS[row], tmp_path / "data"
    shutil.copytree(past.folder, folder)
    house, wire = House(folder, broker.url), Wire(lambda: raw_client(broker))
    retained = past.retained | ({CONFIG + "stt-worker": past.later} if start.shows_later else {})
    wire.put({} if start.wiped else retained)
    with ExitStack() as stack:
        start.prepare(folder, past, stack)
        stack.callback(house.close)
        house.daemon()
        health = wire.until_says(start.says[-1])
        assert _is_told(wire.said, start.says)
        if start.says[-1].operational_mode == FALLBACK:
            check_fallback(house, health, start.reads)
        is_cached = start.says[0].event not in ("initialised", "lkg-created", "lkg-tampered")
        for service in SERVICES:
            wire.client.wait_for_topic(CONFIG + service)
            seen, before = wire.configs(service), retained[CONFIG + service]
            if is_cached or start.says[-1].operational_mode == FALLBACK:
                assert seen == [before], "the same bytes, and no others"
            else:  # who knows no last seal makes another one
                assert {content(raw) for raw in seen} == {content(before)}, "the same content"
    assert house.files.quarantine.exists() == (row == "ok, cache invalid")


def content(raw: bytes) -> tuple[int, str]:
    """Return a message's version and config."""
    message = json.loads(raw)
    return message["config_version"], json.dumps(message["config"])


def check_fallback(house: House, health: dict[str, Any], reads: str) -> None:
    """Writes are refused with the reason, and reads say whose word they are."""
    cli, critical = Cli(house.folder), [c for c in health["conditions"] if c["severity"] == "critical"]
    until(lambda: facts(house).get("event") == health["event"], "the same word in status.db")
    assert health["err"].startswith(f"{critical[0]['name']}: ")
    refused = cli("set", "stt-worker", "vad_threshold=0.5", "--json")
    assert refused.code == 69
    reasons = {*(c["name"] for c in critical), "there is no store", "altered outside"}
    assert any(reason in refused.error["message"] for reason in reasons), refused.error
    assert "init" not in refused.error["errors"][0]["suggestion"]
    read = cli("get", "stt-worker", "--json")
    if reads == "nowhere":
        assert read.code == 69
        return
    assert (read.data.get("from", "database"), read.data["config"]["vad_threshold"]) == (reads, 0.2)
    assert ("published last" in cli("get", "stt-worker", "vad_threshold").err) == (reads == "lkg")


def test_missing_without_init_is_refused_and_nothing_is_made(past: Past, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(past.folder / ".env", folder / ".env")  # keys alone are no past
    refused = Cli(folder)("run", "--json")
    assert refused.code == 78
    assert "config-daemon init" in refused.error["errors"][0]["suggestion"]
    assert {path.name for path in folder.iterdir()} <= {".env", "daemon.lock"}


def test_what_init_made_is_initialised(house: House, raw_client: ClientFactory) -> None:
    wire = Wire(lambda: raw_client(house.broker_url))
    assert Cli(house.folder)("status").code == 8
    house.daemon()
    wire.until_says(_cache_made("initialised")[-1])
    assert _is_told(wire.said, _cache_made("initialised"))


# while running ------------------------------------------------------------------------------------


class Running(NamedTuple):
    """A row that comes and goes under a running daemon."""

    cause: Callable[[Living], contextlib.AbstractContextManager[None]]
    says: Said
    reads: str = "lkg"
    seconds: float = 15.0


@contextlib.contextmanager
def _row_edited(living: Living) -> Iterator[None]:
    by_hand(living.folder / "config.db", "CREATE TABLE kept AS SELECT * FROM service_configs", EDIT_BY_HAND)
    yield
    by_hand(
        living.folder / "config.db",
        "UPDATE service_configs SET config_json = (SELECT config_json FROM kept WHERE service = 'stt-worker')"
        " WHERE service = 'stt-worker'",
        "DROP TABLE kept",
    )


RUNNING = {
    "ok, without the marked feed row": Running(
        lambda living: living.swapped(lambda copy: by_hand(copy, *ONE_CHANGE_LESS)), NOT_THE_NEWEST
    ),
    "locked by BEGIN EXCLUSIVE": Running(lambda living: begin_exclusive(living.folder / "config.db"), LOCKED),
    "locked on bytes of -shm": Running(
        lambda living: shm_locks(living.folder / "config.db"), LOCKED, seconds=30.0
    ),
    "corrupt, cache valid": Running(
        lambda living: living.swapped(lambda copy: _patch(copy, 0, bytes(100))), CORRUPTED
    ),
    "some rows a bad seal": Running(_row_edited, BAD_ROW),
    "missing file": Running(lambda living: living.swapped(Path.unlink), MISSING),
    "CANTOPEN": Running(
        lambda living: living.swapped(lambda copy: (copy.unlink(), copy.mkdir())), CANNOT_OPEN
    ),
    "READONLY": Running(
        lambda living: living.swapped(lambda copy: _patch(copy, 18, b"\x09")), READ_ONLY, "database"
    ),
}
ONE_CHANGE_LESS = ("DELETE FROM change_feed WHERE seq = (SELECT max(seq) FROM change_feed)",)


@pytest.mark.parametrize("row", RUNNING)
def test_while_running(row: str, living: Living) -> None:
    running, wire, house = RUNNING[row], living.wire, living.house
    with running.cause(living):
        health = wire.until_says(running.says, seconds=running.seconds)
        before = {service: wire.configs(service) for service in SERVICES}
        check_fallback(house, health, running.reads)
        if running.says is BAD_ROW:  # the others go on
            confirmed(house, house.set("tts-worker", volume_percent=76), "tts-worker")
            before["tts-worker"] = wire.configs("tts-worker")
    after = wire.until_says(RECOVERED)
    assert {service: wire.configs(service) for service in SERVICES} == before, (
        "nothing was published meanwhile"
    )
    assert not [c for c in after["conditions"] if c["severity"] == "critical"]
    confirmed(house, house.set("tts-worker", volume_percent=77), "tts-worker")


def test_locked_and_corrupt_while_running_without_a_cache(
    past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """The cache has a folder of its own, which is not there: none was ever written."""
    house = House(Path(shutil.copytree(past.folder, tmp_path / "data")), broker.url)
    wire = Wire(lambda: raw_client(broker))
    wire.put(past.retained)
    try:
        daemon = house.daemon(CONFIG_LKG_CACHE_PATH=str(tmp_path / "nowhere" / "config.lkg.json"))
        wire.until_says(_cache_made("lkg-created")[0])
        for cause, says in (
            (begin_exclusive(house.files.database), NO_SOURCE),
            (
                Living(house, wire, daemon.pid).swapped(lambda copy: _patch(copy, 0, bytes(100))),
                NEEDS_RESTORE,
            ),
        ):
            until(lambda: "lkg-unwritable" in conditions(house), "the condition lkg-unwritable")
            with cause:
                check_fallback(house, wire.until_says(says), "lkg")
            wire.until_says(RECOVERED._replace(lkg_cache_valid=False))
    finally:
        house.close()


def test_replaced_by_a_whole_copy_is_read_anew(living: Living) -> None:
    before = len(living.wire.said)
    with living.swapped(lambda _copy: None):
        living.wire.until_says(NORMAL._replace(event="db-replaced"), since=before)
    confirmed(living.house, living.house.set("tts-worker", volume_percent=78), "tts-worker")
    assert {said[:4] for said in living.wire.said[before:]} == {NORMAL[:4]}


def test_our_own_message_that_we_cannot_explain_holds_until_a_person_decides(
    past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """Another host with our keys publishes; what it wrote stays until somebody says which host is the right one."""
    house, wire = _begun(past, broker, raw_client, tmp_path)
    try:
        wire.client.publish(CONFIG + "stt-worker", past.later, retain=True)
        check_fallback(house, wire.until_says(NOT_THE_NEWEST), "lkg")
        assert wire.configs("stt-worker") == [past.config("stt-worker"), past.later]
        Cli(house.folder).ok("adopt", "--db", "--yes")
        wire.until_says(RECOVERED)
        until(
            lambda: content(wire.configs("stt-worker")[-1]) == content(past.config("stt-worker")), "our own"
        )
    finally:
        house.close()


def _begun(past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path) -> tuple[House, Wire]:
    """Start a daemon on a copy of the past; return once it says that all is well."""
    house = House(Path(shutil.copytree(past.folder, tmp_path / "data")), broker.url)
    wire = Wire(lambda: raw_client(broker))
    wire.put(past.retained)
    house.daemon()
    wire.until_says(NORMAL)
    return house, wire


def _kept(house: House) -> Said:
    """Return what health says where it cannot be published, as it lies beside the database."""
    health = json.loads(house.files.epoch.read_text())["health"]
    return Said(**{name: health[name] for name in Said._fields})


BROKER_DOWN = NORMAL._replace(ok=False, event="broker-down")


def test_with_the_broker_down_all_that_was_changed_waits_and_the_last_of_it_is_sent(
    past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """At start and while running, with a database that is fine and one that is locked."""
    house = House(Path(shutil.copytree(past.folder, tmp_path / "data")), broker.url)
    try:
        Wire(lambda: raw_client(broker)).put(past.retained)
        broker.stop()
        house.daemon()
        until(lambda: _kept(house) == BROKER_DOWN, "what is said at the start")
        with begin_exclusive(house.files.database):
            until(lambda: _kept(house) == LOCKED, "the lock is told as ever")
            assert Cli(house.folder)("set", "stt-worker", "vad_threshold=0.5").code == 69
        until(lambda: _kept(house) == BROKER_DOWN, "the end of the lock")
        for step in (5, 6, 7):
            version = house.set("stt-worker", vad_threshold=step / 10)
        broker.start()
        wire = Wire(lambda: raw_client(broker))
        wire.until_says(RECOVERED)
        until(lambda: content(wire.configs("stt-worker")[-1])[0] == version, "the last change")
        assert [content(raw)[0] for raw in wire.configs("stt-worker")] in ([2, version], [version])
        broker.stop()
        until(lambda: _kept(house)[:4] == BROKER_DOWN[:4], "what is said while running")
    finally:
        house.close()


def test_a_database_with_a_rollback_journal_is_locked_for_readers_too(
    past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """At start and while running: nobody may even read beside an exclusive transaction."""
    folder = Path(shutil.copytree(past.folder, tmp_path / "data"))
    by_hand(folder / "config.db", "PRAGMA journal_mode=DELETE")
    house, wire = House(folder, broker.url), Wire(lambda: raw_client(broker))
    wire.put(past.retained)
    try:
        with begin_exclusive(house.files.database):
            house.daemon()
            check_fallback(house, wire.until_says(LOCKED), "lkg")
        wire.until_says(RECOVERED)
        with begin_exclusive(house.files.database):
            check_fallback(house, wire.until_says(LOCKED), "lkg")
        wire.until_says(RECOVERED)
        # the read-back may end a moment after the first lock did
        assert [one for one in wire.said if one != RECOVERED._replace(ok=False)] == [LOCKED, RECOVERED] * 2
    finally:
        house.close()


# disks --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(folder: Path, kib: int) -> Iterator[Path]:
    """Mount a small disk; only root may."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with contextlib.suppress(OSError), path.open("ab", 0) as stream:
        while True:
            stream.write(bytes(4096))


def test_a_full_disk_is_told_and_goes_on_by_itself_when_it_is_freed(
    past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """At start nothing can even be signed, since no number can be burned; while running it is told and read on."""
    wire = Wire(lambda: raw_client(broker))
    wire.put(past.retained)
    with disk(tmp_path / "disk", 2048) as small:
        house = House(Path(shutil.copytree(past.folder, small / "data")), broker.url)
        filler = small / "filler"
        try:
            fill(filler)
            daemon = house.daemon()
            until(lambda: [line for line in daemon.talk if '"disk-full"' in line], "the log's word")
            assert wire.said == []
            filler.unlink()
            wire.until_says(RECOVERED)
            cache = house.files.cache.read_bytes()
            # again and again: what the daemon was just writing may have been given back
            until(lambda: fill(filler) or wire.said[-1] == FULL, "the full disk told")
            refused = Cli(house.folder)("set", "stt-worker", "vad_threshold=0.5", "--json")
            assert refused.code == 69, "nothing is acknowledged"
            assert Cli(house.folder).json("get", "stt-worker", "vad_threshold")["value"] == 0.2
            assert house.files.cache.read_bytes() == cache
            filler.unlink()
            wire.until_says(RECOVERED)
            told = [one for one in wire.said if one != RECOVERED._replace(ok=False)]  # before the read-back
            assert told == [RECOVERED, FULL, RECOVERED]
            confirmed(house, house.set("stt-worker", vad_threshold=0.7))
        finally:
            house.close()


def test_a_disk_mounted_for_reading_only_is_told_and_goes_on_by_itself(
    past: Past, broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    wire = Wire(lambda: raw_client(broker))
    wire.put(past.retained)
    with disk(tmp_path / "disk", 2048) as small:
        house = House(Path(shutil.copytree(past.folder, tmp_path / "data")), broker.url)
        database = small / "config.db"
        shutil.copy(past.folder / "config.db", database)
        house.files.database.unlink()
        open_one = by_hand_left_open(database)
        for suffix in ("-wal", "-shm"):
            shutil.copy(f"{database}{suffix}", tmp_path / suffix)
        open_one.close(True)
        for suffix in ("-wal", "-shm"):
            shutil.copy(tmp_path / suffix, f"{database}{suffix}")  # as a killed daemon leaves them
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        try:
            house.daemon(CONFIG_DB_PATH=str(database))
            wire.until_says(READ_ONLY)
            subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
            wire.until_says(RECOVERED)
            assert wire.configs("stt-worker") == [past.config("stt-worker")]
        finally:
            house.close()


def by_hand_left_open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("SELECT 1 FROM change_feed").fetchall()
    return connection


# locks that are everyday life -----------------------------------------------------------------------


def test_short_locks_at_random_and_a_hundred_commits_a_second_are_no_fallback(living: Living) -> None:
    """Locks of 20 ms for three seconds while a writer commits a hundred times a second beside them."""
    chance, wire, said = random.Random(20261123), living.wire, len(living.wire.healths)  # noqa: S311
    end = time.monotonic() + 3.0

    def lock() -> None:
        while time.monotonic() < end:
            with begin_exclusive(living.folder / "config.db"):
                time.sleep(0.02)
            time.sleep(chance.uniform(0.0, 0.1))

    locker, versions = threading.Thread(target=lock), []
    locker.start()
    ground = living.house.ground
    writer = SqliteWriter(
        ground.files.database, ground.keys.row_sealer(), Catalog.load(ground.files.schemas),
        lock=ground.files.store_lock, now=lambda: "2026-01-02T03:04:05.678Z", synchronous="OFF",
    )  # fmt: skip
    while time.monotonic() < end:
        began = time.monotonic()
        edit = Edit("stt-worker", lambda stored: {**stored, "vad_threshold": len(versions) % 100 / 100})
        versions.append(writer.commit([edit], by="test")[0].version)
        time.sleep(max(0.0, 0.01 - (time.monotonic() - began)))
    locker.join()
    writer.close()
    confirmed(living.house, versions[-1])
    assert len(versions) > 100
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    assert {(h["database_status"], h["ok"]) for h in wire.healths[said:]} <= {("healthy", True)}
    assert content(wire.configs("stt-worker")[-1])[0] == versions[-1]
