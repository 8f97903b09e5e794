"""Signing keys that lie in files of their own: a new one is made, one that is there is read.

Laws: a file is never overwritten; it appears whole, durable and with mode 0600; one that others can touch is
refused; nothing of a key is in any message.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
from pathlib import Path

from config_daemon.errors import KeyUnavailable
from config_daemon.store.files import PRIVATE_MODE, sync_folder, write_beside
from config_daemon.store.keyfiles import Signer
from config_daemon.store.privacy import read_private


def new_key() -> Signer:
    """Return a signing key that nobody else has."""
    from config_daemon.wire.keys import signing_key

    return Signer(signing_key(secrets.token_bytes(32)))


def key_in(path: Path) -> Signer:
    """Return the private key in a file.

    Raises: KeyUnavailable when it cannot be read, when others can touch it, or when it is none.
    """
    from config_daemon.wire.keys import signing_key_from_pem

    text = read_private(path)
    try:
        return Signer(signing_key_from_pem(text))
    except KeyUnavailable as error:
        raise KeyUnavailable(f"{path}: {error.message}", suggestion=error.suggestion) from None


def made_or_found(path: Path) -> Signer:
    """Return the key in a file; where there is no file, make one with a new key.

    Raises: KeyUnavailable, as `key_in`, or when it cannot be made.
    """
    from config_daemon.wire.keys import signing_key_pem

    try:
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
            left.unlink()  # of a run that was killed: a key is in it
        if os.path.lexists(path):
            return key_in(path)
        key = new_key()
        _write(path, signing_key_pem(key.key).encode())
    except (OSError, ValueError) as error:
        raise KeyUnavailable(
            f"{path} cannot be made: {getattr(error, 'strerror', None) or 'not a path'}",
            suggestion="Name a file that does not exist yet, in a folder that is there and has room.",
        ) from error
    return key_in(path)


def _write(path: Path, content: bytes) -> None:
    beside = write_beside(path, content, PRIVATE_MODE)
    try:
        try:
            os.link(beside, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            beside.rename(path)  # a stick whose file system has no links
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
    sync_folder(path.parent)
