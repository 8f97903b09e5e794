"""The default store: SQLite, read.

Laws: opening never creates (`mode=rw`); the file is never opened by anything but SQLite; a row is
returned only with a seal that fits; every error of SQLite is translated here, by its code.

`data_version` tells of commits by others and costs microseconds, but stays still when the file is
replaced: device and inode are compared with it.

Sources: https://www.sqlite.org/pragma.html#pragma_data_version, https://www.sqlite.org/rescode.html,
https://www.sqlite.org/howtocorrupt.html (§2, POSIX locks).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import apsw

from config_daemon.errors import SchemaMismatch, StoreCorrupted, StoreError, StoreLocked, StoreUnavailable
from config_daemon.store.ports import BadRow, Changes, Place, Row, StoreFacts, Tombstone

if TYPE_CHECKING:  # with libsodium behind it: who only looks at versions need not load that
    from config_daemon.store.seals import RowSealer

APPLICATION_ID = 0x43464744  # "CFGD"
FORMAT_VERSION = 1
_LOCKED = {5, 6, 15}
_CORRUPTED = {11, 26}
_READ_MANY = 500
_SHAPE = ("no such table", "no such column", "has no column named")  # SQLite has no code of its own for them
VERSION = "iif(typeof(version) = 'integer', version, 0)"  # 0 for what no writer of ours put there
_LIVE, _DELETED = (
    f"SELECT CAST(service AS BLOB), CAST({text} AS BLOB), {VERSION}, CAST(config_epoch AS BLOB),"  # noqa: S608
    f" CAST({at} AS BLOB), CAST({by} AS BLOB), CAST(row_seal AS BLOB) FROM {table} WHERE service IN ({{}})"
    for table, text, at, by in (
        ("service_configs", "config_json", "updated_at", "updated_by"),
        ("deleted_services", "''", "deleted_at", "deleted_by"),
    )
)


def connect(path: Path, busy_timeout_ms: int = 0) -> apsw.Connection:
    """Open an existing database of ours.

    Raises: StoreUnavailable when it is not there, StoreCorrupted, StoreLocked, SchemaMismatch.
    """
    with translated(path):
        connection = apsw.Connection(
            f"file:{quote(str(path))}?mode=rw", flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        )
    try:
        with translated(path):
            connection.set_busy_timeout(busy_timeout_ms)
            connection.execute("PRAGMA synchronous=FULL")
            _check_identity(connection, path)
    except StoreError:
        connection.close(True)
        raise
    return connection


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn apsw's exceptions into ours by result code; the text is for people only."""
    try:
        yield
    except apsw.Error as error:
        code = getattr(error, "result", 1) & 0xFF
        if code in _LOCKED:
            raise StoreLocked(f"{path} is locked by another process") from error
        if code in _CORRUPTED:
            raise StoreCorrupted(f"{path} is damaged: {error}") from error
        if code == 14:
            raise StoreUnavailable(
                f"there is no database that can be opened at {path}",
                suggestion="Run `config-daemon init`, or name the right folder with --data.",
            ) from error
        if code == 8:
            raise StoreUnavailable(
                f"{path} is read-only", suggestion="Make the file and its folder writable."
            ) from error
        if code == 13:
            raise StoreUnavailable(
                f"no space left for {path}", suggestion="Free space on that file system."
            ) from error
        if code == 1 and any(words in str(error) for words in _SHAPE):
            raise SchemaMismatch(f"{path} has another shape: {error}") from error
        raise StoreError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise StoreCorrupted(f"{path} holds text that is not UTF-8") from error


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
    version = connection.pragma("user_version")
    if version != FORMAT_VERSION:
        raise SchemaMismatch(f"{path} has format {version}; this program reads format {FORMAT_VERSION}")


