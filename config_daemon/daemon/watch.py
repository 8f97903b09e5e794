"""watchdog, reduced to a hint: something near our files moved.

Laws: folders are watched, never files (editors and Kubernetes rename); the observer's thread calls
one function and touches no state; without it everything still works, only later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class _Hinting(FileSystemEventHandler):
    def __init__(self, hint: Callable[[], None], names: Collection[str] | None) -> None:
        self._hint, self._names = hint, names

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return
        if self._names is None or any(
            str(path).rpartition("/")[2] in self._names for path in (event.src_path, event.dest_path)
        ):
            self._hint()


class Watch:
    """Calls `hint` when one of the named files in a folder changes; with None for any file there."""

    def __init__(self, hint: Callable[[], None]) -> None:
        self._hint = hint
        self._observer = Observer()
        self._observer.daemon = True

    def start(self, folders: dict[Path, Collection[str] | None]) -> str | None:
        """Begin to watch; return why it cannot, for a person, or None."""
        try:
            for folder, names in folders.items():
                if folder.is_dir():
                    self._observer.schedule(_Hinting(self._hint, names), str(folder))
            self._observer.start()
        except OSError as error:
            return f"{error.strerror}; changes are found by polling"
        return None

    def stop(self) -> None:
        """End the observer's thread."""
        with contextlib.suppress(RuntimeError):
            self._observer.stop()
            self._observer.join(1.0)
