"""Files are replaced whole or not at all, with the mode that was meant, and never through a link."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config_daemon.store.files import Files, read_capped, replace, replace_durably
from tests.store.conftest import names

FORK = multiprocessing.get_context("fork")
OLD, NEW = b"old" * 5000, b"new" * 9000
Replace = Callable[[Path, bytes, int], None]


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "marks.json"
    path.write_bytes(OLD)
    return path


@pytest.mark.parametrize("put", [replace_durably, replace])
def test_a_file_is_made_and_replaced_with_its_mode_whatever_the_umask(
    tmp_path: Path, umask: int, put: Replace
) -> None:
    for mode in (0o600, 0o640, 0o660):
        for content in (b"first", b"second, longer", b""):
            put(tmp_path / "f", content, mode)
            assert (tmp_path / "f").read_bytes() == content
            assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("put", [replace_durably, replace])
def test_a_link_is_replaced_and_not_written_through(path: Path, put: Replace) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    put(link, NEW, 0o600)
    assert not link.is_symlink()
    assert (link.read_bytes(), path.read_bytes()) == (NEW, OLD)


@pytest.mark.parametrize("put", [replace_durably, replace])
@pytest.mark.parametrize("trap", ["symlink", "hardlink", "fifo", "leftover"])
def test_what_lies_in_the_place_of_the_temporary_file_is_neither_written_nor_followed(
    path: Path, put: Replace, trap: str
) -> None:
    victim, beside = path.with_name("victim"), path.with_name(f".{path.name}.{os.getpid()}.new")
    victim.write_bytes(b"precious")
    victim.chmod(0o604)
    traps: dict[str, Callable[[], object]] = {
        "symlink": lambda: beside.symlink_to(victim),
        "hardlink": lambda: beside.hardlink_to(victim),
        "fifo": lambda: os.mkfifo(beside),
        "leftover": lambda: beside.write_bytes(b"half"),
    }
    traps[trap]()
    put(path, NEW, 0o600)
    assert path.read_bytes() == NEW
    assert victim.read_bytes() == b"precious"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o604


@pytest.mark.parametrize("step", ["open", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("put", [replace_durably, replace])
def test_after_a_failure_the_old_file_is_there_and_nothing_else(
    path: Path, put: Replace, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path if step == "replace" else os, step, fail)
        try:
            put(path, NEW, 0o600)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert path.read_bytes() == OLD
        else:  # a copy for readers is not synced
            assert (put, step) == (replace, "fsync")
            assert path.read_bytes() == NEW
    assert names(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    """A write that is cut short is a failure, not a shorter file."""
    child = FORK.Process(target=_replace_with_little_room, args=(path,))
    child.start()
    child.join(20)
    assert child.exitcode == 7
    assert path.read_bytes() == OLD
    assert names(path.parent) == [path.name]


def _replace_with_little_room(path: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, len(NEW) // 2))
    try:
        replace_durably(path, NEW)
    except OSError:
        os._exit(7)


def _replace_until_killed(path: Path, told: Any) -> None:
    turn = 0
    while True:
        replace_durably(path, (OLD, NEW)[turn % 2])
        told.send(turn)
        turn += 1


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8, 13, 21, 34])
def test_killed_at_any_moment_the_file_is_the_old_or_the_new_one(path: Path, turns: int) -> None:
    here, there = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_replace_until_killed, args=(path, there))
    child.start()
    while here.recv() < turns:
        assert path.read_bytes() in (OLD, NEW)  # nor does a reader ever see a part
    child.kill()
    child.join(20)
    assert child.exitcode == -signal.SIGKILL
    assert path.read_bytes() in (OLD, NEW)
    replace_durably(path, b"later")
    assert path.read_bytes() == b"later"


def test_the_folder_is_synced_after_the_rename(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut takes the new name away, and with marks a number would be used twice."""
    seen: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        seen.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    replace_durably(path, NEW)
    assert seen == ["file", "rename", "folder"]


def test_a_file_is_read_up_to_its_limit(path: Path) -> None:
    assert read_capped(path, len(OLD)) == OLD
    with pytest.raises(ValueError, match="longer"):
        read_capped(path, len(OLD) - 1)
    path.write_bytes(b"")
    assert read_capped(path, 0) == b""


def test_a_small_file_takes_little_memory_whatever_its_limit(path: Path) -> None:
    tracemalloc.start()
    try:
        assert read_capped(path, 1 << 30) == OLD
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_only_a_file_is_read(path: Path) -> None:
    link, pipe, folder = (path.with_name(name) for name in ("link", "pipe", "folder"))
    link.symlink_to(path)
    os.mkfifo(pipe)  # opening it would wait for a writer, for ever
    folder.mkdir()
    for other in (link, pipe, folder, path.with_name("missing")):
        open_before = len(names(Path("/proc/self/fd")))
        with pytest.raises(OSError):
            read_capped(other, 100)
        assert len(names(Path("/proc/self/fd"))) == open_before


def test_a_folder_names_all_its_files(tmp_path: Path) -> None:
    here = Files.below(tmp_path)
    assert {
        here.database, here.cache, here.epoch, here.environment, here.marks, here.status, here.store_lock,
        here.daemon_lock,
    } == {
        tmp_path / name
        for name in (
            "config.db", "config.lkg.json", "health+epoch.json", ".env", "marks.json", "status.db", "store.lock",
            "daemon.lock",
        )
    }  # fmt: skip
    moved = Files.below(tmp_path, Path("/a/x.db"), Path("/b/lkg"), Path("/c/epoch"))
    assert (moved.database, moved.cache, moved.epoch) == (Path("/a/x.db"), Path("/b/lkg"), Path("/c/epoch"))
    assert moved.marks == here.marks
