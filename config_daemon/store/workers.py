"""The workers that are expected: read with their seals, added, changed, removed.

Laws: a row counts only with a seal that fits, in this epoch; the seal covers name, keys, services, and who
added it when; one key belongs to one worker; whoever is added, changed or removed leaves a row in the access
log, in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import apsw

from config_daemon.errors import NotAllowed, NotFound
from config_daemon.store.chains import append_access
from config_daemon.store.connection import first, rows
from config_daemon.store.ports import WorkerRow, Workers
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import VERSION
from config_daemon.wire.sealing import canonical

if TYPE_CHECKING:
    from config_daemon.wire.workerkeys import PublicKeys

TABLE = "workers"
_TEXTS = (
    "worker", "verify_key", "box_key", "services", "config_epoch", "added_at", "added_by", "updated_at", "updated_by",
    "row_seal",
)  # fmt: skip
READ = f"SELECT {VERSION}, {', '.join(f'CAST({name} AS BLOB)' for name in _TEXTS)} FROM {TABLE}"  # noqa: S608
_WRITE = (
    "INSERT INTO workers(worker, verify_key, box_key, services, version, config_epoch, added_at, added_by, updated_at,"
    " updated_by, row_seal, row_seal_key_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(worker) DO UPDATE SET"
    " verify_key=excluded.verify_key, box_key=excluded.box_key, services=excluded.services, version=excluded.version,"
    " config_epoch=excluded.config_epoch, added_at=excluded.added_at, added_by=excluded.added_by,"
    " updated_at=excluded.updated_at, updated_by=excluded.updated_by, row_seal=excluded.row_seal,"
    " row_seal_key_id=excluded.row_seal_key_id"
)
Outcome = Literal["added", "unchanged", "services", "replaced"]


class Deed(NamedTuple):
    """Who changes the table, when and why."""

    sealer: RowSealer
    now: str
    by: str
    reason: str | None


def read_workers(db: apsw.Connection, sealer: RowSealer, epoch: str | None) -> Workers:
    """Return the rows that can be believed in an epoch, and the names of the others."""
    return judged(rows(db, READ), sealer, epoch)


def judged(found: Iterable[Sequence[Any]], sealer: RowSealer, epoch: str | None) -> Workers:
    """Sort rows, as `READ` gives them, into those that can be believed and the names of the others."""
    good: dict[str, WorkerRow] = {}
    altered = set()
    for version, *texts in found:
        worker, verify_key, box_key, services, of_epoch, added_at, added_by, at, by, seal = map(_text, texts)
        about = _about(verify_key, box_key, services, added_at, added_by)
        if of_epoch != epoch or not sealer.fits(seal, TABLE, worker, version, of_epoch, about, at, by):
            altered.add(str(worker))
            continue
        named = tuple(json.loads(services))
        good[worker] = WorkerRow(worker, verify_key, box_key, named, version, added_at, added_by, at, by)
    return Workers(good, tuple(sorted(altered)))


def write(db: apsw.Connection, sealer: RowSealer, epoch: str, row: WorkerRow) -> None:
    """Write a row, sealed in an epoch, inside a transaction."""
    services = canonical(list(row.services)).decode()
    about = _about(row.verify_key, row.box_key, services, row.added_at, row.added_by)
    seal = sealer.seal(TABLE, row.worker, row.version, epoch, about, row.updated_at, row.updated_by)
    db.execute(
        _WRITE,
        (row.worker, row.verify_key, row.box_key, services, row.version, epoch, row.added_at, row.added_by,
         row.updated_at, row.updated_by, seal, sealer.key_id),
    )  # fmt: skip


def seal_anew(db: apsw.Connection, sealer: RowSealer, epoch: str) -> None:
    """Seal the rows in another epoch that can be believed in the present one, inside a transaction."""
    present: str = first(db, "SELECT config_epoch FROM config_epoch", "")
    for row in read_workers(db, sealer, present).rows.values():
        write(db, sealer, epoch, row)


def add(
    db: apsw.Connection, deed: Deed, keys: PublicKeys, services: Iterable[str], replace: bool
) -> tuple[Outcome, WorkerRow | None]:
    """Have a worker be expected for exactly these services; return what that changed, and the row before.

    Raises: NotAllowed when the name has other keys (`replace` takes these), or the key is another worker's.
    """
    epoch: str = first(db, "SELECT config_epoch FROM config_epoch", "")
    known = read_workers(db, deed.sealer, epoch)
    before = known.rows.get(keys.worker)
    outcome = _outcome(known, before, keys, tuple(sorted(set(services))), replace)
    if outcome == "unchanged":
        return outcome, before
    added = (before.added_at, before.added_by) if outcome == "services" and before else (deed.now, deed.by)
    version = before.version + 1 if before else 1
    row = WorkerRow(
        keys.worker, keys.verify_key, keys.box_key, tuple(sorted(set(services))), version, *added, deed.now, deed.by
    )  # fmt: skip
    write(db, deed.sealer, epoch, row)
    action = {"added": "worker-add", "services": "worker-change", "replaced": "worker-replace"}[outcome]
    append_access(
        db,
        by=deed.by,
        action=action,
        at=deed.now,
        key=f"{keys.worker} {keys.fingerprint}",
        reason=deed.reason,
    )
    return outcome, before


def remove(db: apsw.Connection, deed: Deed, worker: str) -> None:
    """Have a worker not be expected any more, whatever its row is like. Raises: NotFound."""
    db.execute("DELETE FROM workers WHERE worker = ?", (worker,))
    if db.changes() != 1:
        raise NotFound(
            f"there is no worker {worker!r}",
            suggestion="Run `config-daemon worker list` to see who is expected.",
        )
    append_access(db, by=deed.by, action="worker-remove", at=deed.now, key=worker, reason=deed.reason)


def _outcome(
    known: Workers, before: WorkerRow | None, keys: PublicKeys, services: tuple[str, ...], replace: bool
) -> Outcome:
    others = (row.worker for row in known.rows.values() if _shares_a_key(row, keys))
    other = next((name for name in others if name != keys.worker), None)
    if other is not None:
        raise NotAllowed(
            f"one of these keys is that of the worker {other} already",
            code="WORKER_KEY_TAKEN",
            suggestion="Each worker has keys of its own: give this one a state folder of its own, and its file to us.",
        )
    if before is None:
        if keys.worker in known.altered and not replace:
            raise _refused(keys.worker, "has a row that was altered outside config-daemon")
        return "replaced" if keys.worker in known.altered else "added"
    if (before.verify_key, before.box_key) != (keys.verify_key, keys.box_key):
        if not replace:
            raise _refused(keys.worker, f"has other keys: {before.keys.fingerprint}, not {keys.fingerprint}")
        return "replaced"
    return "unchanged" if before.services == services else "services"


def _shares_a_key(row: WorkerRow, keys: PublicKeys) -> bool:
    return row.verify_key == keys.verify_key or row.box_key == keys.box_key


def _refused(worker: str, why: str) -> NotAllowed:
    return NotAllowed(
        f"the worker {worker} is known and {why}",
        code="WORKER_KEYS_DIFFER",
        suggestion="Compare the fingerprint with what the worker shows; if it was set up anew, add --replace.",
    )


def _about(verify_key: Any, box_key: Any, services: Any, added_at: Any, added_by: Any) -> str:
    """Return as one text what the seal covers beside the members that each sealed row has."""
    return canonical([verify_key, box_key, services, added_at, added_by]).decode()


def _text(content: bytes | None) -> Any:
    return None if content is None else content.decode("utf-8", "backslashreplace")
