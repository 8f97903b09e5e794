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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any
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
)
from config_daemon.store.files import has_room, is_mounted_readonly
from config_daemon.store.ports import BadRow, Changes, Place, Row, StoreFacts, Tombstone

if TYPE_CHECKING:  # with libsodium behind it: who only looks at versions need not load that
    from config_daemon.store.seals import RowSealer

APPLICATION_ID = 0x43464744  # "CFGD"
FORMAT_VERSION = 1
_LOCKED, _CORRUPTED = {5, 6, 15}, {11, 26}
_PROTOCOL = 15
_READONLY, _IOERR, _FULL, _CANTOPEN = 8, 10, 13, 14
_READ_MANY = 500
_SHAPE = ("no such table", "no such column", "has no column named")  # SQLite has no code of its own for them
VERSION = "iif(typeof(version) = 'integer', version, 0)"  # 0 for what no writer of ours put there
_LIVE, _DELETED = (
    f"SELECT '{table}', CAST(service AS BLOB), CAST({text} AS BLOB), {VERSION}, CAST(config_epoch AS BLOB),"  # noqa: S608
    f" CAST({at} AS BLOB), CAST({by} AS BLOB), CAST(row_seal AS BLOB) FROM {table} WHERE service IN ({{}})"
    for table, text, at, by in (
        ("service_configs", "config_json", "updated_at", "updated_by"),
        ("deleted_services", "''", "deleted_at", "deleted_by"),
    )
)
_BOTH = f"{_DELETED} UNION ALL {_LIVE}"


def connect(path: Path, busy_timeout_ms: int = 0, *, any_format: bool = False) -> apsw.Connection:
    """Open an existing database of ours; one of another format only to migrate it.

    Raises: StoreMissing, StoreCannotOpen, StoreCorrupted, StoreLocked, StoreFailing, SchemaMismatch.
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
            if not any_format:
                _check_format(connection, path)
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
        raise _translation(error, path) from error
    except UnicodeDecodeError as error:
        raise StoreCorrupted(f"{path} holds text that is not UTF-8") from error


def _translation(error: apsw.Error, path: Path) -> StoreError:
    code = getattr(error, "result", 1) & 0xFF
    if code in _LOCKED:  # SQLite gives up with SQLITE_PROTOCOL after some ten seconds, whatever it was told
        return StoreLocked(f"{path} is locked by another process", waited=code == _PROTOCOL)
    if code in _CORRUPTED:
        return StoreCorrupted(f"{path} is damaged: {error}")
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

    def moved(self, thorough: bool = True) -> bool:
        """Tell whether anything may have been committed since the last call; `thorough`: or the file replaced."""
        with translated(self._path):
            version = rows(self._verified() if thorough else self._connected(), "PRAGMA data_version")[0][0]
        assert self._identity is not None
        seen = (version, *self._identity)
        moved, self._seen = seen != self._seen, seen
        return moved

    def facts(self) -> StoreFacts:
        """Return the database's identity."""
        with translated(self._path):
            found = rows(
                self._connected(),
                "SELECT config_epoch, version, model_hash FROM config_epoch c JOIN schema_version s ON c.id = s.id",
            )
        if not found or list(map(type, found[0])) != [str, int, str]:
            raise StoreCorrupted(f"{self._path} has no epoch")
        return StoreFacts(*found[0])

    def holds(self, place: Place) -> bool:
        """Tell whether a place is in this database's change feed."""
        with translated(self._path):
            found = rows(self._connected(), "SELECT token FROM change_feed WHERE seq = ?", (place.seq,))
        return found == [(place.token,)]

    def changes(self, since: Place | None) -> Changes:
        """Return which services changed since a place, in the order of their last change."""
        with translated(self._path):
            found = _all(self._connected()) if since is None else _since(self._connected(), since)
        if found is None:
            raise StoreCorrupted(f"{self._path} has no change feed", suggestion="Restore it from a backup.")
        return found

    def read(self, services: Sequence[str]) -> Mapping[str, Row | Tombstone | BadRow]:
        """Return the verified rows of the services that exist."""
        found: dict[str, Row | Tombstone | BadRow] = {}
        with translated(self._path):
            connection = self._connected()
            for start in range(0, len(services), _READ_MANY):
                found |= found_rows(connection, self._sealer, services[start : start + _READ_MANY])
        return found

    def probe(self, afresh: bool) -> None:
        """Take the write lock and let go of it; `afresh`: by another connection, which reads the file's head.

        Raises: StoreLocked, StoreReadOnly, StoreFull; StoreError.
        """
        connection = connect(self._path) if afresh else self._connected()
        try:
            with translated(self._path):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                is_readonly = connection.readonly("main")
        finally:
            if afresh:
                connection.close(True)
        if is_readonly or is_mounted_readonly(self._path.parent):
            self.close()  # SQLite began a transaction that only reads; a new connection may be one that writes
            raise StoreReadOnly(f"{self._path} is read-only")
        if not has_room(self._path.parent):
            raise StoreFull(f"no space left for {self._path}")

    def check(self, thorough: bool) -> None:
        """Have SQLite check the file.

        Raises: StoreCorrupted; StoreError.
        """
        check(self._connected(), self._path, thorough)

    @property
    def identity(self) -> tuple[int, int] | None:
        """Return device and inode of the file that is open."""
        return self._identity

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close(True)
            self._connection = self._identity = None
        self._seen = None  # another connection counts anew: nothing can be concluded from its number

    def _verified(self) -> apsw.Connection:
        """Return a connection to the file that is at the path now."""
        identity = identity_of(self._path, self._stat)
        if self._connection is not None and (identity != self._identity or not self._wal.same()):
            drop(self._connection)
            self.close()
        return self._connected()

    def _connected(self) -> apsw.Connection:
        """Return the connection, whose file was the right one when `moved` last looked."""
        if self._connection is None:
            identity = identity_of(self._path, self._stat)
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


