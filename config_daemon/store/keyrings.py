"""The keyrings on disk: the newest as `keyring.json`, every one that was ever in force below `keyrings/`.

Laws: bytes are kept exactly as they were signed; a keyring is below `keyrings/` before it becomes the
newest, so that the way to it is never lost; whether one is believed is decided by who reads it.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from config_daemon import failpoints
from config_daemon.errors import KeyUnavailable, RejectedUpdate
from config_daemon.store.files import READABLE_MODE, Files, read_capped, replace_durably
from config_daemon.wire.keyring import Keyring, installed_keyring
from config_daemon.wire.tail import MAX_MESSAGE_BYTES

MAX_KEPT = 1000
UNMERGED = "unmerged.json"


class KeyringFiles:
    """The keyrings of one data folder."""

    def __init__(self, files: Files) -> None:
        self._newest, self._folder = files.keyring, files.keyrings

    def newest(self) -> bytes | None:
        """Return the newest keyring's bytes, unverified; None when there is none.

        Raises: KeyUnavailable when there is one that cannot be read.
        """
        try:
            return read_capped(self._newest, MAX_MESSAGE_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise KeyUnavailable(
                f"{self._newest} cannot be read: {error}",
                suggestion="Put the file back as it was: `config-daemon keys restore FILE` has it.",
            ) from error

    def installed(self) -> Keyring | None:
        """Return the newest keyring as a person installed it; None when there is none.

        Raises: KeyUnavailable when it is none, or no root of its own signed it.
        """
        raw = self.newest()
        try:
            return None if raw is None else installed_keyring(raw)
        except RejectedUpdate as rejection:
            raise KeyUnavailable(
                f"{self._newest} is no keyring: {rejection.message}",
                suggestion="Put the file back as it was: `config-daemon keys restore FILE` has it.",
            ) from rejection

    def stored(self) -> list[bytes]:
        """Return all that is there, by number, the newest last; what cannot be read is left out."""
        found: list[bytes] = []
        for path in self._numbered()[-MAX_KEPT:]:
            with contextlib.suppress(OSError, ValueError):
                found.append(read_capped(path, MAX_MESSAGE_BYTES))
        with contextlib.suppress(KeyUnavailable):
            found += [raw for raw in [self.newest()] if raw is not None and raw not in found]
        return found

    def put(self, keyring: Keyring) -> None:
        """Make a keyring the newest.

        Raises: OSError; the one before is then still in place.
        """
        self.keep(keyring)
        failpoints.reached("before_keyring")
        replace_durably(self._newest, keyring.raw, READABLE_MODE)
        failpoints.reached("after_keyring")

    def keep(self, keyring: Keyring) -> None:
        """Keep a keyring among those that were in force.

        Raises: OSError; FileExistsError when another one has its number, which nobody may lose.
        """
        self._folder.mkdir(mode=0o750, exist_ok=True)
        path = self._folder / f"{keyring.number}.json"
        with contextlib.suppress(FileNotFoundError, ValueError):
            if read_capped(path, MAX_MESSAGE_BYTES) != keyring.raw:
                raise FileExistsError(errno.EEXIST, "another keyring has this number", str(path))
        replace_durably(path, keyring.raw, READABLE_MODE)

    def set_unmerged(self, raw: bytes | None) -> None:
        """Keep a keyring for a person to merge with the newest one, or forget it.

        Raises: OSError.
        """
        path = self._folder / UNMERGED
        if raw is None:
            path.unlink(missing_ok=True)
        else:
            self._folder.mkdir(mode=0o750, exist_ok=True)
            replace_durably(path, raw, READABLE_MODE)

    def unmerged(self) -> bytes | None:
        """Return the keyring that waits to be merged, None when none does."""
        try:
            return read_capped(self._folder / UNMERGED, MAX_MESSAGE_BYTES)
        except (OSError, ValueError):
            return None

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what changes whenever a file is replaced."""
        return tuple(_stamp(path) for path in (self._newest, self._folder / UNMERGED))

    def _numbered(self) -> list[Path]:
        with contextlib.suppress(OSError):
            found = [path for path in self._folder.glob("*.json") if path.stem.isdecimal()]
            return sorted(found, key=lambda path: (len(path.stem), path.stem))
        return []


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
