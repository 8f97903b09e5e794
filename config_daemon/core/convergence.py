"""How far one message got: what each expected worker counts as, and what they make of their service together.

Laws: every expected worker counts as exactly one thing, whatever it said or did not say; what a worker's own
key signed comes before what the broker says of it; nothing here decides what is published.

Sources: docs/protocol.md "Convergence"; seed 003 "ServiceStatus".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from config_daemon.wire.convergence import TOLD_WORKERS, Laggard, WorkerState
from config_daemon.wire.status import SILENT_SECONDS, Status

STATES: tuple[WorkerState, ...] = (
    "rejected", "rolled-back", "stale", "silent", "offline", "pending", "applied",
)  # fmt: skip
_GRAVITY = {state: place for place, state in enumerate(STATES)}
Vital = Literal["starting", "healthy", "unhealthy", "stopped"]
VITALS: dict[WorkerState, Vital] = {
    "applied": "healthy", "pending": "starting", "offline": "stopped", "rejected": "unhealthy",
    "rolled-back": "unhealthy", "stale": "unhealthy", "silent": "unhealthy",
}  # fmt: skip
IMPAIRED: tuple[Vital, ...] = ("unhealthy", "stopped")


class Target(NamedTuple):
    """The message that counts: the last one of a service that the broker confirmed."""

    config_version: int
    generation: int
    sequence: int


class Known(NamedTuple):
    """The newest thing that a worker said of a service.

    `age_seconds` is None when nobody knows when it was said; `is_current`: it names one of the daemon's last beacons.
    """

    status: Status
    age_seconds: float | None
    is_current: bool


class Standing(NamedTuple):
    """What a worker counts as, and why, where it said so."""

    state: WorkerState
    reason: str | None = None


def standing_of(target: Target, known: Known | None, is_gone: bool, listened_seconds: float) -> Standing:
    """Return what a worker counts as; `is_gone`: after its last status the broker said that it had left.

    Of whom nobody knows when it spoke last, that is silence once we have listened for long enough.
    """
    is_silent = listened_seconds > SILENT_SECONDS
    if known is None:
        return Standing("offline" if is_gone else "silent" if is_silent else "pending")
    runs, recent = is_at(known.status, target), is_recent(known)
    if runs and recent and known.is_current:
        return Standing("applied")
    attempt = known.status.last_attempt
    about = attempt is not None and (attempt.generation, attempt.sequence) == target[1:]
    reason = attempt.reason if attempt is not None and about else None
    if attempt is not None and about and attempt.state in ("rejected", "rolled-back"):
        return Standing("rejected" if attempt.state == "rejected" else "rolled-back", reason)
    if is_gone:
        return Standing("offline", reason)
    if not recent and (is_silent or known.age_seconds is not None):
        return Standing("silent", reason)
    return (
        Standing("stale")
        if runs and recent and not waits_for_beacon(known.status)
        else Standing("pending", reason)
    )


def waits_for_beacon(status: Status) -> bool:
    """Tell whether a worker started so lately that it need not have seen a beacon."""
    return status.beacon == 0 and "stale" not in status.flags


def is_recent(known: Known) -> bool:
    """Tell whether a worker spoke lately."""
    return known.age_seconds is not None and known.age_seconds <= SILENT_SECONDS


def is_at(status: Status, target: Target) -> bool:
    """Tell whether a worker runs the message; one that withdraws the config is run by taking note of it."""
    running, attempt = status.running, status.last_attempt
    if running is not None and (running.generation, running.sequence) == target[1:]:
        return True
    withdrawn = attempt is not None and attempt.state == "deleted"
    return withdrawn and attempt is not None and (attempt.generation, attempt.sequence) == target[1:]


class Tally(NamedTuple):
    """All expected workers of a service: how many count as what, and the gravest of those that lag."""

    counts: Mapping[WorkerState, int]
    worst: tuple[Laggard, ...]

    @property
    def total(self) -> int:
        """Return how many are expected."""
        return sum(self.counts.values())

    @property
    def converged(self) -> bool:
        """Tell whether all run it, and there is at least one."""
        return 0 < self.total == self.counts["applied"]


def tally(standings: Mapping[str, Standing]) -> Tally:
    """Count what the workers of one service are, given by name."""
    counts = Counter(one.state for one in standings.values())
    lagging = [(name, one) for name, one in standings.items() if one.state != "applied"]
    lagging.sort(key=lambda each: (_GRAVITY[each[1].state], each[0]))
    worst = tuple(
        Laggard(worker=name, state=one.state, reason=one.reason) for name, one in lagging[:TOLD_WORKERS]
    )
    return Tally({state: counts[state] for state in STATES}, worst)


def vital_of(counts: Mapping[WorkerState, int]) -> Vital:
    """Return how a service is by its expected workers: unhealthy as soon as one is, stopped when none is left.

    A worker that left is no fault of its service while another one runs it.
    """
    found = {VITALS[state] for state, count in counts.items() if count}
    for vital in ("unhealthy", "starting", "healthy"):
        if vital in found:
            return vital
    return "stopped"


def root_causes(vitals: Mapping[str, Vital], needs: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return for each service that something it needs impairs, which services that comes from in the end.

    What is needed and of which nothing is known impairs nobody; services that need each other in a circle are
    no cause of themselves.
    """
    found = {}
    for service in vitals:
        causes = sorted(_causes(service, vitals, needs, {service}) - {service})
        if causes:
            found[service] = causes
    return found


def _causes(
    service: str, vitals: Mapping[str, Vital], needs: Mapping[str, Iterable[str]], seen: set[str]
) -> set[str]:
    causes: set[str] = set()
    for other in needs.get(service, ()):
        if other in seen:
            continue
        seen.add(other)
        below = _causes(other, vitals, needs, seen)
        causes |= below or ({other} if vitals.get(other) in IMPAIRED else set())
    return causes
