"""The audit chains: whatever is done to their rows by hand is noticed, by a full check or against a known head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import apsw
import pytest

from config_daemon.errors import SchemaMismatch, StoreCorrupted, StoreUnavailable
from config_daemon.store import audit, chain_walk
from config_daemon.store.audit import Heads, HistoryRewritten, Trail, present_heads, start_new_chains
from config_daemon.store.chain_walk import Checked
from config_daemon.store.chains import ACCESS, HISTORY, Table, append_access, end_of
from tests.store.conftest import NOW, Store

ZEROS = "0" * 64
NOTHING = Heads((0, ZEROS), (0, ZEROS))
EACH = pytest.mark.parametrize("table", [HISTORY, ACCESS], ids=lambda table: table.name)


def transaction(store: Store, work: Callable[[apsw.Connection], Any]) -> Any:
    db = apsw.Connection(str(store.path))
    try:
        with db:
            return work(db)
    finally:
        db.close()


def entry(store: Store, action: str = "reveal_secret", **more: Any) -> None:
    transaction(store, lambda db: append_access(db, by="cli:anna", action=action, at=NOW, **more))


def adopt(store: Store, known: Heads | None = None) -> Heads:
    heads = transaction(
        store,
        lambda db: start_new_chains(db, action="adopt", by="cli:root", at=NOW, reason="moved", known=known),
    )
    assert isinstance(heads, Heads)
    return heads


def grow(store: Store, count: int = 1) -> None:
    for _ in range(count):
        store.set(gain=(store.values()["gain"] + 1) % 10 if store.row() else 0)
        entry(store, key="api_key", reason="ü\u2028")


def recompute(store: Store, table: Table) -> list[tuple[int, str]]:
    """Compute every link from the rows alone, by the documented rule and with code of its own."""
    link, found = bytes(32), []
    for number, *values in store.sql(f"SELECT id, {','.join(table.columns)} FROM {table.name} ORDER BY id"):  # noqa: S608
        members = dict(zip(table.columns, values, strict=True))
        body = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        link = hashlib.sha256(link + b"DSSEv1 5 audit %d %s" % (len(body), body)).digest()
        found.append((number, link.hex()))
    return found


def rechain(store: Store, table: Table) -> None:
    """Do what somebody does who knows the rule and wants nothing to show."""
    for number, link in recompute(store, table):
        store.sql(f"UPDATE {table.name} SET chain = ? WHERE id = ?", (link, number))  # noqa: S608


def check(store: Store, table: Table, head: str | None = None) -> Checked:
    return chain_walk.verify(store.path, head)[table is ACCESS]


def broken(store: Store, table: Table) -> list[int]:
    return [each.row for each in check(store, table).breaks]


def head_of(heads: Heads, table: Table) -> tuple[int, str]:
    return heads[table is ACCESS]


@pytest.fixture
def grown(store: Store) -> Store:
    grow(store, 6)
    return store


# writing --------------------------------------------------------------------------------------------


@EACH
def test_both_tables_are_chained_by_the_documented_rule(grown: Store, table: Table) -> None:
    chains = grown.sql(f"SELECT id, chain FROM {table.name} ORDER BY id")  # noqa: S608
    assert chains == recompute(grown, table)
    assert check(grown, table)[:5] == (table.name, 6, (6, chains[-1][1]), None, ())


@EACH
def test_every_column_but_id_and_link_is_in_the_chain(store: Store, table: Table) -> None:
    columns = [name for (name,) in store.sql("SELECT name FROM pragma_table_info(?)", (table.name,))]
    assert {*columns} == {*table.columns, "id", "chain"}


def test_an_entry_is_kept_as_it_was_given(store: Store) -> None:
    entry(store, "unauthorized", service="router", key="gain", success=False, reason="no role")
    entry(store, "read")
    transaction(store, lambda db: append_access(db, by=None, action="read", at=NOW))
    assert store.sql("SELECT user_id, action, service, key, success, reason, timestamp FROM access_log") == [
        ("cli:anna", "unauthorized", "router", "gain", 0, "no role", NOW),
        ("cli:anna", "read", None, None, 1, None, NOW),
        (None, "read", None, None, 1, None, NOW),
    ]
    assert broken(store, ACCESS) == []


def test_an_entry_is_gone_with_its_transaction(store: Store) -> None:
    entry(store)
    before = store.content()

    def fails(db: apsw.Connection) -> None:
        append_access(db, by="x", action="read", at=NOW)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        transaction(store, fails)
    assert store.content() == before


def test_an_empty_name_begins_no_chain(store: Store) -> None:
    entry(store)
    entry(store, service="")
    assert check(store, ACCESS).head[0] == 2


@pytest.mark.parametrize("chain", ["", "x" * 64, "AB" * 32])
def test_no_entry_is_chained_to_a_damaged_end(store: Store, chain: str) -> None:
    entry(store)
    store.sql("UPDATE access_log SET chain = ?", (chain,))
    with pytest.raises(StoreCorrupted, match="access_log"):
        entry(store)


# what somebody does by hand -------------------------------------------------------------------------


@EACH
def test_an_empty_store_is_whole(store: Store, table: Table) -> None:
    assert check(store, table) == (table.name, 0, (0, ZEROS), None, (), (), None, None)
    assert Trail(store.path, None).heads() == Trail(store.path, NOTHING).heads() == NOTHING


@EACH
def test_an_altered_row_is_named_with_its_own_words(grown: Store, table: Table) -> None:
    for column in table.columns:
        if column != "service" or table is HISTORY:
            grown.sql(f"UPDATE {table.name} SET {column} = 7 WHERE id = 3")  # noqa: S608
            assert broken(grown, table) == [3], column
    ((row, before, at, by, place),) = check(grown, table).breaks
    assert (row, before, at, by, place) == (3, 2, "7", "7", 3)
    with pytest.raises(HistoryRewritten):
        Trail(grown.path, None).heads()


@EACH
def test_rows_that_are_no_text_no_number_or_nothing_are_named(grown: Store, table: Table) -> None:
    name = table.name
    grown.sql(f"UPDATE {name} SET {table.by} = CAST(x'61ff' AS TEXT) WHERE id = 1")  # noqa: S608
    grown.sql(f"UPDATE {name} SET {table.by} = x'61' WHERE id = 3")  # noqa: S608
    grown.sql(f"UPDATE {name} SET {table.by} = NULL WHERE id = 4")  # noqa: S608
    number = "version" if table is HISTORY else "success"
    grown.sql(f"UPDATE {name} SET {number} = 9e999 WHERE id = 6")  # noqa: S608
    assert [(each.row, each.by) for each in check(grown, table).breaks][:3] == [
        (1, "a\\xff"), (3, "a"), (4, None),
    ]  # fmt: skip
    assert broken(grown, table) == [1, 3, 4, 6]
    with pytest.raises(HistoryRewritten) as caught:
        Trail(grown.path, None).heads()
    assert (caught.value.table, caught.value.row) == (table.name, 1)


@EACH
def test_a_row_removed_in_the_middle_or_at_the_beginning_is_noticed(grown: Store, table: Table) -> None:
    grown.sql(f"DELETE FROM {table.name} WHERE id = 4")  # noqa: S608
    assert [each[:2] for each in check(grown, table).breaks] == [(5, 3)]
    grown.sql(f"DELETE FROM {table.name} WHERE id = 1")  # noqa: S608
    assert [each[:2] for each in check(grown, table).breaks] == [(2, None), (5, 3)]


@EACH
def test_an_inserted_row_is_noticed(grown: Store, table: Table) -> None:
    grown.sql(f"UPDATE {table.name} SET id = id + 100 WHERE id > 3")  # noqa: S608
    assert broken(grown, table) == []  # no id is in the chain
    columns = ",".join((*table.columns, "chain"))
    grown.sql(f"INSERT INTO {table.name}(id, {columns}) SELECT 50, {columns} FROM {table.name} WHERE id = 2")  # noqa: S608
    assert broken(grown, table) == [50, 104]


@EACH
def test_swapped_rows_are_noticed(grown: Store, table: Table) -> None:
    for old, new in ((3, 99), (4, 3), (99, 4)):
        grown.sql(f"UPDATE {table.name} SET id = ? WHERE id = ?", (new, old))  # noqa: S608
    assert broken(grown, table) == [3, 4, 5]


@EACH
def test_a_row_edited_together_with_its_link_breaks_at_the_next(grown: Store, table: Table) -> None:
    grown.sql(f"UPDATE {table.name} SET {table.by} = 'nobody' WHERE id = 3")  # noqa: S608
    ((_, link),) = [each for each in recompute(grown, table) if each[0] == 3]
    grown.sql(f"UPDATE {table.name} SET chain = ? WHERE id = 3", (link,))  # noqa: S608
    assert broken(grown, table) == [4]


@EACH
@pytest.mark.parametrize("chain", ["", "x" * 64, b"\x00", "CAST"])
def test_a_damaged_link_is_noticed(grown: Store, table: Table, chain: Any) -> None:
    value = "CAST(x'ff' AS TEXT)" if chain == "CAST" else "?"
    grown.sql(f"UPDATE {table.name} SET chain = {value} WHERE id = 3", () if chain == "CAST" else (chain,))  # noqa: S608
    assert broken(grown, table) == [3, 4]


@EACH
def test_a_removed_end_shows_only_against_a_head(grown: Store, table: Table) -> None:
    known = Trail(grown.path, None).heads()
    grown.sql(f"DELETE FROM {table.name} WHERE id > 4")  # noqa: S608
    assert broken(grown, table) == []
    assert check(grown, table, head_of(known, table)[1]).wanted is None
    with pytest.raises(HistoryRewritten, match="fewer rows than the 6") as caught:
        Trail(grown.path, known).heads()
    assert (caught.value.table, caught.value.row) == (table.name, None)


@EACH
def test_a_chain_written_anew_shows_only_against_a_head(grown: Store, table: Table) -> None:
    known = Trail(grown.path, None).heads()
    early = recompute(grown, table)[1][1]
    grown.sql(f"UPDATE {table.name} SET {table.by} = 'nobody' WHERE id = 3")  # noqa: S608
    rechain(grown, table)
    assert broken(grown, table) == []
    assert check(grown, table, head_of(known, table)[1]).wanted is None
    assert check(grown, table, early).wanted == 2  # what was before is still the same
    with pytest.raises(HistoryRewritten, match="row 6 is not what was known"):
        Trail(grown.path, known).heads()


@EACH
def test_a_head_is_found_wherever_it_is(grown: Store, table: Table) -> None:
    for place, (_, link) in enumerate(recompute(grown, table), 1):
        assert check(grown, table, link).wanted == place
    assert check(grown, table, ZEROS).wanted == 0
    assert check(grown, table, "f" * 64).wanted is None


def test_a_writer_may_go_on_during_a_check(grown: Store) -> None:
    seen: list[tuple[int, int]] = []
    grow(grown, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain_walk, "_TOLD_EVERY", 4)

        def meanwhile(done: int, total: int) -> None:
            seen.append((done, total))
            grow(grown)

        history, access = chain_walk.verify(grown.path, None, meanwhile)
    assert seen == [(4, 18), (8, 18), (13, 18), (17, 18)]
    assert (history.head[0], access.head[0]) == (9, 9)  # one moment, that of the beginning
    assert not history.breaks + access.breaks
    assert check(grown, ACCESS).head[0] == 13


# the daemon's view ----------------------------------------------------------------------------------


def test_heads_follow_what_is_written(store: Store) -> None:
    trail = Trail(store.path, None)
    assert trail.heads() == NOTHING
    for count in (1, 2, 5):
        grow(store, count)
        heads = trail.heads()
        assert heads == Heads(*(each.head for each in chain_walk.verify(store.path)))
        assert Trail(store.path, heads).heads() == heads
    assert heads.history[0] == 8


def test_the_present_heads_are_of_one_moment(grown: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody commits between the look at how many rows there are and the look at the last of them."""

    def end_of_later(db: apsw.Connection, table: Table) -> str:
        grow(grown)
        return end_of(db, table)

    monkeypatch.setattr(audit, "end_of", end_of_later)
    found = present_heads(grown.path)
    assert Trail(grown.path, found).heads().history[0] > found.history[0]  # it extends what was found


