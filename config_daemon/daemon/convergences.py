"""Fold what workers said into one message a service, and into status.db.

Laws: it tells of the last message that the broker confirmed; it is published only when it says something new,
at most once a second and service, and only while nothing more important waits; what the broker refuses here
touches no config. Somebody else's writing on these topics is put right with the next change, or within an hour.

Source: docs/protocol.md "Convergence".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from config_daemon.core.convergence import Standing, Tally, Target, is_at, standing_of, tally, vital_of
from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.core.sealed import Sealed
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.statuses import Entry, Statuses
from config_daemon.store.edgeboard import EdgeBoard, Vitals, WorkerLine
from config_daemon.wire.convergence import Convergence
from config_daemon.wire.topics import Topics

LOOK_SECONDS, LOOK_SECONDS_A_WORKER = (
    0.005,
    0.0001,
)  # between two looks at a service; a look costs what it counts
SEND_SECONDS = 1.0  # between two messages about a service
SETTLE_SECONDS = 0.25  # how long workers have before a new message is told of that not all run
SWEEP_SECONDS = 5.0  # how often those are looked at who say nothing
VITALS_SECONDS = 30.0  # how old `last_check` may be
AGAIN_SECONDS, DENIED_SECONDS = 3600.0, 60.0
LOOKS_AT_ONCE = 20
NEVER = float("-inf")


@dataclass(slots=True)
class _Told:
    """What was last told about one service, and when."""

    target: Target | None = None
    confirmed_at: float | None = None
    converged_ms: int | None = None
    look_at: float = NEVER
    vitals_at: float = NEVER
    is_out: bool = False
    sent_at: float = NEVER
    not_before: float = NEVER
    found: dict[str, Any] | None = None
    sent: dict[str, Any] | None = None
    spoke: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    lines: dict[str, WorkerLine] = field(default_factory=dict)


class Convergences:
    """Looks at services that have expected workers, when something about them is new."""

    def __init__(
        self,
        statuses: Statuses,
        plan: Plan,
        sealer: Sealer,
        broker: Broker,
        topics: Topics,
        findings: Findings,
        board: EdgeBoard,
        needs: Callable[[str], tuple[str, ...]],
        beacons: Callable[[], tuple[int, ...]],
    ) -> None:
        self._statuses, self._plan, self._sealer, self._broker = statuses, plan, sealer, broker
        self._topics, self._findings, self._board, self._needs = topics, findings, board, needs
        self._beacons = beacons
        self._told: dict[str, _Told] = {}
        self._unsent: dict[str, None] = {}
        self._sweep_at = NEVER
        self._afresh_at = NEVER

    def confirmed(self, service: str, now: float) -> None:
        """Note that the broker holds a service's last message."""
        if self._statuses.of(service):
            told = self._told.setdefault(service, _Told())
            target = self._target(service)
            if told.target != target:
                told.target, told.confirmed_at, told.converged_ms, told.spoke = target, now, None, {}
            self._statuses.changed.add(service)

    def renew(self) -> None:
        """Publish all again: on a fresh connection nobody knows what is retained."""
        for service, told in self._told.items():
            told.sent = None
            if told.found is not None:
                self._unsent[service] = None

    def tell_again(self) -> None:
        """Have status.db be told everything again: it was lost."""
        for told in self._told.values():
            told.lines.clear()
            told.found = None
        self._statuses.changed.update(self._told)

    def refused(self, service: str, now: float) -> None:
        """Note that the broker does not take what is told of a service."""
        if (told := self._told.get(service)) is not None:
            told.sent, told.not_before = None, now + DENIED_SECONDS
            self._unsent[service] = None
        detail = "the broker refused a convergence message"
        self._findings.open("convergence-denied", "broker", detail, self._sealer.now())

    def accepted(self) -> None:
        """Note that the broker takes such messages."""
        self._findings.close("convergence-denied")

    def step(self, now: float, may_send: bool) -> None:
        """Look at some services, and publish what is due; `may_send`: nothing more important waits."""
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            self._statuses.changed.update(self._statuses.services)
        if now >= self._afresh_at:
            self._afresh_at = now + AGAIN_SECONDS
            self.renew()
        due = [
            service
            for service in self._statuses.changed
            if now >= self._told.setdefault(service, _Told()).look_at
        ]
        for service in due[:LOOKS_AT_ONCE]:
            self._statuses.changed.discard(service)
            self._look(service, self._told[service], now)
        for service in list(self._unsent)[:LOOKS_AT_ONCE] if may_send else ():
            self._publish(service, self._told[service], now)

    def next_due(self, now: float) -> float:
        """Return in how many seconds there is something to look at or to send."""
        if self._statuses.changed:
            return LOOK_SECONDS
        return SETTLE_SECONDS / 4 if self._unsent else max(0.05, self._sweep_at - now)

    def _kept(self, service: str) -> Sealed | None:
        entry = self._plan.services.get(service)
        return None if entry is None else entry.kept

    def _target(self, service: str) -> Target | None:
        kept = self._kept(service)
        if kept is None:
            return None
        return Target(kept.fingerprint.config_version, kept.fingerprint.generation, kept.sequence)

    def _look(self, service: str, told: _Told, now: float) -> None:
        target, workers = self._target(service), self._statuses.of(service)
        told.look_at = now + LOOK_SECONDS + LOOK_SECONDS_A_WORKER * len(workers)
        if told.target != target:  # as after a start: nobody knows since when
            told.target, told.confirmed_at, told.converged_ms, told.spoke = target, None, None, {}
        self._forget_gone(service, told, workers)
        if target is None or not (workers or told.is_out):
            self._board.forget_service(service)
            self._told.pop(service)
            self._unsent.pop(service, None)
            return
        beacons = self._beacons()
        standings = {
            name: standing_of(
                target, entry.known(now, beacons), self._statuses.is_gone(entry), now - entry.since
            )
            for name, entry in workers.items()
        }
        for name, standing in standings.items():
            self._tell_worker(told, target, workers[name], standing)
        found = tally(standings)
        if found.converged and told.converged_ms is None and told.confirmed_at is not None:
            told.converged_ms = max(0, round(1000 * (now - told.confirmed_at)))
        self._tell(service, told, target, found, now)

    def _tell_worker(self, told: _Told, target: Target, entry: Entry, standing: Standing) -> None:
        answered, applied = told.spoke.get(entry.worker, (None, None))
        if told.confirmed_at is not None and entry.heard_at is not None and entry.status is not None:
            waited = max(0, round(1000 * (entry.heard_at - told.confirmed_at)))
            attempt = entry.status.last_attempt
            speaks = is_at(entry.status, target) or (
                attempt is not None and (attempt.generation, attempt.sequence) == target[1:]
            )
            answered = waited if answered is None and speaks else answered
            applied = waited if applied is None and standing.state == "applied" else applied
            told.spoke[entry.worker] = (answered, applied)
        line = WorkerLine(
            entry.worker, entry.service, entry.status, entry.key_id, entry.order, entry.seen_at,
            *self._statuses.presence(entry), standing.state, standing.reason, answered, applied,
        )  # fmt: skip
        if line != told.lines.get(entry.worker):
            told.lines[entry.worker] = line
            self._board.worker(line)

    def _forget_gone(self, service: str, told: _Told, workers: Mapping[str, Entry]) -> None:
        for name in [name for name in told.lines if name not in workers]:
            del told.lines[name]
            told.spoke.pop(name, None)
            self._board.forget_worker(name, service)

    def _tell(self, service: str, told: _Told, target: Target, found: Tally, now: float) -> None:
        body: dict[str, Any] = {
            "service": service, **target._asdict(), "total": found.total, "converged": found.converged,
            "converged_ms": told.converged_ms if found.converged else None, "worst": list(found.worst),
            **{state.replace("-", "_"): count for state, count in found.counts.items()},
        }  # fmt: skip
        if body != told.found:
            told.found = body
            kept = self._kept(service)
            self._board.convergence(service, body, "" if kept is None else kept.fingerprint.epoch)
            told.vitals_at = NEVER
        if now - told.vitals_at >= VITALS_SECONDS:
            told.vitals_at = now
            self._board.vitals(self._vitals(service, told, found))
        if body != told.sent:
            self._unsent[service] = None
        else:
            self._unsent.pop(service, None)

    def _vitals(self, service: str, told: _Told, found: Tally) -> Vitals:
        vital = vital_of(found.counts)
        answers = [answered for answered, _ in told.spoke.values() if answered is not None]
        trouble = "; ".join(
            f"{one.worker} is {one.state}" + (f" ({one.reason})" if one.reason else "")
            for one in found.worst[:3]
        )
        return Vitals(
            service, vital, self._sealer.now(), max(answers, default=None), trouble if vital == "unhealthy" else "",
            {state: count for state, count in found.counts.items() if count}, self._needs(service),
        )  # fmt: skip

    def _publish(self, service: str, told: _Told, now: float) -> None:
        body = told.found
        assert body is not None
        settles = told.confirmed_at is not None and now - told.confirmed_at < SETTLE_SECONDS
        waits = now - told.sent_at < SEND_SECONDS or now < told.not_before
        topic = self._topics.convergence(service)
        if waits or (settles and not body["converged"]) or not self._broker.room(topic, now):
            return
        members = self._sealer.numbered()
        if members is None:
            return
        number, members["number"] = members["sequence"], members["sequence"]
        message = Convergence(**{**members, **body})  # `sequence` is that of the message it tells of
        self._broker.send(topic, self._sealer.convergence(message), number, now)
        told.sent, told.sent_at, told.is_out = body, now, bool(body["total"])
        self._unsent.pop(service, None)
        if not told.is_out:
            self._statuses.changed.add(service)  # there is nothing more to tell
