"""Follows a `.env` while the daemon runs, and decides when a changed one counts.

Laws: two looks must see the same bytes, and a file that may be torn waits longer; one that lost keys of
the daemon is torn, and never counts; until a file counts the old one stays in force; an idle look opens
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config_daemon.errors import ErrorContext, SettingsError
from config_daemon.store.dotenv import EnvFile, content_of, decoded, unusable

if TYPE_CHECKING:
    from pathlib import Path

AGREE_SECONDS = 0.2
VANISH_SECONDS = 2.0
REREAD_SECONDS = 5.0  # for file systems whose times are too coarse to show every change


@dataclass(frozen=True, slots=True)
class _Sight:
    key: str  # digest of the bytes, or why there are none
    file: EnvFile | None
    problems: tuple[ErrorContext, ...]


class TwoLooks:
    """Decides when a changed `.env` counts; until then, and while it is unusable, the old one stays.

    Two looks AGREE_SECONDS apart must see the same bytes; when names that gave service values vanish,
    VANISH_SECONDS, since a truncated file is a valid one. `now` is monotonic seconds throughout.
    """

    def __init__(
        self,
        path: Path,
        is_service_name: Callable[[str], bool],
        lacks: Callable[[EnvFile], bool] | None = None,
        keys: Collection[str] = (),
    ) -> None:
        """Follow `path`; `lacks` tells whether a first file lacks values that an earlier life had.

        `keys` are names that no later file may lose when the first one has them: the process needs them.
        """
        self._lacks, self._keys = lacks or (lambda file: False), keys
        self._first: EnvFile | None = None
        self.current: EnvFile | None = None
        self.problems: tuple[ErrorContext, ...] = ()
        self.next_look: float | None = None
        self._path, self._is_service_name = path, is_service_name
        self._signature: tuple[int, ...] = ()
        self._moved, self._reread_at, self._in_force = False, 0.0, ""
        self._settled = self._waiting = _Sight("", None, ())

    def look(self, now: float) -> EnvFile | None:
        """Return the file when it has settled with other bytes than those in force, else None."""
        signature = _signature(self._path)
        moved, self._signature = signature != self._signature, signature
        due = self._reread_at if self.next_look is None else self.next_look
        if not moved and now < due:
            return None
        sight = self._see()
        self._reread_at = now + REREAD_SECONDS
        if self.next_look is None and not moved and sight.key == self._settled.key:
            return None
        if self.next_look is None or sight.key != self._waiting.key:
            self._waiting, self._moved, self.next_look = sight, False, now + self._patience(sight)
            return None
        self._moved |= moved
        return self._settle(sight, now) if now >= due else None

    def _settle(self, sight: _Sight, now: float) -> EnvFile | None:
        # Times that moved between the looks may hide one more write in the same clock tick: look again.
        self.next_look = now + AGREE_SECONDS if self._moved else None
        self._settled, self._moved, self.problems = sight, False, sight.problems
        if sight.file is None or sight.key == self._in_force:
            return None
        self._in_force, self.current = sight.key, sight.file
        return sight.file

    def _patience(self, sight: _Sight) -> float:
        if sight.file is None:
            return AGREE_SECONDS
        if self.current is None:
            return VANISH_SECONDS if self._lacks(sight.file) else AGREE_SECONDS
        vanished = self.current.entries.keys() - sight.file.entries.keys()
        return VANISH_SECONDS if any(map(self._is_service_name, vanished)) else AGREE_SECONDS

    def _see(self) -> _Sight:
        from hashlib import sha256  # only the daemon looks twice

        key = ""
        try:
            content = content_of(self._path)
            key = sha256(content).hexdigest()
            for known in (self._waiting, self._settled):
                if known.key == key:
                    return known
            file = decoded(content, self._path)
            self._refuse_torn(file)
            return _Sight(key, file, ())
        except SettingsError as error:
            return _Sight(key or error.message, None, error.contexts)

    def _refuse_torn(self, file: EnvFile) -> None:
        if self._first is None:
            self._first = file  # before it counts: it may be torn between its first two looks
        lost = sorted(name for name in self._keys if _is_lost(_key(self._first, name), _key(file, name)))
        if not lost:
            return
        names = f"{', '.join(lost[:-1])} and {lost[-1]} are" if len(lost) > 1 else f"{lost[0]} is"
        mend = "put the file back, or restart the daemon if its keys are elsewhere now"
        what = f"{names} gone or cut short, so the whole file is taken for torn: {mend}"
        raise unusable(self._path, "keys_lost", what, f"{mend[0].upper()}{mend[1:]}.")


def _key(file: EnvFile, name: str) -> str:
    return file.get(name) or file.get(f"{name}_FILE") or ""


def _is_lost(before: str, now: str) -> bool:
    """Tell whether a key is gone, or is only the beginning of what it was."""
    return now != before and before.startswith(now)


def _signature(path: Path) -> tuple[int, ...]:
    try:
        seen = path.stat()
    except (OSError, ValueError) as error:
        return (getattr(error, "errno", 0),)
    return seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size
