"""inotify, reduced to a hint: something near our files moved.

Laws: folders are watched, never files (editors and Kubernetes rename); the loop reads the events itself, in
the one place where it waits, so that no thread stands between a commit and the look at it; without inotify
everything still works, only later.

Source: inotify(7); docs/adr/0009 for why no observer's thread.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from inotify_simple import Event, INotify, flags, parse_events

# without the events of opening and reading: everybody who merely looks would wake the loop
_CHANGES = flags.MODIFY | flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
_READ_BYTES = 8192  # what is left over is read in the next turn, which comes at once


class Watch:
    """Tells which named files in folders have changed."""

    def __init__(self, merely_opened: Collection[str] = ()) -> None:
        """`merely_opened` names files that are closed all the time by programs which did not change them."""
        self._merely_opened = frozenset(merely_opened)
        self._inotify: INotify | None = None
        self._names: dict[int, Mapping[str, str]] = {}

    def start(self, folders: Mapping[Path, Mapping[str, str]]) -> str | None:
        """Begin to watch folders: file name (or `*`) → what it is near to. Return why that cannot be, or None."""
        try:
            self._inotify = INotify(nonblocking=True)
            for folder, names in folders.items():
                if folder.is_dir():
                    self._names[self._inotify.add_watch(folder, _CHANGES)] = names
        except OSError as error:
            return f"{error.strerror}; changes are found by polling"
        return None

    def descriptors(self) -> tuple[int, ...]:
        """Return what to wait for."""
        return () if self._inotify is None else (self._inotify.fileno(),)

    def near(self) -> set[str]:
        """Return what the changes since the last call are near to."""
        found: set[str] = set()
        for event in self._read():
            if event.mask & flags.Q_OVERFLOW:
                found.update(near for names in self._names.values() for near in names.values())
            if event.mask == flags.CLOSE_WRITE and event.name in self._merely_opened:
                continue
            names = self._names.get(event.wd, {})
            near = names.get(event.name) or names.get("*")
            if near is not None:
                found.add(near)
        return found

    def _read(self) -> list[Event]:
        if self._inotify is None:
            return []
        try:
            # as `INotify.read` does, which asks first how much there is
            return list(parse_events(os.read(self._inotify.fileno(), _READ_BYTES)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
