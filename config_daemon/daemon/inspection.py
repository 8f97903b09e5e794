"""Have SQLite look over its whole file now and then, beside the loop.

Laws: the loop never waits for it; what it finds is an event; it says nothing about rows, which carry
seals of their own and are checked whenever they are read.

Source: docs/adr/0014-when-the-file-is-checked.md.
"""

from __future__ import annotations

from collections.abc import Callable

from config_daemon.daemon.events import Inspected
from config_daemon.daemon.work import Work, in_thread
from config_daemon.errors import StoreError

QUICK_SECONDS, THOROUGH_SECONDS = 300.0, 3600.0
PATIENCE_SECONDS = 10.0


class Inspector:
    """Begins an inspection when one is due; `inspect(thorough)` raises StoreError for what is wrong."""

    def __init__(
        self,
        inspect: Callable[[bool], None],
        put: Callable[[Inspected], None],
        start: Callable[[Callable[[], None]], Work] = in_thread,
    ) -> None:
        self._inspect, self._put, self._start = inspect, put, start
        self._quick_at: float | None = None
        self._thorough_at = float("-inf")
        self._is_first = True

    def step(self, now: float, is_busy: bool) -> None:
        """Begin one if it is time, a little later while many configs are on their way; the first is thorough."""
        self._quick_at = now if self._quick_at is None else self._quick_at
        if now < self._quick_at + (PATIENCE_SECONDS if is_busy else 0.0):
            return
        self._quick_at = now + QUICK_SECONDS
        thorough, is_first = now >= self._thorough_at, self._is_first
        if thorough:
            self._thorough_at, self._is_first = now + THOROUGH_SECONDS, False

        def work() -> None:
            try:
                self._inspect(thorough)
            except StoreError as error:
                self._put(Inspected(error, sweep=False))
            else:
                self._put(Inspected(None, sweep=thorough and not is_first))  # every row was read a moment ago

        self._start(work)
