"""Where a database goes that was replaced: whole, with its `-wal` and `-shm`, and kept for a while.

Laws: the database moves first, so that nobody ever opens it without its `-wal`; nothing is opened or
copied, only renamed; of each kind the newest five are kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

from config_daemon import failpoints
from config_daemon.store.files import sync_folder

KEPT = 5
_SUFFIXES = ("", "-wal", "-shm")
_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d{6}\.\d{3}Z-[0-9a-f]{8}")  # as `stamp_of` makes them


def stamp_of(now: str, epoch: str) -> str:
    """Return the name of a folder: when, and the epoch that followed."""
    return "-".join((now.replace(":", ""), epoch[:8]))


def folder_of(database: Path) -> Path:
    """Return the folder for replaced databases: beside the database, since a rename crosses no file system."""
    return database.parent / "quarantine"


def refuse_link(folder: Path) -> None:
    """Make sure that a quarantine is where its name says, or nowhere yet. Raises: OSError."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "a symbolic link, and nothing is moved through one", str(folder))


def move(database: Path, stamp: str) -> None:
    """Move a database and what belongs to it; what was moved before, or is not there, is no matter.

    Raises: OSError.
    """
    refuse_link(folder_of(database))
    folder = folder_of(database) / stamp
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    for suffix in _SUFFIXES:
        path = database.with_name(database.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            path.rename(folder / path.name)
        if not suffix:
            sync_folder(folder)
            sync_folder(database.parent)
            failpoints.reached("rebuild_database_moved")
    sync_folder(folder)
    sync_folder(database.parent)


def has_moved(database: Path, stamp: str, replaces: bool) -> bool:
    """Tell whether a move has begun: the old database is there, or the folder where there was none to move."""
    folder = folder_of(database) / stamp
    return os.path.lexists(folder / database.name if replaces else folder)


def put_back(database: Path, stamp: str) -> None:
    """Undo a move, the database last; what was not moved is no matter. Raises: OSError."""
    folder = folder_of(database) / stamp
    for suffix in reversed(_SUFFIXES):
        path = database.with_name(database.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            (folder / path.name).rename(path)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
    sync_folder(database.parent)


def prune(database: Path, stamp: str) -> None:
    """Remove all but the newest folders, never the one just made; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        refuse_link(folder_of(database))
        folders = [
            path
            for path in folder_of(database).iterdir()
            if _OURS.fullmatch(path.name)
            and path.name != stamp
            and path.is_dir()  # others keep theirs here, too
        ]
        for folder in sorted(folders)[: 1 - KEPT]:  # by the clock, which may have been put back
            shutil.rmtree(folder, ignore_errors=True)


def prune_files(folder: Path, beginning: str, made: str, but: str) -> None:
    """Remove all but the newest files whose names begin so, with what lies beside them under the ending `but`.

    What was just made stays, and what cannot go.
    """
    with contextlib.suppress(OSError):
        names = [path for path in folder.iterdir() if path.name.startswith(beginning) and path.name != made]
        files = [path for path in names if not path.name.endswith(but)]
        moved_at = {path: path.stat(follow_symlinks=False).st_ctime_ns for path in files}
        for path in sorted(files, key=moved_at.__getitem__)[: 1 - KEPT]:
            path.unlink()
            path.with_name(path.name + but).unlink(missing_ok=True)
