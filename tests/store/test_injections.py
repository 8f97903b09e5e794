"""Every damage of the tables, offline: the daemon's own reader and judgment, and no other part of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.core.health import Findings, event_of
from config_daemon.core.plan import Plan
from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.daemon.inspection import Inspector
from config_daemon.daemon.judge import Judge
from config_daemon.daemon.sight import Sight
from config_daemon.store.connection import inspect
from config_daemon.store.ports import Edit, Place, StoreFacts
from config_daemon.store.status import StatusBoard
from config_daemon.wire.messages import CONFIG_OFFSET
from tests.injections import FILE, PAGE, WAL, Layout
from tests.store.conftest import NOW, FakeDefinition, FakeDefinitions, Store, merged

FLIPS, SEED = 1000, 20261123
SIDES = ("-wal", "-shm", "-journal")


class Many(FakeDefinitions):
    """Forty services of the open kind."""

    model_hash = "0" * 64
    names = ("stt-worker", *(f"service-{number}" for number in range(40)))

    def get(self, service: str) -> FakeDefinition | None:
        return FakeDefinition() if service in self.names else None


class Judged:
    """What the daemon makes of a store: `event` is what health would say, `wanted` what it would publish."""

    def __init__(self, store: Store, known: Known | None = None, inspected: bool = True) -> None:
        self.findings, self.plan = Findings(), Plan()
        reader = store.reader()
        judge = Judge(
            Many(), self.plan, self.findings, StatusBoard(store.files.status), lambda: (1, "key"), lambda: NOW,
            1 << 20,
        )  # fmt: skip
        for service, config in (known.configs if known else {}).items():
            fingerprint = known.fingerprints[service]
            self.plan.remember(service, Sealed(bytes(CONFIG_OFFSET) + config, 1, fingerprint, len(config)))
        found: list[Any] = []
        inspector = Inspector(
            lambda thorough: inspect(store.path, thorough) if inspected else None, found.append,
            start=lambda work: work(),  # type: ignore[arg-type, return-value]
        )  # fmt: skip
        places, facts = ([known.place], known.facts) if known else ((), StoreFacts("", 0, ""))
        self.sight = sight = Sight(
            reader,
            judge,
            self.findings,
            lambda: NOW,
            places,
            facts,
            inspector=inspector,
            insist=found.append,
            happened=found.append,
            expect=lambda _workers: None,
        )
        for now in range(3):
            sight.look(float(now), 0)
            while found:
                sight.inspected(found.pop())
        reader.close()

    @property
    def event(self) -> str | None:
        return None if (event := event_of(self.findings, "")) == "" else event

    @property
    def is_told(self) -> bool:
        return self.event is not None

    def contents(self) -> dict[str, bytes]:
        """Return what a wiped broker would be given for each service."""
        return {
            service: entry.config if entry.wanted else entry.sealed.read_config()
            for service, entry in self.plan.services.items()
            if entry.wanted or entry.sealed
        }


class Known:
    """What the daemon remembers of an undamaged store, in its cache and its marks."""

    def __init__(self, store: Store) -> None:
        judged = Judged(store)
        assert not judged.is_told
        self.configs = judged.contents()
        self.fingerprints: dict[str, Fingerprint] = {
            service: entry.wanted for service, entry in judged.plan.services.items() if entry.wanted
        }
        assert judged.sight.place and judged.sight.facts
        self.place: Place = judged.sight.place
        self.facts: StoreFacts = judged.sight.facts


class Ground:
    """A store in a state that is copied for every injection."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "good").create()
        writer = self.store.writer(definitions=Many())
        writer.commit([Edit(name, merged(gain=1, model="m" * 600)) for name in Many.names], by="test")
        writer.commit([Edit("service-7", lambda _stored: None)], by="test")
        writer.commit([Edit("stt-worker", merged(model="MARKED" + "m" * 300))], by="test")
        self.known = Known(self.store)
        writer.close()
        self.layout = Layout.of(self.store.path)
        self.content = self.store.path.read_bytes()
        self.rows = plain(self.store.path)
        self.folder = folder / "copy"
        self.folder.mkdir()

    def copy(self, content: bytes) -> Store:
        """Put another content in place of the last one."""
        store = Store(self.folder)
        for suffix in ("", *SIDES):
            path = store.path.with_name(f"config.db{suffix}")
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
        store.path.write_bytes(content)
        return store


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("ground")
    (folder / "good").mkdir()
    ground = Ground(folder)
    yield ground
    ground.store.close()


@pytest.mark.parametrize("name", FILE)
def test_damage_to_the_file_is_told_and_changes_nothing_that_is_published(name: str, ground: Ground) -> None:
    inject, event = FILE[name]
    store = ground.copy(ground.content)
    inject(store.path, ground.layout)
    assert Judged(store, ground.known, inspected=False).contents() == ground.known.configs
    judged = Judged(store, ground.known)
    assert judged.contents() == ground.known.configs
    assert judged.event == event