def found_rows(
    connection: apsw.Connection, sealer: RowSealer, services: Sequence[str]
) -> dict[str, Row | Tombstone | BadRow]:
    """Return the rows of services with values and of deleted ones, in one statement, so of one moment."""
    return _read(connection, sealer, _BOTH, services)


def live_rows(
    connection: apsw.Connection, sealer: RowSealer, services: Sequence[str]
) -> dict[str, Row | Tombstone | BadRow]:
    """Return the rows of the services that have values."""
    return _read(connection, sealer, _LIVE, services)


def tombstones(
    connection: apsw.Connection, sealer: RowSealer, services: Sequence[str]
) -> dict[str, Row | Tombstone | BadRow]:
    """Return the rows of the services that were deleted."""
    return _read(connection, sealer, _DELETED, services)


def _read(
    connection: apsw.Connection, sealer: RowSealer, statement: str, services: Sequence[str]
) -> dict[str, Row | Tombstone | BadRow]:
    """Return rows whose seals fit, or what is there instead; bytes that are no text make one row bad, not all."""
    found: dict[str, Row | Tombstone | BadRow] = {}
    places = ",".join(f"?{number}" for number in range(1, len(services) + 1))
    for table, name, text, version, *others in rows(connection, statement.format(places, places), services):
        service, (epoch, at, by, seal) = intern(_text(name)), map(_text, others)
        if table == "deleted_services" and service in found:
            continue
        row = Row(service, _text(text), version, epoch, at, by)
        if not sealer.fits(seal, table, service, version, epoch, row.text, at, by):
            found[service] = BadRow(service, row)
        elif table == "service_configs":
            found[service] = row
        else:
            found[service] = Tombstone(service, version, epoch)
    return found


def _text(content: bytes | None) -> Any:
    return None if content is None else content.decode("utf-8", "backslashreplace")


def _since(connection: apsw.Connection, since: Place) -> Changes | None:
    found = rows(
        connection, "SELECT seq, token, service FROM change_feed WHERE seq >= ? ORDER BY seq", (since.seq,)
    )
    if not found or found[0][:2] != (*since,):
        newest = _newest(connection)
        return None if newest is None else Changes(None, newest)
    last: dict[str, None] = {}
    for _, _, service in found[1:]:
        last.pop(service, None)
        last[service] = None
    return Changes(_names(last), Place(*found[-1][:2])) if isinstance(found[-1][1], str) else None


def _all(connection: apsw.Connection) -> Changes | None:
    with snapshot(connection):
        newest = _newest(connection)
        found = rows(
            connection, "SELECT service FROM service_configs UNION SELECT service FROM deleted_services"
        )
    return None if newest is None else Changes(_names(service for (service,) in found), newest)


def _newest(connection: apsw.Connection) -> Place | None:
    found = rows(connection, "SELECT seq, token FROM change_feed ORDER BY seq DESC LIMIT 1")
    return Place(*found[0]) if found and isinstance(found[0][1], str) else None


def _names(found: Iterable[Any]) -> tuple[str, ...]:
    """Keep what can be a service's name; a row of the feed without one only marks a place."""
    return tuple(service for service in found if isinstance(service, str) and service)


@contextlib.contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Let several statements see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # an error may have ended it
            connection.execute("COMMIT")


def identity_of(path: Path, stat: Callable[[Path], os.stat_result] = os.stat) -> tuple[int, int]:
    """Return (device, inode) of the file at `path`.

    Raises: StoreMissing when there is none.
    """
    try:
        found = stat(path)
    except OSError as error:
        raise _missing(path) from error
    return found.st_dev, found.st_ino
