"""Rows 43 to 50: the disk, the descriptors, the clock, `.env`, inotify, the cache's file."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from config_daemon.store import cache
from tools.faults.hands import Clock, checkpoint, client, copy_database, live, overwrite, put_database
from tools.faults.run import fault
from tools.faults.stage import Stage

HOUR, YEAR = 3600.0, 365 * 86400.0
FIXED = {"svc-0": {"fixed": ["as shipped", "of env", "of another env"]}}


# the disk -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _limited(stage: Stage, what: int, count: int) -> Iterator[None]:
    """Give the running daemon less of something for a while."""
    assert stage.daemon is not None
    before = resource.prlimit(stage.daemon.pid, what)
    resource.prlimit(stage.daemon.pid, what, (count, before[1]))
    try:
        yield
    finally:
        resource.prlimit(stage.daemon.pid, what, before)


@fault(43, "no-file-grows", rate=20)
def no_file_grows(stage: Stage) -> None:
    """The daemon can write nothing any more, as on a full disk: it says so, its files are the old ones, it recovers."""
    before = stage.files.cache.read_bytes()
    with _limited(stage, resource.RLIMIT_FSIZE, 0):
        stage.see(condition="lkg-unwritable")
        stage.pass_time(stage.scaled(0.3, 30))
        kept = stage.files.cache.read_bytes()
        cache.load(stage.files.cache, stage.ground.keys.hmac_keys())
        stage.must(len(kept) >= len(before) // 2, "the cache is a whole one")


@contextlib.contextmanager
def _tmpfs(stage: Stage) -> Iterator[None]:
    """Move the data folder onto a file system of a megabyte and a half."""
    stage.kill_daemon()
    kept = stage.folder / "kept"
    shutil.copytree(stage.data, kept)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k,mode=2770", "none", str(stage.data)], check=True
    )
    shutil.copytree(kept, stage.data, dirs_exist_ok=True)
    try:
        stage.start_daemon()
        stage.until(lambda: stage.connected() and stage.confirmed(), "the daemon on the small file system")
        yield
    finally:
        stage.kill_daemon()
        shutil.rmtree(kept)
        shutil.copytree(stage.data, kept)
        subprocess.run(["umount", "-l", str(stage.data)], check=True)
        shutil.rmtree(stage.data)
        kept.rename(stage.data)
        stage.start_daemon()


@fault(43, "disk-full", rate=0, in_check=False, options={"patience": 20})
def disk_full(stage: Stage) -> None:
    """The file system is full while people write: they are refused, nothing old is harmed, it recovers by itself."""
    with _tmpfs(stage):
        writer, filler = stage.writer(), stage.data / "filler"
        with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(4096))
        refused = [writer.write(stage.rng.choice(stage.services), padding="x" * 2000) for _ in range(40)]
        stage.must(None in refused, "a full disk takes no more writes")
        filler.unlink()
        version = stage.until(lambda: writer.write(stage.services[0], padding=""), "a write")
        stage.until(lambda: stage.in_force({stage.services[0]: version}), "what was written after it")
        writer.close()


@fault(44, "read-only", rate=0, in_check=False, options={"patience": 20})
def read_only(stage: Stage) -> None:
    """Whatever is opened from now on is read-only, and back: it says so, writers are refused, and it recovers."""
    writer = stage.writer()
    stage.must(writer.write(stage.services[0]), "a write before")
    writer.close()
    # in one command: what is opened for writing between a mount and its remount makes it busy
    subprocess.run(["mount", "--bind", "-o", "ro", str(stage.data), str(stage.data)], check=True)
    try:
        stage.see(within=8, condition="db-readonly", ok=False, mode="read-only-fallback")
        stage.must(writer.write(stage.services[0]) is None, "no write while it is read-only")
    finally:
        subprocess.run(["umount", "-l", str(stage.data)], check=True)
    version = stage.until(lambda: writer.write(stage.services[0]), "a write")
    stage.until(lambda: stage.in_force({stage.services[0]: version}), "what was written after it")


@fault(46, "no-descriptors", rate=20, options={"patience": 60})
def no_descriptors(stage: Stage) -> None:
    """The daemon can open nothing any more, and loses its broker meanwhile: no file is harmed, it comes back."""
    assert stage.daemon is not None
    open_now = len(list(Path(f"/proc/{stage.daemon.pid}/fd").iterdir()))
    with _limited(stage, resource.RLIMIT_NOFILE, open_now):
        stage.see(within=5, condition="fd-exhausted", ok=False)
        stage.broker.stop()
        stage.broker.start()
        stage.pass_time(stage.scaled(1, 30))
        stage.must(stage.daemon.running, f"the daemon lives; {stage.daemon.said[-300:]}")
        cache.load(stage.files.cache, stage.ground.keys.hmac_keys())
    stage.until(stage.connected, "the daemon again", 60)


# the clock ----------------------------------------------------------------------------------------


@fault(47, "clock-back-and-killed", rate=0)
def clock_back_and_killed(stage: Stage) -> None:
    """The daemon is killed before the cache knows, and starts with a clock an hour behind: no number is used twice."""
    clock = Clock(stage)
    stage.kill_daemon()
    daemon = stage.start_daemon("before_lkg_rename:kill:1")
    stage.until(stage.connected, "the daemon")
    stage.write_each()
    stage.must(daemon.wait() != 0, "the daemon was to die before its cache was in place")
    clock.turn(-HOUR)
    stage.start_daemon(**clock.environment)
    stage.until(stage.connected, "the daemon")
    stage.write_each()
    stage.until(lambda: stage.in_force(stage.stored_versions()), "what was written then")
    clock.turn(0)


@fault(47, "clock-jumps", rate=20)
def clock_jumps(stage: Stage) -> None:
    """The clock is a year ahead, a year behind, an hour off, at the start and while it runs: nothing is refused."""
    clock, jumps = Clock(stage), [YEAR, -YEAR, HOUR, -HOUR, 0.5, 1.0]
    stage.rng.shuffle(jumps)
    for at_start, running in zip(jumps[::2], jumps[1::2], strict=True) if stage.full else [jumps[:2]]:
        stage.kill_daemon()
        clock.turn(at_start)
        stage.start_daemon(**clock.environment)
        stage.until(stage.connected, "the daemon")
        for seconds in (running, 0.0):
            clock.turn(seconds)
            newest = stage.stored_versions()
            stage.until(
                lambda newest=newest: stage.in_force(newest), f"what was written, with the clock at {seconds}"
            )


# .env ---------------------------------------------------------------------------------------------


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(".env.swp")
    beside.write_bytes(content)
    beside.chmod(0o600)
    beside.replace(path)


def _linked(path: Path, good: bytes) -> None:
    """Put a symbolic link to an empty file there."""
    other = path.with_name(".env.elsewhere")
    other.write_bytes(b"")
    path.unlink()
    path.symlink_to(other)


ENV_DAMAGES: dict[str, Callable[[Path, bytes], object]] = {
    "half": lambda path, good: path.write_bytes(good[: len(good) // 2]),
    "deleted": lambda path, good: path.unlink(),
    "emptied": lambda path, good: path.write_bytes(b""),
    "large": lambda path, good: _replace(path, good + b"#" * (1 << 20) + b"\nODD LINE\n"),
    "quoting": lambda path, good: _replace(path, good + b'SVC_1__FIXED="half a line\n'),
    "nul": lambda path, good: _replace(path, good.replace(b"of env", b"of\0env")),
    "linked": _linked,
}


@fault(48, "env-damaged", rate=0, options={"overlays": FIXED})
def env_damaged(stage: Stage) -> None:
    """`.env` is half written, gone, too large, badly quoted, a link: the values read before stay in force."""
    path = stage.files.environment
    good = path.read_bytes() + b'SVC_0__FIXED="of env"\n'
    _replace(path, good)
    stage.until(lambda: _given(stage) == "of env", "the value of .env")
    for name in ENV_DAMAGES if stage.full else stage.rng.sample(list(ENV_DAMAGES), 2):
        ENV_DAMAGES[name](path, good)
        stage.until(
            lambda: stage.conditions & {"env-invalid", "env-missing", "keys-unusable"},
            f"a condition after {name}",
        )
        stage.pass_time(stage.scaled(0.3, 3))
        stage.must(_given(stage) == "of env", f"the value read before, after {name}: {_given(stage)}")
        _replace(path, good)
        stage.until(
            lambda: not stage.conditions & {"env-invalid", "env-missing", "keys-unusable"},
            f"well after {name}",
        )
    _replace(path, good.replace(b"of env", b"of another env"))
    stage.until(lambda: _given(stage) == "of another env", "the next value, as an editor writes it")


def _given(stage: Stage) -> object:
    """Return the value that .env fixes, as a worker was given it last."""
    given = (
        line["config"]["fixed"] for line in reversed(stage.reports("edge-1")) if line.get("given") == "svc-0"
    )
    return next(given, None)


@fault(49, "no-inotify", rate=0, in_check=False)
def no_inotify(stage: Stage) -> None:
    """There is no inotify to be had: the daemon says so and finds changes by looking."""
    stage.kill_daemon()
    limit = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    stage.start_daemon(wrap=("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh"))
    stage.see(condition="watch-degraded")
    stage.write_each()
    stage.until(lambda: stage.in_force(stage.stored_versions()), "what was written")


# the cache's file ---------------------------------------------------------------------------------


def _moved(path: Path) -> None:
    """Put a symbolic link to the good file in its place."""
    other = path.with_name("elsewhere.json")
    path.rename(other)
    path.symlink_to(other)


CACHE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "tampered": lambda path: path.write_bytes(path.read_bytes().replace(b'"count":', b'"kount":', 1)),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "of another key": lambda path: path.write_bytes(
        path.read_bytes()[:-60] + b',"signature":"' + b"A" * 43 + b'="}'
    ),
    "linked": _moved,
}


@fault(50, "cache-damaged", rate=0)
def cache_damaged(stage: Stage) -> None:
    """The cache is tampered with before a start: set aside, told, and made anew from the database."""
    for name in CACHE_DAMAGES if stage.full else stage.rng.sample(list(CACHE_DAMAGES), 1):
        stage.kill_daemon()
        CACHE_DAMAGES[name](stage.files.cache)
        stage.start_daemon()
        stage.see(condition="lkg-tampered")
        stage.until(lambda: stage.connected() and _is_good(stage), f"a new cache after {name}")


def _is_good(stage: Stage) -> bool:
    with contextlib.suppress(Exception):
        return stage.cache_is_new()
    return False


@fault(50, "cache-older", rate=0)
def cache_older(stage: Stage) -> None:
    """An older valid cache is put back before a start: the database and the broker count."""
    old = stage.files.cache.read_bytes()
    stage.write_each()
    stage.until(lambda: stage.in_force(stage.stored_versions()), "the second versions")
    stage.until(stage.cache_is_new, "the cache")
    stage.kill_daemon()
    stage.files.cache.write_bytes(old)
    stage.start_daemon()
    stage.until(lambda: stage.connected() and _is_good(stage), "a new cache")


@fault(50, "cache-and-database-damaged", rate=0)
def cache_and_database_damaged(stage: Stage) -> None:
    """Both are damaged and the broker is empty: nothing at all is published until the database is back."""
    stage.kill_daemon()
    checkpoint(stage)
    good = copy_database(stage)
    overwrite(stage.files.database, 0, bytes(100))
    CACHE_DAMAGES["tampered"](stage.files.cache)
    stage.broker.wipe()
    with client(stage) as listener:
        stage.wrong(within=0)
        stage.start_daemon()
        stage.see(status="corrupted", mode="read-only-fallback", ok=False, lkg_cache_valid=False)
        stage.pass_time(0.5)
        sent = [service for service in stage.services if live(listener, service)]
        stage.must(not sent, f"nothing is published: {sent}")
        stage.right()
    stage.kill_daemon()
    put_database(stage, good)
    stage.start_daemon()
    stage.until(lambda: stage.connected() and stage.confirmed(), "well again")
