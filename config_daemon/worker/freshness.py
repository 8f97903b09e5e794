"""Whether the world that a worker is shown is today's: what beacons prove. Pure.

Laws: a beacon proves only what its fresh number and date allow; no clock takes part in accepting a config;
what is listed twice in a row and not held, or held and not listed, is told apart and told.

Source: docs/protocol.md "The beacon".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from config_daemon.wire.beacon import BEACON_SECONDS, Beacon, Numbered, list_digest, shard_of
from config_daemon.wire.messages import ConfigUpdate, timestamp
from config_daemon.worker.trust import Floor

INTERVALS, TWICE = 3, 2
Standing = Literal["listed", "more", "less", "unknown"]


class Freshness:
    """What one worker's beacons of this process say; times are monotonic seconds and Unix milliseconds."""

    def __init__(self, started_at: float, beacon_seconds: float = BEACON_SECONDS) -> None:
        self._patience = INTERVALS * beacon_seconds
        self._fresh_at = started_at
        self._highest = (0, 0)
        self._highest_at: float | None = None
        self._newest: Beacon | None = None
        self._shards: dict[
            str, list[Mapping[str, Numbered]]
        ] = {}  # the one that fits, the last one that does not
        self._consecutive: dict[str, tuple[Standing, int, int]] = {}
        self.is_time_unsure = False

    @property
    def highest(self) -> int:
        """Return the highest number of a beacon seen in this process, 0 before the first."""
        return self._highest[1]

    def is_stale(self, now: float) -> bool:
        """Tell whether no fresh beacon came for three intervals."""
        return now - self._fresh_at > self._patience

    def take(self, beacon: Beacon, held: tuple[int, int], now: float, unix_ms: int) -> bool:
        """Take a verified beacon of the keyring's generation; True when it is fresh.

        `held` is the highest generation and number among the floors: what lies below was true once.
        """
        place = (beacon.generation, beacon.sequence)
        if place <= self._highest or place < held:
            return False
        advanced = self._highest_at is not None and now - self._highest_at <= self._patience
        self._highest, self._highest_at = place, now
        age_seconds = (unix_ms - _unix_ms(beacon.issued_at)) / 1000
        # Signed by the daemon and later than our clock: the clock is behind, and no clock. What is older than
        # our clock allows proves nothing, however fast it advances: somebody may be playing yesterday.
        is_unsure = age_seconds < -self._patience
        if age_seconds > self._patience or (is_unsure and not advanced):
            return False
        self._newest, self._fresh_at, self.is_time_unsure = beacon, now, is_unsure
        return True

    def take_shard(self, shard: str, services: Mapping[str, Numbered]) -> None:
        """Take a verified shard; it counts as far as a fresh beacon names its digest, whatever came later."""
        kept = [one for one in self._shards.get(shard, ()) if self._fits(shard, one)]
        self._shards[shard] = [*kept[:1], services]

    def standing(self, service: str, floor: Floor | None) -> Standing:
        """Tell what the newest fresh beacon says of a message: it lists it, or more, or less or other.

        A list that is named and does not come may say anything: it counts as more.
        """
        if self._newest is None:
            return "unknown"
        listed = self._listed(service)
        if listed is None and floor is None:
            return "unknown"
        if floor is None or listed is _WITHHELD:
            return "more"
        if listed is None or floor.generation > self._newest.generation:
            return "less"
        if listed == (floor.sequence, floor.body_sha256):
            return "listed"
        # what is listed is of the beacon's generation, except where it could not be sealed anew: then it fits
        return "more" if (self._newest.generation, listed.number) > floor[:2] else "less"

    def trusted_time(self, unix_ms: int, held: ConfigUpdate, generation: int) -> str:
        """Return a time that is not before now as a timestamp: the latest that the clock or the daemon vouches for.

        Only what is of the generation in force counts: whoever stole an earlier one's key may have dated it.
        """
        known: list[ConfigUpdate | Beacon] = [held, *([self._newest] if self._newest else [])]
        return max(timestamp(unix_ms), *(one.issued_at for one in known if one.generation == generation), "")

    def keyring_standing(self, held: Numbered) -> Standing:
        """Tell the same of the keyring."""
        listed = self._newest.keyring if self._newest else None
        if listed is None:
            return "unknown"
        if listed == held:
            return "listed"
        return "more" if listed.number > held.number else "less"

    def twice(self, subject: str, standing: Standing) -> bool:
        """Count what fresh beacons say of a service or the keyring; True from the second one in a row."""
        number = self._newest.sequence if self._newest else 0
        before, count, counted = self._consecutive.get(subject, ("unknown", 0, 0))
        if standing != before:
            count = 1
        elif counted != number:
            count += 1
        self._consecutive[subject] = standing, count, number
        return count >= TWICE

    def _listed(self, service: str) -> Numbered | None:
        assert self._newest is not None
        if self._newest.shards is None:
            return self._newest.services.get(service)
        shard = shard_of(service)
        if shard not in self._newest.shards:
            return None
        fitting = [services for services in self._shards.get(shard, ()) if self._fits(shard, services)]
        return fitting[0].get(service) if fitting else _WITHHELD

    def _fits(self, shard: str, services: Mapping[str, Numbered]) -> bool:
        digests = self._newest.shards if self._newest else None
        return digests is not None and list_digest(dict(services)) == digests.get(shard)


_WITHHELD = Numbered(-1, "")


def _unix_ms(timestamp: str) -> int:
    """Return the milliseconds of a timestamp's text; of a day that no calendar has, those of 1970."""
    try:
        return round(datetime.fromisoformat(timestamp).timestamp() * 1000)
    except ValueError:
        return 0
