"""Declare a database the true one: a new epoch over all that is well sealed in it.

Laws: rows whose seal does not fit stay as they are, and stay unpublished; nobody writes meanwhile;
the change is one transaction with a line in the access log.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from config_daemon.errors import StoreUnavailable
from config_daemon.store import locks
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import connect, rows, translated

_BUSY_MS = 1000


def adopt_database(
    path: Path, lock: Path, sealer: RowSealer, *, epoch: str, now: str, by: str, reason: str | None
) -> int:
    """Give the database a new epoch (UUID v4) and seal its good rows anew; return how many were good.

    Raises: StoreError; StoreUnavailable when somebody is writing.
    """
    held = locks.take(lock)
    if held is None:
        raise StoreUnavailable("somebody is writing to the database", suggestion="Try again in a moment.")
    try:
        connection = connect(path, _BUSY_MS)
        with translated(path):
            try:
                connection.execute("BEGIN IMMEDIATE")
                count = _seal_anew(connection, sealer, epoch)
                connection.execute("UPDATE config_epoch SET config_epoch = ?, last_rebuild = ?", (epoch, now))
                connection.execute(
                    "INSERT INTO access_log(user_id, action, success, reason, timestamp) VALUES (?, 'adopt', 1, ?, ?)",
                    (by, reason, now),
                )
                connection.execute("COMMIT")
            finally:
                connection.close(True)
        return count
    finally:
        locks.release(held)


def _seal_anew(db: apsw.Connection, sealer: RowSealer, epoch: str) -> int:
    count = 0
    live = "SELECT service, version, config_epoch, config_json, updated_at, updated_by, row_seal FROM service_configs"
    gone = "SELECT service, version, config_epoch, '', deleted_at, deleted_by, row_seal FROM deleted_services"
    for table, statement in (("service_configs", live), ("deleted_services", gone)):
        for service, version, old_epoch, text, at, by, seal in rows(db, statement):
            if sealer.fits(seal, table, service, version, old_epoch, text, at, by):
                new = sealer.seal(table, service, version, epoch, text, at, by)
                update = f"UPDATE {table} SET config_epoch = ?, row_seal = ?, row_seal_key_id = ? WHERE service = ?"  # noqa: S608
                db.execute(update, (epoch, new, sealer.key_id, service))
                count += 1
    return count
