"""The one place that waits, and the reasons why the loop wakes up.

Laws: other threads put events here and touch nothing else; a change near our files is only a reason to
look, so any number of them is one hint; after a hint the loop looks again and again for a short while,
because a change of the file precedes the moment at which a commit becomes visible; it looks at the poll
interval whether hinted or not.

`select` waits with microseconds; epoll and poll would round the ladder's first rungs up to 1 ms.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

from config_daemon.daemon.events import Event, Hint
from config_daemon.daemon.watch import Watch

LADDER_FIRST_SECONDS, LADDER_GROWTH, LADDER_SECONDS = 0.0001, 1.35, 0.06


class Sockets(NamedTuple):
    """What to wait for beside the pipe: descriptors to read, and to write."""

    readable: tuple[int, ...] = ()
    writable: tuple[int, ...] = ()


class Inbox:
    """A queue with a wake-up pipe; `put` may be called from any thread and from signal handlers."""

    def __init__(self, watch: Watch, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch, self._clock = watch, clock
        self._queue: SimpleQueue[Event] = SimpleQueue()
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._rung = self._ladder_until = 0.0

    def put(self, event: Event) -> None:
        """Leave an event and wake the loop."""
        self._queue.put(event)
        with contextlib.suppress(BlockingIOError):  # a pipe full of wake-ups wakes as well
            os.write(self._write_end, b"\0")

    def wait(self, timeout_seconds: float, sockets: Sockets) -> list[Event]:
        """Sleep until there is an event, a change of a file, a ready socket, a rung of the ladder, or the timeout."""
        if self._clock() < self._ladder_until:
            timeout_seconds = min(timeout_seconds, self._rung)
            self._rung *= LADDER_GROWTH
        watched, until = self._watch.descriptors(), self._clock() + timeout_seconds
        while True:
            readable, writable, _ = select.select(
                (self._read_end, *watched, *sockets.readable), sockets.writable, (), max(0.0, timeout_seconds)
            )
            events = self._drain() if self._read_end in readable else []
            near = set() if set(watched).isdisjoint(readable) else self._watch.near()
            if near:
                self._rung, self._ladder_until = LADDER_FIRST_SECONDS, self._clock() + LADDER_SECONDS
                events.append(Hint(frozenset(near)))
            timeout_seconds = until - self._clock()
            if near or writable or timeout_seconds <= 0 or readable != [*watched]:
                return events  # else nothing has changed, as when we open and close the database ourselves

    def close(self) -> None:
        """Free the pipe; nothing may be put afterwards."""
        os.close(self._read_end)
        os.close(self._write_end)

    def _drain(self) -> list[Event]:
        os.read(self._read_end, 4096)
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]  # nobody else takes any