def test_known_heads_are_gone_on_from(grown: Store) -> None:
    known = Trail(grown.path, None).heads()
    grow(grown, 3)
    assert Trail(grown.path, known).heads() == Trail(grown.path, None).heads()
    for part in range(7):
        before = Heads(
            (part, ([(0, ZEROS), *recompute(grown, HISTORY)])[part][1]),
            (part, ([(0, ZEROS), *recompute(grown, ACCESS)])[part][1]),
        )
        assert Trail(grown.path, before).heads().history[0] == 9


@EACH
@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE {t} SET {by} = 'nobody' WHERE id = 7",
        "DELETE FROM {t} WHERE id = 7",
        "UPDATE {t} SET chain = '' WHERE id = 6",
        "UPDATE {t} SET chain = CAST(x'ff' AS TEXT) WHERE id = 6",
        "DELETE FROM {t} WHERE id = 6",
        "DELETE FROM {t} WHERE id >= 6",
        "DELETE FROM {t}",
    ],
)
def test_what_does_not_extend_the_known_is_told_again_and_again(
    grown: Store, table: Table, harm: str
) -> None:
    trail = Trail(grown.path, None)
    known = trail.heads()
    grow(grown, 2)
    grown.sql(harm.format(t=table.name, by=table.by))
    for each in (trail, trail, Trail(grown.path, known)):
        with pytest.raises(HistoryRewritten) as caught:
            each.heads()
        assert caught.value.table == table.name
        assert table.name in caught.value.message


