"""Fifty writers on one row: each version has exactly one author, and nobody's change is lost."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from config_daemon.errors import VersionConflict
from config_daemon.store.ports import Edit, Row
from tests.store.conftest import Store, merged
from tests.store.test_history import recomputed_chain, stored_chain

WRITERS = 50
ROOT = Path(__file__).parents[2]
PROCESS = """
import sys
from pathlib import Path
from tests.store.conftest import Store
store, name, times = Store(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
writer = store.writer()
print("ready", flush=True)
sys.stdin.readline()
for n in range(times):
    def change(stored):
        return {**stored, f"{name}_{n}": stored["count"], "count": stored["count"] + 1}
    print(store.edit("stt-worker", change).version, flush=True)
store.close()
"""


def added(name: str) -> Any:
    """Return a change that counts up and leaves a mark of its author."""
    return lambda stored: {**stored, name: 1, "count": stored["count"] + 1}


def at_once(store: Store, write: Any) -> list[Any]:
    """Let fifty threads, each with a connection of its own, write at the same moment."""
    barrier = Barrier(WRITERS)

    def one(number: int) -> Any:
        writer = store.writer()
        barrier.wait(30)
        try:
            return write(writer, number)
        except VersionConflict as conflict:
            return conflict
        finally:
            writer.close()

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(one, range(WRITERS)))


def check_history(store: Store, versions: int) -> None:
    assert [v for (v,) in store.history("DISTINCT version")] == list(range(1, versions + 1))
    assert stored_chain(store) == recomputed_chain(store)
    assert store.sql("PRAGMA integrity_check") == [("ok",)]


def test_of_fifty_who_expect_one_version_exactly_one_wins(store: Store) -> None:
    store.set(count=0)
    told = at_once(store, lambda w, n: w.commit([Edit("stt-worker", added(f"by_{n}"), 1)], by=f"w{n}"))
    won = [(number, each) for number, each in enumerate(told) if not isinstance(each, VersionConflict)]
    assert len(won) == 1
    assert {each.current for each in told if isinstance(each, VersionConflict)} == {2}
    assert store.values() == {"count": 1, f"by_{won[0][0]}": 1}
    check_history(store, 2)


def test_fifty_who_expect_nothing_are_all_stored(store: Store) -> None:
    store.set(count=0)
    told = at_once(
        store, lambda w, n: w.commit([Edit("stt-worker", added(f"by_{n}"))], by=f"w{n}")[0].version
    )
    assert sorted(told) == list(range(2, WRITERS + 2))
    assert store.values() == {"count": WRITERS} | {f"by_{n}": 1 for n in range(WRITERS)}
    check_history(store, WRITERS + 1)
    authors = dict(store.history("version, changed_by"))
    assert authors == {1: "test"} | {version: f"w{number}" for number, version in enumerate(told)}


def test_fifty_who_make_a_service_make_it_once(store: Store) -> None:
    told = at_once(store, lambda w, n: w.commit([Edit("stt-worker", merged(by=n), 0)], by=f"w{n}"))
    assert sum(not isinstance(each, VersionConflict) for each in told) == 1
    check_history(store, 1)


def test_fifty_who_try_again_after_a_conflict_all_get_their_turn(store: Store) -> None:
    store.set(count=0)
    expected = [1] * WRITERS

    def until_stored(writer: Any, number: int) -> int:
        while True:
            try:
                edit = Edit("stt-worker", added(f"by_{number}"), expected[number])
                version: int = writer.commit([edit], by=f"w{number}")[0].version
                return version
            except VersionConflict as conflict:
                assert conflict.current > expected[number]
                expected[number] = conflict.current

    assert sorted(at_once(store, until_stored)) == list(range(2, WRITERS + 2))
    check_history(store, WRITERS + 1)


def test_a_reader_sees_whole_commits_only(store: Store) -> None:
    """Two services that are always written together are never read apart."""
    store.commit(Edit("stt-worker", merged(count=0)), Edit("tts-worker", merged(count=0)))

    def write(writer: Any, number: int) -> bool:
        if number % 5:
            edits = [Edit(service, added(f"by_{number}")) for service in ("stt-worker", "tts-worker")]
            writer.commit(edits, by="test")
            return True
        rows = store.reader().read(["stt-worker", "tts-worker"])
        one, other = rows["stt-worker"], rows["tts-worker"]
        return (
            isinstance(one, Row)
            and isinstance(other, Row)
            and (one.version, one.text) == (other.version, other.text)
        )

    assert all(at_once(store, write))


@pytest.mark.parametrize(("processes", "times"), [(5, 10)])
def test_writers_in_processes_of_their_own_lose_nothing(store: Store, processes: int, times: int) -> None:
    store.set(count=0)
    names = [f"p{n}" for n in range(processes)]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(store.files.folder), name, str(times)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in names
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    versions = [int(line) for child in children for line in child.communicate(timeout=60)[0].split()]
    assert [child.returncode for child in children] == [0] * processes
    total = processes * times
    assert sorted(versions) == list(range(2, total + 2))
    values = store.values()
    assert values.pop("count") == total
    assert sorted(values.values()) == list(range(total))
    assert set(values) == {f"{name}_{n}" for name in names for n in range(times)}
    check_history(store, total + 1)
