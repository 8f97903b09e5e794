"""The default store: SQLite, read.

Laws: a row is returned only with a seal that fits; several statements that belong together see one moment.

`data_version` tells of commits by others and costs microseconds, but stays still when the file is
replaced: device and inode are compared with it.

Source: https://www.sqlite.org/pragma.html#pragma_data_version
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any

import apsw

from config_daemon.errors import (
    StoreCorrupted,
    StoreFull,
    StoreReadOnly,
)
from config_daemon.store.connection import (
    Wal,
    check,
    connect,
    drop,
    identity_of,
    rows,
    snapshot,
    translated,
)
from config_daemon.store.files import has_room, is_mounted_readonly
from config_daemon.store.ports import BadRow, Changes, Place, Row, StoreFacts, Tombstone, Workers

if TYPE_CHECKING:  # with libsodium behind it: who only looks at versions need not load that
    from config_daemon.store.seals import RowSealer

_READ_MANY = 500
CACHE_KIB = 256  # rows are read once; SQLite would keep 2 MB of their pages
VERSION = "iif(typeof(version) = 'integer', version, 0)"  # 0 for what no writer of ours put there
_LIVE, _DELETED = (
    f"SELECT '{table}', CAST(service AS BLOB), CAST({text} AS BLOB), {VERSION}, CAST(config_epoch AS BLOB),"  # noqa: S608
    f" CAST({at} AS BLOB), CAST({by} AS BLOB), CAST(row_seal AS BLOB) FROM {table} WHERE service IN ({{}})"
    for table, text, at, by in (
        ("service_configs", "config_json", "updated_at", "updated_by"),
        ("deleted_services", "''", "deleted_at", "deleted_by"),
    )
)
_FACTS = ", ".join(
    f"(SELECT {column} FROM {table} WHERE id = 1)"  # noqa: S608
    for table, column in (
        ("config_epoch", "config_epoch"), ("schema_version", "version"), ("schema_version", "model_hash"),
    )
)  # fmt: skip
_SINCE = f"SELECT seq, token, service, {_FACTS} FROM change_feed WHERE seq >= ? ORDER BY seq"  # noqa: S608
_BOTH = f"{_DELETED} UNION ALL {_LIVE}"


class SqliteReader:
    """Reads one database file through one connection, reopened when the file was replaced."""

    def __init__(self, path: Path, sealer: RowSealer) -> None:
        self._path, self._name, self._folder, self._sealer = path, str(path), path.parent, sealer
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._seen: tuple[int, int, int] | None = None
        self._stamps: tuple[object, object] = None, None
        self._wal = Wal(path)

    def moved(self, thorough: bool = True) -> bool:
        """Tell whether anything may have been committed since the last call; `thorough`: or the file replaced."""
        with translated(self._path):
            version = rows(self._verified() if thorough else self._connected(), "PRAGMA data_version")[0][0]
        assert self._identity is not None
        seen = (version, *self._identity)
        moved, self._seen = seen != self._seen, seen
        if moved:
            self._wal.refuse_cut_off(self._connected())
        return moved

    def facts(self) -> StoreFacts:
        """Return the database's identity."""
        with translated(self._path):
            found = _facts(self._connected())
        if found is None:
            raise StoreCorrupted(f"{self._path} has no epoch")
        return found

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
            why = f"{self._path} has no epoch, or no change feed"
            raise StoreCorrupted(why, suggestion="Restore it from a backup.")
        return found

    def read(self, services: Sequence[str]) -> Mapping[str, Row | Tombstone | BadRow]:
        """Return the verified rows of the services that exist."""
        found: dict[str, Row | Tombstone | BadRow] = {}
        with translated(self._path):
            connection = self._connected()
            for start in range(0, len(services), _READ_MANY):
                found |= found_rows(connection, self._sealer, services[start : start + _READ_MANY])
        return found

    def workers(self) -> Workers:
        """Return the workers whose rows fit their seals in the present epoch, and the names of the other rows."""
        from config_daemon.store.workers import read_workers

        epoch = self.facts().epoch
        with translated(self._path):
            return read_workers(self._connected(), self._sealer, epoch)

    def probe(self, afresh: bool) -> None:
        """Take the write lock and let go of it; `afresh`: by another connection, which reads the file's head.

        The same where the file was written since: what one has in memory may be gone from the disk.

        Raises: StoreLocked, StoreReadOnly, StoreFull; StoreError.
        """
        afresh = self._is_touched() or afresh
        connection = connect(self._path) if afresh else self._connected()
        try:
            with translated(self._path):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                is_readonly = connection.readonly("main")
            (Wal(self._path) if afresh else self._wal).refuse_cut_off(connection)
        finally:
            if afresh:
                connection.close(True)
        if is_readonly or is_mounted_readonly(self._folder):
            self.close()  # SQLite began a transaction that only reads; a new connection may be one that writes
            raise StoreReadOnly(f"{self._path} is read-only")
        if not has_room(self._folder):
            raise StoreFull(f"no space left for {self._path}")

    def _is_touched(self) -> bool:
        """Tell whether the file was written or its mode changed; a change counts twice, as files' clocks are slow."""
        try:
            found = self._path.stat()
        except OSError:
            return True  # to open it says why
        stamp = found.st_ino, found.st_size, found.st_ctime_ns
        before, self._stamps = self._stamps, (self._stamps[1], stamp)
        return before != (stamp, stamp)

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

    def abandon(self) -> None:
        """Close the connection, which writes nothing more: a checkpoint of a damaged `-wal` would spoil the file."""
        if self._connection is not None:
            drop(self._connection)
        self.close()

    def _verified(self) -> apsw.Connection:
        """Return a connection to the file that is at the path now."""
        identity = identity_of(self._name)
        if self._connection is not None and (identity != self._identity or not self._wal.same()):
            self.abandon()
        return self._connected()

    def _connected(self) -> apsw.Connection:
        """Return the connection, whose file was the right one when `moved` last looked."""
        if self._connection is None:
            identity = identity_of(self._name)
            self._connection, self._identity = connect(self._path), identity
            with translated(self._path):
                self._connection.pragma("cache_size", -CACHE_KIB)
            self._wal = Wal(self._path)
        return self._connection


