"""The program's own thread: its callbacks run there one after the other, and nobody waits for them for ever.

Laws: a callback that is overdue is left alone, since nothing can stop it; the next one waits until it has
ended; while a callback runs, `idle` is called with the seconds that it took so far, so that the connection
lives on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from config_daemon.worker.program import Overdue

IDLE_SECONDS = 0.02


class _Task:
    def __init__(self, work: Callable[[], object]) -> None:
        self._work, self.done = work, threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, `sys.exit()` included
            self.error = error
        self.done.set()


class Applying:
    """Runs callbacks, each for at most `seconds`; None runs them in the caller's thread, without a limit."""

    def __init__(self, seconds: float | None, idle: Callable[[float], None]) -> None:
        self._seconds, self._idle = seconds, idle
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: _Task | None = None

    @property
    def is_here(self) -> bool:
        """Tell whether the caller is one of the callbacks."""
        return threading.current_thread() is self._thread

    @property
    def is_busy(self) -> bool:
        """Tell whether an overdue callback has not ended yet."""
        return self._last is not None and not self._last.done.is_set()

    def run(self, work: Callable[[], object]) -> None:
        """Run a callback and wait for its end.

        Raises: Overdue when its time is over; whatever the callback raises.
        """
        if self._seconds is None:
            work()
            return
        task = self._last = _Task(work)
        self._started().put(task)
        began = time.monotonic()
        while not task.done.wait(IDLE_SECONDS):
            took = time.monotonic() - began
            if took >= self._seconds:
                raise Overdue(f"it has not come back within {self._seconds:g} s")
            self._idle(took)
        if task.error is not None:
            raise task.error

    def _started(self) -> queue.SimpleQueue[_Task]:
        if self._thread is None:
            # a daemon thread: a callback that hangs must not keep the process from ending
            self._thread = threading.Thread(target=self._serve, name="config-apply", daemon=True)
            self._thread.start()
        return self._tasks

    def _serve(self) -> None:
        while True:
            self._tasks.get().run()
