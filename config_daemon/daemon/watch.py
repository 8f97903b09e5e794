"""watchdog, reduced to a hint: something near our files moved.

Laws: folders are watched, never files (editors and Kubernetes rename); the observer's thread calls
one function and touches no state; without it everything still works, only later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

# without these the observer's thread would wake for every file that anybody merely opens
_EVENTS: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileClosedEvent,
]


class _Hinting(FileSystemEventHandler):
    def __init__(self, hint: Callable[[str], None], names: Mapping[str, str]) -> None:
        self._hint, self._names, self._any = hint, names, names.get("*")

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            near = self._any or self._names.get(str(path).rpartition("/")[2])
            if near is not None:
                self._hint(near)


class Watch:
    """Calls `hint(near)` when a named file in a folder changes."""

    def __init__(self, hint: Callable[[str], None]) -> None:
        self._hint = hint
        self._observer = Observer()
        self._observer.daemon = True

    def start(self, folders: Mapping[Path, Mapping[str, str]]) -> str | None:
        """Begin to watch folders: file name (or `*`) → what it is near to. Return why that cannot be, or None."""
        try:
            for folder, names in folders.items():
                if folder.is_dir():
                    self._observer.schedule(_Hinting(self._hint, names), str(folder), event_filter=_EVENTS)
            self._observer.start()
        except OSError as error:
            return f"{error.strerror}; changes are found by polling"
        return None

    def stop(self) -> None:
        """End the observer's thread."""
        with contextlib.suppress(RuntimeError):
            self._observer.stop()
            self._observer.join(1.0)
