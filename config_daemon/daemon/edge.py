"""The daemon's view of its workers, as one part of the loop: ears, statuses, convergence.

Laws: nothing here drives the publishing of configs, and nothing here is done while one waits that could wait
too; who is expected is what the store's rows say.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.convergences import Convergences
from config_daemon.daemon.ears import Ears
from config_daemon.daemon.events import Dialed
from config_daemon.daemon.inbox import Sockets
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.statuses import Floor, Statuses
from config_daemon.store.edgeboard import EdgeBoard, EdgeView
from config_daemon.store.ports import Workers
from config_daemon.store.status import StatusBoard
from config_daemon.store.transaction import Definitions
from config_daemon.wire.topics import Topics

LISTEN_SECONDS = 1.0  # after a start nobody is counted before what is retained had time to come
STRANGERS_SECONDS = 5.0
DEAF_SECONDS = 30.0
ASKED_AT_ONCE = 200
HUSH_SECONDS, LONGEST_HUSH_SECONDS = 0.02, 0.2


class Edge:
    """Drives the parts that know workers; `is_healthy` tells whether what is counted may be published."""

    def __init__(
        self,
        ears: Ears,
        statuses: Statuses,
        convergences: Convergences,
        board: EdgeBoard,
        broker: Broker,
        findings: Findings,
        topics: Topics,
        now_text: Callable[[], str],
        is_healthy: Callable[[], bool],
        beacons: Callable[[], tuple[int, ...]],
    ) -> None:
        self._ears, self._statuses, self._convergences, self._board = ears, statuses, convergences, board
        self._broker, self._findings, self._topics, self._now_text = broker, findings, topics, now_text
        self._is_healthy, self._beacons = is_healthy, beacons
        self._begun = self._wanted = False
        self._beacons_told: tuple[int, ...] = ()
        self._strangers_at = 0.0
        self._heard_since: float | None = None
        self._deaf_since: float | None = None
        self._clock = self._hushed_until = self._heeded_at = 0.0

    def expect(self, workers: Workers) -> None:
        """Take the list of expected workers, as the store has it now."""
        gone = self._statuses.expect(workers, self._clock)
        if not self._begun:
            self._begun = True
            gone |= self._statuses.unexpected
        for worker, service in gone:
            self._board.forget_worker(worker, service)

    def dialed(self, event: Dialed, now: float) -> None:
        """Take over a connection for statuses."""
        self._ears.adopt(event, now)

    def connected(self) -> None:
        """Begin anew on a fresh connection for configs."""
        self._convergences.renew()

    def confirmed(self, service: str, now: float) -> None:
        """Note that the broker holds a service's last message."""
        self._convergences.confirmed(service, now)

    def refused(self, topic: str, now: float) -> bool:
        """Note that the broker does not take a message; True when it was one of this part's."""
        service = self._topics.convergence_of(topic)
        if service is not None:
            self._convergences.refused(service, now)
        return service is not None

    def accepted(self, topic: str) -> bool:
        """Note that the broker took a message; True when it was one of this part's."""
        is_ours = self._topics.convergence_of(topic) is not None
        if is_ours:
            self._convergences.accepted()
        return is_ours

    def tell_again(self) -> None:
        """Have status.db be told everything again."""
        self._beacons_told = ()
        self._convergences.tell_again()
        self._statuses.news_of_strangers.update(self._statuses.strangers)

    def step(self, now: float, may_send: bool, is_urgent: bool) -> None:
        """Hear, verify, count and tell a little; `is_urgent`: a config waits to be sent, or is about to."""
        self._clock = now
        self._wanted = self._wanted or may_send
        if is_urgent:  # whoever speaks meanwhile waits in the broker, though not for ever
            self._hushed_until = min(now + HUSH_SECONDS, self._heeded_at + LONGEST_HUSH_SECONDS)
        if now >= self._hushed_until:
            self._heeded_at = now
            self._heed(now, may_send)
        self._tell(now)

    def _heed(self, now: float, may_send: bool) -> None:
        came, is_new = self._ears.listen(now, self._wanted)
        if is_new:
            self._ears.subscribe([self._topics.every_status, self._topics.every_presence])
            self._statuses.unasked.clear()
            self._heard_since = now if self._heard_since is None else self._heard_since
        for message in came:
            self._statuses.arrived(message, now)
        self._ask()
        self._statuses.verify(now)
        if self._heard_since is not None and now - self._heard_since >= LISTEN_SECONDS:
            self._convergences.step(now, may_send and self._is_healthy())

    def sockets(self, now: float) -> Sockets:
        """Return what the inbox must wait for."""
        return Sockets() if now < self._hushed_until else self._ears.sockets(now)

    def next_due(self, now: float) -> float:
        """Return in how many seconds there is something to do."""
        due = min(self._ears.next_due(now), self._statuses.next_due(now), self._convergences.next_due(now))
        return max(due, self._hushed_until - now)

    def close(self) -> None:
        """End the connection for statuses."""
        self._ears.close()

    def _ask(self) -> None:
        """Have what is retained of those be delivered once more that were strangers when it came."""
        if self._ears.hears and self._statuses.unasked:
            some = self._statuses.unasked[:ASKED_AT_ONCE]
            del self._statuses.unasked[:ASKED_AT_ONCE]
            self._ears.subscribe(some)
            self._ears.unsubscribe(some)  # what comes later comes by the filters

    def _tell(self, now: float) -> None:
        if self._begun and self._beacons() != self._beacons_told:
            self._beacons_told = self._beacons()
            self._board.beacons(self._beacons_told)
        if now >= self._strangers_at:
            self._strangers_at = now + STRANGERS_SECONDS
            for worker, service in self._statuses.news_of_strangers if self._begun else ():
                self._board.stranger(worker, service, self._statuses.strangers.get((worker, service)))
            self._statuses.news_of_strangers.clear()
        self._tell_of_deafness(now)

    def _tell_of_deafness(self, now: float) -> None:
        deaf = self._wanted and not self._ears.hears and self._broker.connected
        if not deaf:
            self._deaf_since = None
            self._findings.close("workers-unheard", "broker")
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since >= DEAF_SECONDS:
            why = self._ears.trouble or "the broker does not answer"
            self._findings.open("workers-unheard", "broker", why, self._now_text())


