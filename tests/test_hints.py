"""What wakes the loop: a change of the store or of a lock on it, and not everybody who merely looks at it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config_daemon.daemon.events import Hint, Stop
from config_daemon.daemon.inbox import Inbox, Sockets
from config_daemon.daemon.watch import Watch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.db", "store.lock"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def watch(folder: Path) -> Iterator[Watch]:
    made = Watch(merely_opened=["config.db"])
    assert made.start({folder: {"config.db": "store", "store.lock": "store"}}) is None
    yield made
    made.close()


def test_a_file_that_is_opened_for_writing_and_closed_again_is_no_hint(watch: Watch, folder: Path) -> None:
    (folder / "config.db").open("ab").close()
    assert watch.near() == set()


def test_a_file_that_is_written_is_a_hint(watch: Watch, folder: Path) -> None:
    with (folder / "config.db").open("ab") as file:
        file.write(b"a")
    assert watch.near() == {"store"}


def test_a_lock_that_is_let_go_is_a_hint(watch: Watch, folder: Path) -> None:
    (folder / "store.lock").open("ab").close()
    assert watch.near() == {"store"}


def test_a_file_that_was_put_in_place_of_another_is_a_hint(watch: Watch, folder: Path) -> None:
    (folder / "new").touch()
    (folder / "new").rename(folder / "config.db")
    assert watch.near() == {"store"}


def test_what_is_no_hint_wakes_nobody_and_an_event_still_does(watch: Watch, folder: Path) -> None:
    """The daemon itself opens and closes the database four times a second."""
    inbox = Inbox(watch)
    try:
        (folder / "config.db").open("r+b").close()
        began = time.monotonic()
        assert inbox.wait(0.15, Sockets()) == []
        assert time.monotonic() - began >= 0.15
        (folder / "config.db").open("r+b").close()
        inbox.put(Stop())
        assert inbox.wait(30.0, Sockets()) == [Stop()]
        (folder / "config.db").write_bytes(b"x")
        assert inbox.wait(30.0, Sockets()) == [Hint(frozenset({"store"}))]
    finally:
        inbox.close()


def test_what_is_no_hint_may_come_without_end_and_keeps_nobody_from_looking() -> None:
    """Somebody opens and closes the database for ever."""
    ours, theirs = os.pipe()
    ticks = itertools.count()

    class Noise(Watch):
        def descriptors(self) -> tuple[int, ...]:
            return (ours,)

        def near(self) -> set[str]:
            return set()

    inbox = Inbox(Noise(), clock=lambda: next(ticks) / 1000)
    try:
        os.write(theirs, b"x")
        assert inbox.wait(5.0, Sockets()) == []
        assert 5000 <= next(ticks) < 5010
    finally:
        inbox.close()
        os.close(ours)
        os.close(theirs)
