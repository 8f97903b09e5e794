"""A failing disk: bits that flipped, pages that moved. What is read is what was sealed, or an error of ours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import ConfigDaemonError, InvalidConfig, StoreError
from config_daemon.store.ports import BadRow, Edit, Row, Tombstone
from config_daemon.store.transaction import parse_stored
from tests.store.conftest import FakeDefinitions, Store, merged

NAMES = FakeDefinitions.names
ROUNDS = 150
PAGE = 4096


class Damaged:
    """A database in one file, of which damaged copies are made."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder).create()
        for service in NAMES:
            self.store.set(service, gain=1, model="m" * 200, tags=["ü"] * 20)
        for gain in range(2, 9):
            self.store.set("stt-worker", gain=gain)
        self.store.delete("router")
        self.good = dict(self.store.reader().read(NAMES))
        self.facts, self.place = self.store.reader().facts(), self.store.changes().place
        self.store.close()  # the last connection: the journal is in the file
        self.content = self.store.path.read_bytes()
        assert not self.store.path.with_name("config.db-wal").exists()

    def put(self, content: bytes) -> Store:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.store.path.with_name(f"config.db{suffix}").unlink(missing_ok=True)
        self.store.path.write_bytes(content)
        return Store(self.store.files.folder)

    def check(self, content: bytes) -> str:
        """Read and write a damaged copy; return how it was noticed, `whole` when nothing is wrong."""
        store, told = self.put(content), "whole"
        try:
            reader = store.reader()
            reader.moved()
            known = reader.changes(self.place).services is not None
            names = reader.changes(None).services
            for service, found in reader.read(NAMES).items():
                if isinstance(found, BadRow):
                    told = "bad row"
                else:  # never a wrong one
                    assert found == self.good[service]
            assert all(isinstance(name, str) for name in names or ())
            assert list(map(type, reader.facts())) == [str, int, str]
            if told == "whole" and (
                reader.facts() != self.facts or set(names or ()) != set(NAMES) or not known
            ):
                told = "another database"
        except StoreError as error:
            told = error.code
        try:
            store.edit("tts-worker", merged(gain=5))
        except ConfigDaemonError as error:
            assert error.contexts
        finally:
            store.close()
        return told


@pytest.fixture
def damaged(tmp_path: Path) -> Damaged:
    return Damaged(tmp_path)


def test_a_whole_copy_is_whole(damaged: Damaged) -> None:
    assert {type(found) for found in damaged.good.values()} == {Row, Tombstone}
    assert damaged.check(damaged.content) == "whole"


def test_flipped_bits_never_give_another_value(damaged: Damaged) -> None:
    chance = random.Random(20260105)  # noqa: S311 - replayable
    seen = set()
    for _ in range(ROUNDS):
        content = bytearray(damaged.content)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        seen.add(damaged.check(bytes(content)))
    assert seen >= {"whole", "bad row"}


def test_flipped_bits_of_the_values_themselves_are_all_noticed(damaged: Damaged) -> None:
    """The rows' own bytes, whose change SQLite's checks mostly do not see."""
    chance = random.Random(20260103)  # noqa: S311 - replayable
    start = damaged.content.index(b'{"gain":8')
    for _ in range(ROUNDS // 3):
        content = bytearray(damaged.content)
        content[start + chance.randrange(250)] ^= 1 << chance.randrange(8)
        assert damaged.check(bytes(content)) != "whole"


def test_lost_and_misplaced_pages_never_give_another_value(damaged: Damaged) -> None:
    chance = random.Random(20260104)  # noqa: S311 - replayable
    pages = len(damaged.content) // PAGE
    for _ in range(ROUNDS // 2):
        content = bytearray(damaged.content)
        at, source = (chance.randrange(pages) * PAGE for _ in range(2))
        match chance.randrange(4):
            case 0:
                content[at : at + PAGE] = bytes(PAGE)
            case 1:
                content[at : at + PAGE] = content[source : source + PAGE]
            case 2:
                content[at + PAGE // 2 : at + PAGE] = bytes(PAGE // 2)
            case _:
                del content[at + chance.randrange(PAGE) :]
        damaged.check(bytes(content))


def test_a_lost_journal_is_noticed_by_the_place(damaged: Damaged, tmp_path: Path) -> None:
    """SQLite calls the file whole; the commits in its journal are gone."""
    store = damaged.put(damaged.content)
    store.set("tts-worker", gain=7)
    place = store.changes().place
    (tmp_path / "copy").mkdir()
    copy = Store(tmp_path / "copy")
    copy.path.write_bytes(damaged.content)  # what lies in the file while the journal still holds the commit
    assert copy.changes(place)[:2] == (None, damaged.place)
    assert copy.sql("PRAGMA integrity_check") == [("ok",)]
    store.close()


def test_a_store_replaced_between_two_looks_is_another_one_and_not_a_damaged_one(tmp_path: Path) -> None:
    """The index in memory tells how long the old `-wal` is; the one at its path belongs to the new file."""
    for name in ("here", "other"):
        (tmp_path / name).mkdir()
    store = Store(tmp_path / "here").create()
    store.set("stt-worker", gain=1)
    reader = store.reader()
    assert reader.moved()
    store.set("stt-worker", gain=2)
    store.set("router", gain=3)
    before = reader.identity
    other = Damaged(tmp_path / "other")
    for suffix in ("-wal", "-shm"):
        store.path.with_name(f"config.db{suffix}").unlink()
    other.store.path.rename(store.path)
    reader.probe(afresh=False)
    reader.moved(thorough=False)
    assert reader.moved()
    assert reader.identity != before
    assert reader.read(NAMES) == other.good


@given(st.text() | st.from_regex(r'\A[{\["0-9a-z:,\]}\\u ]{0,40}\Z'))
def test_any_text_of_a_row_is_values_or_a_verdict(text: str) -> None:
    try:
        assert isinstance(parse_stored("stt-worker", text), dict)
    except InvalidConfig as error:
        assert error.contexts[0].suggestion


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that remembers its rows, so that each example finds them whole."""
    store = Store(tmp_path_factory.mktemp("kept")).create()
    store.commit(Edit("stt-worker", merged(gain=1)), Edit("tts-worker", merged(gain=1)))
    store.sql("CREATE TABLE kept AS SELECT * FROM service_configs")
    yield store
    store.close()


@given(
    st.binary(max_size=60),
    st.sampled_from(["config_json", "updated_by", "config_epoch", "row_seal", "service"]),
)
def test_any_bytes_in_a_row_make_it_a_bad_one_and_no_other(kept: Store, content: bytes, column: str) -> None:
    good = kept.row("tts-worker")
    update = f"UPDATE service_configs SET {column} = CAST(? AS TEXT) WHERE service = 'stt-worker'"  # noqa: S608
    kept.sql(update, (content,))
    found = dict(kept.reader().read(NAMES))
    assert found.pop("tts-worker") == good
    assert column == "service" or isinstance(found["stt-worker"], BadRow)
    kept.sql("DELETE FROM service_configs; INSERT INTO service_configs SELECT * FROM kept")