def found_rows(
    connection: apsw.Connection, sealer: RowSealer, services: Sequence[str]
) -> dict[str, Row | Tombstone | BadRow]:
    """Return the rows of services with values and of deleted ones; each is what one statement saw at one moment."""
    found = _read(connection, sealer, _LIVE, services)  # nearly always it is all
    others = [service for service in services if service not in found]
    return found | _read(connection, sealer, _BOTH, others) if others else found


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
    for table, name, text, version, *others in rows(connection, _asking(statement, len(services)), services):
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


@lru_cache(maxsize=8)
def _asking(statement: str, count: int) -> str:
    """Return a statement that asks for a number of services."""
    places = ",".join(f"?{number}" for number in range(1, count + 1))
    return statement.format(places, places)


def _text(content: bytes | None) -> Any:
    return None if content is None else content.decode("utf-8", "backslashreplace")


def _since(connection: apsw.Connection, since: Place) -> Changes | None:
    found = rows(connection, _SINCE, (since.seq,))
    if not found or found[0][:2] != (*since,):
        with snapshot(connection):
            return _changes(connection, None)
    last: dict[str, None] = {}
    for _, _, service, *_ in found[1:]:
        last.pop(service, None)
        last[service] = None
    facts = _sane_facts(*found[-1][3:])
    if facts is None or not isinstance(found[-1][1], str):
        return None
    return Changes(_names(last), Place(*found[-1][:2]), "" in last, facts)


def _all(connection: apsw.Connection) -> Changes | None:
    with snapshot(connection):
        found = rows(
            connection, "SELECT service FROM service_configs UNION SELECT service FROM deleted_services"
        )
        return _changes(connection, _names(service for (service,) in found))


def _changes(connection: apsw.Connection, services: tuple[str, ...] | None) -> Changes | None:
    newest, facts = _newest(connection), _facts(connection)
    return None if newest is None or facts is None else Changes(services, newest, True, facts)


def _facts(connection: apsw.Connection) -> StoreFacts | None:
    return _sane_facts(*rows(connection, f"SELECT {_FACTS}")[0])


def _sane_facts(epoch: object, version: object, model_hash: object) -> StoreFacts | None:
    if isinstance(epoch, str) and isinstance(version, int) and isinstance(model_hash, str):
        return StoreFacts(epoch, version, model_hash)
    return None


def _newest(connection: apsw.Connection) -> Place | None:
    found = rows(connection, "SELECT seq, token FROM change_feed ORDER BY seq DESC LIMIT 1")
    return Place(*found[0]) if found and isinstance(found[0][1], str) else None


def _names(found: Iterable[Any]) -> tuple[str, ...]:
    """Keep what can be a service's name; a row of the feed without one marks a place, or a change of a worker."""
    return tuple(service for service in found if isinstance(service, str) and service)
