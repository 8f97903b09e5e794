"""The files in the data folder: their names, their modes, and how one is replaced durably.

Laws: a file is replaced whole (written beside its target, synced, renamed, folder synced) or not at
all; nothing is followed through a symbolic link when written; the database is never opened from here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE = 0o2770
SHARED_MODE = 0o660
READABLE_MODE = 0o640
PRIVATE_MODE = 0o600
NEEDED_DESCRIPTORS = 4
NEEDED_BYTES = 64 * 1024  # below this a disk is full: a commit and the marks may not fit any more


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything lies below one data folder."""

    folder: Path
    database: Path
    cache: Path
    epoch: Path

    @classmethod
    def below(
        cls, folder: Path, database: Path | None = None, cache: Path | None = None, epoch: Path | None = None
    ) -> Files:
        """Name the files of a data folder; the three that have settings of their own may lie elsewhere."""
        return cls(
            folder,
            database or folder / "config.db",
            cache or folder / "config.lkg.json",
            epoch or folder / "health+epoch.json",
        )

    @property
    def environment(self) -> Path:
        """Return the `.env` file."""
        return self.folder / ".env"

    @property
    def marks(self) -> Path:
        """Return the daemon's own floor."""
        return self.folder / "marks.json"

    @property
    def keyring(self) -> Path:
        """Return the newest signed keyring; absent while one public key is all there is."""
        return self.folder / "keyring.json"

    @property
    def keyrings(self) -> Path:
        """Return the folder of all keyrings that were ever in force, by number."""
        return self.folder / "keyrings"

    @property
    def status(self) -> Path:
        """Return the database of what the daemon knows."""
        return self.folder / "status.db"

    @property
    def store_lock(self) -> Path:
        """Return the lock that every writing transaction shares."""
        return self.folder / "store.lock"

    @property
    def daemon_lock(self) -> Path:
        """Return the lock that a living daemon holds."""
        return self.folder / "daemon.lock"

    @property
    def requests(self) -> Path:
        """Return the folder of commands to the daemon."""
        return self.folder / "requests"

    @property
    def schemas(self) -> Path:
        """Return the folder of dropped-in service definitions."""
        return self.folder / "schemas"

    @property
    def rebuild_info(self) -> Path:
        """Return the journal of the last rebuild, restore or adoption."""
        return self.folder / "rebuild.info"

    @property
    def quarantine(self) -> Path:
        """Return the folder of files that could not be trusted."""
        return self.folder / "quarantine"


def create_beside(path: Path, mode: int = PRIVATE_MODE) -> tuple[Path, BinaryIO]:
    """Create a new temporary file beside `path`; return its path, and the file to write and read back.

    Raises: OSError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask takes away
    except OSError:
        os.close(descriptor)
        beside.unlink()
        raise
    return beside, os.fdopen(descriptor, "w+b")


def write_beside(path: Path, content: bytes, mode: int = PRIVATE_MODE, *, durable: bool = True) -> Path:
    """Write (and sync) `content` into a new temporary file beside `path`; return the file's path.

    Raises: OSError.
    """
    beside, stream = create_beside(path, mode)
    try:
        with stream:
            stream.write(content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    return beside


def replace_durably(path: Path, content: bytes, mode: int = PRIVATE_MODE) -> None:
    """Replace a file so that after a crash it is the old one or the new one, never a part.

    Raises: OSError.
    """
    _put(write_beside(path, content, mode), path)
    sync_folder(path.parent)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Replace a file for its readers at once; after a power loss it may be gone, so only for copies.

    Raises: OSError.
    """
    _put(write_beside(path, content, mode, durable=False), path)


def _put(beside: Path, path: Path) -> None:
    try:
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_capped(path: Path, limit_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Open a whole regular file of at most `limit_bytes`, not through a symbolic link; yield descriptor and content.

    Raises: OSError; ValueError when it is longer.
    """
    # not blocking: who may write in the folder could else stop us for ever with a pipe of this name
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            content = stream.read(
                min(seen.st_size, limit_bytes) + 1
            )  # the buffer is as large as what is asked for
        if len(content) > limit_bytes:
            raise ValueError(f"longer than {limit_bytes} bytes")
        yield descriptor, content
    finally:
        os.close(descriptor)


def read_capped(path: Path, limit_bytes: int) -> bytes:
    """Read such a file.

    Raises: OSError; ValueError when it is longer.
    """
    with opened_capped(path, limit_bytes) as (_, content):
        return content


def is_mounted_readonly(folder: Path) -> bool:
    """Tell whether a folder's file system takes no writes at present; False where that cannot be known."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def has_room(folder: Path) -> bool:
    """Tell whether a small file could be written into a folder; True where that cannot be known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return True
    return found.f_bavail * found.f_frsize >= NEEDED_BYTES and (not found.f_files or found.f_favail > 0)


def has_descriptors() -> bool:
    """Tell whether a few more files could be opened: a database takes three."""
    opened: list[int] = []
    try:
        while len(opened) < NEEDED_DESCRIPTORS:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True
