"""Files of a worker's state folder: replaced whole, synced before anybody relies on them, read with care.

Laws: a replaced file is the old one or the new one, whenever the power goes; what does not read as it was
written is a ValueError, never half an answer; only a regular file is read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config_daemon.wire import values

MAX_BYTES = 8 << 20
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what a reader of members meets


def framed(members: Mapping[str, Any]) -> bytes:
    """Return an object as a file's content: the SHA-256 of its JSON, a line's end, and the JSON."""
    # not escaped: some characters would take six times the bytes, and three of the largest messages too many
    body = json.dumps(members, ensure_ascii=False).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def members_of(content: bytes) -> dict[str, Any]:
    """Return the object that `framed` wrote.

    Raises: ValueError, TypeError when it is anything else.
    """
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("the digest does not fit")
    values.check_parts(body)
    members = json.loads(body)
    if not isinstance(members, dict):
        raise TypeError("not an object")
    return members


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Make a file's new content durable.

    Raises: OSError; the file is then the one before.
    """
    beside = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(beside, flags, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises: ValueError when it is a link, a folder, a pipe; OSError.
    """
    try:
        # O_NONBLOCK: opening a pipe would wait for its writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise ValueError("not a file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
