"""What can still be read of a damaged database, and how much of it can be believed.

Laws: a row counts only with a service's name and a seal that fits, wherever in the damage it was found;
nothing is written, not even the `-wal` into the file; a database that somebody holds is not a damaged one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import apsw

from config_daemon.errors import StoreCannotOpen, StoreError, StoreLocked
from config_daemon.store.connection import refuse_special, translated
from config_daemon.store.ports import Place, Workers
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import VERSION
from config_daemon.store.stored import REACHED
from config_daemon.store.workers import READ, judged
from config_daemon.wire.topics import is_service

_BUSY_MS = 1000
_TABLES = (
    ("service_configs", "config_json", "updated_at", "updated_by"),
    ("deleted_services", "''", "deleted_at", "deleted_by"),
)
# in both directions, since a damaged page ends each of them at another place
_WAYS = ("NOT INDEXED ORDER BY rowid", "NOT INDEXED ORDER BY rowid DESC", "ORDER BY service")
_NAME = "CASE typeof(service) WHEN 'text' THEN CAST(service AS BLOB) END"
_NAMES = (
    "SELECT service FROM change_feed ORDER BY seq",
    "SELECT service FROM change_feed ORDER BY seq DESC",
    "SELECT DISTINCT service FROM config_history",
)

_LACKING = (
    "SELECT count(*) FROM main.config_history AS ours WHERE service <> '' AND NOT EXISTS"
    " (SELECT 1 FROM copy.config_history AS its WHERE its.id = ours.id AND its.chain = ours.chain)",
    "SELECT count(*) FROM main.encrypted_secrets AS ours WHERE NOT EXISTS"
    " (SELECT 1 FROM copy.encrypted_secrets AS its WHERE its.service = ours.service AND its.key = ours.key"
    " AND its.encrypted_value = ours.encrypted_value)",
)


class Kept(NamedTuple):
    """One service as it will be in another database; `text` is None for a deleted one."""

    service: str
    version: int
    text: str | None
    at: str
    by: str | None


class Salvaged(NamedTuple):
    """What a database showed; None where it did not let itself be read to the end.

    `kept` are rows of the wanted epoch with good seals, `claimed` the highest version that anything says of
    a service, believed or not; `altered` are services of which a row was found that cannot be believed.
    `holds` tells whether it came by the place from which its feed was read; where not, it is another branch.
    `reached` are versions that were lost earlier, `doubled` services with a row and a tombstone;
    `model_hash` names the definitions that the rows are known to fit.
    """

    kept: dict[str, Kept]
    claimed: dict[str, int]
    altered: set[str]
    epoch: str | None
    is_whole: bool
    feed: list[tuple[int, str, str]] | None
    history_rows: int | None
    secrets: int | None
    holds: bool | None
    reached: dict[str, int]
    doubled: set[str]
    model_hash: str | None = None
    workers: Workers = Workers({}, ())
    all_workers: bool = False  # their table was read to its end


NOTHING = Salvaged({}, {}, set(), None, False, None, None, None, None, {}, set())


def salvage(path: Path, sealer: RowSealer, epoch: str | None, names: Iterable[str], since: Place) -> Salvaged:
    """Read what can be read; `epoch` None takes the one that the database names, `names` are looked for one by one.

    The feed is read from a place on. Raises: StoreLocked.
    """
    try:
        refuse_special(path)
        connection = apsw.Connection(
            f"file:{quote(str(path))}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
    except (apsw.Error, StoreCannotOpen):
        return NOTHING
    try:
        connection.set_busy_timeout(_BUSY_MS)
        return _Reading(connection, path, sealer).all(epoch, names, since)
    finally:
        connection.close(True)


def lacking(path: Path, copy: Path) -> tuple[int | None, int | None]:
    """Return how many rows of its history and how many secrets a database has that a copy lacks.

    None where nobody can count them.
    """
    found: list[int | None] = [None, None]
    try:
        refuse_special(path)
        db = apsw.Connection(
            f"file:{quote(str(path))}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
    except (apsw.Error, StoreCannotOpen):
        return None, None
    try:
        db.set_busy_timeout(_BUSY_MS)
        with contextlib.suppress(StoreError), translated(path):
            db.execute("ATTACH ? AS copy", (f"file:{quote(str(copy))}?mode=ro",))
            for place, statement in enumerate(_LACKING):
                with contextlib.suppress(StoreError), translated(path):
                    found[place] = int(next(iter(db.execute(statement)))[0])
    finally:
        db.close(True)
    return found[0], found[1]


class _Reading:
    def __init__(self, db: apsw.Connection, path: Path, sealer: RowSealer) -> None:
        self._db, self._path, self._sealer = db, path, sealer

    def all(self, epoch: str | None, names: Iterable[str], since: Place) -> Salvaged:
        self._db.execute("BEGIN")  # of one moment, where others write meanwhile
        named, _ = self._some("SELECT CAST(config_epoch AS BLOB) FROM config_epoch")
        wanted = epoch or (_text(named[0][0]) if named else None)
        searched = {*names, *(name for way in _NAMES for (name,) in self._some(way)[0])}
        kept: dict[str, Kept] = {}
        claimed, altered, is_whole = self._history(), set(), True
        places: dict[str, set[str]] = {}
        for table in _TABLES:
            found, complete = self._table(table, searched)
            is_whole = is_whole and complete
            for row, seal_fits, row_epoch in found:
                places.setdefault(row.service, set()).add(table[0])
                claimed[row.service] = max(row.version, claimed.get(row.service, 0))
                if not seal_fits or row_epoch != wanted:
                    altered.add(row.service)
                elif row.service not in kept or row.version > kept[row.service].version:
                    kept[row.service] = row
        feed, feed_is_whole = self._some(
            "SELECT seq, token, service FROM change_feed WHERE seq >= ? ORDER BY seq", (since.seq,)
        )
        return Salvaged(
            kept, claimed, altered - kept.keys(), wanted, is_whole, feed if feed_is_whole else None,
            self._count("config_history WHERE service <> ''"), self._count("encrypted_secrets"),
            self._holds(since), dict(self._some(REACHED)[0]),
            {name for name, tables in places.items() if len(tables) > 1}, self._model_hash(),
            *self._workers(wanted),
        )  # fmt: skip

    def _holds(self, place: Place) -> bool | None:
        found, is_whole = self._some("SELECT token FROM change_feed WHERE seq = ?", (place.seq,))
        return found == [(place.token,)] if is_whole else None

    def _model_hash(self) -> str | None:
        found, _ = self._some("SELECT CAST(model_hash AS BLOB) FROM schema_version")
        return _text(found[0][0]) if found else None

    def _workers(self, epoch: str | None) -> tuple[Workers, bool]:
        tables, is_whole = self._some("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if is_whole and ("workers",) not in tables:
            return Workers({}, ()), True  # it is of the format before
        found, is_whole = self._some(READ)
        if not is_whole:
            found += self._some(f"{READ} NOT INDEXED ORDER BY rowid DESC")[0]
        return judged(found, self._sealer, epoch), is_whole

    def _history(self) -> dict[str, int]:
        found, _ = self._some(f"SELECT service, max({VERSION}) FROM config_history GROUP BY service")  # noqa: S608
        return {name: version for name, version in found if isinstance(name, str) and is_service(name)}

    def _table(
        self, table: tuple[str, str, str, str], names: set[Any]
    ) -> tuple[Iterator[tuple[Kept, bool, str]], bool]:
        name, text, at, by = table
        statement = (
            f"SELECT {_NAME}, {VERSION}, CAST({text} AS BLOB), CAST({at} AS BLOB), CAST({by} AS BLOB),"  # noqa: S608
            f" CAST(config_epoch AS BLOB), CAST(row_seal AS BLOB) FROM {name} {{}}"
        )
        found, is_whole = self._some(statement.format(_WAYS[0]))
        if not is_whole:
            for way in _WAYS[1:]:
                found += self._some(statement.format(way))[0]
            for service in names:
                found += self._some(statement.format("WHERE service = ?"), (service,))[0]
        named = [row for row in found if _is_name(row[0])]
        return (self._judged(name, row) for row in named), is_whole and len(named) == len(found)

    def _judged(self, table: str, row: Sequence[Any]) -> tuple[Kept, bool, str]:
        read: list[Any] = [each if isinstance(each, int) else _text(each) for each in row]
        service, version, text, at, by, epoch, seal = read
        fits = self._sealer.fits(seal, table, service, version, epoch, text, at, by)
        return Kept(service, version, text if table == "service_configs" else None, at, by), fits, epoch

    def _count(self, what: str) -> int | None:
        found, is_whole = self._some(f"SELECT count(*) FROM {what}")  # noqa: S608
        return int(found[0][0]) if is_whole and found else None

    def _some(self, statement: str, bindings: tuple[Any, ...] = ()) -> tuple[list[Any], bool]:
        """Return the rows up to the first that cannot be read, and whether that was the end.

        Raises: StoreLocked.
        """
        found: list[Any] = []
        try:
            with translated(self._path):
                for row in self._db.execute(statement, bindings):
                    found.append(row)
        except StoreLocked:
            raise
        except StoreError:
            return found, False
        return found, True


def _is_name(content: bytes | None) -> bool:
    """Tell whether this can name a service; damage leaves others, which nothing refers to."""
    return content is not None and is_service(content.decode("utf-8", "replace"))


def _text(content: bytes | None) -> Any:
    return None if content is None else content.decode("utf-8", "backslashreplace")
