"""File locks: one daemon per folder, and no write into a database that is being replaced.

Laws: `flock` only, because the kernel frees it when its holder dies; who is alive is asked of the
lock and never of a clock or a pid.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from config_daemon.errors import StoreUnavailable
from config_daemon.store.files import SHARED_MODE

_RETRY_SECONDS = 0.005
_ASKED_SECONDS = 0.1  # `is_held` itself holds the lock, for microseconds: that is no second daemon


def take(path: Path) -> int | None:
    """Take a lock exclusively; return its descriptor (for `release`), None when it is held.

    Raises: OSError.
    """
    descriptor = _open(path)
    until = time.monotonic() + _ASKED_SECONDS
    while not _try(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= until:
            os.close(descriptor)
            return None
        time.sleep(_RETRY_SECONDS)
    return descriptor


def release(descriptor: int) -> None:
    """Free a lock that `take` returned."""
    os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether a lock that `take` returned is still the one that others find at its path."""
    held = os.fstat(descriptor)
    try:
        found = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - asked all the time
    except OSError:
        return False
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)


def is_held(path: Path) -> bool:
    """Tell whether some process holds the lock exclusively."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(path: Path, wait_seconds: float) -> Iterator[None]:
    """Hold a lock alone, so that nobody writes meanwhile.

    Raises: StoreUnavailable when others hold it for longer than `wait_seconds`, or when there can be no lock.
    """
    until = time.monotonic() + wait_seconds
    try:
        while (descriptor := take(path)) is None:
            if time.monotonic() >= until:
                raise StoreUnavailable(
                    "somebody is writing to the database", suggestion="Try again in a moment."
                )
    except OSError as error:
        raise _no_lock(path, error) from error
    try:
        yield
    finally:
        release(descriptor)


@contextlib.contextmanager
def shared(path: Path, wait_seconds: float) -> Iterator[None]:
    """Hold a lock together with other writers.

    Raises: StoreUnavailable when somebody holds it exclusively for longer than `wait_seconds`, or when
    there can be no lock.
    """
    try:
        descriptor = _open(path)
    except OSError as error:
        raise _no_lock(path, error) from error
    try:
        until = time.monotonic() + wait_seconds
        while not _try(descriptor, fcntl.LOCK_SH):
            if time.monotonic() >= until:
                raise StoreUnavailable(
                    "the database is being recovered",
                    suggestion="Wait until `config-daemon status` says normal, then try again.",
                )
            time.sleep(_RETRY_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _no_lock(path: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"the lock {path} cannot be taken: {error.strerror}",
        suggestion="Look at that folder: the store's group must be able to write in it.",
    )


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, SHARED_MODE)
    with contextlib.suppress(PermissionError):  # somebody else's file: its mode is theirs
        os.fchmod(descriptor, SHARED_MODE)
    return descriptor


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
