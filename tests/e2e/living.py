"""A running daemon on which many troubles are tried, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psutil

from tests.e2e.house import House, until
from tests.e2e.pasts import DATABASE, remove
from tests.e2e.wire import Said, Wire
from tests.fleet_host import by_hand

NORMAL = Said("healthy", "normal", True, True, "started")


class Living:
    """A running daemon that rows are tried on, one after the other; every row ends with a mended house."""

    def __init__(self, house: House, wire: Wire, pid: int) -> None:
        self.house, self.wire, self.folder, self.pid = house, wire, house.folder, pid
        self._numbers = count(10)

    def number(self) -> int:
        """Return a number that no service has had yet."""
        return next(self._numbers)

    @contextlib.contextmanager
    def swapped(self, damage: Callable[[Path], object]) -> Iterator[None]:
        """Put another file, made of a whole copy, in the database's place; and the right one back at the end."""
        copy = self._copy("copy.db")
        damage(copy)
        with self.given_back():
            self._put(copy)
            yield

    @contextlib.contextmanager
    def given_back(self) -> Iterator[None]:
        """Put a copy of the database, as it is now, in its place at the end."""
        away = self._copy("away")
        try:
            yield
        finally:
            self._put(away)

    def _copy(self, name: str) -> Path:
        path = self.folder / name
        by_hand(self.folder / "config.db", f"VACUUM INTO '{path}'")
        by_hand(path, "PRAGMA journal_mode=WAL")
        return path

    def _put(self, source: Path) -> None:
        """Put it there at once, as the daemon sees it: the old file without its `-wal` is another trouble."""
        with self._asleep():
            remove(self.folder, *DATABASE[1:])
            if source.is_dir() or not source.exists():
                remove(self.folder, "config.db")
            elif (self.folder / "config.db").is_dir():
                (self.folder / "config.db").rmdir()
            if source.exists():
                source.rename(self.folder / "config.db")

    @contextlib.contextmanager
    def _asleep(self) -> Iterator[None]:
        daemon = psutil.Process(self.pid)
        daemon.suspend()
        until(lambda: daemon.status() == psutil.STATUS_STOPPED, "the daemon stopped")
        try:
            yield
        finally:
            daemon.resume()
