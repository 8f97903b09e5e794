"""When a worker says how it stands, and how that is signed.

Laws: a status is said at every connection, when what it says has changed, and again after a minute, so that
silence means something; at most one a second and service, of which the last one counts; nothing is said
before the number of this start is on disk.

Source: docs/protocol.md "Status".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config_daemon.wire.messages import timestamp
from config_daemon.wire.status import JITTER_SECONDS, STATUS_SECONDS, TOLD_FLAGS, Status
from config_daemon.wire.topics import Topics
from config_daemon.wire.workerkeys import WorkerKeys
from config_daemon.worker.lookout import unix_ms
from config_daemon.worker.standing import Standing, presentable, sealed

LEAST_SECONDS = 1.0
MISSED_BEACONS = 2  # a status counts while it quotes one of the last three
AGENT_CHARACTERS = 100


def jitter() -> float:
    """Return anything from -1 to 1."""
    return random.uniform(-1.0, 1.0)  # noqa: S311 - spreads load, guards nothing


@dataclass(slots=True)
class _Said:
    """The last status about one service, and when the next one is due though nothing changes."""

    standing: Standing | None = None
    at: float = float("-inf")
    due: float = float("-inf")
    beacon: int = 0
    newer: int = 0


class Statuses:
    """Signs what `standing` returns of each service, whenever it is time.

    `boot` returns the number of this start once it is durable; `beacon` the highest number of one seen.
    """

    def __init__(
        self,
        keys: WorkerKeys,
        boot: Callable[[], int],
        services: Sequence[str],
        topics: Topics,
        standing: Callable[[str], Standing],
        beacon: Callable[[], int],
        agent: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], int] = unix_ms,
        jitter: Callable[[], float] = jitter,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._keys, self._next_boot, self._standing, self._beacon = keys, boot, standing, beacon
        self._agent, self._clock, self._calendar = presentable(agent)[:AGENT_CHARACTERS], clock, calendar
        self._jitter, self._note = jitter, note
        self._topics = {service: topics.status(service, keys.public.worker) for service in services}
        self._said = {service: _Said() for service in services}
        self._boot: int | None = None
        self._try_again_at = float("-inf")
        self._n = 0

    def connected(self) -> None:
        """Have every status said now: nobody knows what the broker still has."""
        self._said = {service: _Said(said.standing) for service, said in self._said.items()}

    def due(self, patience_seconds: float = LEAST_SECONDS) -> list[tuple[str, bytes]]:
        """Return what is to be published now and retained, as (topic, message).

        What has changed waits until the last status is as old as `patience_seconds`; 0 for last words.
        """
        now, beacon = self._clock(), self._beacon()
        return [
            (topic, raw)
            for service, topic in self._topics.items()
            if (raw := self._next(service, now, beacon, patience_seconds))
        ]

    def _next(self, service: str, now: float, beacon: int, patience_seconds: float) -> bytes | None:
        said, standing = self._said[service], self._standing(service)
        self._heed(said, now, beacon)
        has_news = standing != said.standing and now - said.at >= patience_seconds
        if (now < said.due and not has_news) or (boot := self._durable_boot(now)) is None:
            return None
        due = now + STATUS_SECONDS + JITTER_SECONDS * self._jitter()
        self._said[service] = _Said(standing, now, due, beacon)
        self._n += 1
        return sealed(
            Status(
                version=1,
                service=service,
                worker=self._keys.public.worker,
                boot=boot,
                n=self._n,
                key_id=self._keys.key_id,
                issued_at=timestamp(self._calendar()),
                beacon=beacon,
                running=standing.running,
                last_attempt=standing.last_attempt,
                flags=list(standing.flags[:TOLD_FLAGS]),
                agent=self._agent,
            ),
            self._keys,
        )

    def _heed(self, said: _Said, now: float, beacon: int) -> None:
        """Have a status said soon once the beacon that the last one quotes is no longer among the last ones."""
        if beacon != said.beacon:
            if said.beacon == 0:  # it quoted none, and counted for as little
                said.due = min(said.due, said.at + LEAST_SECONDS)
            said.beacon, said.newer = beacon, said.newer + 1
            if said.newer == MISSED_BEACONS:
                said.due = min(said.due, now + JITTER_SECONDS * (1 + self._jitter()) / 2)

    def _durable_boot(self, now: float) -> int | None:
        if self._boot is None and now >= self._try_again_at:
            try:
                self._boot = self._next_boot()
            except OSError as error:
                self._try_again_at = now + LEAST_SECONDS
                self._note(
                    f"no status is sent yet: the number of this start cannot be kept ({error.strerror})"
                )
        return self._boot
