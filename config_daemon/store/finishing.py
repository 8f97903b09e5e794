"""From a database that is ready to one that counts: what follows on the intent, whoever comes to do it.

Laws: each step may be done again; a database that was not moved yet stays the true one, since others may have
written into it; marks are written last, and say for ever that this epoch was released.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from config_daemon import failpoints
from config_daemon.errors import CacheError, StoreError, StoreLocked, StoreUnavailable
from config_daemon.store import journal, locks, quarantine
from config_daemon.store.audit import Heads
from config_daemon.store.cache import set_aside
from config_daemon.store.chains import ACCESS, HISTORY
from config_daemon.store.connection import connect, first, rows, translated
from config_daemon.store.files import READABLE_MODE, Files, replace_durably, sync_folder
from config_daemon.store.journal import Intent
from config_daemon.store.marks import BEYOND_ANY_CLOCK, Marks, Numbers, load
from config_daemon.store.ports import Place

LOCK_SECONDS = 3.0
_BUSY_MS = 1000


def numbers_of(files: Files, hmac_keys: tuple[bytes, ...], generation: int) -> Numbers:
    """Return the numbers of a folder on which no daemon runs. Raises: CacheError for marks that are damaged."""
    known = load(files.marks, hmac_keys) or Marks(generation=generation, reserved=0, epoch="", feed=None)
    return Numbers(files.marks, hmac_keys[0], known, known.reserved, hmac_keys[1:])


def beside(database: Path) -> Path:
    """Return where a new database is made: under a name that nobody gives a copy of their own."""
    return database.with_name(f".{database.name}.rebuild")


def discard(path: Path) -> None:
    """Remove a database that was not finished, or is not wanted. Raises: OSError."""
    for each in (path, path.with_name(f"{path.name}-journal")):
        each.unlink(missing_ok=True)


def is_under_way(files: Files, hmac_keys: tuple[bytes, ...]) -> bool:
    """Tell whether `finish` has something to do. Raises: CacheError as `journal.load`, while something may be."""
    try:
        intent = journal.load(files.rebuild_info, hmac_keys)
    except CacheError:
        if beside(files.database).exists() or not os.path.lexists(files.database):
            raise
        return False  # a tombstone that nobody can read, beside a database
    return beside(files.database).exists() or (intent is not None and intent.state == "under-way")


def half_done(files: Files, hmac_keys: tuple[bytes, ...]) -> Intent | None:
    """Return what `finish` would complete; None where there is nothing, or only what it would give up.

    Raises: StoreLocked; CacheError.
    """
    if not is_under_way(files, hmac_keys):
        return None
    intent = journal.load(files.rebuild_info, hmac_keys)
    if intent is None or intent.state != "under-way":
        return None
    goes_on = _may_be_placed(files, intent) or _epoch_of(files.database) == intent.epoch
    return intent if goes_on else None


def finish(files: Files, numbers: Numbers) -> Intent | None:
    """Finish or undo what a process left half done that died; None when there was nothing.

    The caller holds `daemon.lock`. Raises: StoreError; CacheError.
    """
    if not is_under_way(files, numbers.hmac_keys):
        return None
    with locks.exclusive(files.store_lock, LOCK_SECONDS), _told(files):
        intent = journal.load(files.rebuild_info, numbers.hmac_keys)
        if intent is None or intent.state != "under-way":
            discard(beside(files.database))  # it died before anything was decided
            return None
        if _may_be_placed(files, intent):
            place(files, intent)
        if _epoch_of(files.database) == intent.epoch:
            discard(beside(files.database))
            return complete(files, numbers, intent)
        return abandon(files, numbers, intent)


def intend(files: Files, numbers: Numbers, intent: Intent) -> None:
    """Write down what is going to be done. Raises: StoreUnavailable; nothing is done then."""
    try:
        for folder in (quarantine.folder_of(files.database), files.cache.parent / files.quarantine.name):
            quarantine.refuse_link(folder)
        journal.write(files.rebuild_info, intent, numbers.hmac_keys[0])
    except OSError as error:
        path = error.filename or files.rebuild_info
        raise StoreUnavailable(
            f"nothing can be replaced, and nothing was changed: {path}: {error.strerror}",
            suggestion="Mend that (a full disk: free space in the data folder), then run the command again.",
        ) from error
    failpoints.reached("rebuild_intended")


def _may_be_placed(files: Files, intent: Intent) -> bool:
    """Tell whether the new database is the one that is missing, and not one that was left over long ago."""
    database = files.database
    is_missing = beside(database).exists() and not os.path.lexists(database)
    return is_missing and quarantine.has_moved(database, intent.quarantine, intent.replaces)


def abandon(files: Files, numbers: Numbers, intent: Intent) -> Intent:
    """Give up what has not replaced anything, durably; either half suffices. Raises: OSError."""
    given_up = replace(intent, state="abandoned")
    try:
        discard(beside(files.database))
        sync_folder(files.database.parent)
    finally:
        journal.write(files.rebuild_info, given_up, numbers.hmac_keys[0])
    return given_up


def withdraw(files: Files, numbers: Numbers, intent: Intent) -> bool:
    """Take back a rebuild that could not be placed; tell whether the old database is in its place as it was.

    False: it is half done, and the next start finishes it.
    """
    if not beside(files.database).exists():
        return False
    if not os.path.lexists(files.database):
        with contextlib.suppress(OSError):
            quarantine.put_back(files.database, intent.quarantine)
    if os.path.lexists(files.database) is not intent.replaces:
        return False
    with contextlib.suppress(
        OSError
    ):  # where both halves fail, nothing was moved, and nothing will be placed
        abandon(files, numbers, intent)
    return True


def place(files: Files, intent: Intent) -> None:
    """Move the old database away and the new one to its place. Raises: OSError."""
    quarantine.move(files.database, intent.quarantine)
    failpoints.reached("rebuild_moved")
    beside(files.database).rename(files.database)
    sync_folder(files.database.parent)
    failpoints.reached("rebuild_placed")


def complete(files: Files, numbers: Numbers, intent: Intent) -> Intent:
    """Have everything else go on from the database of the new epoch. Raises: StoreError."""
    with _told(files):
        if numbers.marks.epoch != intent.epoch:
            heads, newest = _opened(files.database)
            _tell_epoch(files.epoch, intent)
            failpoints.reached("rebuild_epoch_told")
            with contextlib.suppress(FileNotFoundError):
                folder = files.cache.parent / files.quarantine.name
                set_aside(files.cache, folder, f"{intent.kind}-{intent.epoch[:8]}")
            failpoints.reached("rebuild_cache_aside")
            numbers.raise_to(min(intent.number, BEYOND_ANY_CLOCK - 1))
            numbers.release(epoch=intent.epoch, feed=newest, audit=heads)
        failpoints.reached("rebuild_marked")
    done = replace(intent, state="done")
    with contextlib.suppress(OSError):  # the next start finds that marks say so already
        journal.write(files.rebuild_info, done, numbers.hmac_keys[0])
    quarantine.prune(files.database, intent.quarantine)
    return done


@contextlib.contextmanager
def _told(files: Files) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"a rebuild in {files.folder} is half done and cannot go on: {error.filename}: {error.strerror}",
            suggestion="Mend that; the next start, or the same command again, finishes it.",
        ) from error


def _epoch_of(database: Path) -> str | None:
    """Return a database's epoch, None where it does not say. Raises: StoreLocked."""
    try:
        db = connect(database, _BUSY_MS, any_format=True)
        try:
            with translated(database):
                return str(first(db, "SELECT config_epoch FROM config_epoch", ""))
        finally:
            db.close(True)
    except StoreLocked:
        raise
    except StoreError:
        return None


def _opened(database: Path) -> tuple[Heads, Place]:
    """Turn to WAL a database that is in its place; return the beginnings of its audit chains and its newest place."""
    db = connect(database, _BUSY_MS, any_format=True)
    try:
        with translated(database):
            db.execute("PRAGMA journal_mode=WAL")
            place = rows(db, "SELECT seq, token FROM change_feed ORDER BY seq DESC LIMIT 1")[0]
            heads = [
                first(db, f"SELECT chain FROM {table.name} WHERE service = '' ORDER BY id DESC LIMIT 1", "")  # noqa: S608
                for table in (HISTORY, ACCESS)
            ]
    finally:
        db.close(True)
    return Heads((1, heads[0]), (1, heads[1])), Place(*place)


def _tell_epoch(path: Path, intent: Intent) -> None:
    try:
        found = json.loads(path.read_text())
        found = found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        found = {}
    told = {"created_at": intent.at, "schema_version": 1, **found, "config_epoch": intent.epoch,
            "last_rebuild": intent.at}  # fmt: skip
    replace_durably(path, json.dumps(told, indent=1).encode(), READABLE_MODE)
