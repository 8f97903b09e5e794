"""Bring an older database to this program's format, or leave it as it was.

Laws: nobody else writes meanwhile; before anything changes there is a copy that was read again and found whole;
all missing scripts and the new format are one transaction, which is committed only when every row is as it was
sealed; a database that does not verify on disk afterwards is replaced by what the copy holds, its `-wal` and `-shm`
moved away with it. After a kill at any step the next start goes on, and finds one format or the other, whole.

Sources: https://www.sqlite.org/lang_vacuum.html (INTO), https://www.sqlite.org/howtocorrupt.html (§1.4, hot
journals left behind).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import NamedTuple

import apsw

from config_daemon import failpoints
from config_daemon.errors import StoreCorrupted, StoreError, StoreLocked
from config_daemon.store import locks, quarantine
from config_daemon.store.connection import check, connect, first, rows, translated
from config_daemon.store.files import SHARED_MODE, Files, sync_folder
from config_daemon.store.schema import migrations
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import live_rows, tombstones
from config_daemon.store.workers import read_workers

LOCK_SECONDS = 10.0
BUSY_MS = 5000
KEPT_COPIES = 5
_READ_MANY = 500
_UNFINISHED = ".copying-"


class _Content(NamedTuple):
    """What must be the same before and after: the epoch, and a digest of all rows with the verdicts on their seals."""

    epoch: str
    digest: str


def upgrade(
    files: Files,
    sealer: RowSealer,
    *,
    now: str,
    begun: Callable[[], None],
    scripts: Sequence[str] | None = None,
) -> Path | None:
    """Migrate the database if it is older; return the copy of it as it was, None when there was nothing to do.

    The caller holds `daemon.lock`. `scripts` are all there are, `begun` is called before anything changes. A
    database that is missing, damaged or newer is left to its readers. Raises: StoreError, OSError; the database
    is then as it was before.
    """
    scripts = migrations() if scripts is None else scripts
    path = files.database
    if not _is_older(path, len(scripts)) and _prepared(path) is None:
        return None
    begun()
    with _alone(files.store_lock):
        _tidy(path)
        prepared = _prepared(path)
        if prepared is not None:
            _put_in_place(path, prepared)
        stamp = now.replace(":", "")
        copy, content = _migrate(path, sealer, scripts, stamp)
        failpoints.reached("after_upgrade")
        try:
            _verify(path, sealer, len(scripts), content)
        except StoreLocked:
            raise
        except StoreError as error:
            _put_in_place(path, _copy(copy, _prepared_name(path, stamp), lambda _: None))
            raise StoreCorrupted(
                f"{path} was damaged by its migration, and was put back as it was from {copy}: {error.message}",
                suggestion=f"Report this with the files in {quarantine.folder_of(path)}.",
            ) from error
    return copy


def _is_older(path: Path, newest: int) -> bool:
    try:
        connection = connect(path, any_format=True)
    except StoreError:
        return False
    try:
        with translated(path):
            version: int = connection.pragma("user_version")
            return 1 <= version < newest
    finally:
        connection.close(True)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    until = time.monotonic() + LOCK_SECONDS
    while (held := locks.take(lock)) is None:
        if time.monotonic() >= until:
            raise StoreLocked("somebody is writing to the database, which has to be migrated")
    try:
        yield
    finally:
        locks.release(held)


def _migrate(path: Path, sealer: RowSealer, scripts: Sequence[str], stamp: str) -> tuple[Path, _Content]:
    """Copy the database, then migrate it; return the copy and what both hold."""
    connection = connect(path, BUSY_MS, any_format=True)
    try:
        with translated(path):
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("BEGIN IMMEDIATE")  # so no write comes between copy and migration
            before = connection.pragma("user_version")
            content = _content(connection, path, sealer)
            copy = _copy(
                path,
                path.with_name(f"{path.name}.format-{before}.{stamp}"),
                lambda made: _verify(made, sealer, before, content),
            )
            failpoints.reached("after_store_copy")
            for script in scripts[before:]:
                rows(connection, script)
            connection.pragma("user_version", len(scripts))
            if not connection.in_transaction or _content(connection, path, sealer) != content:
                raise StoreCorrupted("the migration does not leave all rows as they were sealed")
            failpoints.reached("before_upgrade")
            connection.execute("COMMIT")
    finally:
        connection.close(True)  # what was not committed is undone
    return copy, content


def _content(connection: apsw.Connection, path: Path, sealer: RowSealer) -> _Content:
    """Return what a database holds that SQLite finds whole; StoreCorrupted when it does not."""
    check(connection, path, thorough=True)
    total = hashlib.sha256()
    for table, read in (("service_configs", live_rows), ("deleted_services", tombstones)):
        names = [name for (name,) in rows(connection, f"SELECT service FROM {table} ORDER BY service")]  # noqa: S608
        for start in range(0, len(names), _READ_MANY):
            held = read(connection, sealer, names[start : start + _READ_MANY])
            total.update(repr(sorted(held.items())).encode())
    if ("workers",) in rows(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'"):
        held_workers = read_workers(connection, sealer, _epoch(connection))
        if held_workers.rows or held_workers.altered:  # the format before the table had none
            total.update(repr((sorted(held_workers.rows.items()), held_workers.altered)).encode())
    return _Content(_epoch(connection), total.hexdigest())


def _epoch(connection: apsw.Connection) -> str:
    epoch: str = first(connection, "SELECT config_epoch FROM config_epoch", "")
    return epoch


def _verify(path: Path, sealer: RowSealer, version: int, content: _Content) -> None:
    connection = connect(path, BUSY_MS, any_format=True)
    try:
        with translated(path):
            if connection.pragma("user_version") != version or _content(connection, path, sealer) != content:
                raise StoreCorrupted(f"{path} does not hold what it should")
    finally:
        connection.close(True)


def _copy(source: Path, target: Path, verify: Callable[[Path], None]) -> Path:
    """Copy a database; the target appears under its name when it is complete, synced and verified."""
    beside = target.with_name(f"{_UNFINISHED}{target.name.lstrip('.')}")
    try:
        connection = connect(source, BUSY_MS, any_format=True)
        try:
            with translated(source):
                connection.execute("PRAGMA synchronous=EXTRA")  # the copy is synced as the source would be
                connection.execute("VACUUM INTO ?", (str(beside),))
        finally:
            connection.close(True)
        beside.chmod(SHARED_MODE)
        verify(beside)
        failpoints.reached("amid_store_copy")
        beside.rename(target)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(target.parent)
    return target


def _put_in_place(path: Path, prepared: Path) -> None:
    """Move a database and what lies beside it into quarantine, and another one to its place; may be done twice."""
    failpoints.reached("before_put_back")
    stamp = f"{prepared.name.rpartition('-back.')[2]}-migration"
    quarantine.move(path, stamp)
    failpoints.reached("amid_put_back")
    prepared.rename(path)
    sync_folder(path.parent)
    failpoints.reached("after_put_back")
    quarantine.prune(path, stamp)


def _prepared_name(path: Path, stamp: str) -> Path:
    return path.with_name(f".{path.name}.put-back.{stamp}")


def _prepared(path: Path) -> Path | None:
    """Return the database that was about to be put in place when the process died."""
    pattern = escape(_prepared_name(path, "").name)
    return next(iter(sorted(path.parent.glob(f"{pattern}*"))), None)


def _tidy(path: Path) -> None:
    """Remove what a killed copy left, and all but the newest copies."""
    name = escape(path.name)
    for left in path.parent.glob(f"{_UNFINISHED}{name}.*"):
        left.unlink()
    for old in sorted(path.parent.glob(f"{name}.format-*"))[:-KEPT_COPIES]:
        old.unlink()
