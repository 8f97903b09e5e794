"""Declare a database the true one: a new epoch over all that is well sealed in it.

Laws: rows whose seal does not fit stay as they are, and stay unpublished; nobody writes meanwhile;
the change is one transaction with a line in the access log, between a journal's intent and its end.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from config_daemon import failpoints
from config_daemon.errors import StoreUnavailable
from config_daemon.store import locks, workers
from config_daemon.store.audit import Heads, start_new_chains
from config_daemon.store.connection import connect, rows, translated
from config_daemon.store.files import Files
from config_daemon.store.finishing import LOCK_SECONDS, complete, finish, intend
from config_daemon.store.journal import Intent
from config_daemon.store.marks import Numbers
from config_daemon.store.ports import BadRow
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import live_rows, tombstones
from config_daemon.store.writer import check_words

_BUSY_MS = 1000


def adopt_store(
    files: Files,
    sealer: RowSealer,
    numbers: Numbers,
    *,
    highest_seen: int,
    now: str,
    by: str,
    reason: str | None,
    request: str = "",
) -> Intent:
    """Take the database for the true one: a new epoch, numbers above everything seen, the old cache aside.

    The caller holds `daemon.lock`; `request` is the id of what asked for it. Raises: StoreError; UsageError.
    """
    check_words(by, reason)
    refuse_full_disk(numbers)
    finish(files, numbers)
    epoch = str(uuid.uuid4())
    intent = Intent(
        id=request or epoch, kind="adopt-db", source=str(files.database), by=by, reason=reason, at=now,
        epoch=epoch, number=max(highest_seen, numbers.last), quarantine="", services=0,
    )  # fmt: skip
    with locks.exclusive(files.store_lock, LOCK_SECONDS):
        intend(files, numbers, intent)
        services = adopt_database(
            files.database, sealer, epoch=epoch, now=now, by=by, reason=reason, known=numbers.marks.audit
        )
        failpoints.reached("adopt_committed")
        return complete(files, numbers, replace(intent, services=services))


def refuse_full_disk(numbers: Numbers) -> None:
    """Find out before anything changes whether marks.json can be written: what it says must fit the database.

    Raises: StoreUnavailable.
    """
    try:
        numbers.write()
    except OSError as error:
        raise StoreUnavailable(
            f"marks.json cannot be written, and nothing was adopted: {error.strerror}",
            suggestion="Free space in the data folder, then run the command again.",
        ) from error


_READ_MANY = 500


def adopt_database(
    path: Path, sealer: RowSealer, *, epoch: str, now: str, by: str, reason: str | None, known: Heads | None
) -> int:
    """Give the database a new epoch (UUID v4), seal its good rows anew, and begin the audit chains anew.

    The caller holds `store.lock`. Returns how many rows were good. Raises: StoreError.
    """
    connection = connect(path, _BUSY_MS)
    with translated(path):
        try:
            connection.execute("BEGIN IMMEDIATE")
            count = _seal_anew(connection, sealer, epoch)
            connection.execute("UPDATE config_epoch SET config_epoch = ?, last_rebuild = ?", (epoch, now))
            start_new_chains(connection, action="adopt", by=by, at=now, reason=reason, known=known)
            connection.execute("COMMIT")
        finally:
            connection.close(True)
    return count


def _seal_anew(db: apsw.Connection, sealer: RowSealer, epoch: str) -> int:
    count = 0
    for table, text, at, by, read in (
        ("service_configs", "config_json", "updated_at", "updated_by", live_rows),
        ("deleted_services", "''", "deleted_at", "deleted_by", tombstones),
    ):
        names = [name for (name,) in rows(db, f"SELECT service FROM {table}")]  # noqa: S608 - names of ours
        good = [name for name, row in _each(read, db, sealer, names) if not isinstance(row, BadRow)]
        whole = f"SELECT service, version, {text}, {at}, {by} FROM {table} WHERE service = ?"  # noqa: S608
        update = f"UPDATE {table} SET config_epoch = ?, row_seal = ?, row_seal_key_id = ? WHERE service = ?"  # noqa: S608
        for name in good:
            service, version, content, when, who = rows(db, whole, (name,))[0]
            seal = sealer.seal(table, service, version, epoch, content, when, who)
            db.execute(update, (epoch, seal, sealer.key_id, service))
        count += len(good)
    workers.seal_anew(db, sealer, epoch)
    return count


def _each(
    read: Callable[..., Mapping[str, Any]], db: apsw.Connection, sealer: RowSealer, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    for start in range(0, len(names), _READ_MANY):
        yield from read(db, sealer, names[start : start + _READ_MANY]).items()
