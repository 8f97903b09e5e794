"""One command at a time changes the keys of a folder, and leaves files that the daemon can go on with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from config_daemon.cli.session import Session
from config_daemon.errors import StoreLocked

LOCK = "keys.lock"


@contextlib.contextmanager
def keys_lock(session: Session) -> Iterator[None]:
    """Keep other commands from changing keys.

    Raises: StoreLocked while another one does.
    """
    from config_daemon.store import locks

    path = session.files.folder / LOCK
    try:
        lock = locks.take(path)
    except OSError as error:
        raise session.forbidden(path) from error
    if lock is None:
        raise StoreLocked(
            f"another command changes the keys of {session.folder} right now",
            suggestion="Wait for it to end, then run this again.",
        )
    try:
        give_to_owner([path], session.files.folder)
        yield
    finally:
        locks.release(lock)


def give_to_owner(paths: Sequence[Path], folder: Path) -> None:
    """As root: let files belong to whom the folder belongs to, so that the daemon can go on with them."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for path in paths:
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == 0:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
