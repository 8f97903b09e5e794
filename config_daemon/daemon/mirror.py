"""What the broker really retains: read back before the first publish, watched for foreign writes ever after.

Laws: after connecting nothing but health is published until the read-back is done or was given up; a
read-back is complete when our own health message, sent after the subscriptions, has come back; a
message is judged only when its service's row has been read; putting right backs off per topic.

Source: docs/protocol.md "Facts about brokers".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.core.surprise import OwnMessage, Standing, explain
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.events import Arrived, Subscribed
from config_daemon.daemon.witness import Ground, Keys, Witness, own_message
from config_daemon.logs import Logger
from config_daemon.wire.topics import Topics

CHUNK = 500
GIVE_UP_SECONDS = 5.0
QUIET_SECONDS = 600.0
CHECK_AGAIN_SECONDS, EVERYTHING_SECONDS = 30.0, 3600.0
BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS = 1.0, 60.0
NEVER = float("inf")


class _Seen(NamedTuple):
    """A message as it arrived, and whether the broker had confirmed our last seal by then."""

    raw: bytes
    confirmed: bool


@dataclass(slots=True)
class _Reading:
    """A read-back under way: services left, the present chunk and what it lacks, the message that ends it."""

    left: list[str]
    chunk: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    request: int = 0
    subscribed: bool = False
    sentinel: bytes | None = None
    began: float = 0.0
    all_confirmed: bool = False
    blind: bool = False
    scanning: bool = False
    ahead: bool = False  # begun before the rows were read


class Mirror:
    """Compares what the broker retains with the plan, and says what to do about every difference.

    `emptied` are services whose topics should hold nothing, `strays` those of them on which something was shown.
    """

    def __init__(
        self,
        broker: Broker,
        plan: Plan,
        findings: Findings,
        topics: Topics,
        keys: Keys,
        health_topic: str,
        standing: Callable[[], Standing],
        raise_to: Callable[[int], None],
        keep_hold: Callable[[str, str, str], None],
        now_text: Callable[[], str],
        has_past: bool,
        log: Logger,
        ground: Ground,
    ) -> None:
        self._broker, self._plan, self._findings, self._topics = broker, plan, findings, topics
        self._keys, self._health_topic = keys, health_topic
        self._standing, self._raise_to, self._keep_hold = standing, raise_to, keep_hold
        self._now_text, self._has_past, self._ground = now_text, has_past, ground
        self._reading: _Reading | None = None
        self._arrived: dict[str, _Seen] = {}
        self._foreign_at: dict[str, float] = {}
        self._backoff: dict[str, tuple[float, float]] = {}
        self._touched: dict[str, None] = {}
        self._missed: set[str] = set()
        self._unexplained: dict[str, int] = {}  # the broker holds newer seals of ours than we know: versions
        self._again_at = self._everything_at = NEVER
        self._scanned = self._adopting = self._held = self._store_seen = self._read_once = False
        self._shown = self._showed = self.ready = False
        self.emptied: set[str] = set()
        self.strays: dict[str, None] = {}
        self.witness = Witness(plan, topics, keys, standing, self._hold, log, ground)

    def connected(self) -> None:
        """Begin anew on a fresh connection."""
        self._shown, self._showed, self.ready, self._reading = False, False, False, None
        self._arrived.clear()
        self._unexplained.clear()
        self._backoff.clear()
        self._broker.subscribe([self._topics.every_config], foreign_only=True)
        self._broker.subscribe([self._health_topic])
        self._broker.subscribe([self._topics.every_evidence], foreign_only=True)
        self._broker.subscribe(
            [self._topics.beacon, self._topics.every_beacon_shard], foreign_only=True, retained=True
        )

    def store_seen(self) -> None:
        """Note that the store answers: what was read back before its services were known does not count."""
        if not self._store_seen:
            self._store_seen, self._scanned, self.ready, self._reading = True, False, False, None

    @property
    def highest_seen(self) -> int:
        """Return the highest number of a message of ours that anybody showed."""
        return self.witness.highest_seen

    def step(self, now: float, rows_read: bool, send_sentinel: Callable[[], bytes | None]) -> None:
        """Move a read-back on; before the rows are read only a host without a past looks whether anything is there."""
        if not self._broker.connected or not (rows_read or self._looks_ahead):
            return
        if rows_read and self._reading is not None and self._reading.ahead:
            self._reading.left, self._reading.began, self._reading.ahead = (
                list(self._plan.services),
                now,
                False,
            )
        if self._held and not self._findings.holding:
            self.ready = False  # what arrived meanwhile was not acted upon: read everything back once more
        self._held = self._findings.holding
        if self._reading is None and not self.ready:
            self._reading = _Reading(list(self._plan.services), ahead=not rows_read)
        elif self._reading is None and now >= self._everything_at:
            self._reading, self._everything_at = _Reading(list(self._plan.services)), now + EVERYTHING_SECONDS
        elif self._reading is None and now >= self._again_at:
            self._reading, self._touched, self._again_at = _Reading(list(self._touched)), {}, NEVER
        if self._reading is not None:
            self._advance(self._reading, now, send_sentinel)

    @property
    def _looks_ahead(self) -> bool:
        return self._store_seen and not (self._has_past or self._read_once or self._showed)

    def subscribed(self, event: Subscribed) -> None:
        """Take the broker's answer to a subscription."""
        if event.refused and self._broker.connected:
            detail = "the broker's ACL lets the daemon not read what it publishes"
            self._findings.open("readback-unavailable", "broker", detail, self._now_text())
        if self._reading is not None and event.request == self._reading.request:
            self._reading.subscribed = True

    def arrived(self, event: Arrived) -> None:
        """Take a message from one of the subscriptions."""
        reading = self._reading
        if event.topic == self._health_topic:
            if reading is not None and event.payload == reading.sentinel:
                self._finish_chunk(reading)
            return
        service = self._topics.service_of(event.topic)
        if service is not None:
            entry = self._plan.services.get(service)
            self._showed = True
            self._arrived[service] = _Seen(event.payload, entry is not None and entry.confirmed)
            if reading is not None:
                reading.missing.discard(service)
        else:
            self.witness.arrived(event)

    def judge(self, now: float, rows_known: bool, confirm: Callable[[str, int], object]) -> list[str]:
        """Judge what arrived; return the services to read and seal anew.

        `confirm` is called with service and number where the broker holds the last seal, news to the plan.
        While the rows are not known an own message cannot be explained: it waits.
        """
        self._forget_quiet(now)
        self._unexplained.clear()
        if self.ready:
            self.witness.judge_beacons()
        arrived, self._arrived = self._arrived, {}
        anew = []
        for service, seen in arrived.items():
            entry = self._plan.services.get(service)
            if entry is not None and entry.sealed is not None and entry.sealed.is_same(seen.raw):
                if not entry.confirmed:
                    confirm(service, entry.sealed.sequence)
                continue
            own = own_message(seen.raw, service, self._keys())
            if own is not None and not rows_known:
                self._arrived.setdefault(service, seen)
                if entry is None or entry.sealed is None or own.is_above(entry.sealed):
                    self.witness.note_seen(own.generation, own.sequence)
                    self._unexplained[service] = own.config_version
            elif self._explain(service, seen, own, now):
                anew.append(service)
        if rows_known and self.ready and not self._findings.holding:
            anew += self.witness.judge_evidence()
        return anew

    def changed(self, service: str, now: float) -> None:
        """Have a service that was just confirmed read back in a while."""
        self._touched[service] = None
        self._again_at = min(self._again_at, now + CHECK_AGAIN_SECONDS)

    def put_off(self, service: str, now: float) -> None:
        """Have a service wait whose message the broker refused; it will hardly think better of it soon."""
        self._backoff[service] = (now + BACKOFF_LAST_SECONDS, BACKOFF_LAST_SECONDS)

    def may_send(self, service: str, now: float) -> bool:
        """Tell whether sending the last seal again is not backed off just now, and puts nothing older back."""
        if service in self._unexplained:
            return False
        return not self._backoff or now >= self._backoff.get(service, (0.0, 0.0))[0]

    def adopted(self) -> None:
        """Take note that an operator declared this daemon the true one: whatever is retained is outdone."""
        self._has_past, self._adopting, self.ready = True, True, False

    @property
    def newer(self) -> Mapping[str, int]:
        """Return the versions of our own messages that the broker shows, newer than we know, while no row is known."""
        return self._unexplained

    @property
    def shows_nothing_newer(self) -> bool:
        """Tell whether the broker was read back on this connection, and nothing of ours there is news to us."""
        return self._broker.connected and self.ready and self._shown and not self._unexplained

    @property
    def waiting(self) -> bool:
        """Tell whether a read-back is under way."""
        return self._reading is not None

    def _advance(self, reading: _Reading, now: float, send_sentinel: Callable[[], bytes | None]) -> None:
        if not reading.chunk and not reading.scanning:
            if not self._has_past and not self._scanned:
                self._scan(reading, now)
                return
            if not reading.left:
                self._finish(reading.blind, now)
                return
            reading.chunk, reading.left = reading.left[:CHUNK], reading.left[CHUNK:]
            reading.missing, reading.sentinel = set(reading.chunk), None
            entries = [self._plan.services.get(service) for service in reading.chunk]
            reading.all_confirmed = all(entry is not None and entry.confirmed for entry in entries)
            reading.subscribed, reading.began = False, now
            topics = [self._topics.config(service) for service in reading.chunk]
            reading.request = self._broker.subscribe(topics)
        elif reading.subscribed and reading.sentinel is None:
            reading.sentinel = send_sentinel()
        if now - reading.began > GIVE_UP_SECONDS:
            detail = f"no answer to a read-back within {GIVE_UP_SECONDS:.0f} s"
            self._findings.open("readback-unavailable", "broker", detail, self._now_text())
            for service in (*reading.chunk, *reading.left):
                self.changed(service, now)
            self._broker.unsubscribe([self._topics.config(service) for service in reading.chunk])
            self._reading, self.ready, self._adopting, self._shown = None, True, False, False

    def _scan(self, reading: _Reading, now: float) -> None:
        """Have everything shown before a host without a past publishes its first config."""
        self._scanned = reading.scanning = True
        reading.missing, reading.sentinel = set(), None
        reading.subscribed, reading.began, reading.all_confirmed = False, now, False
        reading.request = self._broker.subscribe(
            [self._topics.every_config], foreign_only=True, retained=True
        )

    def _finish_chunk(self, reading: _Reading) -> None:
        if reading.scanning and not self._showed:
            reading.left = []  # nothing is there: of what a broker has it shows at least a part
        chunk, missing = set(reading.chunk), reading.missing
        if missing == chunk and reading.all_confirmed and missing <= self._missed:
            # it confirmed them all, twice, and shows none: its ACL drops what it may not deliver, in silence
            reading.blind = True
        else:
            for service in missing:
                self._plan.doubt(service)
        self._missed = (self._missed - chunk) | missing
        self._broker.unsubscribe([self._topics.config(service) for service in reading.chunk])
        reading.chunk, reading.scanning = [], False

    def _finish(self, blind: bool, now: float) -> None:
        self._reading, self._shown = None, not blind
        if blind:
            detail = "the broker shows nothing of what it confirmed: its ACL lets the daemon not read configs"
            self._findings.open("readback-unavailable", "broker", detail, self._now_text())
        else:
            self._findings.close("readback-unavailable")
        if not self.ready:
            if self._adopting or not self._read_once:
                self.witness.judge_beacons(self._note_earlier_life)
            self._read_once = True
            self.ready, self._adopting, self._everything_at = True, False, now + EVERYTHING_SECONDS
            if not self._scanned:  # best effort: a broker with default limits shows a part of many only
                self._scanned = True
                self._broker.subscribe([self._topics.every_config], foreign_only=True, retained=True)

    def _note_earlier_life(self, number: int) -> None:
        """Go on above a beacon of ours that nobody remembers; a host without a past asks whose it is."""
        standing = self._standing()
        if self._has_past:
            self._raise_to(number)
        elif not standing.first < number <= standing.last:  # else this very process sealed it
            self._hold("foreign-state", "beacon", f"the broker retains our own beacon number {number}")

    def _explain(self, service: str, seen: _Seen, own: OwnMessage | None, now: float) -> bool:
        """Act on a message that is not the last seal; True when the service is to be sealed anew."""
        entry = self._plan.services.get(service)
        if own is not None:
            self.witness.note_seen(own.generation, own.sequence)
            if self._adopting and own.generation <= self._standing().generation:
                self._raise_to(self.witness.highest_seen)
                return False
            if not self._has_past and not self.ready and not self._standing().is_ours(own):
                self._hold("foreign-state", service, f"the broker retains our own {own.words}")
                return False
        meaning = explain(seen.raw, own, entry, self._standing(), self._ground.holds)
        if meaning == "hold" and own is not None:
            self._hold("not-the-newest", service, f"the broker retains our own {own.words}")
        elif meaning == "elsewhere" and own is not None and own.place is not None:
            self._ground.expect(own.place)
        elif service in self.emptied:
            self._stray(service, seen.raw, now)
        elif meaning == "orphan" and own is not None:
            detail = f"the broker retains version {own.config_version} of epoch {own.epoch}"
            self._findings.open("orphan-retained", service, detail, self._now_text())
        elif meaning == "seal-anew" and not self._findings.holding:
            self._plan.seal_anew(service)
            return True
        elif entry is not None and entry.sealed is not None and (own is None or seen.confirmed):
            self._put_right(service, now)  # else: what it held before our newer seal, which is on its way
        return False

    def _forget_quiet(self, now: float) -> None:
        """Close the findings about foreign writes that happened long ago."""
        for service, at in list(self._foreign_at.items()):
            if now - at > QUIET_SECONDS:
                del self._foreign_at[service]
                self._findings.close("foreign-write", service)

    def _stray(self, service: str, raw: bytes, now: float) -> None:
        """Note what lies where nothing should; an empty message is how a topic is cleared."""
        if raw and service not in self.strays:
            self._put_right(service, now)
            self.strays[service] = None

    def _put_right(self, service: str, now: float) -> None:
        if self.ready:
            self._foreign_at[service] = now
            self._findings.open("foreign-write", service, "somebody else wrote the topic", self._now_text())
        allowed, delay = self._backoff.get(service, (0.0, BACKOFF_FIRST_SECONDS))
        if now - allowed > BACKOFF_LAST_SECONDS:
            self._backoff[service] = (now, BACKOFF_FIRST_SECONDS)
        else:
            self._backoff[service] = (now + delay, min(2 * delay, BACKOFF_LAST_SECONDS))
        self._plan.doubt(service)

    def _hold(self, name: str, service: str, what: str) -> None:
        detail = f"{what}, which this daemon cannot explain"
        self._findings.open(name, service, detail, self._now_text())
        self._keep_hold(name, service, detail)