def test_rows_that_were_removed_before_are_missed_by_number(grown: Store) -> None:
    known = Trail(grown.path, None).heads()
    grow(grown, 1)
    grown.sql("DELETE FROM config_history WHERE id = 2")
    with pytest.raises(HistoryRewritten):
        Trail(grown.path, known).heads()


def test_another_database_at_the_path_is_noticed(grown: Store, empty_database: Any) -> None:
    trail = Trail(grown.path, None)
    trail.heads()
    grown.close()
    for suffix in ("-wal", "-shm"):
        grown.path.with_name(f"config.db{suffix}").unlink(missing_ok=True)
    grown.path.write_bytes(empty_database.read_bytes())
    with pytest.raises(HistoryRewritten):
        trail.heads()


def test_a_check_reads_only_what_is_new(grown: Store) -> None:
    """Seen by rows that are broken already and are not looked at again."""
    trail = Trail(grown.path, None)
    known = trail.heads()
    grown.sql("UPDATE config_history SET changed_by = 'nobody' WHERE id < 6")
    grow(grown)
    assert trail.heads().history[0] == Trail(grown.path, known).heads().history[0] == 7


def test_a_long_chain_can_be_checked_in_steps(grown: Store) -> None:
    trail = Trail(grown.path, None)
    assert [trail.step(2) for _ in range(3)] == [None] * 3
    entry(grown)
    heads = trail.step(2)
    assert heads == Trail(grown.path, None).heads()
    assert trail.step(1) == heads


