"""History holds one row per changed key, in a chain that anybody can compute again; items follow the values."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config_daemon.core.paths import leaves
from config_daemon.errors import StoreCorrupted
from config_daemon.store.ports import Edit
from tests.store.conftest import NOW, Store, gone, merged

MEMBERS = (
    "service", "key", "old_value_json", "new_value_json", "changed_at", "changed_by", "change_reason", "version",
    "change_id",
)  # fmt: skip
KEYS = st.sampled_from(["gain", "model", "audio", "tags", "x"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text(max_size=3)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rate", "b", "c"]), inner, max_size=2)
    ),
    max_leaves=4,
)
LIVES = st.lists(st.none() | st.dictionaries(KEYS, VALUES, max_size=4), max_size=6)


def recomputed_chain(store: Store) -> list[str]:
    """Compute every link from the rows alone, by the documented rule and with code of its own."""
    link, chain = bytes(32), []
    for row in store.sql(f"SELECT {', '.join(MEMBERS)} FROM config_history ORDER BY id"):  # noqa: S608
        members = dict(zip(MEMBERS, row, strict=True))
        body = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        link = hashlib.sha256(link + b"DSSEv1 5 audit %d %s" % (len(body), body)).digest()
        chain.append(link.hex())
    return chain


def stored_chain(store: Store) -> list[str]:
    return [chain for (chain,) in store.sql("SELECT chain FROM config_history ORDER BY id")]


def test_absent_null_and_empty_are_three_things(store: Store) -> None:
    store.set(model=None, gain=1)
    store.set(model="", gain=1)
    store.edit("stt-worker", lambda stored: {"gain": 1})
    assert store.history("old_value_json, new_value_json, key")[1:] == [
        (None, "null", "model"),
        ("null", '""', "model"),
        ('""', "", "model"),
    ]


def test_a_change_is_one_row_per_key_and_one_id_per_commit(store: Store) -> None:
    store.set("stt-worker", gain=1, model="base", audio={"rate": 8, "device": "a"})
    store.commit(
        Edit("stt-worker", merged(gain=2, model="base", audio={"rate": 9, "device": "a"})),
        Edit("tts-worker", merged(gain=3)),
        by="operator", reason="louder",
    )  # fmt: skip
    told = store.sql(
        "SELECT service, key, version, changed_by, change_reason, changed_at FROM config_history ORDER BY id"
    )
    assert told == [
        ("stt-worker", "audio.device", 1, "test", None, NOW),
        ("stt-worker", "audio.rate", 1, "test", None, NOW),
        ("stt-worker", "gain", 1, "test", None, NOW),
        ("stt-worker", "model", 1, "test", None, NOW),
        ("stt-worker", "audio.rate", 2, "operator", "louder", NOW),
        ("stt-worker", "gain", 2, "operator", "louder", NOW),
        ("tts-worker", "gain", 1, "operator", "louder", NOW),
    ]
    ids = [each for (each,) in store.sql("SELECT change_id FROM config_history ORDER BY id")]
    assert len(set(ids[:4])) == len(set(ids[4:])) == 1
    assert ids[0] != ids[4]


def test_a_deletion_is_the_end_of_every_value(store: Store) -> None:
    store.set(gain=1, tags=["a"])
    store.delete()
    assert store.history("key, old_value_json, new_value_json, version")[2:] == [
        ("gain", "1", "", 2),
        ("tags", '["a"]', "", 2),
    ]
    assert store.items() == {}


def test_an_object_that_becomes_empty_or_a_value_is_told_leaf_by_leaf(store: Store) -> None:
    store.set(audio={"rate": 8})
    store.set(audio={})
    store.set(audio=5)
    assert store.history("key, old_value_json, new_value_json") == [
        ("audio.rate", None, "8"),
        ("audio", None, "{}"),
        ("audio.rate", "8", ""),
        ("audio", "{}", "5"),
    ]
    assert store.items() == {"audio": "5"}


def test_items_carry_what_a_search_needs(store: Store) -> None:
    store.commit(Edit("stt-worker", merged(gain=2.5, audio={"rate": 8}, tags=["a"], other=1)), by="operator")
    columns = "key, value_json, type, complexity, description, help_text, is_secret, updated_at, updated_by"
    assert store.sql(f"SELECT {columns} FROM config_items ORDER BY key") == [  # noqa: S608
        ("audio.rate", "8", "integer", "advanced", "what it is", "how to choose it", 0, NOW, "operator"),
        ("gain", "2.5", "float", "simple", "input gain", "how to choose it", 0, NOW, "operator"),
        ("other", "1", "object", "advanced", "", "", 0, NOW, "operator"),
        ("tags", '["a"]', "list", "simple", "what it is", "any words", 0, NOW, "operator"),
    ]


@given(LIVES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_history_and_items_follow_any_life_exactly(
    tmp_path_factory: pytest.TempPathFactory, life: list[dict[str, Any] | None]
) -> None:
    store = Store(tmp_path_factory.mktemp("life")).create()
    writer = store.writer(definitions=_Anything())
    now: dict[str, Any] | None = None
    told: dict[str, str] = {}
    for step in life:
        if step is None and now is None:
            continue
        before = len(stored_chain(store))
        change = gone if step is None else (lambda _stored, new=step: new)
        writer.commit([Edit("stt-worker", change)], by="test")
        now = step
        rows = store.history("key, old_value_json, new_value_json, change_id")[before:]
        assert len({key for key, *_ in rows}) == len(rows)
        assert len({each for *_, each in rows}) <= 1
        for key, old, new, _ in rows:
            assert told.get(key) == old
            assert old != new
            told = {k: v for k, v in told.items() if k != key} | ({key: new} if new else {})
        assert {k: json.loads(v) for k, v in told.items()} == leaves(now or {})
        assert store.items() == told
    assert stored_chain(store) == recomputed_chain(store)
    store.close()


class _Anything:
    """A service that takes all values."""

    def get(self, service: str) -> Any:
        return self

    def suggest(self, service: str) -> None:
        return None

    fields: dict[str, Any] = {}  # noqa: RUF012 - never written

    def effective(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    def check(self, values: dict[str, Any]) -> tuple[()]:
        return ()


def test_the_chain_can_be_computed_again_and_shows_what_was_altered(store: Store) -> None:
    store.set(gain=1, model="ü")
    store.set("router", gain=1)
    store.commit(Edit("stt-worker", gone), by="operator", reason="\u2028 why")
    assert stored_chain(store) == recomputed_chain(store)
    assert len(stored_chain(store)) == 5
    for alteration in (
        "UPDATE config_history SET old_value_json = '9' WHERE id = 3",
        "UPDATE config_history SET changed_by = 'nobody' WHERE id = 2",
        "DELETE FROM config_history WHERE id = 1",
    ):
        before = stored_chain(store)
        store.sql(alteration)
        assert recomputed_chain(store)[-1] != before[-1]


@pytest.mark.parametrize("chain", ["", "x" * 64, "00" * 31, "AB" * 32])
def test_nothing_is_chained_to_a_damaged_end(store: Store, chain: str) -> None:
    store.set(gain=1)
    store.sql("UPDATE config_history SET chain = ?", (chain,))
    before = store.content()
    with pytest.raises(StoreCorrupted, match="history"):
        store.set(gain=2)
    assert store.content() == before
