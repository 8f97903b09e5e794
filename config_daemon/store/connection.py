"""Open a SQLite database of ours, and turn what SQLite answers into our errors.

Laws: opening never creates (`mode=rw`) and never waits; the file is never opened by anything but SQLite;
every error of SQLite is translated here, by its code and not by its text.

Sources: https://www.sqlite.org/rescode.html, https://www.sqlite.org/howtocorrupt.html (§2, POSIX locks).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from config_daemon.errors import (
    SchemaMismatch,
    SchemaOutdated,
    StoreCannotOpen,
    StoreCorrupted,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreReadOnly,
    StoreStarved,
)
from config_daemon.store.files import has_descriptors, has_room

APPLICATION_ID = 0x43464744  # "CFGD"
FORMAT_VERSION = 2
CUT_OFF = "IOERR_SHORT_READ"  # SQLite's own name for it
_WAL_HEAD, _FRAME_HEAD = 32, 24  # bytes; https://www.sqlite.org/fileformat2.html#the_write_ahead_log
_LOCKED, _CORRUPTED = {5, 6, 15}, {11, 26}
_PROTOCOL = 15
_READONLY, _IOERR, _FULL, _CANTOPEN = 8, 10, 13, 14
_SHAPE = ("no such table", "no such column", "has no column named")  # SQLite has no code of its own for them


def connect(
    path: Path, busy_timeout_ms: int = 0, *, any_format: bool = False, read_only: bool = False
) -> apsw.Connection:
    """Open an existing database of ours; one of another format only to migrate it, a damaged one only to read.

    Raises: StoreMissing, StoreCannotOpen, StoreCorrupted, StoreLocked, StoreFailing, SchemaMismatch.
    """
    refuse_special(path)
    with translated(path):
        mode, flag = ("ro", apsw.SQLITE_OPEN_READONLY) if read_only else ("rw", apsw.SQLITE_OPEN_READWRITE)
        connection = apsw.Connection(
            f"file:{quote(str(path))}?mode={mode}", flags=flag | apsw.SQLITE_OPEN_URI
        )
    try:
        with translated(path):
            connection.set_busy_timeout(busy_timeout_ms)
            connection.execute("PRAGMA synchronous=FULL")
            _check_identity(connection, path)
            if not any_format:
                _check_format(connection, path)
    except StoreError:
        connection.close(True)
        raise
    return connection


def refuse_special(path: Path) -> None:
    """Refuse what is there and no regular file: to open a pipe may take for ever.

    Raises: StoreCannotOpen.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - often asked
    except (OSError, ValueError):
        return  # SQLite says what it is
    if not stat.S_ISREG(mode):
        raise StoreCannotOpen(f"{path} is no regular file", suggestion="Put the database in its place.")


