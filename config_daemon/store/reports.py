"""What people ask of a store: who is in it, what changed, what was there before.

Laws: every answer comes from one snapshot; rows are verified, and one that is altered is told as such;
a version is reconstructed by undoing later changes, and only when history leads exactly to the present.
`config_items` is derived and carries no seal: it serves searching, never the reconstruction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from config_daemon.core.paths import leaves, put
from config_daemon.errors import NotFound, StoreCorrupted
from config_daemon.store.connection import connect, first, rows, translated
from config_daemon.store.ports import BadRow, Row, Tombstone
from config_daemon.store.sqlite import found_rows
from config_daemon.store.stored import parse_stored, reached
from config_daemon.wire import values as portable

if TYPE_CHECKING:
    from config_daemon.store.seals import RowSealer

Found = Row | Tombstone | BadRow
BUSY_MS = 1000
_READ_MANY = 500
BASELINE = "rebuild"  # the key of the row that begins a history with values as they were found
_HISTORY = (
    "SELECT id, key, old_value_json, nullif(new_value_json, ''), changed_at, changed_by, change_reason, version,"
    " change_id FROM config_history WHERE service = ?"
)


class Change(NamedTuple):
    """One changed key; `before` and `after` are JSON text, None where the key was absent."""

    id: int
    key: str
    before: str | None
    after: str | None
    at: str
    by: str | None
    reason: str | None
    version: int
    change_id: str


class Item(NamedTuple):
    """One stored value as it was described when it was written."""

    service: str
    key: str
    value_json: str
    type: str
    complexity: str
    description: str
    help_text: str


class Past(NamedTuple):
    """A service's values at a version; `newest` is its present version, `deleted` tells what it is now."""

    values: dict[str, Any]
    version: int
    newest: int
    deleted: bool


class StoreReports:
    """Answers from one database file; every method raises StoreError when the store does not answer."""

    def __init__(self, path: Path, sealer: RowSealer) -> None:
        self._path, self._sealer = path, sealer

    def row(self, service: str) -> Found | None:
        """Return what is stored of a service, None when nothing is; a row of another epoch is a bad one.

        Raises: StoreCorrupted when somebody removed its row.
        """
        with self._snapshot() as db:
            return self._row(db, service)

    def rows(self) -> dict[str, Found]:
        """Return what is stored of all services, by name in order."""
        with self._snapshot() as db:
            statement = (
                "SELECT service FROM service_configs UNION SELECT service FROM deleted_services ORDER BY 1"
            )
            names = [name for (name,) in rows(db, statement)]
            epoch = _epoch(db)
            found: dict[str, Found] = {}
            for start in range(0, len(names), _READ_MANY):
                found |= found_rows(db, self._sealer, names[start : start + _READ_MANY])
        return {name: _of_epoch(found[name], epoch) for name in names if name in found}

    def lost(self) -> list[str]:
        """Return the services whose row somebody removed: history knows them, and nothing says why they are gone."""
        statement = (
            "SELECT DISTINCT service FROM config_history WHERE service <> ''"
            " EXCEPT SELECT service FROM service_configs EXCEPT SELECT service FROM deleted_services ORDER BY 1"
        )
        with self._snapshot() as db:
            return [service for (service,) in rows(db, statement)]

    def deaths(self) -> dict[str, tuple[str, str | None]]:
        """Return when and by whom each deleted service was deleted."""
        with self._snapshot() as db:
            found = rows(db, "SELECT service, deleted_at, deleted_by FROM deleted_services")
        return {service: (at, by) for service, at, by in found}

    def history(
        self, service: str, key: str | None = None, since: str | None = None, limit: int | None = None
    ) -> list[Change]:
        """Return changes, newest first; `key` takes in what is below it, `since` is a stored timestamp."""
        statement, bindings = _HISTORY, [service]
        if key is not None:
            statement += " AND (key = ? OR substr(key, 1, length(?) + 1) = ? || '.')"
            bindings += [key, key, key]
        if since is not None:
            statement += " AND changed_at >= ?"
            bindings.append(since)
        statement += " ORDER BY id DESC LIMIT ?"
        with self._snapshot() as db:
            return [Change(*row) for row in rows(db, statement, (*bindings, -1 if limit is None else limit))]

    def known(self, service: str) -> dict[str, str]:
        """Return the values that history ends with, as JSON text by key."""
        with self._snapshot() as db:
            found = rows(db, f"{_HISTORY} ORDER BY id", (service,))
        last = {change.key: change.after for change in (Change(*row) for row in found)}
        return {key: text for key, text in sorted(last.items()) if text is not None}

    def at_version(self, service: str, version: int | None = None) -> Past:
        """Return a service's values at a version; the present ones for None, none at all for 0.

        Raises: NotFound; StoreCorrupted when the row was altered or history does not lead to it.
        """
        with self._snapshot() as db:
            row = self._row(db, service)
            present, newest = _present(service, row)
            if version is None:
                return Past(present, newest, newest, isinstance(row, Tombstone))
            if not 0 <= version <= newest:
                raise NotFound(
                    f"{service} has no version {version}; the newest is {newest}",
                    suggestion=f"See `config-daemon history {service}`.",
                )
            later = rows(db, f"{_HISTORY} AND version > ? ORDER BY id DESC", (service, version))
            _refuse_forgotten(db, service, version, later)
        from config_daemon.wire.sealing import canonical

        texts = {key: canonical(value).decode() for key, value in leaves(present).items()}
        for change in (Change(*row) for row in later):
            _undo(service, texts, change)
        return Past(nested(service, texts), version, newest, isinstance(row, Tombstone))

    def items(self) -> list[Item]:
        """Return every stored value with its description, for searching."""
        statement = (
            "SELECT service, key, value_json, type, complexity, description, coalesce(help_text, '')"
            " FROM config_items WHERE is_secret = 0 ORDER BY service, key"
        )
        with self._snapshot() as db:
            return [Item(*row) for row in rows(db, statement)]

    def _row(self, db: apsw.Connection, service: str) -> Found | None:
        found = found_rows(db, self._sealer, [service]).get(service)
        if found is not None:
            return _of_epoch(found, _epoch(db))
        if rows(db, "SELECT 1 FROM config_history WHERE service = ? LIMIT 1", (service,)):
            raise StoreCorrupted(
                f"the row of {service} was removed outside config-daemon",
                suggestion=f"Restore the row, or run `config-daemon delete {service}` and write it again.",
            )
        return None

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[apsw.Connection]:
        connection = connect(self._path, BUSY_MS)
        try:
            with translated(self._path):
                connection.execute("BEGIN")
                yield connection
        finally:
            connection.close(True)