def test_a_store_that_is_not_there_or_of_another_shape_is_told(store: Store) -> None:
    trail = Trail(store.path, None)
    store.sql("ALTER TABLE access_log DROP COLUMN chain")
    for use in (trail.heads, lambda: chain_walk.verify(store.path)):
        with pytest.raises(SchemaMismatch):
            use()
    store.path.unlink()
    for use in (trail.heads, lambda: chain_walk.verify(store.path)):
        with pytest.raises(StoreUnavailable):
            use()


# chains begun anew ----------------------------------------------------------------------------------


@pytest.fixture
def adopted(grown: Store) -> Iterator[Store]:
    adopt(grown)
    yield grown


@EACH
def test_a_new_chain_holds_the_head_that_it_leaves_behind(grown: Store, table: Table) -> None:
    old = Trail(grown.path, None).heads()
    new = adopt(grown, known=old)
    assert Trail(grown.path, None).heads() == Trail(grown.path, new).heads() == new
    grow(grown, 2)
    found = check(grown, table, head_of(old, table)[1])
    assert (found.rows, found.head[0], found.wanted, found.breaks) == (9, 3, 6, ())
    assert found.begun is not None
    assert found.begun == (7, NOW, "cli:root", head_of(old, table), 0, None)


@EACH
def test_what_nobody_knew_is_not_kept(adopted: Store, table: Table) -> None:
    begun = check(adopted, table).begun
    assert begun is not None
    assert begun.known is None


def test_an_adoption_is_an_entry_of_the_access_log(adopted: Store) -> None:
    assert adopted.sql("SELECT user_id, action, success, reason, timestamp FROM access_log WHERE id = 7") == [
        ("cli:root", "adopt", 1, "moved", NOW)
    ]


@EACH
def test_a_head_that_was_known_and_lost_is_kept(grown: Store, table: Table) -> None:
    known = Trail(grown.path, None).heads()
    grown.sql("DELETE FROM config_history WHERE id > 3")
    grown.sql("DELETE FROM access_log WHERE id > 3")
    new = adopt(grown, known)
    assert Trail(grown.path, new).heads() == new
    found = check(grown, table, head_of(known, table)[1])
    assert (found.wanted, found.breaks) == (None, ())
    assert found.given_up is not None
    assert (found.given_up.left[0], found.given_up.known) == (3, head_of(known, table))


