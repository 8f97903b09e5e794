"""Versions count a service's life without a gap, and of two writers with one version exactly one wins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config_daemon.errors import NotFound, StoreCorrupted, UsageError, VersionConflict
from config_daemon.store.ports import Edit, Row, Tombstone
from tests.store.conftest import EPOCH, NOW, Store, gone, merged


def test_every_change_is_the_next_version(store: Store) -> None:
    assert [store.set(gain=n).version for n in range(1, 6)] == [1, 2, 3, 4, 5]
    assert store.row() == Row("stt-worker", '{"gain":5}', 5, EPOCH, NOW, "test")


def test_a_change_that_changes_nothing_is_no_version(store: Store) -> None:
    store.set(gain=2, model="base")
    before = store.content()
    written = store.set(model="base")
    assert (written.version, written.changed) == (1, {})
    assert store.content() == before


def test_a_deleted_and_remade_service_goes_on_counting(store: Store) -> None:
    seen = []
    for gain in range(3):
        seen.append(store.set(gain=gain).version)
        deleted = store.delete()
        assert deleted.deleted
        seen.append(deleted.version)
        assert store.row() == Tombstone("stt-worker", deleted.version, EPOCH)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert store.set(gain=9).version == 7
    assert store.sql("SELECT count(*) FROM deleted_services") == [(0,)]


def test_a_new_life_begins_without_the_old_values(store: Store) -> None:
    store.set(gain=2, tags=["a"])
    store.delete()
    store.set(model="base")
    assert store.values() == {"model": "base"}


def test_services_count_by_themselves(store: Store) -> None:
    store.set("stt-worker", gain=1)
    store.set("stt-worker", gain=2)
    assert store.set("tts-worker", gain=1).version == 1


@pytest.mark.parametrize("expect", [0, 1, 3])
def test_a_writer_who_expects_another_version_is_told_the_current_one(store: Store, expect: int) -> None:
    store.set(gain=1)
    store.set(gain=2)
    before = store.content()
    with pytest.raises(VersionConflict) as conflict:
        store.edit("stt-worker", merged(gain=3), expect)
    assert (conflict.value.expected, conflict.value.current) == (expect, 2)
    assert store.content() == before
    assert store.edit("stt-worker", merged(gain=3), 2).version == 3


def test_zero_is_expected_of_a_service_that_must_not_exist(store: Store) -> None:
    assert store.edit("stt-worker", merged(gain=1), 0).version == 1
    with pytest.raises(VersionConflict):
        store.edit("stt-worker", merged(gain=1), 0)
    store.delete()
    with pytest.raises(VersionConflict) as conflict:
        store.edit("stt-worker", merged(gain=1), 2)
    assert conflict.value.current == 0
    assert store.edit("stt-worker", merged(gain=1), 0).version == 3


def test_two_writers_with_one_version_do_not_both_win(store: Store) -> None:
    store.set(gain=1)
    mine, theirs = store.writer(), store.writer()
    assert theirs.commit([Edit("stt-worker", merged(gain=2), 1)], by="them")[0].version == 2
    with pytest.raises(VersionConflict):
        mine.commit([Edit("stt-worker", merged(gain=3), 1)], by="me")
    assert store.values() == {"gain": 2}


def test_a_change_sees_what_others_committed_before_it(store: Store) -> None:
    store.set(gain=1)
    store.writer().commit([Edit("stt-worker", merged(model="base"))], by="them")
    store.set(gain=2)
    assert store.values() == {"gain": 2, "model": "base"}


def test_a_change_may_alter_what_it_is_given(store: Store) -> None:
    """What the command line does; the version before must be remembered all the same."""

    def alter(stored: dict[str, Any]) -> dict[str, Any]:
        stored["tags"].append("b")
        stored["audio"]["rate"] = 2
        del stored["gain"]
        return stored

    store.set(gain=1, tags=["a"], audio={"rate": 1})
    written = store.edit("stt-worker", alter)
    assert written.changed == {"audio.rate": ("1", "2"), "gain": ("1", None), "tags": ('["a"]', '["a","b"]')}
    assert store.values() == {"audio": {"rate": 2}, "tags": ["a", "b"]}


def test_an_unknown_service_is_not_made_and_the_likely_one_is_named(store: Store) -> None:
    with pytest.raises(NotFound) as error:
        store.set("stt-wroker", gain=1)
    assert "stt-worker" in error.value.suggestion
    assert store.changes().services == ()


@pytest.mark.parametrize("service", ["stt-worker", "nobody"])
def test_what_does_not_exist_cannot_be_deleted(store: Store, service: str) -> None:
    with pytest.raises(NotFound):
        store.delete(service)


def test_a_deleted_service_cannot_be_deleted_again(store: Store) -> None:
    store.set(gain=1)
    store.delete()
    with pytest.raises(NotFound):
        store.delete()
    assert store.row() == Tombstone("stt-worker", 2, EPOCH)


def test_two_changes_of_one_service_in_one_commit_are_refused(store: Store) -> None:
    """Both would be made from the same values, and the second would undo the first."""
    store.set(gain=1)
    for service in ("stt-worker", "tts-worker"):
        with pytest.raises(UsageError, match=service):
            store.commit(Edit(service, merged(gain=2)), Edit(service, merged(model="base")))
    assert store.values() == {"gain": 1}
    assert store.changes().services == ("stt-worker",)


def test_a_row_removed_by_hand_is_not_begun_anew(store: Store) -> None:
    """`set` of one value would else publish defaults for all the others, under a version that was there."""
    store.set(gain=1, model="base")
    store.set(gain=2)
    store.sql("DELETE FROM service_configs")
    with pytest.raises(StoreCorrupted) as error:
        store.set(gain=3)
    assert "config-daemon delete stt-worker" in error.value.suggestion
    with pytest.raises(StoreCorrupted):
        store.adopt()


def test_a_row_removed_by_hand_can_be_deleted_for_good(store: Store) -> None:
    store.set(gain=1, model="base")
    store.set(gain=2)
    store.sql("DELETE FROM service_configs")
    deleted = store.delete()
    assert (deleted.version, deleted.changed) == (3, {"gain": ("2", None), "model": ('"base"', None)})
    assert store.row() == Tombstone("stt-worker", 3, EPOCH)
    assert store.items() == {}
    assert store.set(gain=4).version == 4


def test_an_older_row_put_back_is_built_upon_under_a_new_version(store: Store) -> None:
    store.set(gain=1)
    older = store.sql("SELECT * FROM service_configs")
    for gain in (2, 3):
        store.set(gain=gain)
    store.sql("REPLACE INTO service_configs VALUES (?,?,?,?,?,?,?,?)", older[0])
    assert store.set(model="base").version == 4
    assert store.values() == {"gain": 1, "model": "base"}


def test_a_tombstone_beside_a_row_is_no_obstacle(store: Store) -> None:
    store.set(gain=1)
    store.sql("INSERT INTO deleted_services VALUES ('stt-worker', 9, ?, ?, NULL, '', '')", (EPOCH, NOW))
    assert store.delete().version == 2
    assert store.row() == Tombstone("stt-worker", 2, EPOCH)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "nothing", "stale", "bad"]),
        st.sampled_from(["router", "stt-worker", "tts-worker"]),
        st.integers(0, 3),
    ),
    max_size=15,
)


@given(STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_life_leaves_versions_without_a_gap(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    store = Store(tmp_path_factory.mktemp("life")).create()
    model: dict[str, tuple[int, dict[str, Any] | None]] = {}
    for what, service, number in steps:
        version, values = model.get(service, (0, None))
        try:
            if what == "set":
                store.set(service, gain=number)
                if values != {"gain": number}:
                    model[service] = (version + 1, {"gain": number})
            elif what == "delete":
                store.delete(service)
                model[service] = (version + 1, None)
            elif what == "nothing":
                store.edit(service, merged(gain=number), dry_run=True)
            elif what == "stale":
                store.edit(service, merged(gain=number), version + 1)
            else:
                store.commit(Edit(service, merged(gain=number)), Edit("nobody", gone))
        except (NotFound, VersionConflict):
            assert what in ("stale", "bad") or (what == "delete" and values is None)
    for service, (version, values) in model.items():
        row = store.row(service)
        assert isinstance(row, Tombstone if values is None else Row)
        assert row.version == version
        assert values is None or store.values(service) == values
        assert [v for (v,) in store.history("DISTINCT version", service)] == list(range(1, version + 1))
    store.close()


def test_models_are_recorded_only_for_the_database_as_it_was_judged(store: Store) -> None:
    judged, place = store.reader().facts(), store.changes().place
    store.set(gain=2)
    assert not store.writer().record_models("1" * 64, judged, place)
    assert store.reader().facts() == judged
    place = store.changes().place
    assert store.writer().record_models("1" * 64, judged, place)
    assert store.reader().facts() == (judged.epoch, judged.schema_version + 1, "1" * 64)
    assert not store.writer().record_models("2" * 64, judged, place), "these are not the facts any more"
    assert store.changes().place == place, "no config has changed"