def test_every_page_damaged_in_every_way_changes_nothing_that_is_published(ground: Ground) -> None:
    """Zeroed, torn, and in another one's place: before SQLite has looked over the file."""
    chance, pages = random.Random(SEED), len(ground.content) // PAGE  # noqa: S311 - replayable
    for page in range(pages):
        start, other = page * PAGE, chance.randrange(pages) * PAGE
        for damage in (
            bytes(PAGE),
            ground.content[start : start + PAGE // 2] + bytes(PAGE // 2),
            ground.content[other : other + PAGE],
        ):
            check(ground, ground.content[:start] + damage + ground.content[start + PAGE :], f"page {page}")


def test_a_thousand_flipped_bits_change_no_published_content_undetected(ground: Ground) -> None:
    """Half of them anywhere, half of them in the rows; before SQLite has looked over the file."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)  # noqa: S311 - replayable
    rows = [page * PAGE - PAGE for name in TABLES for page in ground.layout.pages[name]]
    changed = detected = told = 0
    for flip in range(FLIPS):
        at = (
            chance.choice(rows) + chance.randrange(PAGE)
            if flip % 2
            else chance.randrange(len(ground.content))
        )
        content = bytearray(ground.content)
        content[at] ^= 1 << chance.randrange(8)
        is_changed, is_told = check(ground, bytes(content), f"byte {at}")
        changed, detected, told = changed + is_changed, detected + (is_changed and is_told), told + is_told
    print(f"{FLIPS} flips: {changed} changed content, {detected} of these were told, {told} in all")
    assert detected == changed > FLIPS // 4


# what of a row is anybody's business
TABLES = {
    "service_configs": "service, config_json, version, config_epoch, updated_at, updated_by",
    "deleted_services": "service, version, config_epoch, deleted_at, deleted_by",
}


def check(ground: Ground, content: bytes, what: str) -> tuple[bool, bool]:
    """Judge a damaged copy; return whether SQLite reads other rows from it, and whether the daemon says so."""
    store = ground.copy(content)
    is_changed = plain(store.path) != ground.rows
    judged = Judged(store, ground.known, inspected=False)
    assert judged.contents() == ground.known.configs, what
    assert judged.is_told or not is_changed, what
    return is_changed, judged.is_told


def plain(path: Path) -> object:
    """Return all rows as somebody reads them who asks for names and knows no seals; an error is a change as well."""
    connection = apsw.Connection(str(path))
    try:
        return [
            list(connection.execute(f"SELECT {columns} FROM {table} WHERE service = ?", (name,)))  # noqa: S608
            for table, columns in TABLES.items()
            for name in Many.names
        ]
    except (apsw.Error, UnicodeDecodeError) as error:
        return type(error)
    finally:
        connection.close(True)


@pytest.mark.parametrize("name", WAL)
def test_damage_to_the_journal_is_told_and_changes_nothing_that_is_published(
    name: str, ground: Ground
) -> None:
    inject, event = WAL[name]
    store, known = journalled(ground)
    inject(store.path, ground.layout)
    judged = Judged(store, known)
    assert judged.contents() == known.configs
    assert judged.event == event


def test_an_old_journal_beside_a_restored_file_is_told_and_changes_nothing(ground: Ground) -> None:
    """What SQLite makes of the two is rows of neither, or an error; which of them, the daemon need not know."""
    old, _ = journalled(ground)
    journal = old.path.with_name("config.db-wal").read_bytes()
    store = ground.copy(ground.content)
    writer = store.writer(definitions=Many())
    for number in range(20):
        names = Many.names[number : number + 20]
        writer.commit(
            [Edit(name, merged(model=f"{number}" * 900)) for name in names if name != "service-7"], by="test"
        )
    known = Known(store)
    writer.close()
    store.path.with_name("config.db-wal").write_bytes(journal)
    judged = Judged(store, known)
    assert judged.contents() == known.configs
    assert judged.is_told


def journalled(ground: Ground) -> tuple[Store, Known]:
    """Return a copy whose last twelve commits are in the `-wal` only, and what the daemon knows of it."""
    store = ground.copy(ground.content)
    connection = apsw.Connection(str(store.path))  # keeps the journal from being written into the file
    connection.execute("SELECT 1 FROM change_feed").fetchall()
    writer = store.writer(definitions=Many())
    for number in range(12):
        writer.commit([Edit("stt-worker", merged(gain=2 + number / 10))], by="test")
    known = Known(store)
    saved = {suffix: store.path.with_name(f"config.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    writer.close()
    connection.close(True)
    store = ground.copy(saved[""])
    store.path.with_name("config.db-wal").write_bytes(saved["-wal"])
    return store, known