class translated:  # noqa: N801 - used as the function that it could be, were that not slower at every statement
    """Turn apsw's exceptions into ours by result code; the text is for people only."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            return
        if isinstance(error, apsw.Error):
            raise _translation(error, self._path) from error
        if isinstance(error, UnicodeDecodeError):
            raise StoreCorrupted(f"{self._path} holds text that is not UTF-8") from error


def _translation(error: apsw.Error, path: Path) -> StoreError:
    code = getattr(error, "result", 1) & 0xFF
    if code in _LOCKED:  # SQLite gives up with SQLITE_PROTOCOL after some ten seconds, whatever it was told
        return StoreLocked(f"{path} is locked by another process", waited=code == _PROTOCOL)
    if code in _CORRUPTED:
        return StoreCorrupted(f"{path} is damaged: {error}")
    if code in (_CANTOPEN, _IOERR) and not has_descriptors():  # as a full disk, this has many faces
        return StoreStarved(f"{path} cannot be opened: this process may open no more files")
    if code == _CANTOPEN:
        return StoreCannotOpen(f"{path} cannot be opened") if path.exists() else _missing(path)
    if code == _READONLY:
        return StoreReadOnly(f"{path} is read-only")
    if code == _FULL or (code == _IOERR and not has_room(path.parent)):  # a full disk has many faces
        return StoreFull(f"no space left for {path}")
    if code == _IOERR:
        name = apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", code), "SQLITE_IOERR")
        return StoreFailing(f"{path}: {error}", name=str(name).removeprefix("SQLITE_"))
    if code == 1 and any(words in str(error) for words in _SHAPE):
        return SchemaMismatch(f"{path} has another shape: {error}")
    return StoreError(f"{path}: {error}")


def _missing(path: Path) -> StoreMissing:
    return StoreMissing(f"there is no database at {path}")


def rows(connection: apsw.Connection, statement: str, bindings: Sequence[Any] = ()) -> list[Any]:
    """Run one statement and return all its rows."""
    return list(connection.execute(statement, tuple(bindings)))


def first(connection: apsw.Connection, statement: str, default: Any, bindings: Sequence[Any] = ()) -> Any:
    """Return the first value of the first row."""
    found = rows(connection, statement, bindings)
    return found[0][0] if found else default


def _check_identity(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise StoreCorrupted(
            f"{path} is not a config-daemon database (an empty or foreign file)",
            suggestion="Put the right file back, or restore it.",
        )


def _check_format(connection: apsw.Connection, path: Path) -> None:
    version = connection.pragma("user_version")
    if 1 <= version < FORMAT_VERSION:
        raise SchemaOutdated(f"{path} has format {version}, and this program reads format {FORMAT_VERSION}")
    if version != FORMAT_VERSION:
        raise SchemaMismatch(f"{path} has format {version}; this program reads format {FORMAT_VERSION}")


def check(connection: apsw.Connection, path: Path, thorough: bool) -> None:
    """Have SQLite check a file: `integrity_check`, or the quicker one that does not look into indices.

    Raises: StoreCorrupted; StoreError.
    """
    with translated(path):
        found = rows(connection, f"PRAGMA {'integrity' if thorough else 'quick'}_check(1)")
    if found != [("ok",)]:
        raise StoreCorrupted(f"{path} is damaged: {found[0][0]}")


def inspect(path: Path, thorough: bool) -> None:
    """Check a file through a connection of its own, which any thread may.

    Raises: as `connect` and `check`.
    """
    connection = connect(path)
    try:
        check(connection, path, thorough)
    finally:
        connection.close(True)


class Wal:
    """Remembers which `-wal` and `-shm` a connection uses: with others, it and the rest of the world are two.

    Who deletes them takes acknowledged commits along; a connection that kept the old ones would never know.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._page_bytes = path, 0
        self._paths = [f"{path}-wal", f"{path}-shm"]  # no Path: asked at every look
        self._inodes = self._look()

    def same(self) -> bool:
        """Tell whether the files are still the ones; a database that gets its first ones is no other."""
        inodes = self._look()
        self._inodes = [known or found for known, found in zip(self._inodes, inodes, strict=True)]
        return inodes == self._inodes

    def refuse_cut_off(self, connection: apsw.Connection) -> None:
        """Refuse a database whose `-wal` ends before its index in shared memory says that it does.

        SQLite itself finds out when it needs what is missing, and until then goes by its memory; who opens the
        database anew would read what was before. Files that were replaced tell nothing of the connection's: `same`
        is for them. Raises: StoreFailing; StoreError.
        """
        if self._is_cut_off(connection) and self.same() and self._is_cut_off(connection):
            raise StoreFailing(
                f"{self._path}: the end of its -wal is cut off", name=CUT_OFF
            )  # and no checkpoint came between

    def _is_cut_off(self, connection: apsw.Connection) -> bool:
        if connection.readonly("main"):
            return False  # SQLite does not say how long it should be
        with translated(self._path):
            frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            self._page_bytes = self._page_bytes or connection.pragma("page_size")
        return bool(frames > 0) and _size_of(self._paths[0]) < _WAL_HEAD + frames * (
            _FRAME_HEAD + self._page_bytes
        )

    def _look(self) -> list[int | None]:
        return [_inode(path) for path in self._paths]


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - 1 µs instead of 4, at every look
    except OSError:
        return None


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - often asked
    except OSError:
        return 0


def drop(connection: apsw.Connection) -> None:
    """Have a connection write nothing when it is closed: its files are not the database's any more."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


@contextlib.contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Let several statements see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # an error may have ended it
            connection.execute("COMMIT")


def identity_of(path: Path | str) -> tuple[int, int]:
    """Return (device, inode) of the file at `path`.

    Raises: StoreMissing when there is none.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - asked at every look, of a text then
    except OSError as error:
        raise _missing(Path(path)) from error
    return found.st_dev, found.st_ino
