"""Make a database beside the present one: from rows, or as a copy; complete, synced and verified.

Laws: nothing of it is seen under the database's name; it is closed in rollback mode, so that the one file
is all of it; a copy is believed only when every row's seal fits and its shape is ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import apsw

from config_daemon.errors import InvalidConfig, SchemaMismatch, StoreCorrupted, StoreError, StoreLocked
from config_daemon.store import workers
from config_daemon.store.audit import Heads, start_new_chains
from config_daemon.store.chains import HISTORY, append_all, end_of
from config_daemon.store.connection import FORMAT_VERSION, connect, first, refuse_special, rows, translated
from config_daemon.store.files import SHARED_MODE
from config_daemon.store.finishing import discard
from config_daemon.store.loss import BEGINNING
from config_daemon.store.ports import WorkerRow
from config_daemon.store.reports import BASELINE
from config_daemon.store.salvage import Kept, Salvaged, salvage
from config_daemon.store.schema import fill, migrations, present_shape, shape
from config_daemon.store.seals import RowSealer
from config_daemon.store.stored import parse_stored
from config_daemon.store.transaction import Definitions, texts_of, write_items

_BUSY_MS = 1000
_PAGES = 1000
ALIVE_ROWS = 200
_ROW = (
    "INSERT INTO service_configs(service, config_json, version, config_epoch, updated_at, updated_by, row_seal,"
    " row_seal_key_id) VALUES (?,?,?,?,?,?,?,?)"
)
_TOMBSTONE = (
    "INSERT INTO deleted_services(service, version, config_epoch, deleted_at, deleted_by, row_seal,"
    " row_seal_key_id) VALUES (?,?,?,?,?,?,?)"
)


class Terms(NamedTuple):
    """What a new database is made with beside its rows; `known` are the audit heads of the one before,
    `reached` the highest versions that are known of its services.

    `alive` is called now and then: with many services it takes longer than a watchdog waits.
    """

    sealer: RowSealer
    definitions: Definitions
    model_hash: str
    epoch: str
    now: str
    by: str
    reason: str | None
    known: Heads | None
    schema_version: int
    reached: Mapping[str, int]
    alive: Callable[[], None]
    workers: Iterable[WorkerRow] = ()


def build(path: Path, kept: Mapping[str, Kept], terms: Terms) -> None:
    """Make a database of these rows, with histories that begin with them. Raises: StoreError; OSError."""
    discard(path)
    with translated(path):
        fill(path, terms.epoch, terms.model_hash, terms.now)
    with _writing(path) as db:
        _name_life(db, terms)
        db.execute("UPDATE schema_version SET version = ?", (terms.schema_version,))
        _begin(db, BASELINE, terms, kept)
        change_id = first(db, "SELECT change_id FROM config_history WHERE service = ''", "")
        chain = end_of(db, HISTORY)
        for number, name in enumerate(sorted(kept)):
            texts = _insert(db, kept[name], terms)
            chain = append_all(db, HISTORY, chain, _beginnings(kept[name], texts, terms, change_id))
            if number % ALIVE_ROWS == 0:
                terms.alive()
        for worker in terms.workers:
            workers.write(db, terms.sealer, terms.epoch, worker)


def copy(source: Path, path: Path) -> None:
    """Copy a database as SQLite reads it, with whatever lies in its `-wal`. Raises: StoreError; OSError."""
    discard(path)
    refuse_special(source)
    with translated(source):
        taken = apsw.Connection(
            f"file:{quote(str(source))}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
    try:
        with translated(source):
            made = apsw.Connection(str(path))
            try:
                with made.backup("main", taken, "main") as backup:
                    while not backup.done:
                        backup.step(_PAGES)
                made.pragma("journal_mode", "DELETE")
            finally:
                made.close(True)
        path.chmod(SHARED_MODE)
    finally:
        taken.close(True)
    _modernise(path)


def _modernise(path: Path) -> None:
    """Bring a copy to the present format: it may be older than this program."""
    db = connect(path, any_format=True)
    try:
        with translated(path):
            version: int = db.pragma("user_version")
            if 1 <= version < FORMAT_VERSION:
                with db:
                    for script in migrations()[version:]:
                        rows(db, script)
                    db.pragma("user_version", FORMAT_VERSION)
    finally:
        db.close(True)


def refuse_unsound(path: Path, sealer: RowSealer) -> Salvaged:
    """Return the rows of a copy, all of which fit, in a file in which nothing is wrong.

    Raises: StoreCorrupted with the names of the rows that do not fit; SchemaMismatch; StoreError.
    """
    db = connect(path, _BUSY_MS, any_format=True, read_only=True)
    try:
        with translated(path):
            version = db.pragma("user_version")
            if not 1 <= version <= FORMAT_VERSION:
                raise SchemaMismatch(f"{path} has format {version}, and this program knows none such")
            problems = [text for (text,) in rows(db, "PRAGMA integrity_check(3)")]
            if problems != ["ok"]:
                raise StoreCorrupted(f"the database is damaged: {'; '.join(map(str, problems))}")
            if shape(db) != present_shape(version):
                raise SchemaMismatch("the database has other tables or triggers than this program makes")
            epoch = first(db, "SELECT config_epoch FROM config_epoch", "")
    finally:
        db.close(True)
    found = salvage(path, sealer, epoch, (), BEGINNING.place)
    doubtful = sorted(found.altered | found.doubled) + [f"worker {name}" for name in found.workers.altered]
    if doubtful or not (found.is_whole and found.all_workers):
        some = ", ".join(doubtful[:10])
        raise StoreCorrupted(f"rows are damaged or were altered outside config-daemon: {some}")
    return found


def soundness(path: Path, sealer: RowSealer) -> Salvaged | None:
    """Return what is in a database in which nothing is wrong; None for any other. Raises: StoreLocked."""
    try:
        return refuse_unsound(path, sealer)
    except StoreLocked:
        raise
    except StoreError:
        return None


def adopt_copy(path: Path, kept: Mapping[str, Kept], terms: Terms) -> None:
    """Give a copy the new epoch, and seal its rows in it. Raises: StoreError."""
    with _writing(path) as db:
        for row in kept.values():
            table = "service_configs" if row.text is not None else "deleted_services"
            db.execute(
                f"UPDATE {table} SET config_epoch = ?, row_seal = ?, row_seal_key_id = ? WHERE service = ?",  # noqa: S608
                (terms.epoch, _seal(row, terms), terms.sealer.key_id, row.service),
            )
        workers.seal_anew(db, terms.sealer, terms.epoch)
        _name_life(db, terms)
        _begin(db, "restore", terms, kept)


def verify(path: Path, sealer: RowSealer, epoch: str, count: int) -> None:
    """Check a database that was just made, before anything is moved for it. Raises: StoreError."""
    found = refuse_unsound(path, sealer)
    if found.epoch != epoch or len(found.kept) != count:
        raise StoreCorrupted(f"{path} is not what was written into it", suggestion="Look at the disk.")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[apsw.Connection]:
    db = connect(path, _BUSY_MS)
    try:
        with translated(path):
            db.execute("PRAGMA synchronous=EXTRA")
            db.execute("PRAGMA journal_mode=MEMORY")  # what fails is thrown away: no journal has to be synced
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
    finally:
        db.close(True)


def _name_life(db: apsw.Connection, terms: Terms) -> None:
    db.execute("UPDATE config_epoch SET config_epoch = ?, last_rebuild = ?", (terms.epoch, terms.now))


def _begin(db: apsw.Connection, action: str, terms: Terms, kept: Mapping[str, Kept]) -> None:
    lost = {
        name: version
        for name, version in terms.reached.items()
        if name not in kept or version > kept[name].version
    }
    start_new_chains(
        db, action=action, by=terms.by, at=terms.now, reason=terms.reason, known=terms.known, versions=lost
    )


def _seal(row: Kept, terms: Terms) -> str:
    table = "service_configs" if row.text is not None else "deleted_services"
    return terms.sealer.seal(table, row.service, row.version, terms.epoch, row.text or "", row.at, row.by)


def _insert(db: apsw.Connection, row: Kept, terms: Terms) -> dict[str, str]:
    """Write a row, and what is derived from it; return its values as JSON text by key."""
    sealed = (terms.epoch, row.at, row.by, _seal(row, terms), terms.sealer.key_id)
    if row.text is None:
        db.execute(_TOMBSTONE, (row.service, row.version, *sealed))
        return {}
    db.execute(_ROW, (row.service, row.text, row.version, *sealed))
    try:
        texts = texts_of(parse_stored(row.service, row.text))
    except InvalidConfig:  # sealed by us, and no JSON: kept as it is
        return {}
    changed = {key: (None, text) for key, text in texts.items()}
    write_items(db, terms.definitions.get(row.service), row.service, changed, row.at, row.by)
    return texts


def _beginnings(
    row: Kept, texts: Mapping[str, str], terms: Terms, change_id: str
) -> Iterator[dict[str, Any]]:
    """Yield the first rows of a service's history; one without values has a beginning, too."""
    for key, text in (texts or {"": ""}).items():
        yield {
            "service": row.service, "key": key, "old_value_json": None, "new_value_json": text,
            "changed_at": terms.now, "changed_by": terms.by, "change_reason": terms.reason,
            "version": row.version, "change_id": change_id,
        }  # fmt: skip
