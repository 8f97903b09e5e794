"""What is not stored: nothing of a commit with one bad value, and every problem told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
import pytest

from config_daemon.errors import (
    ConfigDaemonError,
    InvalidConfig,
    NotAllowed,
    NotFound,
    StoreUnavailable,
    UsageError,
    VersionConflict,
)
from config_daemon.store.ports import Edit
from config_daemon.store.transaction import Rules
from config_daemon.wire.values import MAX_DEPTH, MAX_INTEGER, MAX_KEYS
from tests.store.conftest import SEALER, Store, codes, gone, merged


def refused(store: Store, kind: type[ConfigDaemonError], *edits: Edit, **more: Any) -> Any:
    """Return the error of a commit that must leave every table as it was."""
    before = store.content()
    with pytest.raises(kind) as error:
        store.commit(*edits, **more)
    assert store.content() == before
    return error.value


def bad(service: str = "stt-worker", **values: Any) -> Edit:
    return Edit(service, merged(**values))


def nested(depth: int) -> dict[str, Any]:
    values: dict[str, Any] = {"x": 1}
    for _ in range(depth - 2):
        values = {"x": values}
    return values


def test_one_bad_edit_keeps_the_whole_commit_out_and_all_problems_are_told(store: Store) -> None:
    store.set("router", gain=1)
    error = refused(
        store, InvalidConfig,
        bad("stt-worker", gain=11, tags=[]), bad("tts-worker", gain=2), bad("router", gain=2**60),
    )  # fmt: skip
    assert codes(error) == ["TOO_HIGH", "EMPTY", "INTEGER_TOO_LARGE"]
    assert "3 values" in error.message
    assert all(context.suggestion for context in error.contexts)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (Edit("nobody", merged(gain=1)), NotFound),
        (Edit("tts-worker", gone), NotFound),
        (Edit("tts-worker", merged(gain=1), 7), VersionConflict),
        (Edit("tts-worker", merged(api_key="s3cret")), NotAllowed),
    ],
)
def test_edits_before_a_refused_one_are_not_stored(
    store: Store, last: Edit, kind: type[ConfigDaemonError]
) -> None:
    store.set("router", gain=1)
    refused(store, kind, bad("stt-worker", gain=2), Edit("router", gone), last)


def test_a_change_that_raises_stores_nothing_and_the_next_one_works(store: Store) -> None:
    def fail(stored: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    before = store.content()
    with pytest.raises(ZeroDivisionError):
        store.commit(bad(gain=2), Edit("router", fail))
    assert store.content() == before
    assert store.set(gain=3).version == 1


def test_values_that_parsers_read_differently_are_all_named(store: Store) -> None:
    values: dict[str, Any] = {
        "a": float("nan"), "b": float("inf"), "c": MAX_INTEGER + 1, "d": -MAX_INTEGER - 1,
        "e": "half \ud800 a pair", "f": [{"g": {1, 2}}], "gain": 1,
    }  # fmt: skip
    error = refused(store, InvalidConfig, bad(**values))
    assert sorted((context.failed_field, context.error_code) for context in error.contexts) == [
        ("a", "NOT_FINITE"), ("b", "NOT_FINITE"), ("c", "INTEGER_TOO_LARGE"), ("d", "INTEGER_TOO_LARGE"),
        ("e", "LONE_SURROGATE"), ("f[0].g", "NOT_JSON"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (nested(MAX_DEPTH + 1), "TOO_DEEP"),
        ({"x": [[]]} | nested(3000), "TOO_DEEP"),
        ({"x": {f"k{n}": 1 for n in range(MAX_KEYS)}}, "TOO_MANY_KEYS"),
        ({"x": {"\udfff": 1}}, "LONE_SURROGATE"),
    ],
)
def test_values_beyond_every_parser_are_refused(store: Store, values: dict[str, Any], code: str) -> None:
    assert codes(refused(store, InvalidConfig, bad(**values))) == [code]


@pytest.mark.parametrize(
    "values",
    [
        nested(MAX_DEPTH),
        {f"k{n}": 1 for n in range(MAX_KEYS)},
        {"x": MAX_INTEGER, "y": "\ud83d\ude00 \0 \x7f"},
    ],
)
def test_values_at_the_limit_are_stored_exactly(store: Store, values: dict[str, Any]) -> None:
    values = {
        k: v.encode("utf-16", "surrogatepass").decode("utf-16") if k == "y" else v for k, v in values.items()
    }
    store.set(**values)
    assert store.values() == values


def test_a_config_that_does_not_fit_into_a_message_is_refused_by_the_byte(store: Store) -> None:
    writer = store.writer(rules=Rules(max_message_bytes=2000))
    fits = 2000 - 700 - len('{"gain":1.0,"x":""}')

    def write(size: int, character: str = "x") -> int:
        return writer.commit([Edit("stt-worker", merged(x=character * size))], by="test")[0].version

    assert write(fits) == 1
    assert write(fits // 2, "ü") == 2
    for size, character in ((fits + 1, "x"), (fits // 2 + 1, "ü")):
        with pytest.raises(InvalidConfig) as error:
            write(size, character)
        assert codes(error.value) == ["TOO_LARGE"]


def test_a_missing_required_value_does_not_hinder_a_change(store: Store) -> None:
    """It makes the service incomplete, which is said elsewhere; else nothing could be set one by one."""
    assert store.set(gain=2).version == 1


@pytest.mark.parametrize("change", [merged(api_key="s3cret-canary"), merged(api_key=None)])
def test_a_secret_is_not_stored_in_clear_text(store: Store, change: Callable[..., Any]) -> None:
    store.set(gain=2)
    error = refused(store, NotAllowed, Edit("stt-worker", change))
    assert error.code == "SECRET_FIELD"
    assert "canary" not in f"{error}{error.suggestion}{error.contexts}"


@pytest.mark.parametrize("change", [merged(model="big"), lambda stored: {"gain": 2}, merged(model=None)])
def test_a_value_that_the_environment_file_fixes_is_not_changed(
    store: Store, change: Callable[..., Any]
) -> None:
    store.set(gain=2, model="base")
    writer = store.writer(rules=Rules(fixed=lambda service, key: "/srv/.env:7" if key == "model" else None))
    before = store.content()
    with pytest.raises(NotAllowed) as error:
        writer.commit([Edit("stt-worker", change)], by="test")
    assert error.value.code == "FIXED_BY_ENV"
    assert error.value.exit_code == 4
    assert "/srv/.env:7" in error.value.message
    assert "/srv/.env;" in error.value.suggestion
    assert store.content() == before


def test_values_beside_a_fixed_one_can_be_changed(store: Store) -> None:
    store.set(gain=2, model="base")
    writer = store.writer(rules=Rules(fixed=lambda service, key: "/srv/.env:7" if key == "model" else None))
    assert writer.commit([Edit("stt-worker", merged(gain=3))], by="test")[0].version == 2


def test_a_dry_run_says_what_would_be_and_stores_nothing(store: Store) -> None:
    store.set(gain=1, model="base")
    store.set("router", gain=1)
    reader = store.reader()
    reader.moved()
    before = store.content()
    edits = [Edit("stt-worker", merged(gain=2)), Edit("tts-worker", merged(gain=1)), Edit("router", gone)]
    told = store.commit(*edits, dry_run=True)
    assert store.content() == before
    assert not reader.moved()
    assert [(written.version, written.deleted) for written in told] == [(2, False), (1, False), (2, True)]
    assert store.commit(*edits) == told


def test_a_dry_run_finds_every_problem(store: Store) -> None:
    assert codes(refused(store, InvalidConfig, bad(gain=11, tags=[]), dry_run=True)) == ["TOO_HIGH", "EMPTY"]


def test_an_empty_commit_changes_nothing(store: Store) -> None:
    before = store.content()
    assert store.commit() == []
    assert store.content() == before


@pytest.mark.parametrize(
    "words",
    [
        {"by": ""},
        {"by": "x" * 5001},
        {"by": "cli:\udcff"},
        {"reason": ""},
        {"reason": "x" * 5001},
        {"reason": "\ud800"},
    ],
)
def test_an_actor_or_a_reason_that_is_no_text_is_refused(store: Store, words: dict[str, str]) -> None:
    refused(store, UsageError, bad(gain=2), **words)


def test_the_longest_actor_and_reason_are_kept_whole(store: Store) -> None:
    words = {"by": "b" * 5000, "reason": "r" * 4999 + "\0"}
    store.commit(bad(gain=2), **words)
    assert store.history("changed_by, change_reason") == [(words["by"], words["reason"])]


def test_nobody_writes_while_writing_is_refused(store: Store) -> None:
    writer = store.writer(
        refusal=lambda services, adopt: "the daemon serves the last known good config: db-locked"
    )
    with pytest.raises(StoreUnavailable, match="db-locked"):
        writer.commit([bad(gain=2)], by="test")
    assert store.changes().services == ()


def test_a_read_only_database_is_said_to_be_so(store: Store) -> None:
    def query_only(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA query_only=ON")

    apsw.connection_hooks.append(query_only)
    try:
        with pytest.raises(StoreUnavailable, match="read-only"):
            store.set(gain=2)
    finally:
        apsw.connection_hooks.remove(query_only)


def test_the_master_key_of_another_store_seals_nothing_that_is_read_here(store: Store) -> None:
    store.set(gain=2)
    assert (
        type(
            store.reader(SEALER.from_master_key("other", bytes(32))).read(["stt-worker"])["stt-worker"]
        ).__name__
        == "BadRow"
    )
