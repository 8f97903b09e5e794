"""The rule of a rebuild: no acknowledged write is outside the new database and the account of what was lost."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config_daemon.errors import StoreError, StoreLocked
from config_daemon.store.ports import Edit
from tests.store.conftest import FakeDefinition, FakeDefinitions, Store
from tests.store.rebuilding import House, pages_of

FORK = multiprocessing.get_context("fork")
WRITERS, EACH = 5, 20  # services in all: enough for several pages
PAUSE_SECONDS = 0.02  # 50 a second and writer, if the machine can


End = Callable[[], tuple[dict[str, int], dict[str, Any], dict[str, float]]]


class AnyDefinition(FakeDefinitions):
    def get(self, service: str) -> FakeDefinition | None:
        return FakeDefinition()


def write_on(folder: Path, number: int, stop: Any) -> None:
    """Count up services of its own; note what was acknowledged, and every value that is not the last acknowledged."""
    store = Store(folder)
    writer = store.writer(definitions=AnyDefinition())
    acknowledged: dict[str, int] = {}
    missed: dict[str, tuple[int, int]] = {}
    when: dict[str, float] = {}
    turn = 0
    while not stop.is_set():
        turn += 1
        service = f"w{number}-{turn % EACH:02}"
        seen = [0]

        def count(stored: dict[str, Any], seen: list[int] = seen) -> dict[str, Any]:
            seen[0] = stored.get("rate", 0)
            return {"model": "m", "rate": seen[0] + 1, "text": "x" * 200}

        with contextlib.suppress(StoreError):
            writer.commit([Edit(service, count)], by="test")
            if seen[0] != acknowledged.get(service, 0):
                missed[service] = acknowledged.get(service, 0), seen[0]
            acknowledged[service] = seen[0] + 1
            when[service] = time.monotonic()
        time.sleep(PAUSE_SECONDS)
    (folder / f"writer-{number}").write_text(json.dumps([acknowledged, missed, when]))


@pytest.fixture
def writers(store: Store) -> Iterator[End]:
    """Writers at work; called, it stops them and returns what was acknowledged, and what they missed since."""
    stop = FORK.Event()
    folder = store.files.folder
    processes = [FORK.Process(target=write_on, args=(folder, number, stop)) for number in range(WRITERS)]
    for process in processes:
        process.start()

    def end() -> tuple[dict[str, int], dict[str, Any], dict[str, float]]:
        stop.set()
        for process in processes:
            process.join(30)
        told = [json.loads((folder / f"writer-{number}").read_text()) for number in range(WRITERS)]
        acknowledged, missed, when = (
            {name: each for one in told for name, each in one[part].items()} for part in range(3)
        )
        return acknowledged, missed, when

    yield end
    for process in processes:
        process.kill()


def nothing(_path: Path) -> None:
    """A store in which nothing is wrong."""


def remove(path: Path) -> None:
    for each in path.parent.glob("config.db*"):
        each.unlink()


def remove_wal(path: Path) -> None:
    path.with_name("config.db-wal").unlink(missing_ok=True)


def garble(table: str) -> Callable[[Path], None]:
    def of(path: Path) -> None:
        leaves = pages_of(path, table)
        for page in leaves[len(leaves) // 3 :: 3]:
            # another process, so that nobody's locks are dropped
            subprocess.run(
                ["dd", "if=/dev/urandom", f"of={path}", "bs=4096", f"seek={page - 1}", "count=1", "conv=notrunc"],
                check=True, capture_output=True,
            )  # fmt: skip

    return of


@pytest.mark.parametrize(
    "damage",
    [nothing, remove, remove_wal, garble("service_configs"), garble("change_feed"), garble("config_history")],
    ids=["nothing", "gone", "wal", "rows", "feed", "history"],
)
def test_no_acknowledged_write_is_outside_the_new_database_and_the_account(
    store: Store,
    writers: End,
    damage: Callable[[Path], None],
) -> None:
    house, reader = House(store), store.reader()

    def written(count: int) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(StoreLocked):  # by the first writer, for as long as it opens the store
                if reader.changes(None).place.seq >= count:
                    return
            time.sleep(0.01)

    written(150)
    house.publish()
    written(220)
    place = reader.changes(None).place
    damage(store.path)
    done, over = house.rebuild("rest", places=(place,)), time.monotonic()
    reader = store.reader()
    written(250)
    acknowledged, missed, when = writers()
    assert len(acknowledged) == WRITERS * EACH
    for service, rate in acknowledged.items():
        row = store.row(service)
        found = store.values(service)["rate"] if row is not None else 0
        if when[service] > over:
            assert found == rate, "what was acknowledged after the rebuild is there"
        elif found != rate:
            missed[service] = (rate, found)
    for service, (had, found) in missed.items():
        assert had > found, "nothing comes from anywhere else"
        assert service in done.lost["services"] or done.lost["after"] is not None, (service, had, found)
    if damage in (remove, remove_wal):
        assert missed, "something was lost, or this shows nothing"
    if damage is nothing:
        assert (missed, done.lost["services"], done.lost["after"]) == ({}, {}, None)