def stored_version(path: Path, service: str) -> int | None:
    """Return the version that a service's row claims, unverified; None when there is no row.

    For telling whether something newer was stored, without a key. Raises: StoreError.
    """
    connection = connect(path)
    try:
        with translated(path):
            found = rows(connection, "SELECT version FROM service_configs WHERE service = ?", (service,))
            return found[0][0] if found else None
    finally:
        connection.close(True)


def stored_epoch(path: Path) -> str:
    """Return the life that a database claims to be in, unverified and without a key. Raises: StoreError."""
    connection = connect(path)
    try:
        with translated(path):
            return str(first(connection, "SELECT config_epoch FROM config_epoch", ""))
    finally:
        connection.close(True)


def nested(service: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return values as nested objects, from their JSON text by dotted key.

    Raises: StoreCorrupted when no object has exactly these keys.
    """
    values: dict[str, Any] = {}
    try:
        for key in sorted(texts):
            put(values, key, portable.parse(texts[key]))
        if leaves(values).keys() == texts.keys():
            return values
    except portable.BadJson:
        pass
    raise StoreCorrupted(
        f"the history of {service} holds values that do not fit together",
        suggestion="Write the service anew with `config-daemon apply`.",
    )


def _present(service: str, row: Found | None) -> tuple[dict[str, Any], int]:
    if isinstance(row, Row):
        return parse_stored(service, row.text), row.version
    if isinstance(row, Tombstone):
        return {}, row.version
    if row is None:
        raise NotFound(
            f"{service} has no config yet",
            suggestion=f"Give it one: `config-daemon set {service} KEY=VALUE`.",
        )
    raise altered(service)


def altered(service: str) -> StoreCorrupted:
    """Return the error for a row that somebody wrote without us."""
    return StoreCorrupted(
        f"the stored config of {service} was altered outside config-daemon; its seal does not fit",
        suggestion=f"Run `config-daemon adopt {service}` to see the difference and to seal it.",
    )


def _refuse_forgotten(db: apsw.Connection, service: str, version: int, later: list[Any]) -> None:
    """Refuse to go back beyond the values with which a rebuilt history begins."""
    begun = rows(
        db, "SELECT change_id, changed_at FROM config_history WHERE service = '' AND key = ?", (BASELINE,)
    )
    at = dict(begun)
    forgotten = reached(db, service)
    if version <= forgotten:
        statement = "SELECT max(version) FROM config_history WHERE service = ? AND version <= ?"
        kept = rows(db, statement, (service, forgotten))[0][0]
        if version > (kept or 0):
            raise NotFound(
                f"version {version} of {service} was lost when the store was rebuilt or restored",
                suggestion="`config-daemon status` says where the old database lies.",
            )
    for change in (Change(*row) for row in later):
        if change.change_id in at:
            raise NotFound(
                f"what {service} was before version {change.version} was lost when the store was rebuilt,"
                f" at {at[change.change_id]}",
                suggestion="`config-daemon status` says where the old database lies.",
            )


def _undo(service: str, texts: dict[str, str], change: Change) -> None:
    if texts.get(change.key) != change.after:
        raise StoreCorrupted(
            f"the history of {service} does not lead to its present values: {change.key} at version {change.version}",
            suggestion=f"See `config-daemon history {service} {change.key}`, and set the values that you want.",
        )
    if change.before is None:
        texts.pop(change.key, None)
    else:
        texts[change.key] = change.before


def _epoch(db: apsw.Connection) -> str | None:
    found = rows(db, "SELECT config_epoch FROM config_epoch")
    return found[0][0] if found else None


def _of_epoch(found: Found, epoch: str | None) -> Found:
    if isinstance(found, BadRow) or found.epoch == epoch:
        return found
    if isinstance(found, Row):
        return BadRow(found.service, found)
    return BadRow(found.service, Row(found.service, "", found.version, found.epoch, "", None))
