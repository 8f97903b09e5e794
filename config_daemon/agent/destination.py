"""One file that the agent owns: what is there, a new one beside it, one in the place of the other.

Laws: a reader sees the old file or the new one, never a part, and never one with another's rights; nothing
is followed through a link; all is done in the folder that was opened, whatever becomes of its path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from config_daemon.errors import ApplyFailed, ErrorContext

MAX_BYTES = 8 << 20
NEW_MODE = 0o600
KEEP = -1  # chown(2): leave this one as it is


class Found(NamedTuple):
    """A file as it lies there, or as it should: content, mode, owner, group."""

    content: bytes
    mode: int = NEW_MODE
    uid: int = KEEP
    gid: int = KEEP


def beside(path: Path) -> Path:
    """Return where the new file waits: hidden, and with the same suffix, which checks may go by."""
    return path.with_name(f".{path.stem}.config-agent{path.suffix}")


def look(path: Path, max_bytes: int = MAX_BYTES) -> Found | None:
    """Return what lies at a path, None when nothing does.

    Raises: ApplyFailed when it is no regular file, too large to be kept, or cannot be read.
    """
    try:
        with _folder(path) as folder:
            return _read(path, folder, max_bytes)
    except OSError as error:
        raise _refused(path, error) from error


def stage(path: Path, wanted: Found) -> None:
    """Write a file beside `path`, durably; its owner and mode are right before anything is in it.

    Raises: ApplyFailed.
    """
    try:
        with _folder(path) as folder:
            _unlink(beside(path).name, folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(beside(path).name, flags, 0o600, dir_fd=folder)
            with os.fdopen(descriptor, "wb") as stream:
                if (wanted.uid, wanted.gid) != (KEEP, KEEP):
                    os.fchown(descriptor, wanted.uid, wanted.gid)
                os.fchmod(descriptor, wanted.mode)
                stream.write(wanted.content)
                stream.flush()
                os.fsync(descriptor)
    except OSError as error:
        unstage(path)
        raise _refused(path, error) from error


def unstage(path: Path) -> None:
    """Remove what waits beside `path`; that it cannot be is for the next `stage` to say."""
    with contextlib.suppress(OSError), _folder(path) as folder:
        _unlink(beside(path).name, folder)


def place(path: Path) -> None:
    """Put what waits beside `path` into its place, durably.

    Raises: ApplyFailed.
    """
    try:
        with _folder(path) as folder:
            os.rename(beside(path).name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
    except OSError as error:
        raise _refused(path, error) from error


def remove(path: Path) -> None:
    """Take a file away, durably.

    Raises: ApplyFailed.
    """
    try:
        with _folder(path) as folder:
            _unlink(path.name, folder)
            os.fsync(folder)
    except OSError as error:
        raise _refused(path, error) from error


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: Path, folder: int, max_bytes: int) -> Found | None:
    try:
        # O_NONBLOCK: opening a pipe would wait for its writer
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(path.name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(errno.EISDIR if stat.S_ISDIR(seen.st_mode) else errno.ENXIO, "no file")
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, "too large")
    return Found(content, seen.st_mode & 0o777, seen.st_uid, seen.st_gid)


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


_WHY = {
    errno.ELOOP: ("is a symbolic link", "Name the file that it leads to."),
    errno.EISDIR: ("is a folder", "Name a file in it."),
    errno.ENXIO: ("is no regular file", "Name a regular file, or one that is not there yet."),
    errno.ENOENT: ("has no folder to be in", "Make its folder."),
    errno.ENOTDIR: ("has no folder to be in", "Make its folder."),
    errno.EFBIG: (f"is longer than {MAX_BYTES} bytes", "Name a file that is a config."),
    errno.EPERM: ("cannot be given to its owner", "Let the agent run as that owner or as root, or change `owner`."),
    errno.EACCES: ("cannot be reached", "Let the agent's user read it and write in its folder."),
    errno.ENOSPC: ("does not fit on the disk", "Free space on that file system."),
    errno.EROFS: ("is on a file system that takes no writes", "Mount it so that it can be written."),
}  # fmt: skip


def _refused(path: Path, error: OSError) -> ApplyFailed:
    why, mend = _WHY.get(
        error.errno or 0, (f"cannot be used: {error.strerror}", "Look at it and its folder.")
    )
    context = ErrorContext("destination", "DESTINATION", f"{path} {why}", mend, failed_field=str(path))
    return ApplyFailed(context.message, contexts=[context], suggestion=mend)