@EACH
def test_heads_from_before_an_adoption_are_no_longer_extended(grown: Store, table: Table) -> None:
    trail = Trail(grown.path, None)
    old = trail.heads()
    adopt(grown)
    grow(grown, 9)
    for each in (trail, Trail(grown.path, old)):
        with pytest.raises(HistoryRewritten):
            each.heads()
    assert Trail(grown.path, None).heads().access[0] == 10


@EACH
def test_breaks_from_before_an_adoption_are_forgiven_and_later_ones_are_not(
    grown: Store, table: Table
) -> None:
    harm = f"UPDATE {table.name} SET {table.by} = 'nobody' WHERE id = ?"  # noqa: S608
    grown.sql(harm, (3,))
    adopt(grown)
    grow(grown)
    found = check(grown, table)
    assert ([each.row for each in found.forgiven], found.breaks) == ([3], ())
    grown.sql(harm, (5,))
    assert broken(grown, table) == [3, 5]
    adopt(grown)
    assert broken(grown, table) == []


@EACH
def test_a_damaged_end_is_left_behind_as_it_is(grown: Store, table: Table) -> None:
    grown.sql(f"UPDATE {table.name} SET chain = '' WHERE id = 6")  # noqa: S608
    adopt(grown)
    grow(grown)
    found = check(grown, table)
    assert ([each.row for each in found.forgiven], found.breaks, found.head[0]) == ([6], (), 2)


@EACH
def test_old_rows_written_anew_after_an_adoption_are_noticed(adopted: Store, table: Table) -> None:
    ((begin,),) = adopted.sql(f"SELECT max(id) FROM {table.name}")  # noqa: S608
    adopted.sql(f"UPDATE {table.name} SET {table.by} = 'nobody' WHERE id = 3")  # noqa: S608
    for number, link in recompute(adopted, table):
        if number < begin:
            adopted.sql(f"UPDATE {table.name} SET chain = ? WHERE id = ?", (link, number))  # noqa: S608
    assert broken(adopted, table) == [begin]
    adopted.sql(f"DELETE FROM {table.name} WHERE id < ?", (begin,))  # noqa: S608
    assert broken(adopted, table) == [begin]


@EACH
@pytest.mark.parametrize("left", ["", "[]", "{}", '{"left":5,"broken":0}', '{"left":[6],"broken":0}', "7"])
def test_a_beginning_that_is_not_ours_is_noticed(grown: Store, table: Table, left: str) -> None:
    grown.sql(f"UPDATE {table.name} SET service = '', {table.left} = ? WHERE id = 4", (left,))  # noqa: S608
    assert 4 in broken(grown, table)
    with pytest.raises(HistoryRewritten):
        Trail(grown.path, None).heads()


@EACH
def test_a_first_row_that_is_no_beginning_of_ours_is_noticed_though_it_is_linked(
    grown: Store, table: Table
) -> None:
    grown.sql(f"UPDATE {table.name} SET service = '', {table.left} = '7' WHERE id = 1")  # noqa: S608
    rechain(grown, table)
    assert broken(grown, table) == [1]


@EACH
def test_a_beginning_in_the_midst_is_noticed_though_it_is_linked(grown: Store, table: Table) -> None:
    known = Trail(grown.path, None).heads()
    trail = Trail(grown.path, known)
    trail.heads()
    grow(grown)
    grown.sql(f"UPDATE {table.name} SET service = '' WHERE id = 7")  # noqa: S608
    rechain(grown, table)
    assert broken(grown, table) == [7]
    with pytest.raises(HistoryRewritten, match="row 7 begins a chain nobody adopted"):
        trail.heads()


def test_the_last_beginning_is_found_without_reading_the_table(store: Store) -> None:
    for table in (HISTORY, ACCESS):
        (*_, plan), *_ = store.sql(f"EXPLAIN QUERY PLAN SELECT max(id) FROM {table.name} WHERE service = ''")  # noqa: S608
        assert "USING COVERING INDEX" in plan


def test_the_heads_of_a_database_that_nobody_knew_are_those_of_its_chains(store: Store) -> None:
    assert present_heads(store.path) == NOTHING
    grow(store, 3)
    assert present_heads(store.path) == Trail(store.path, None).heads()
    adopt(store)
    grow(store)
    assert present_heads(store.path) == Trail(store.path, None).heads()
