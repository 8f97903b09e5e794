"""THE daemon: one level-triggered loop. Start reading here.

    wake → tick: what happened, what is wanted, what the broker lacks, send that, say how we are

Laws: every wake-up runs the same tick; an event is only a reason to look; the loop's thread owns all
state; what cannot be sent now is still behind and is seen again at the next tick. Start-up,
reconnecting, a wiped broker and a changed row are the same path.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from config_daemon import failpoints
from config_daemon.core.health import Facts, Findings
from config_daemon.core.modes import Mode, mode_of
from config_daemon.core.plan import Plan, must_keep
from config_daemon.daemon.broker import Arrived, Broker, BrokerEvent, Confirmed, Connected, Lost, Refused
from config_daemon.daemon.inbox import Dialed, Event, Inbox, Stop
from config_daemon.daemon.report import Reporter
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.logs import Logger
from config_daemon.store.status import StatusBoard
from config_daemon.wire.topics import Topics

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 60.0
REFUSED_SECONDS = 60.0
STOP_SECONDS = 8.0
_REFUSED = {"denied": "publish-denied", "too-large": "too-large", "quota": "quota"}


@dataclass(slots=True)
class Parts:
    """What the loop is made of; `main.py` builds them."""

    inbox: Inbox
    broker: Broker
    sight: Sight
    sealer: Sealer
    reporter: Reporter
    plan: Plan
    findings: Findings
    board: StatusBoard
    topics: Topics
    log: Logger
    poll_seconds: float
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    alive: Callable[[], None] = field(default=lambda: None)


class Daemon:
    """Owns all mutable state; `run` returns when the daemon was asked to stop."""

    def __init__(self, parts: Parts, event: str = "started") -> None:
        self._p = parts
        self._event = event
        self._mode: Mode | None = None
        self._stopping = False
        self._dial_at = 0.0
        self._retry_seconds = RETRY_FIRST_SECONDS
        self._not_before: dict[str, float] = {}

    def run(self) -> None:
        """Tick until stopped, then say good-bye."""
        while not self._stopping:
            self.tick(self._p.inbox.wait(self._patience(), self._p.broker.sockets()))
        self._say_goodbye()

    def tick(self, events: list[Event]) -> None:
        """Look at everything once and send what is missing."""
        p, now = self._p, self._p.clock()
        for event in events:
            self._heed(event, now)
        for happened in p.broker.drive(now):
            self._learn(happened, now)
        p.sight.look(now, p.broker.connected)
        self._send_what_is_behind(now)
        self._keep_connected(now)
        if p.sight.facts is not None or p.sight.status != "healthy":
            p.reporter.report(self._facts(), now)
        p.alive()

    def _heed(self, event: Event, now: float) -> None:
        if isinstance(event, Stop):
            self._stopping = True
        elif isinstance(event, Dialed):
            self._p.broker.adopt(event, now)

    def _learn(self, event: BrokerEvent, now: float) -> None:
        p = self._p
        match event:
            case Connected():
                self._retry_seconds = RETRY_FIRST_SECONDS
                self._not_before.clear()
                for name in ("broker-down", "broker-auth", "broker-tls"):
                    p.findings.close(name)
                p.reporter.again()
                p.log.info("broker_connected")
            case Lost(reason):
                self._lose_broker(reason, now)
            case Confirmed(topic, number):
                service = p.topics.service_of(topic)
                if service is not None and p.plan.confirm(service, number):
                    self._tell_confirmed(service)
            case Refused(topic, _, why, code):
                self._put_off(topic, why, code, now)
            case Arrived():
                pass

    def _send_what_is_behind(self, now: float) -> None:
        p = self._p
        if not p.broker.open_window or p.findings.holding:
            return
        for service, entry in p.plan.behind():
            topic = p.topics.config(service)
            if not p.broker.open_window:
                break
            if (
                entry.wanted is None
                or not p.broker.room(topic, now)
                or self._not_before.get(service, 0.0) > now
            ):
                continue
            if not must_keep(entry):
                try:
                    p.plan.remember(service, p.sealer.update(service, entry.wanted, entry.config))
                except OSError as error:
                    p.findings.open("disk-full", "marks.json", str(error.strerror), p.sealer.now())
                    break
            assert entry.sealed is not None
            p.broker.send(topic, entry.sealed.raw, entry.sealed.sequence, now)
            p.log.debug("config_published", service=service, sequence=entry.sealed.sequence)
            failpoints.reached("after_send")

    def _tell_confirmed(self, service: str) -> None:
        failpoints.reached("after_confirm")
        p = self._p
        sealed = p.plan.services[service].sealed
        assert sealed is not None
        p.board.confirmed(
            service, sealed.fingerprint.generation, sealed.sequence, sealed.body_sha256, p.sealer.now()
        )
        if self._not_before.pop(service, None) is not None:
            for name in _REFUSED.values():
                p.findings.close(name, service)
        failpoints.reached("after_status")

    def _put_off(self, topic: str, why: str, code: int, now: float) -> None:
        p = self._p
        service = p.topics.service_of(topic) or topic
        self._not_before[service] = now + REFUSED_SECONDS
        if p.findings.open(_REFUSED[why], service, f"the broker answered {code}", p.sealer.now()):
            p.log.warning("publish_refused", topic=topic, why=why, code=code)
        p.board.state(service, why, p.sealer.now())

    def _keep_connected(self, now: float) -> None:
        p = self._p
        if p.broker.idle and now >= self._dial_at:
            p.broker.open(p.reporter.will(self._facts()))

    def _lose_broker(self, reason: str, now: float) -> None:
        p = self._p
        for service in list(p.plan.services):
            p.plan.doubt(service)
        name, _, detail = reason.partition(": ")
        if p.findings.open(name, "broker", detail or reason, p.sealer.now()):
            p.log.warning("broker_lost", reason=reason)
        self._dial_at = now + self._retry_seconds * (0.5 + p.jitter())
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_LAST_SECONDS)

    def _facts(self) -> Facts:
        p = self._p
        mode = mode_of(p.sight.status, p.findings.holding is not None, False)
        if mode != self._mode:
            if self._mode is not None:
                p.log.warning("mode_changed", before=self._mode, after=mode, status=p.sight.status)
                self._event = f"mode-{mode}"
            self._mode = mode
        known = p.sight.facts
        return Facts(
            status=p.sight.status,
            mode=mode,
            epoch=known.epoch if known else None,
            schema_version=known.schema_version if known else 0,
            lkg_valid=False,
            event=self._event,
            services=len(p.plan.services),
            behind=len(p.plan) + p.sight.unread,
        )

    def _patience(self) -> float:
        """Return how long nothing can be due, in seconds."""
        p, now = self._p, self._p.clock()
        waits = [p.poll_seconds, p.reporter.next_due(now)]
        if p.sight.unread:
            return 0.0
        if len(p.plan) > p.broker.in_flight:
            waits.append(p.broker.next_room(now))
        if p.broker.idle:
            waits.append(self._dial_at - now)
        return max(0.0, min(waits))

    def _say_goodbye(self) -> None:
        """Publish that we stopped, wait for the broker to have it, and leave without a will."""
        p = self._p
        self._event = "stopped"
        until = p.clock() + STOP_SECONDS
        stopped = self._facts()
        number = p.reporter.farewell(stopped, p.clock())
        while p.broker.connected and p.clock() < until:
            p.inbox.wait(0.05, p.broker.sockets())
            happened = p.broker.drive(p.clock())
            for event in happened:
                self._learn(event, p.clock())
            if any(isinstance(event, Confirmed) and event.number == number for event in happened):
                break
        p.broker.close(p.clock(), 1.0)
        p.sealer.numbers.close(p.sight.place)
        p.reporter.flush(p.clock())
