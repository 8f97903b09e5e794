"""The database's own structure: made once, then migrated by numbered scripts.

Laws: a new database appears under its name only when it is complete and synced; one that exists is
never overwritten.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import apsw

from config_daemon.errors import StoreUnavailable
from config_daemon.store.connection import APPLICATION_ID, FORMAT_VERSION, rows, translated
from config_daemon.store.files import SHARED_MODE, sync_folder


def create(path: Path, *, epoch: str, model_hash: str, now: str) -> None:
    """Make an empty store of a given epoch (UUID v4).

    Raises: StoreUnavailable when there is a file already, or none can be made; StoreError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if os.path.lexists(path):
            raise FileExistsError
        beside.unlink(missing_ok=True)
        with translated(beside):
            fill(beside, epoch, model_hash, now)
        try:
            os.link(beside, path)  # unlike a rename, this never replaces what somebody else just made
            sync_folder(path.parent)
        finally:
            beside.unlink()
    except FileExistsError as error:
        raise StoreUnavailable(f"{path} exists", suggestion="Use it, or move it away first.") from error
    except OSError as error:
        raise StoreUnavailable(
            f"no database can be made at {path}: {error.strerror}",
            suggestion="Look at that folder and its disk.",
        ) from error
    with translated(path):
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "WAL")
        connection.close()


def fill(path: Path, epoch: str, model_hash: str, now: str) -> None:
    """Make the file of an empty store, complete and synced, in rollback mode. Raises: apsw.Error."""
    connection = apsw.Connection(str(path))
    # a rollback journal and EXTRA: when this is closed, the one file is complete and synced
    connection.pragma("journal_mode", "DELETE")
    connection.pragma("synchronous", "EXTRA")
    with connection:
        for script in migrations():
            connection.execute(script)
        connection.execute("INSERT INTO config_epoch VALUES (1, ?, ?, NULL)", (epoch, now))
        connection.execute("INSERT INTO schema_version VALUES (1, ?, ?, ?)", (1, model_hash, now))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", FORMAT_VERSION)
    connection.close()
    path.chmod(SHARED_MODE)


def shape(connection: apsw.Connection) -> set[tuple[str, str, str]]:
    """Return type, name and text of everything that a database is made of."""
    statement = (
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND substr(name, 1, 7) <> 'sqlite_'"
    )
    return set(rows(connection, statement))


def present_shape(version: int = FORMAT_VERSION) -> set[tuple[str, str, str]]:
    """Return the shape of a new database, of the present format or an earlier one."""
    connection = apsw.Connection(":memory:")
    for script in migrations()[:version]:
        connection.execute(script)
    return shape(connection)


def migrations() -> list[str]:
    """Return the scripts in order."""
    folder = files("config_daemon.store") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(folder / name).read_text() for name in names]
