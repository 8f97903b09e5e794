"""What workers say: taken as it comes, verified when there is time, and counted only in its order.

Laws: only a worker with a row is listened to, and each of its statuses is verified by the key in that row; of
what comes faster than it can be verified the last one stays; an order that was seen is never undercut, over
restarts of the daemon neither as long as status.db lives; of everybody else nothing is parsed and little kept.

Source: docs/protocol.md "Status".
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nacl.signing import VerifyKey

from config_daemon.core.convergence import Known
from config_daemon.core.health import Findings
from config_daemon.daemon.events import Arrived
from config_daemon.errors import RejectedUpdate
from config_daemon.store.ports import Workers
from config_daemon.wire.status import MAX_STATUS_BYTES, Status, read_status
from config_daemon.wire.topics import Topics

AGAIN_SECONDS = 1.0  # between two verifications of one worker's statuses about one service
VERIFIED_AT_ONCE = 5  # in a turn of the loop; one takes about 0.15 ms
WAITING_BYTES = 4 << 20
STRANGERS = 1000
QUIET_SECONDS = 600.0
TOLD_WORKERS = 20  # whose statuses were refused, each by name
Pair = tuple[str, str]  # worker, service


class Floor(NamedTuple):
    """What an earlier process knew of a worker's statuses: whose key, the highest order, and when it was heard."""

    key_id: str
    order: tuple[int, int]
    seen_at: str | None
    age_seconds: float | None


class Presence(NamedTuple):
    """The broker's word about a worker: `online`, `offline`, or nothing.

    `at` tells people when it changed, None for what lay there; `heard_at` is in the loop's time.
    """

    word: str
    at: str | None
    heard_at: float


NOTHING = Presence("", None, 0.0)


@dataclass(slots=True)
class Entry:
    """A worker that is expected to run a service, and what it said last; times are the loop's."""

    worker: str
    service: str
    key: VerifyKey
    key_id: str
    since: float
    order: tuple[int, int] = (0, 0)
    known_at: float | None = None  # when that order was first seen, where another process saw it
    raw: bytes | None = None
    came_at: float = 0.0
    is_retained: bool = False
    verify_at: float = 0.0
    status: Status | None = None
    heard_at: float | None = None
    seen_at: str | None = None  # the same for people, also by an earlier process

    def known(self, now: float, beacons: Collection[int]) -> Known | None:
        """Return what is known of it now, while these beacons are the last ones."""
        if self.status is None:
            return None
        age = None if self.heard_at is None else now - self.heard_at
        return Known(self.status, age, self.status.beacon in beacons)