class SqliteReader:
    """Reads one database file through one connection, reopened when the file was replaced."""

    def __init__(
        self, path: Path, sealer: RowSealer, stat: Callable[[Path], os.stat_result] = os.stat
    ) -> None:
        self._path, self._sealer, self._stat = path, sealer, stat
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._seen: tuple[int, int, int] | None = None
        self._wal = Wal(path)

    def moved(self) -> bool:
        """Tell whether anything may have been committed, or the file replaced, since the last call."""
        with translated(self._path):
            version = rows(self._open(), "PRAGMA data_version")[0][0]
        assert self._identity is not None
        seen = (version, *self._identity)
        moved, self._seen = seen != self._seen, seen
        return moved

    def facts(self) -> StoreFacts:
        """Return the database's identity."""
        with translated(self._path):
            found = rows(
                self._open(),
                "SELECT config_epoch, version, model_hash FROM config_epoch c JOIN schema_version s ON c.id = s.id",
            )
        if not found or list(map(type, found[0])) != [str, int, str]:
            raise StoreCorrupted(f"{self._path} has no epoch")
        return StoreFacts(*found[0])

    def changes(self, since: Place | None) -> Changes:
        """Return which services changed since a place, in the order of their last change."""
        with translated(self._path):
            connection = self._open()
            with _snapshot(connection):
                newest = rows(connection, "SELECT seq, token FROM change_feed ORDER BY seq DESC LIMIT 1")
                if newest and isinstance(newest[0][1], str):
                    return _changes(connection, since, Place(*newest[0]))
        raise StoreCorrupted(f"{self._path} has no change feed", suggestion="Restore it from a backup.")

    def read(self, services: Sequence[str]) -> Mapping[str, Row | Tombstone | BadRow]:
        """Return the verified rows of the services that exist."""
        found: dict[str, Row | Tombstone | BadRow] = {}
        with translated(self._path):
            connection = self._open()
            with _snapshot(connection):  # or a service that is being deleted is seen in neither table
                for start in range(0, len(services), _READ_MANY):
                    some = services[start : start + _READ_MANY]
                    found |= tombstones(connection, self._sealer, some)
                    found |= live_rows(connection, self._sealer, some)
        return found

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close(True)
            self._connection = self._identity = None
        self._seen = None  # another connection counts anew: nothing can be concluded from its number

    def _open(self) -> apsw.Connection:
        identity = identity_of(self._path, self._stat)
        if self._connection is not None and (identity != self._identity or not self._wal.same()):
            drop(self._connection)
            self.close()
        if self._connection is None:
            self._connection, self._identity = connect(self._path), identity
            self._wal = Wal(self._path)
        return self._connection


class Wal:
    """Remembers which `-wal` and `-shm` a connection uses: with others, it and the rest of the world are two.

    Who deletes them takes acknowledged commits along; a connection that kept the old ones would never know.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm")]
        self._inodes = self._look()

    def same(self) -> bool:
        """Tell whether the files are still the ones; a database that gets its first ones is no other."""
        inodes = self._look()
        self._inodes = [known or found for known, found in zip(self._inodes, inodes, strict=True)]
        return inodes == self._inodes

    def _look(self) -> list[int | None]:
        return [_inode(path) for path in self._paths]


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - 1 µs instead of 4, at every look
    except OSError:
        return None


def drop(connection: apsw.Connection) -> None:
    """Have a connection write nothing when it is closed: its files are not the database's any more."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def live_rows(
    connection: apsw.Connection, sealer: RowSealer, services: Sequence[str]
) -> dict[str, Row | BadRow]:
    """Return the rows of the services that have values."""
    return {
        row.service: row if well_sealed else BadRow(row.service, row)
        for row, well_sealed in _sealed(connection, sealer, "service_configs", _LIVE, services)
    }


def tombstones(
    connection: apsw.Connection, sealer: RowSealer, services: Sequence[str]
) -> dict[str, Tombstone | BadRow]:
    """Return the rows of the services that were deleted."""
    return {
        row.service: Tombstone(row.service, row.version, row.epoch)
        if well_sealed
        else BadRow(row.service, row)
        for row, well_sealed in _sealed(connection, sealer, "deleted_services", _DELETED, services)
    }


def _sealed(
    connection: apsw.Connection, sealer: RowSealer, table: str, statement: str, services: Sequence[str]
) -> Iterator[tuple[Row, bool]]:
    """Yield rows and whether their seals fit; bytes that are no text make one row bad and not all."""
    for service, text, version, *others in rows(
        connection, statement.format(",".join("?" * len(services))), services
    ):
        row = Row(_text(service), _text(text), version, *map(_text, others[:3]))
        yield row, sealer.fits(_text(others[3]), table, row.service, version, row.epoch, row.text, *row[4:])


def _text(content: bytes | None) -> Any:
    return None if content is None else content.decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Let several statements see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # an error may have ended it
            connection.execute("COMMIT")


def _changes(connection: apsw.Connection, since: Place | None, newest: Place) -> Changes:
    statement = "SELECT service FROM service_configs UNION SELECT service FROM deleted_services"
    bindings: tuple[int, ...] = ()
    if since is not None:
        if rows(connection, "SELECT token FROM change_feed WHERE seq = ?", (since.seq,)) != [(since.token,)]:
            return Changes(None, newest)
        statement = "SELECT service FROM change_feed WHERE seq > ? AND service <> '' GROUP BY service ORDER BY max(seq)"
        bindings = (since.seq,)
    found = rows(connection, statement, bindings)
    return Changes(tuple(service for (service,) in found if isinstance(service, str)), newest)


def identity_of(path: Path, stat: Callable[[Path], os.stat_result] = os.stat) -> tuple[int, int]:
    """Return (device, inode) of the file at `path`.

    Raises: StoreUnavailable when there is none.
    """
    try:
        found = stat(path)
    except OSError as error:
        raise StoreUnavailable(
            f"there is no database at {path}",
            suggestion="Run `config-daemon init`, or name the right folder with --data.",
        ) from error
    return found.st_dev, found.st_ino
