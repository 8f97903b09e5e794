"""Keep the last-known-good cache behind the broker, without holding anybody up.

Laws: only confirmed messages go in; it is gathered in slices while nothing waits to be published; the
HMAC, the sync and the rename happen in a short thread that ends in one `inbox.put`; writing takes at
most a small share of the time, however large the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from config_daemon.core.plan import Plan
from config_daemon.daemon.events import CacheWritten
from config_daemon.store.cache import Head, assemble, entry_bytes, write

SLICE = 200
AGAIN_SECONDS = 10.0  # after a failure
SHARE = 20  # one part writing, nineteen parts not


class Work(Protocol):
    """Work that was started."""

    def join(self, timeout: float | None = None) -> None: ...  # noqa: D102


def in_thread(work: Callable[[], None]) -> Work:
    """Start work in a thread of its own."""
    thread = threading.Thread(target=work, name="cache", daemon=True)
    thread.start()
    return thread


class CacheKeeper:
    """Writes the cache when what is confirmed has changed; `valid` says whether the one on disk is good."""

    def __init__(
        self,
        path: Path,
        hmac_key: bytes,
        plan: Plan,
        put: Callable[[CacheWritten], None],
        valid: bool,
        start: Callable[[Callable[[], None]], Work] = in_thread,
    ) -> None:
        self._path, self._key, self._plan, self._put, self._start = path, hmac_key, plan, put, start
        self.valid = valid
        self._stale = not valid
        self._head: Head | None = None
        self._todo: list[str] = []
        self._entries: dict[str, tuple[bytes, bytes]] = {}
        self._writing = False
        self._began = 0.0
        self._not_before = 0.0

    @property
    def gathering(self) -> bool:
        """Tell whether a slice is waiting to be gathered."""
        return self._head is not None

    def touch(self) -> None:
        """Note that something confirmed has changed."""
        self._stale = True

    def step(self, head: Callable[[], Head | None], now: float) -> None:
        """Gather one slice, or begin, or hand over to the thread; call it while nothing is to be sent."""
        if self._writing or not (self._stale or self.gathering):
            return
        if not self.gathering:
            if now < self._not_before:
                return
            self._head = head()
            if self._head is None:
                self._not_before = now + AGAIN_SECONDS
                return
            self._todo, self._entries, self._stale, self._began = list(self._plan.services), {}, False, now
        some, self._todo = self._todo[:SLICE], self._todo[SLICE:]
        for service in some:
            entry = self._plan.services.get(service)
            if entry is not None and entry.sealed is not None and entry.confirmed:
                self._entries[service] = entry_bytes(service, entry.sealed)
        if not self._todo:
            self._hand_over()

    def written(self, event: CacheWritten, now: float) -> None:
        """Take the thread's outcome."""
        self._writing = False
        self._not_before = now + SHARE * (now - self._began)
        self.valid = event.error is None
        if not self.valid:
            self._stale, self._not_before = True, now + AGAIN_SECONDS

    def wait(self, seconds: float) -> None:
        """Wait until a write that is under way has ended, for the daemon's own end."""
        if self._writing:
            self._work.join(seconds)

    def finish(self, head: Callable[[], Head | None], now: float, seconds: float) -> None:
        """Write what was confirmed and not written yet, without the rests between, for the daemon's own end."""
        self.wait(seconds)
        self._writing, self._not_before = False, now
        self.step(head, now)
        while self.gathering:
            self.step(head, now)
        self.wait(seconds)

    def next_due(self, now: float) -> float:
        """Return in how many seconds there is something to do."""
        if self._writing or not (self._stale or self.gathering):
            return 60.0
        return 0.0 if self.gathering else max(0.0, self._not_before - now)

    def _hand_over(self) -> None:
        head, entries = self._head, self._entries
        assert head is not None
        self._head, self._entries, self._writing = None, {}, True

        def work() -> None:
            try:
                write(self._path, assemble(head, entries, self._key))
            except OSError as error:
                self._put(CacheWritten(error.strerror or str(error)))
            else:
                self._put(CacheWritten(None))

        self._work = self._start(work)
