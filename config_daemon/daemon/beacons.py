"""Publish the beacon: every 30 s, and soon after a service that none listed yet was confirmed.

Laws: only confirmed messages are listed; shards whose lists changed go before the beacon that names their
digests; nothing is published while configs may not be; what it costs follows what changed.

Source: docs/protocol.md "The beacon".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from sys import intern
from typing import Any

from config_daemon.core.plan import Plan
from config_daemon.daemon.auditor import Auditor
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.identity import Identity
from config_daemon.daemon.sealer import Sealer
from config_daemon.wire.beacon import (
    BEACON_SECONDS,
    INLINE_SERVICES,
    Beacon,
    Numbered,
    list_digest,
    shard_of,
)
from config_daemon.wire.topics import Topics

SOON_SECONDS = 0.25
CURRENT, RECENT = 3, 400  # so many count as today's at least; and at most, with one every 0.25 s
NEVER = float("-inf")


class Beacons:
    """Knows what the last beacon listed, and when the next one is due."""

    def __init__(
        self,
        sealer: Sealer,
        broker: Broker,
        plan: Plan,
        topics: Topics,
        identity: Identity,
        auditor: Auditor,
        recent: Iterable[int] = (),
    ) -> None:
        self._sealer, self._broker, self._plan, self._topics = sealer, broker, plan, topics
        self._identity, self._auditor, self._changed = identity, auditor, plan.follow()
        self._sent_at = NEVER
        self._earlier = tuple(recent)  # of another process
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self._members: dict[str, set[str]] = {}  # by shard, whatever was confirmed once
        self._unlisted = False
        self._digests: dict[str, str] = {}
        self._shards_due: dict[str, None] = {}
        self._beginning = False

    @property
    def current(self) -> tuple[int, ...]:
        """Return the numbers of the last three beacons, and of all others that are not older than three intervals.

        Those of an earlier process are as old as our first one.
        """
        return *self._earlier, *(number for number, _ in self._recent)

    def renew(self) -> None:
        """Begin anew: on a fresh connection, where nobody knows what is retained, or under another key."""
        self.hurry()
        self._digests.clear()
        self._shards_due = dict.fromkeys(self._members)

    def hurry(self) -> None:
        """Have the next beacon go out at once."""
        self._sent_at, self._beginning = NEVER, False

    def refused(self, topic: str) -> None:
        """Note that the broker did not take a message; a shard goes again before the next beacon."""
        self._repair(topic.rpartition("/")[2])

    def step(self, now: float, shown: Mapping[str, str]) -> None:
        """Publish what is due; call it only while configs may be published.

        `shown` holds the digests of the lists that somebody else put in the place of shards.
        """
        self._note_changes()
        for shard, digest in shown.items():
            if digest != self._digests.get(shard):
                self._repair(shard)
        self._auditor.step()
        if self._beginning or now >= self._due_at():
            self._beginning = not self._publish(now)

    def next_due(self, now: float) -> float:
        """Return in how many seconds there is something to do."""
        return 0.05 if self._beginning else max(0.0, self._due_at() - now)

    def _due_at(self) -> float:
        soon = self._unlisted and not len(
            self._plan
        )  # while many are on their way, one beacon will do for all
        return self._sent_at + (SOON_SECONDS if soon else BEACON_SECONDS)

    def _note_changes(self) -> None:
        for service in self._changed:
            shard = shard_of(service)
            names = self._members.setdefault(shard, set())
            if service not in self._plan.services:
                names.discard(service)
            elif service not in names and self._is_confirmed(service):
                names.add(intern(service))  # not the copy that came with a topic
                self._unlisted = True
            self._shards_due[shard] = None
        self._changed.clear()

    def _repair(self, shard: str) -> None:
        if self._digests.pop(shard, None) is not None:
            self._shards_due[shard] = None

    def _publish(self, now: float) -> bool:
        """Publish shards whose lists changed, then the beacon; False while there is no room for all of them."""
        sharded = sum(map(len, self._members.values())) > INLINE_SERVICES
        for shard in list(self._shards_due) if sharded else ():
            if not self._publish_shard(shard, now):
                return False
        if not self._broker.room(self._topics.beacon, now):
            return False
        services = (
            {} if sharded else self._lines({name for names in self._members.values() for name in names})
        )
        shards = dict(self._digests) if sharded else None
        if not self._send(self._topics.beacon, now, services, shards=shards, audit=self._auditor.heads()):
            return False
        while len(self._recent) > CURRENT and now - self._recent[0][1] > CURRENT * BEACON_SECONDS:
            self._recent.popleft()
        if not sharded:
            self._digests.clear()
            self._shards_due = dict.fromkeys(self._members)  # when there are that many again
        self._sent_at, self._unlisted = now, False
        return True

    def _publish_shard(self, shard: str, now: float) -> bool:
        services = self._lines(self._members[shard])
        digest = list_digest(services)
        topic = self._topics.beacon_shard(shard)
        if self._digests.get(shard) != digest:
            if not self._broker.room(topic, now) or not self._send(topic, now, services, shard=shard):
                return False
            self._digests[shard] = digest
        del self._shards_due[shard]
        return True

    def _send(self, topic: str, now: float, services: dict[str, Numbered], **members: Any) -> bool:
        numbers = self._sealer.numbered()
        if numbers is None:
            return False
        ring = self._identity.keyring
        keyring = None if "shard" in members else Numbered(ring.number, ring.sha256)
        beacon = Beacon(services=services, keyring=keyring, **members, **numbers)
        self._broker.send(topic, self._sealer.beacon(beacon), beacon.sequence, now)
        if beacon.shard is None:
            self._recent.extend((number, now) for number in (*self._earlier, beacon.sequence))
            self._earlier = ()
        return True

    def _lines(self, names: set[str]) -> dict[str, Numbered]:
        lines = {}
        for name in sorted(names):
            entry = self._plan.services[name]
            sealed = entry.sealed if entry.confirmed else entry.held
            if sealed is not None:
                lines[name] = Numbered(sealed.sequence, sealed.body_sha256)
        return lines

    def _is_confirmed(self, service: str) -> bool:
        entry = self._plan.services.get(service)
        return entry is not None and entry.confirmed and entry.sealed is not None
