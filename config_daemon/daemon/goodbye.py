"""The end of the loop's life, in order: the last word to the broker, the cache, the unused numbers.

Laws: the broker has confirmed our last health before we leave, so that the will does not fire; what
cannot be done in time is left: the next start finds a crash and goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from config_daemon.daemon import events as e
from config_daemon.daemon.parts import Parts

STOP_SECONDS = 8.0


def say_goodbye(
    p: Parts, learn: Callable[[e.BrokerEvent, float], None], may_keep: Callable[[], bool]
) -> None:
    """Say that we stopped, wait until the broker has it, and leave without a will."""
    until = p.clock() + STOP_SECONDS
    number = p.reporter.farewell(p.clock(), event="stopped")
    while p.broker.connected and p.clock() < until:
        _hear_of_the_cache(p, 0.05)
        happened = p.broker.drive(p.clock())
        for event in happened:
            learn(event, p.clock())
        if any(isinstance(event, e.Confirmed) and event.number == number for event in happened):
            break
    p.edge.close()
    keep = may_keep()
    p.broker.close(1.0)
    if keep:
        p.keeper.finish(
            lambda: p.sealer.head(p.sight.place, p.sight.facts), lambda: _hear_of_the_cache(p, 0.0),
            p.clock(), STOP_SECONDS,
        )  # fmt: skip
    else:
        p.keeper.wait(STOP_SECONDS)
    with contextlib.suppress(OSError):  # what is on disk covers every number used; a few are wasted
        p.sealer.numbers.close()
    p.reporter.flush(p.clock())


def _hear_of_the_cache(p: Parts, seconds: float) -> None:
    """Wait for the broker or an event; of events nothing counts any more but that the cache was written, or not."""
    for event in p.inbox.wait(seconds, p.broker.sockets()):
        if isinstance(event, e.CacheWritten):
            p.cache_written(event, p.clock())
