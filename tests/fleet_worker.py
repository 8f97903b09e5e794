"""One worker of the simulator: the real follower and its real state folder, on a fake connection.

Laws: one object outlives the worker's processes; what a process has beside its folder is lost with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nacl.signing import VerifyKey

from config_daemon import failpoints
from config_daemon.daemon.events import Arrived
from config_daemon.errors import InvalidConfig
from config_daemon.wire.topics import Topics
from config_daemon.wire.workerkeys import WorkerKeys
from config_daemon.worker.follow import Follower
from config_daemon.worker.identity import next_boot, own_keys
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.program import Handed
from config_daemon.worker.report import Report
from config_daemon.worker.statuses import Statuses
from config_daemon.worker.trust import Floor, Trust
from tests.fakes import FakeClock, FakeLink, FakeServer
from tests.fleet_host import Died
from tests.keyrings import ring_of

Applied = Callable[["FakeWorker", Any], None]
Reported = Callable[["FakeWorker", Report], None]


class FakeWorker:
    """Follows one service; `running` is what its program was given last in this life."""

    def __init__(
        self, folder: Path, name: str, service: str, key: VerifyKey, server: FakeServer,
        clock: FakeClock, applied: Applied, reported: Reported,
    ) -> None:  # fmt: skip
        self.name, self.service = name, service
        self.running: Any = None
        self.bears: Callable[[Any], bool] = lambda _values: True  # what its program can live with
        self.clock_error_ms = 0
        self.reports: list[Report] = []
        self._folder, self._key, self._server, self._clock = folder, key, server, clock
        self._applied, self._reported = applied, reported
        self._follower: Follower | None = None
        self._statuses: Statuses | None = None
        self._link: FakeLink | None = None
        self._die_at: str | None = None

    @property
    def up(self) -> bool:
        """Tell whether its process runs."""
        return self._follower is not None

    @property
    def floor(self) -> Floor | None:
        """Return what it will never go below."""
        return Keep(self._folder, self._trust().anchor).load(self.service).belief.floor

    @property
    def state(self) -> str | None:
        """Return how the last attempt ended, as its disk says."""
        return Keep(self._folder, self._trust().anchor).load(self.service).belief.outcome

    def start(self) -> None:
        """Start from what it kept; it connects when it next gets to run."""
        trust = self.trust = self._trust()
        self._lookout = Lookout(
            trust, [self.service], Topics(), self.name, self._show,
            clock=self._clock.monotonic, calendar=self._unix_ms,
        )  # fmt: skip
        self._follower = Follower(
            trust, Keep(self._folder, trust.anchor), [self.service], Topics(), self._apply, self._report,
            self._lookout, validate={self.service: self._validate}, calendar=self._unix_ms,
        )  # fmt: skip
        self._statuses = Statuses(
            self.keys, lambda: next_boot(self._folder, self._unix_ms()), [self.service], Topics(),
            self._follower.standing, lambda: self._lookout.beacon, "fleet/1",
            clock=self._clock.monotonic, calendar=self._unix_ms, jitter=lambda: 0.0,
        )  # fmt: skip
        self._follower.start()

    @property
    def keys(self) -> WorkerKeys:
        """Return its own keys: the same in every life, and in every run of a test."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return own_keys(self._folder, self.name, lambda count: digest[:count])

    def run(self) -> None:
        """Connect where that is possible, and take what came."""
        if self._follower is None or not self._connected():
            return
        assert self._link is not None
        facts, _ = self._link.move()
        for fact in facts:
            if isinstance(fact, Arrived) and not self._receive(fact):
                return
        self._follower.tick()
        self._tell()

    def stop(self) -> None:
        """End the process politely."""
        if self._link is not None and self._link.stands:
            self._link.publish(Topics().presence(self.name), b"offline")
            self._link.leave(0.0)
            self._link = None
        self.crash()

    def die_at(self, failpoint: str) -> None:
        """Have the process die when it next reaches a failpoint while it takes a message."""
        assert failpoint in failpoints.NAMES
        self._die_at = failpoint

    def spare(self) -> None:
        """Have the process not die at any failpoint."""
        self._die_at = None

    def crash(self) -> None:
        """End the process without a word."""
        self._follower = self._statuses = self.running = self._die_at = None
        self._part()

    def _connected(self) -> bool:
        if self._link is None or not self._link.stands:
            if not self._server.up:
                return False
            presence = Topics().presence(self.name)
            self._link = self._server.connect(self.name, (presence, b"offline"))
            self._subscribe()
            self._link.publish(presence, b"online")
            assert self._statuses is not None
            self._statuses.connected()
        return True

    def _subscribe(self) -> None:
        assert self._link is not None
        self._link.subscribe([*self._lookout.filters, Topics().config(self.service)])

    def _receive(self, message: Arrived) -> bool:
        assert self._follower is not None
        try:
            with patch.object(failpoints, "reached", self._reached):
                if not self._follower.receive(message.topic, message.payload):
                    self._subscribe()  # what is retained is delivered once per subscription
        except Died:
            self.crash()
            return False
        return True

    def _part(self) -> None:
        if self._link is not None:
            self._link.drop()
            self._link = None

    def _tell(self) -> None:
        if self._link is not None and self._statuses is not None:
            for topic, raw in self._statuses.due():
                self._link.publish(topic, raw)

    def _unix_ms(self) -> int:
        return max(0, self._clock.unix_ms() + self.clock_error_ms)

    def _show(self, topic: str, raw: bytes) -> None:
        if self._link is not None:
            self._link.show(topic, raw)

    def _reached(self, name: str) -> None:
        if name == self._die_at:
            raise Died(name)

    def _validate(self, values: Any) -> Any:
        if not self.bears(values):
            raise InvalidConfig("the program cannot live with this")
        return values

    def _apply(self, handed: Handed) -> None:
        self._applied(self, handed.values)
        self.running = handed.values

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self._reported(self, report)

    def _trust(self) -> Trust:
        return Trust(ring_of(self._key), [self.service], Topics())
