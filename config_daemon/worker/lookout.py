"""Watch over what a worker is shown: follow the beacon, flag what is starved, show what it holds.

Laws: a flag says what is known and stops nothing; evidence is the unchanged bytes of a signed message, at
most one a minute and service; what a beacon lists is compared with the floor, never with a clock.

Source: docs/protocol.md "Evidence" and "The beacon".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from config_daemon.wire.beacon import BEACON_SECONDS, Numbered, shard_of
from config_daemon.wire.keyring import KEYRING
from config_daemon.wire.messages import ConfigUpdate
from config_daemon.wire.topics import Topics
from config_daemon.worker.freshness import Freshness, Standing
from config_daemon.worker.trust import Belief, Floor, Trust

EVIDENCE_SECONDS = 60.0


def unix_ms() -> int:
    """Return this machine's idea of the time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Lookout:
    """What the beacons say about the followed services; `show` publishes evidence: (topic, raw).

    Raises: UsageError when `worker` cannot name one.
    """

    def __init__(
        self,
        trust: Trust,
        services: Sequence[str],
        topics: Topics,
        worker: str,
        show: Callable[[str, bytes], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], int] = unix_ms,
        beacon_seconds: float = BEACON_SECONDS,
    ) -> None:
        self._trust, self._services, self._topics = trust, tuple(services), topics
        self._places = {service: topics.evidence(service, worker) for service in services}
        self._places[KEYRING] = topics.keyring_evidence(worker)
        self._show, self._clock, self._calendar = show, clock, calendar
        self._freshness = Freshness(clock(), beacon_seconds)
        self._frozen: set[str] = set()
        self._shown_at: dict[str, float] = {}

    @property
    def filters(self) -> list[str]:
        """Return what to subscribe to beside the configs."""
        shards = {self._topics.beacon_shard(shard_of(service)) for service in self._services}
        keyrings = [self._topics.every_keyring_number, self._topics.keyring]
        return [*keyrings, self._topics.beacon, *sorted(shards)]

    @property
    def beacon(self) -> int:
        """Return the highest number of a beacon seen in this process, 0 before the first."""
        return self._freshness.highest

    def take(self, topic: str, raw: bytes, floors: Mapping[str, Floor | None]) -> bool:
        """Take a message on a beacon's topic; True when what is known about services may have changed.

        Raises: RejectedUpdate when it proves nothing.
        """
        beacon = self._trust.beacon(topic, raw)
        if beacon.shard is not None:
            self._freshness.take_shard(beacon.shard, beacon.services)
            return True
        held = max((floor[:2] for floor in floors.values() if floor is not None), default=(0, 0))
        return self._freshness.take(beacon, held, self._clock(), self._calendar())

    def confirms(self, service: str, floor: Floor) -> bool:
        """Tell whether a fresh beacon lists exactly this message."""
        return (
            not self._freshness.is_stale(self._clock())
            and self._freshness.standing(service, floor) == "listed"
        )

    def lists_no_newer(self, service: str, floor: Floor) -> bool:
        """Tell whether a fresh beacon lists this message, or an older one."""
        is_fresh = not self._freshness.is_stale(self._clock())
        return is_fresh and self._freshness.standing(service, floor) in ("listed", "less")

    def compare(self, service: str, belief: Belief) -> bool:
        """Compare a service with a fresh beacon; True when something newer was listed twice and never came."""
        proof = [belief.at_floor] if belief.at_floor else []
        return self._compare(service, self._freshness.standing(service, belief.floor), proof)

    def compare_keyring(self) -> bool:
        """Compare the keyring with a fresh beacon, in the same way."""
        held = self._trust.keyring
        standing = self._freshness.keyring_standing(Numbered(held.number, held.sha256))
        return self._compare(KEYRING, standing, self._trust.proof)

    def tick(self) -> None:
        """Show the keyring while no beacon comes: a daemon that lost its own is silent until it sees it."""
        if self._freshness.is_stale(self._clock()):
            self.show(KEYRING, *self._trust.proof)

    def _compare(self, subject: str, standing: Standing, proof: Sequence[bytes]) -> bool:
        is_twice = self._freshness.twice(subject, standing)
        if standing == "less" and is_twice:
            self.show(subject, *proof)
        is_starved = standing == "more" and is_twice
        news = is_starved and subject not in self._frozen
        self._frozen = self._frozen | {subject} if is_starved else self._frozen - {subject}
        return news

    def show(self, subject: str, *proof: bytes) -> None:
        """Publish the bytes that are held of a service, or the way to the keyring, at most once a minute."""
        now = self._clock()
        if proof and now - self._shown_at.get(subject, float("-inf")) >= EVIDENCE_SECONDS:
            self._shown_at[subject] = now
            for raw in proof:
                self._show(self._places[subject], raw)

    def flags(self, service: str, running: ConfigUpdate | None = None) -> tuple[str, ...]:
        """Return what a person should know about how this worker is served, and of the age of what runs."""
        found = {
            "stale": self._freshness.is_stale(self._clock()) or self._has_expired(running),
            "frozen": service in self._frozen or KEYRING in self._frozen,
            "time-unsure": self._freshness.is_time_unsure,
        }
        return tuple(flag for flag, holds in found.items() if holds)

    def _has_expired(self, running: ConfigUpdate | None) -> bool:
        """Tell whether a date that the message itself carries has passed."""
        if running is None or running.expires_at is None:
            return False
        now = self._freshness.trusted_time(self._calendar(), running, self._trust.keyring.generation)
        return now > running.expires_at
