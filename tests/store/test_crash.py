"""Processes that die in mid-write: what was acknowledged is there, what was not is absent or whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config_daemon.errors import VersionConflict
from config_daemon.store.ports import Edit
from tests.store.conftest import FakeDefinitions, Store, merged
from tests.store.test_history import recomputed_chain, stored_chain

ROOT = Path(__file__).parents[2]
FORK = multiprocessing.get_context("fork")
WRITER = """
import os, sys
from pathlib import Path
from config_daemon import failpoints
from config_daemon.store.ports import Edit
from tests.store.conftest import Store, merged
failpoints.arm(os.environ["CONFIG_DAEMON_FAILPOINT"])
edits = [Edit("stt-worker", merged(gain=2, model="new"), 1), Edit("router", merged(gain=2))]
print(Store(Path(sys.argv[1])).writer(synchronous="FULL").commit(edits, by="test"), flush=True)
"""


def die_at(store: Store, point: str) -> subprocess.CompletedProcess[str]:
    """Commit in another process that dies at a point, and make sure that it did."""
    store.close()
    dead = subprocess.run(
        [sys.executable, "-c", WRITER, str(store.files.folder)],
        cwd=ROOT, env=os.environ | {"CONFIG_DAEMON_FAILPOINT": f"{point}:kill"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert dead.stderr == f"failpoint reached: {point}\n"
    assert dead.stdout == ""  # nothing was acknowledged
    return dead


def check_whole(store: Store) -> None:
    assert store.sql("PRAGMA integrity_check") == [("ok",)]
    assert stored_chain(store) == recomputed_chain(store)


def test_killed_before_the_commit_nothing_is_stored(store: Store) -> None:
    store.set(gain=1)
    before, place = store.content(), store.changes().place
    die_at(store, "before_commit")
    assert store.content() == before
    assert store.changes(place).services == ()
    check_whole(store)
    assert store.edit("stt-worker", merged(gain=2), 1).version == 2


def test_killed_after_the_commit_everything_is_stored(store: Store) -> None:
    store.set(gain=1)
    place = store.changes().place
    die_at(store, "after_commit")
    assert store.values() == {"gain": 2, "model": "new"}
    assert store.values("router") == {"gain": 2}
    assert sorted(store.changes(place).services or ()) == ["router", "stt-worker"]
    check_whole(store)
    with pytest.raises(VersionConflict) as conflict:  # who tries again because no answer came
        store.edit("stt-worker", merged(gain=2, model="new"), 1)
    assert conflict.value.current == 2


def test_the_locks_of_the_dead_are_free(store: Store) -> None:
    store.set(gain=1)
    die_at(store, "before_commit")
    assert store.set(gain=3).version == 2


def _write_until_killed(folder: Path, told: Any) -> None:
    writer = Store(folder).writer(synchronous="FULL")

    def count(stored: dict[str, Any]) -> dict[str, Any]:
        return {"count": stored.get("count", 0) + 1, "tags": ["x" * 3000]}

    while True:
        written = writer.commit([Edit(name, count) for name in FakeDefinitions.names], by="test")
        told.send(written[0].version)


@pytest.mark.parametrize("acknowledged", range(1, 13))
def test_what_was_acknowledged_outlives_a_kill_at_any_moment(store: Store, acknowledged: int) -> None:
    here, there = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_write_until_killed, args=(store.files.folder, there))
    child.start()
    there.close()
    last = 0
    while last < acknowledged * 3:
        last = here.recv()
    child.kill()
    child.join(20)
    assert child.exitcode == -signal.SIGKILL
    while here.poll():  # told before it died
        try:
            last = here.recv()
        except EOFError:
            break
    version = store.changes().place.seq // 3  # of three services, all written together
    assert version in (last, last + 1)
    for name in FakeDefinitions.names:
        row = store.row(name)
        assert row is not None
        assert row.version == version  # type: ignore[union-attr]
        assert store.values(name)["count"] == version
        assert [v for (v,) in store.history("DISTINCT version", name)] == list(range(1, version + 1))
    check_whole(store)


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from config_daemon.errors import StoreError
from tests.store.conftest import Store
store = Store(Path(sys.argv[1]))
store.set(gain=2)
wal = store.path.with_name("config.db-wal")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 5000, unlimited[1]))
try:
    store.set(gain=3, model="x" * 100_000)
    told = "stored"
except StoreError as error:
    told = f"{type(error).__name__} {error.exit_code}"
before = store.values()
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
print(json.dumps([told, before, store.set(gain=4).version]))
"""


def test_a_write_that_the_disk_refuses_is_not_acknowledged_and_the_next_one_is_stored(store: Store) -> None:
    store.set(gain=1)
    store.close()
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(store.files.folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(child.stdout) == ["StoreFailing 69", {"gain": 2}, 3], child.stderr
    assert store.values() == {"gain": 4}
    check_whole(store)
