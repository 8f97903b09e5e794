"""What others show us of our own messages: evidence of workers, and beacons on the broker.

Laws: only what our own key signed counts, whoever brings it; status and enrolment play no part; a number
above ours after the first read-back means that we are a copy or a restored past, and stops publishing.

Source: docs/protocol.md "Evidence".
"""

from __future__ import annotations

from collections.abc import Callable

from nacl.signing import VerifyKey

from config_daemon.core.plan import Plan
from config_daemon.core.surprise import OwnMessage, Standing, explain
from config_daemon.daemon.events import Arrived
from config_daemon.errors import RejectedUpdate
from config_daemon.logs import Logger
from config_daemon.wire.beacon import BEACON, parse_beacon
from config_daemon.wire.messages import CONFIG_UPDATE, parse_update
from config_daemon.wire.sealing import unseal
from config_daemon.wire.topics import Topics

AT_ONCE = 500  # of what anybody may send; evidence comes again within a minute, a beacon within half of one
Hold = Callable[[str, str, str], None]


class Witness:
    """Gathers what was shown, and judges it when the rows are known; `highest_seen` is of messages of ours."""

    def __init__(
        self,
        plan: Plan,
        topics: Topics,
        key: VerifyKey,
        standing: Callable[[], Standing],
        hold: Hold,
        log: Logger,
    ) -> None:
        self._plan, self._topics, self._key = plan, topics, key
        self._standing, self._hold, self._log = standing, hold, log
        self._evidence: dict[str, bytes] = {}
        self._beacons: list[bytes] = []
        self.highest_seen = 0

    def arrived(self, event: Arrived) -> None:
        """Take a message that is no config; what is neither evidence nor a beacon is ignored."""
        about = self._topics.evidence_about(event.topic)
        if about is not None and not event.retained and len(self._evidence) < AT_ONCE:
            self._evidence[about] = event.payload
        elif self._topics.is_beacon(event.topic) and len(self._beacons) < AT_ONCE:
            self._beacons.append(event.payload)

    def judge_beacons(self, raise_to: Callable[[int], None] | None) -> None:
        """Hold others' beacons against our numbers; with `raise_to` they are of an earlier life of ours."""
        beacons, self._beacons = self._beacons, []
        for raw in beacons:
            try:
                beacon = parse_beacon(unseal(raw, BEACON, [self._key])[0])
            except RejectedUpdate:
                continue
            standing = self._standing()
            self.highest_seen = max(self.highest_seen, beacon.sequence)
            if beacon.generation != standing.generation or beacon.sequence <= standing.last:
                continue
            if raise_to is not None:
                raise_to(beacon.sequence)
            else:
                what = f"somebody published our own beacon number {beacon.sequence}"
                self._hold("not-the-newest", "beacon", what)

    def judge_evidence(self) -> list[str]:
        """Judge what workers hold; return the services to read and seal anew."""
        shown, self._evidence = self._evidence, {}
        anew = []
        for service, raw in shown.items():
            own = own_message(raw, service, self._key)
            if own is None:
                continue
            self.highest_seen = max(self.highest_seen, own.sequence)
            meaning = explain(raw, own, self._plan.services.get(service), self._standing())
            if meaning == "hold":
                self._hold("not-the-newest", service, f"a worker holds our own {own.words}")
            elif meaning == "seal-anew":
                self._log.warning("evidence_heeded", service=service, sequence=own.sequence)
                self._plan.seal_anew(service)
                anew.append(service)
        return anew


def own_message(raw: bytes, service: str, key: VerifyKey) -> OwnMessage | None:
    """Return what counts of a config that our key signed for a service, None of anything else."""
    try:
        update, _ = parse_update(unseal(raw, CONFIG_UPDATE, [key])[0])
    except RejectedUpdate:
        return None
    if update.service != service:
        return None
    return OwnMessage(update.generation, update.sequence, update.config_epoch, update.config_version)
