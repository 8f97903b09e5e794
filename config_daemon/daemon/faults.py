"""What is wrong with the store: errors become one status and named conditions.

Laws: a lock counts after half a second in which nobody could write, so that everyday locks change nothing;
an error that lasts keeps one condition; what merely cannot be written holds, and is read as ever.

Source: docs/events.md; seed 004 "Database Health States".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from config_daemon.core.health import Findings
from config_daemon.core.modes import Status
from config_daemon.errors import (
    SchemaMismatch,
    SchemaOutdated,
    StoreCannotOpen,
    StoreCorrupted,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreReadOnly,
    StoreStarved,
)

LOCK_SECONDS = 0.5


class _Kind(NamedTuple):
    """A kind of error: the condition that tells of it, and the status that it means."""

    error: type[StoreError]
    condition: str
    status: Status


_KINDS = (
    _Kind(StoreStarved, "fd-exhausted", "locked"),
    _Kind(StoreLocked, "db-locked", "locked"),
    _Kind(SchemaOutdated, "schema-too-old", "schema-mismatch"),
    _Kind(SchemaMismatch, "schema-too-new", "schema-mismatch"),
    _Kind(StoreFull, "disk-full", "healthy"),
    _Kind(StoreReadOnly, "db-readonly", "healthy"),
    _Kind(StoreMissing, "db-missing", "corrupted"),
    _Kind(StoreCannotOpen, "db-cantopen", "corrupted"),
    _Kind(StoreFailing, "io-error", "corrupted"),
    _Kind(StoreCorrupted, "db-corrupted", "corrupted"),
    _Kind(StoreError, "db-error", "corrupted"),
)
_FILE = "config.db"


class Faults:
    """The error that keeps the store from being read, if any, and what keeps it from being written."""

    def __init__(self, findings: Findings, now_text: Callable[[], str]) -> None:
        self._findings, self._now_text = findings, now_text
        self._fault: StoreError | None = None
        self._blocked_since: float | None = None
        self._unwritable: StoreError | None = None

    @property
    def status(self) -> Status:
        """Return what the store's state is called as far as errors go."""
        return "healthy" if self._fault is None else _kind_of(self._fault).status

    @property
    def stands(self) -> bool:
        """Tell whether an error is in force."""
        return self._fault is not None

    @property
    def is_lock(self) -> bool:
        """Tell whether the error in force is that others hold the store."""
        return isinstance(self._fault, StoreLocked)

    @property
    def is_blocked(self) -> bool:
        """Tell whether somebody was in the way at the last try, for however short a time."""
        return self._blocked_since is not None

    def blocked(self, error: StoreLocked, now: float) -> None:
        """Note that nobody can write, or read, just now; it counts once it has lasted, and covers nothing worse."""
        self._blocked_since = now if self._blocked_since is None else self._blocked_since
        is_worse = self.stands and not self.is_lock
        if not is_worse and (error.waited or now - self._blocked_since >= LOCK_SECONDS):
            self.set(error)

    def moved(self) -> None:
        """Note that somebody committed: whoever was in the way before has let go."""
        self._blocked_since = None

    def set(self, error: StoreError) -> None:
        """Have an error be in force; while it stands nobody can say whether the store could be written."""
        self.cannot_write(None)
        if self._fault is not None and _place(self._fault) != _place(error):
            self._findings.close(*_place(self._fault))
        self._fault = error
        self._findings.open(*_place(error), error.message, self._now_text())

    def clear(self) -> None:
        """Have no error be in force."""
        self._blocked_since = None
        if self._fault is not None:
            self._findings.close(*_place(self._fault))
            self._fault = None

    def cannot_write(self, error: StoreError | None) -> None:
        """Note why a store that can be read cannot be written, or that it can be."""
        if self._unwritable is not None and (error is None or _place(error) != _place(self._unwritable)):
            self._findings.close(*_place(self._unwritable))
        if error is not None:
            self._findings.open(*_place(error), error.message, self._now_text())
        self._unwritable = error


def _kind_of(error: StoreError) -> _Kind:
    return next(kind for kind in _KINDS if isinstance(error, kind.error))


def _place(error: StoreError) -> tuple[str, str]:
    """Return name and subject of the condition that tells of an error."""
    return _kind_of(error).condition, error.name if isinstance(error, StoreFailing) else _FILE
