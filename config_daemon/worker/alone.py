"""One process at a time follows from a state folder.

Laws: `flock` only, on the folder itself: the kernel frees it when its holder dies, and a disk that takes no
writes is no reason not to start; neither is one that knows no locks.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from config_daemon.errors import SettingsError


class Alone:
    """The right to be the only one in a state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def begin(self) -> None:
        """Take the folder, until `end`.

        Raises: SettingsError when somebody has it, or it cannot be read.
        """
        try:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SettingsError(
                f"the state folder {self._folder} cannot be used: {error.strerror}",
                suggestion="Make it as the worker's user, or give `state` a folder of that user.",
            ) from error
        if not _is_free(descriptor):
            os.close(descriptor)
            raise SettingsError(
                f"another worker program uses {self._folder}",
                suggestion="Stop it, or give this one a state folder of its own.",
            )
        self._descriptor = descriptor

    def end(self) -> None:
        """Leave it to others."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a disk without locks
    return True
