"""What the files of a service were, kept from before the first is replaced until the program has taken all.

Laws: it is durable before anything is replaced, and gone only when the files belong together again and the
program was told; whoever finds one at a start knows that a set is half done, and what it was before. Going back
is told once: was that cut off, files alone are put back, and that the program was not told stays noted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config_daemon.agent.destination import Found, look, place, remove, stage, unstage
from config_daemon.logs import logger
from config_daemon.wire.topics import is_service

MAX_BYTES = 1 << 30

_log = logger("agent.journal")

Files = Mapping[Path, Found | None]


def left_over(folder: Path) -> list[str]:
    """Return the services of which a set of files is half done."""
    return sorted(path.stem for path in folder.glob("*.before") if is_service(path.stem))


class Journal:
    """The journal of one service, a file in the agent's state folder."""

    def __init__(self, folder: Path, service: str) -> None:
        self._path = folder / f"{service}.before"
        self._untold = folder / f"{service}.untold"

    def load(self) -> dict[Path, Found | None] | None:
        """Return what the files were; None when no set is half done.

        One that does not read as it was written is set aside: then a set is half done, and nobody knows what
        it was.

        Raises: ApplyFailed when there is one and it cannot be read.
        """
        found = look(self._path, MAX_BYTES)
        if found is None:
            return None
        digest, _, body = found.content.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            with contextlib.suppress(OSError):
                self._path.rename(self._path.with_suffix(".damaged"))
            _log.warning("journal_damaged", path=str(self._path))
            return {}
        return {Path(one["path"]): _found(one) for one in json.loads(body)}

    def save(self, files: Files) -> None:
        """Note down what the files are.

        Raises: ApplyFailed; nothing is noted then.
        """
        body = json.dumps([_members(path, found) for path, found in files.items()]).encode()
        stage(self._path, Found(hashlib.sha256(body).hexdigest().encode() + b"\n" + body))
        place(self._path)

    @property
    def is_untold(self) -> bool:
        """Tell whether files were put back, or were to be, and the program may not have been told."""
        return self._untold.exists()

    def mark_untold(self) -> None:
        """Note down, durably, that the program is to be told.

        Raises: ApplyFailed.
        """
        stage(self._untold, Found(b"1\n"))
        place(self._untold)

    def mark_told(self) -> None:
        """Note down that the program was told.

        Raises: ApplyFailed.
        """
        if self.is_untold:
            remove(self._untold)

    def sweep(self) -> None:
        """Remove what was being written when an earlier life ended."""
        unstage(self._path)
        unstage(self._untold)

    def drop(self) -> None:
        """Forget it: the set is whole.

        Raises: ApplyFailed.
        """
        remove(self._path)


def _members(path: Path, found: Found | None) -> dict[str, Any]:
    if found is None:
        return {"path": os.fspath(path), "content": None}
    return {"path": os.fspath(path), **found._asdict(), "content": b64encode(found.content).decode()}


def _found(one: Mapping[str, Any]) -> Found | None:
    if one["content"] is None:
        return None
    return Found(b64decode(one["content"]), one["mode"], one["uid"], one["gid"])
