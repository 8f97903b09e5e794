"""Writes a backup of keys to a new file, and reads one.

Laws: what is there is never touched, nor written through a link; what cannot be opened after it was read back
does not stay. The name comes first and the content after it, because a stick may have neither nameless files
nor links; so a run that was killed can leave a part, which `keys restore` calls damaged.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from config_daemon.errors import ConfigDaemonError, UsageError
from config_daemon.store.files import PRIVATE_MODE, read_capped, sync_folder
from config_daemon.store.keybackup import BackupDamaged

MAX_BYTES = 1 << 22  # keyrings are in it, every one that was ever in force


class BackupUnwritable(ConfigDaemonError):
    """The backup cannot be written where it was wanted."""

    code = "BACKUP_UNWRITABLE"
    suggestion = "Name another FILE, on a disk with room."


def write(path: Path, content: bytes, opens: Callable[[bytes], bool]) -> None:
    """Write a new file of mode 0600, durably, and see that what is read back `opens`.

    Raises: BackupUnwritable; what is there is never touched, and what does not open does not stay.
    """
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_MODE
        )
    except FileExistsError as error:
        raise exists(path) from error
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, PRIVATE_MODE)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        sync_folder(path.absolute().parent)
        if not opens(read(path)):
            raise BackupUnwritable(f"{path} does not hold what was written", suggestion="Try another disk.")
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def read(path: Path) -> bytes:
    """Return a backup's bytes.

    Raises: UsageError when there are none to be read; BackupDamaged when there are too many.
    """
    try:
        return read_capped(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", suggestion="Name the file that `keys backup` wrote."
        ) from error
    except ValueError as error:
        raise BackupDamaged(f"{path} is no backup of keys: {error}") from error


def exists(path: Path) -> BackupUnwritable:
    """Return the error for a FILE that is there."""
    return BackupUnwritable(
        f"{path} is there already and was left alone", suggestion="Name a FILE that does not exist yet."
    )


def _unwritable(path: Path, error: OSError | ValueError) -> BackupUnwritable:
    return BackupUnwritable(f"{path} cannot be written: {getattr(error, 'strerror', None) or 'not a path'}")
