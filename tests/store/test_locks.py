"""One daemon per folder, and no write while the database is being recovered; the kernel frees what the dead held."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config_daemon.errors import StoreUnavailable
from config_daemon.store import locks
from tests.store.conftest import Store

FORK = multiprocessing.get_context("fork")


def _hold(path: Path, kind: str, told: Any) -> None:
    if kind == "exclusive":
        told.send(locks.take(path) is not None)
        told.recv()
    else:
        with locks.shared(path, 5):
            told.send(True)
            told.recv()


@contextmanager
def held_by_another(path: Path, kind: str = "exclusive") -> Iterator[multiprocessing.process.BaseProcess]:
    here, there = FORK.Pipe()
    child = FORK.Process(target=_hold, args=(path, kind, there))
    child.start()
    assert here.recv() is True
    yield child
    if child.is_alive():
        here.send(None)
    child.join(20)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "daemon.lock"


def test_a_lock_is_taken_by_one_process_only(lock: Path) -> None:
    with held_by_another(lock):
        assert locks.is_held(lock)
        assert locks.take(lock) is None
        with pytest.raises(StoreUnavailable), locks.shared(lock, 0):
            pass
    assert not locks.is_held(lock)
    taken = locks.take(lock)
    assert taken is not None
    assert locks.is_held(lock)
    assert locks.take(lock) is None  # nor twice by the same process
    locks.release(taken)
    assert not locks.is_held(lock)


def test_the_lock_of_a_killed_process_is_free(lock: Path) -> None:
    with held_by_another(lock) as child:
        child.kill()
        child.join(20)
        assert not locks.is_held(lock)
        taken = locks.take(lock)
        assert taken is not None
        locks.release(taken)


def test_writers_share_a_lock_and_keep_a_recovery_out(lock: Path) -> None:
    with held_by_another(lock, "shared"):
        with locks.shared(lock, 0):
            assert not locks.is_held(lock)
            assert locks.take(lock) is None
        assert locks.take(lock) is None
    taken = locks.take(lock)
    assert taken is not None
    locks.release(taken)


def test_a_lock_is_given_back_when_what_it_guards_fails(lock: Path) -> None:
    with pytest.raises(ZeroDivisionError), locks.shared(lock, 0):
        raise ZeroDivisionError
    taken = locks.take(lock)
    assert taken is not None
    locks.release(taken)


def test_a_lock_that_nobody_ever_took_is_not_held_and_not_made_by_asking(lock: Path) -> None:
    assert not locks.is_held(lock)
    assert not lock.exists()


@contextmanager
def released_at_try(number: int, descriptor: int) -> Iterator[list[int]]:
    """Let go of a lock when somebody tries to take it for the nth time."""
    tries: list[int] = []
    really = locks._try

    def count(tried: int, kind: int) -> bool:
        tries.append(kind)
        if len(tries) == number:
            os.close(descriptor)
        return really(tried, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "_try", count)
        yield tries


def test_asking_whether_a_daemon_lives_keeps_none_from_starting(lock: Path) -> None:
    """To ask is to hold the lock for a moment; what meets it in that moment is no second daemon."""
    asking = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(asking, fcntl.LOCK_SH)
    with released_at_try(3, asking):
        taken = locks.take(lock)
    assert taken is not None
    locks.release(taken)


def test_the_group_may_use_a_lock_whatever_the_umask(lock: Path) -> None:
    before = os.umask(0o077)
    try:
        with locks.shared(lock, 0):
            assert stat.S_IMODE(lock.stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_a_lock_is_not_taken_through_a_link(lock: Path, tmp_path: Path) -> None:
    lock.symlink_to(tmp_path / "victim")
    with pytest.raises(StoreUnavailable), locks.shared(lock, 0):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_writer_waits_a_quarter_of_a_second_for_a_recovery_and_then_says_so(store: Store) -> None:
    store.set(gain=1)
    store.close()
    with held_by_another(store.files.store_lock):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="recovered"):
            store.set(gain=2)
        assert 0.25 <= time.monotonic() - began < 0.75
    assert store.set(gain=2).version == 2


def test_a_recovery_that_ends_in_time_hinders_nobody(store: Store) -> None:
    recovery = locks.take(store.files.store_lock)
    assert recovery is not None
    with released_at_try(3, recovery) as tries:
        assert store.set(gain=2).version == 1
    assert len(tries) == 3


@pytest.mark.parametrize("folder", ["missing", "a-file"])
def test_where_there_can_be_no_lock_nothing_is_written(store: Store, folder: str) -> None:
    (store.files.folder / "a-file").touch()
    writer = store.writer()
    writer._lock = store.files.folder / folder / "store.lock"
    with pytest.raises(StoreUnavailable, match="lock"):
        writer.commit([], by="test")