def make_edge(
    status_file: Path,
    board: StatusBoard,
    topics: Topics,
    plan: Plan,
    sealer: Sealer,
    broker: Broker,
    findings: Findings,
    ears: Ears,
    definitions: Definitions,
    is_healthy: Callable[[], bool],
    beacons: Callable[[], tuple[int, ...]],
) -> Edge:
    """Build the part, with what an earlier process knew of workers' statuses."""
    started = datetime.fromisoformat(sealer.now())
    known = {
        (one.worker, one.service): Floor(one.key_id, one.order, one.seen_at, one.age_seconds(started))
        for one in EdgeView(status_file).workers()
        if one.expected and one.key_id
    }

    def needs(service: str) -> tuple[str, ...]:
        definition = definitions.get(service)
        return definition.dependencies if definition is not None else ()

    edge_board = EdgeBoard(board)
    statuses = Statuses(topics, findings, sealer.now, known, beacons)
    convergences = Convergences(statuses, plan, sealer, broker, topics, findings, edge_board, needs, beacons)
    return Edge(
        ears, statuses, convergences, edge_board, broker, findings, topics, sealer.now, is_healthy, beacons
    )


def recent_beacons(status_file: Path) -> list[int]:
    """Return the numbers of the last beacons of an earlier process, so that a restart makes nobody stale."""
    found = EdgeView(status_file).daemon().get("beacons", [])
    return [number for number in found if type(number) is int] if isinstance(found, list) else []
