"""What others show us of our own messages: evidence of workers, and beacons on the broker.

Laws: only what our own key signed counts, whoever brings it; status and enrolment play no part; a number
above ours after the first read-back means that we are a copy or a restored past, and stops publishing.

Source: docs/protocol.md "Evidence".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from nacl.signing import VerifyKey

from config_daemon.core.plan import Plan
from config_daemon.core.surprise import OwnMessage, Standing, explain
from config_daemon.daemon.events import Arrived
from config_daemon.errors import RejectedUpdate
from config_daemon.logs import Logger
from config_daemon.wire.beacon import BEACON, Beacon, list_digest, parse_beacon
from config_daemon.wire.messages import CONFIG_UPDATE, parse_update
from config_daemon.wire.sealing import unseal
from config_daemon.wire.topics import Topics

# of what anybody may send, between two looks; evidence comes again within a minute
EVIDENCE_BYTES, BEACON_BYTES, BEACONS_AT_ONCE, SHARDS = 4 << 20, 4 << 20, 100, 256
ENTRY_BYTES = 1024  # what an entry costs beside its bytes, and to look at: empty ones are not free
Keys = Callable[[], tuple[VerifyKey, ...]]
Hold = Callable[[str, str, str], None]


class Ground(Protocol):
    """The database as far as places in it go."""

    def holds(self, place: tuple[int, str]) -> bool:
        """Tell whether it holds a place."""

    def expect(self, place: tuple[int, str]) -> None:
        """Have it be another one until it holds a place."""


class Witness:
    """Gathers what was shown, and judges it when the rows are known; what counts as ours, `keys` verify."""

    def __init__(
        self,
        plan: Plan,
        topics: Topics,
        keys: Keys,
        standing: Callable[[], Standing],
        hold: Hold,
        log: Logger,
        ground: Ground,
    ) -> None:
        self._plan, self._topics, self._keys, self._ground = plan, topics, keys, ground
        self._standing, self._hold, self._log = standing, hold, log
        self._evidence: dict[tuple[str, bytes], None] = {}
        self._evidence_bytes = 0
        self._beacons: list[bytes] = []
        self._shards: dict[str, bytes] = {}
        self._seen: dict[int, int] = {}

    @property
    def highest_seen(self) -> int:
        """Return the highest number of a message of ours, of the generation in force."""
        return self._seen.get(self._standing().generation, 0)

    def note_seen(self, generation: int, number: int) -> None:
        """Note a message that our key signed."""
        self._seen[generation] = max(number, self._seen.get(generation, 0))

    def arrived(self, event: Arrived) -> None:
        """Take a message that is no config; what is neither evidence nor a beacon is ignored."""
        about = self._topics.evidence_about(event.topic)
        if about is not None and not event.retained:
            if self._evidence_bytes < EVIDENCE_BYTES and (about, event.payload) not in self._evidence:
                self._evidence[about, event.payload] = None
                self._evidence_bytes += len(event.payload) + ENTRY_BYTES
        elif event.topic == self._topics.beacon:
            self._beacons = [*self._beacons[1 - BEACONS_AT_ONCE :], event.payload]
            while sum(map(len, self._beacons)) > BEACON_BYTES:
                del self._beacons[0]
        elif self._topics.is_beacon(event.topic) and len(self._shards) < SHARDS:
            room = BEACON_BYTES - sum(map(len, self._shards.values()))
            # what there is no room for counts as not ours: the shard is published again
            self._shards[event.topic.rpartition("/")[2]] = (
                event.payload if len(event.payload) <= room else b""
            )

    def judge_beacons(self, at_start: Callable[[int], None] | None = None) -> None:
        """Hold others' beacons against our numbers; at a start, `at_start` gets those of an earlier life."""
        beacons, self._beacons = self._beacons, []
        for beacon in filter(None, map(self._own_beacon, beacons)):
            standing = self._standing()
            self.note_seen(beacon.generation, beacon.sequence)
            is_above = (beacon.generation, beacon.sequence) > (standing.generation, standing.last)
            if at_start is not None and beacon.generation <= standing.generation:
                if beacon.generation == standing.generation:
                    at_start(beacon.sequence)
            elif is_above:
                what = f"somebody published our own beacon number {beacon.sequence}"
                self._hold("not-the-newest", "beacon", what)

    def take_shards(self) -> dict[str, str]:
        """Return what others put in the place of our shards: the digests of their lists, empty for what is not ours."""
        shards, self._shards = self._shards, {}
        found = {shard: self._own_beacon(raw) for shard, raw in shards.items()}
        return {
            shard: list_digest(own.services) if own and own.shard == shard else ""
            for shard, own in found.items()
        }

    def judge_evidence(self) -> list[str]:
        """Judge what workers hold, until something cannot be explained; return the services to seal anew."""
        shown, self._evidence, self._evidence_bytes = self._evidence, {}, 0
        anew = []
        for service, raw in shown:
            own = own_message(raw, service, self._keys())
            if own is None:
                continue
            self.note_seen(own.generation, own.sequence)
            meaning = explain(
                raw, own, self._plan.services.get(service), self._standing(), self._ground.holds
            )
            if meaning == "hold":
                self._hold("not-the-newest", service, f"a worker holds our own {own.words}")
                break
            if meaning == "elsewhere" and own.place is not None:
                self._ground.expect(own.place)
                break
            if meaning == "seal-anew" and service not in anew:
                self._log.warning("evidence_heeded", service=service, sequence=own.sequence)
                self._plan.seal_anew(service)
                anew.append(service)
        return anew

    def _own_beacon(self, raw: bytes) -> Beacon | None:
        try:
            return parse_beacon(unseal(raw, BEACON, self._keys())[0])
        except RejectedUpdate:
            return None


def own_message(raw: bytes, service: str, keys: Iterable[VerifyKey]) -> OwnMessage | None:
    """Return what counts of a config that a key of ours signed for a service, None of anything else."""
    try:
        update, _ = parse_update(unseal(raw, CONFIG_UPDATE, keys)[0])
    except RejectedUpdate:
        return None
    if update.service != service:
        return None
    place = _place(update.feed)
    return OwnMessage(update.generation, update.sequence, update.config_epoch, update.config_version, place)


def _place(feed: Any) -> tuple[int, str] | None:
    match feed:
        case [int(seq), str(token)]:
            return seq, token
    return None
