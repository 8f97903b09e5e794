"""What the loop is made of; `main.py` builds it, tests build it with a fake broker and a fake clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.core.sealed import Sealed
from config_daemon.daemon.beacons import Beacons
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.client_name import ClientName
from config_daemon.daemon.descriptors import Descriptors
from config_daemon.daemon.edge import Edge
from config_daemon.daemon.events import CacheWritten, Dialed, Refused
from config_daemon.daemon.identity import Identity
from config_daemon.daemon.inbox import Inbox, Sockets
from config_daemon.daemon.judge import Judge
from config_daemon.daemon.keeper import CacheKeeper
from config_daemon.daemon.keyrings import Keyrings
from config_daemon.daemon.mirror import Mirror
from config_daemon.daemon.models import Models
from config_daemon.daemon.purge import Purge
from config_daemon.daemon.recovery import Recovery
from config_daemon.daemon.report import Reporter
from config_daemon.daemon.requests import Requests
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.daemon.surroundings import Surroundings
from config_daemon.logs import Logger
from config_daemon.wire.topics import Topics


@dataclass(slots=True)
class Parts:
    """Everything that the loop drives, and the time."""

    inbox: Inbox
    broker: Broker
    surroundings: Surroundings
    judge: Judge
    sight: Sight
    models: Models
    plan: Plan
    mirror: Mirror
    sealer: Sealer
    beacons: Beacons
    edge: Edge
    identity: Identity
    keyrings: Keyrings
    keeper: CacheKeeper
    recovery: Recovery
    purge: Purge
    name: ClientName
    descriptors: Descriptors
    requests: Requests
    reporter: Reporter
    findings: Findings
    topics: Topics
    log: Logger
    poll_seconds: float
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    alive: Callable[[], None] = field(default=lambda: None)

    def see(self, now: float, backlog: int) -> None:
        """Read and judge what the store says, by what surrounds it now; `backlog` services wait to be sent."""
        self.judge.overrides, self.judge.orphaned = self.surroundings.overrides, self.surroundings.orphaned
        self.sight.look(now, backlog)
        self.models.step(now)
        self.keeper.look(now)
        self.reporter.checked |= self.mirror.ready

    def sockets(self) -> Sockets:
        """Return what the inbox must wait for."""
        ours, theirs = self.broker.sockets(), self.edge.sockets(self.clock())
        return Sockets((*ours.readable, *theirs.readable), (*ours.writable, *theirs.writable))

    def dialed(self, event: Dialed, now: float) -> None:
        """Give a connection to who asked for it."""
        (self.edge.dialed if event.listens else self.broker.adopt)(event, now)

    def confirmed(self, service: str) -> None:
        """Have every part know that the broker holds a service's last message."""
        self.reporter.confirmed(service, self.plan.services[service])
        self.edge.confirmed(service, self.clock())

    def accepted(self, topic: str) -> None:
        """Have every part know that the broker took a message that is no config."""
        if not self.edge.accepted(topic):
            self.reporter.accepted(topic)

    def connected(self) -> None:
        """Have every part begin anew on a fresh connection."""
        if self.reporter.has_old_will:  # another key signs since we began to connect
            self.broker.drop("broker-down: the key changed while connecting")
            return
        self.keyrings.connected()  # first: what is retained there decides whose messages the others are
        self.mirror.connected()
        self.purge.lost()
        self.beacons.renew()
        self.edge.connected()
        self.reporter.connected()
        self.name.connected(self.clock())
        self.log.info("broker_connected", client_id=self.name.current)

    def cache_written(self, event: CacheWritten, now: float) -> None:
        """Have every part know how writing the last-known-good cache ended."""
        self.keeper.written(event, now)
        self.reporter.cache_written(event.error)
        if event.error is None:
            self.surroundings.cache_written()

    def obey(self, now: float, hinted: bool) -> None:
        """Do what people left as requests, and what they allowed once for all; look whether we may work at all."""
        self.name.step(now)
        self.descriptors.step(now)
        self.recovery.step(now)
        self.purge.step(now)
        self.requests.take_one(now, hinted)

    def publish(self, service: str, topic: str, sealed: Sealed | None, now: float) -> None:
        """Send the last seal of a service to its topic, byte for byte."""
        assert sealed is not None
        raw = sealed.read()
        if raw is None:
            self.give_up(service)
            return
        self.broker.send(topic, raw, sealed.sequence, now)
        self.log.debug("config_published", service=service, sequence=sealed.sequence)

    def give_up(self, service: str) -> None:
        """Have a service read and sealed anew of whose last message the bytes are nowhere any more."""
        self.log.warning("message_gone", service=service)
        self.plan.seal_anew(service)
        self.sight.reread([service])

    def refused(self, event: Refused, now: float) -> None:
        """Have every part know that the broker will not hold a message."""
        if self.edge.refused(event.topic, now):
            return
        service = self.topics.service_of(event.topic) or event.topic
        self.beacons.refused(event.topic)
        self.keyrings.refused(event.topic, now)
        self.mirror.put_off(service, now)
        self.purge.refused(service)
        self.reporter.refused(service, event.why, event.code)
