"""The part of status.db that tells of workers: written by the daemon, read by commands.

Laws: a status is in it only when its worker's own key signed it; how far each worker's statuses had come is in it,
so that a restart undercuts no order; whoever is not expected is marked so and has no status.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from config_daemon.store.status import StatusBoard, StatusView

if TYPE_CHECKING:
    from config_daemon.wire.status import Status

_WORKER = (
    "INSERT INTO workers VALUES (?,?,1,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(worker, service) DO UPDATE SET expected=1,"
    " status_json=excluded.status_json, verified=excluded.verified, key_id=excluded.key_id, boot=excluded.boot,"
    " n=excluded.n, seen_at=coalesce(excluded.seen_at, seen_at), presence=excluded.presence,"
    " presence_at=excluded.presence_at, state=excluded.state, reason=excluded.reason,"
    " response_time_ms=excluded.response_time_ms, applied_ms=excluded.applied_ms"
)
_STRANGER = (
    "INSERT INTO workers(worker, service, expected, verified, seen_at) VALUES (?,?,0,0,?)"
    " ON CONFLICT(worker, service) DO UPDATE SET seen_at=excluded.seen_at WHERE expected=0"
)
_VITALS = "INSERT OR REPLACE INTO service_status VALUES (?,?,?,?,?,?,?)"


class WorkerLine(NamedTuple):
    """What the daemon knows of one expected worker and service; durations since the broker's confirmation."""

    worker: str
    service: str
    status: Status | None
    key_id: str
    order: tuple[int, int]
    seen_at: str | None
    presence: str
    presence_at: str | None
    state: str
    reason: str | None
    response_time_ms: int | None
    applied_ms: int | None


class Vitals(NamedTuple):
    """How a service is by its expected workers (seed 003 "ServiceStatus"); `response_time_ms` is the slowest one's."""

    service: str
    status: str
    last_check: str
    response_time_ms: int | None
    error_message: str
    connection_details: Mapping[str, Any]
    dependencies: tuple[str, ...]


class EdgeBoard:
    """The daemon's side."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    def reset(self) -> None:
        """Forget what an earlier daemon said: of expected workers only how far their statuses had come stays."""
        for what in ("workers WHERE expected = 0", "convergence", "service_status"):
            self._board.note(f"DELETE FROM {what}", ())  # noqa: S608 - names of ours
        self._board.note("UPDATE workers SET state = NULL, reason = NULL, presence = ''", ())

    def beacons(self, numbers: Iterable[int]) -> None:
        """Note which beacons count as current."""
        self._board.daemon(beacons=list(numbers))

    def worker(self, line: WorkerLine) -> None:
        """Note what is known of an expected worker."""
        status = None if line.status is None else line.status.model_dump_json()
        self._board.note(
            _WORKER,
            (line.worker, line.service, status, int(status is not None), line.key_id, *line.order, line.seen_at,
             line.presence, line.presence_at, line.state, line.reason, line.response_time_ms, line.applied_ms),
        )  # fmt: skip

    def stranger(self, worker: str, service: str, seen_at: str | None) -> None:
        """Note that somebody spoke who is not expected; None: so long ago that it is forgotten."""
        if seen_at is None:
            self.forget_worker(worker, service)
        else:
            self._board.note(_STRANGER, (worker, service, seen_at))

    def forget_worker(self, worker: str, service: str) -> None:
        """Note that a worker is not expected to run a service any more."""
        self._board.note("DELETE FROM workers WHERE worker = ? AND service = ?", (worker, service))

    def convergence(self, service: str, body: Mapping[str, Any], epoch: str) -> None:
        """Note how far a service's last message got, which came from the database's life `epoch`."""
        worst = [one.model_dump(mode="json") for one in body["worst"]]
        told = {**body, "worst": worst, "config_epoch": epoch}
        self._board.note("INSERT OR REPLACE INTO convergence VALUES (?,?)", (service, json.dumps(told)))

    def vitals(self, vitals: Vitals) -> None:
        """Note how a service is."""
        details, needs = json.dumps(vitals.connection_details), json.dumps(vitals.dependencies)
        self._board.note(_VITALS, (*vitals[:5], details, needs))

    def forget_service(self, service: str) -> None:
        """Note that nobody is expected to run a service."""
        for table in ("convergence", "service_status"):
            self._board.note(f"DELETE FROM {table} WHERE service = ?", (service,))  # noqa: S608 - names of ours


class WorkerView(NamedTuple):
    """A worker as `worker list` shows it; `status` holds the verified status, empty where there is none."""

    worker: str
    service: str
    expected: bool
    status: dict[str, Any]
    key_id: str | None
    order: tuple[int, int]
    seen_at: str | None
    presence: str | None
    presence_at: str | None
    state: str | None
    reason: str | None
    response_time_ms: int | None
    applied_ms: int | None

    def age_seconds(self, now: datetime | None = None) -> float | None:
        """Return how long ago it was heard, by the clock of this host; None when never."""
        return _age_seconds(self.seen_at, now)

    @property
    def has_left(self) -> bool:
        """Tell whether the broker says that it left, and it said nothing since."""
        return self.presence == "offline"

    def left_seconds(self) -> float | None:
        """Return how long ago it left, by the clock of this host; None when nobody saw it leave."""
        return _age_seconds(self.presence_at) if self.has_left else None


def _age_seconds(at: str | None, now: datetime | None = None) -> float | None:
    if at is None:
        return None
    return max(0.0, ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds())


class EdgeView(StatusView):
    """Everybody else's side."""

    def workers(self, service: str | None = None) -> list[WorkerView]:
        """Return all workers that were ever seen or are expected, by name; of one service if it is given."""
        found = self.read(
            "SELECT worker, service, expected, status_json, key_id, boot, n, seen_at, presence,"
            " presence_at, state, reason,"
            " response_time_ms, applied_ms FROM workers WHERE ?1 IS NULL OR service = ?1 ORDER BY worker, service",
            (service,),
        )
        return [
            WorkerView(
                worker, about, bool(expected), json.loads(status or "{}"), key, (boot or 0, n or 0), *rest
            )
            for worker, about, expected, status, key, boot, n, *rest in found
        ]

    def convergence(self, service: str | None = None) -> dict[str, dict[str, Any]]:
        """Return by service how far its last message got, of those that somebody is expected to run."""
        found = self.read(
            "SELECT service, body_json FROM convergence WHERE ?1 IS NULL OR service = ?1", (service,)
        )
        return {name: json.loads(body) for name, body in sorted(found)}

    def vitals(self) -> dict[str, Vitals]:
        """Return by service how it is, of those that somebody is expected to run."""
        found = self.read("SELECT * FROM service_status ORDER BY service")
        return {
            name: Vitals(name, status, at, ms, error, json.loads(details), tuple(json.loads(needs)))
            for name, status, at, ms, error, details, needs in found
        }