class Statuses:
    """Takes messages for expected workers; `changed` collects the services about which something is new."""

    def __init__(
        self,
        topics: Topics,
        findings: Findings,
        now_text: Callable[[], str],
        floors: Mapping[Pair, Floor],
        beacons: Callable[[], tuple[int, ...]],
    ) -> None:
        self._topics, self._findings, self._now_text, self._beacons = topics, findings, now_text, beacons
        self._floors = dict(floors)
        self._entries: dict[Pair, Entry] = {}
        self._by_service: dict[str, dict[str, Entry]] = {}
        self._workers: dict[str, set[str]] = {}
        self._due: list[tuple[float, Pair]] = []
        self._waiting_bytes = 0
        self._presence: dict[str, Presence] = {}
        self._refused_at: dict[str, float] = {}
        self._sweep_at = 0.0
        self.strangers: dict[Pair, str] = {}
        self.news_of_strangers: set[Pair] = set()
        self.changed: set[str] = set()
        self.unasked: list[str] = []  # exact topics of those that became expected

    def expect(self, workers: Workers, now: float) -> set[Pair]:
        """Expect exactly these from now on; return who is not expected any more."""
        self._findings.replace(
            "worker-row-altered",
            dict.fromkeys(workers.altered, "its seal does not fit its content: it is not expected meanwhile"),
            self._now_text(),
        )
        wanted = {(row.worker, service): row for row in workers.rows.values() for service in row.services}
        gone = {pair for pair in self._entries if pair not in wanted}
        for pair in gone:
            self._forget(pair)
        for pair, row in wanted.items():
            known = self._entries.get(pair)
            if known is not None and bytes(known.key).hex() == row.verify_key:
                continue
            if known is not None:
                self._forget(pair)
            self._begin(Entry(row.worker, pair[1], row.keys.verifier, row.keys.key_id, now), now)
        for worker in [worker for worker in self._presence if worker not in self._workers]:
            del self._presence[worker]
        return gone

    def arrived(self, message: Arrived, now: float) -> None:
        """Take a message; nothing is verified yet."""
        about = self._topics.status_about(message.topic)
        if about is None:
            worker = self._topics.presence_of(message.topic)
            if worker in self._workers:
                self._note_presence(worker, message.payload, now)
            return
        entry = self._entries.get((about[1], about[0]))
        if entry is None:
            self._note_stranger((about[1], about[0]))
        elif len(message.payload) > MAX_STATUS_BYTES:
            self._refuse(entry.worker, "oversize", now)
        elif message.payload:
            self._keep(entry, message, now)

    def verify(self, now: float) -> None:
        """Verify some of what waits."""
        for _ in range(VERIFIED_AT_ONCE):
            if not self._due or self._due[0][0] > now:
                break
            entry = self._entries.get(heapq.heappop(self._due)[1])
            if entry is not None and entry.raw is not None:
                self._verify(entry, now)
        if now >= self._sweep_at:
            self._sweep_at = now + AGAIN_SECONDS
            self._forget_quiet(now)

    def next_due(self, now: float) -> float:
        """Return in how many seconds something can be verified; a long time where nothing waits."""
        return max(0.0, self._due[0][0] - now) if self._due else 60.0

    @property
    def unexpected(self) -> set[Pair]:
        """Return who was expected by an earlier process, and is not any more."""
        return self._floors.keys() - self._entries.keys()

    @property
    def services(self) -> Iterator[str]:
        """Return the services that somebody is expected to run."""
        return iter(self._by_service)

    def of(self, service: str) -> Mapping[str, Entry]:
        """Return the workers that are expected to run a service, by name."""
        return self._by_service.get(service, {})

    def presence(self, entry: Entry) -> tuple[str, str | None]:
        """Return what the broker says of a worker, as far as that said nothing since, and when that began."""
        found = self._presence.get(entry.worker, NOTHING)
        is_outdone = found.word == "offline" and not self.is_gone(entry)
        return NOTHING[:2] if is_outdone else found[:2]

    def is_gone(self, entry: Entry) -> bool:
        """Tell whether the broker says that a worker left, and it said nothing since."""
        found = self._presence.get(entry.worker, NOTHING)
        return found.word == "offline" and (entry.heard_at is None or found.heard_at >= entry.heard_at)

    def _begin(self, entry: Entry, now: float) -> None:
        pair = (entry.worker, entry.service)
        floor = self._floors.get(pair)
        if floor is not None and floor.key_id == entry.key_id:
            entry.order, entry.seen_at = floor.order, floor.seen_at
            entry.known_at = None if floor.age_seconds is None else now - floor.age_seconds
        self._entries[pair] = entry
        self._by_service.setdefault(entry.service, {})[entry.worker] = entry
        self._workers.setdefault(entry.worker, set()).add(entry.service)
        self.strangers.pop(pair, None)
        self.news_of_strangers.discard(pair)
        self.changed.add(entry.service)
        self.unasked += [
            self._topics.status(entry.service, entry.worker),
            self._topics.presence(entry.worker),
        ]

    def _forget(self, pair: Pair) -> None:
        entry = self._entries.pop(pair)
        self._waiting_bytes -= len(entry.raw or b"")
        if self._refused_at.pop(entry.worker, None) is not None:  # by other keys than it has from now on
            self._findings.close("status-refused", entry.worker)
        workers, services = self._by_service[entry.service], self._workers[entry.worker]
        del workers[entry.worker]
        services.discard(entry.service)
        if not workers:
            del self._by_service[entry.service]
        if not services:
            del self._workers[entry.worker]
        self.changed.add(entry.service)

    def _keep(self, entry: Entry, message: Arrived, now: float) -> None:
        room = WAITING_BYTES - self._waiting_bytes + len(entry.raw or b"")
        if len(message.payload) > room:
            return  # it comes again within a minute
        self._waiting_bytes += len(message.payload) - len(entry.raw or b"")
        if entry.raw is None:
            heapq.heappush(self._due, (entry.verify_at, (entry.worker, entry.service)))
        entry.raw, entry.came_at, entry.is_retained = message.payload, now, message.retained

    def _verify(self, entry: Entry, now: float) -> None:
        raw, entry.raw, entry.verify_at = entry.raw or b"", None, now + AGAIN_SECONDS
        self._waiting_bytes -= len(raw)
        try:
            status = read_status(raw, entry.service, entry.worker, entry.key, entry.key_id)
        except RejectedUpdate as refused:
            self._refuse(entry.worker, refused.reason, now)
            return
        is_known_again = status.order == entry.order and entry.status is None
        if status.order <= entry.order and not is_known_again:
            if status.order < entry.order:
                self._refuse(entry.worker, "out-of-order", now)
            return
        entry.status, entry.order = status, status.order
        if is_known_again:
            entry.heard_at = entry.known_at
        elif not entry.is_retained or status.beacon in self._beacons():
            entry.heard_at, entry.seen_at = entry.came_at, self._now_text()
        else:
            entry.heard_at = None  # it lay there, nobody knows for how long
        self.changed.add(entry.service)

    def _note_presence(self, worker: str, payload: bytes, now: float) -> None:
        word = {b"online": "online", b"offline": "offline"}.get(payload)
        before = self._presence.get(worker, NOTHING).word
        if word is not None and before != word:
            self._presence[worker] = Presence(word, self._now_text() if before else None, now)
            self.changed |= self._workers[worker]

    def _note_stranger(self, pair: Pair) -> None:
        if pair not in self.strangers and len(self.strangers) >= STRANGERS:
            oldest = next(iter(self.strangers))
            del self.strangers[oldest]
            self.news_of_strangers.add(oldest)
        self.strangers.pop(pair, None)  # in the order in which they were seen last
        self.strangers[pair] = self._now_text()
        self.news_of_strangers.add(pair)

    def _refuse(self, worker: str, reason: str, now: float) -> None:
        subject = (
            worker if worker in self._refused_at or len(self._refused_at) < TOLD_WORKERS else "other-workers"
        )
        self._refused_at[subject] = now
        self._findings.open("status-refused", subject, f"a status was refused: {reason}", self._now_text())

    def _forget_quiet(self, now: float) -> None:
        for subject, at in list(self._refused_at.items()):
            if now - at > QUIET_SECONDS:
                del self._refused_at[subject]
                self._findings.close("status-refused", subject)
