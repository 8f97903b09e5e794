"""A worker of a test that also says how it stands, on a clock of the test's own.

Laws: what it says is verified as the daemon does it; one object is one life of the process.
"""

from __future__ import annotations

from config_daemon.wire.status import Attempt, Status, read_status
from config_daemon.worker.identity import next_boot, own_keys
from config_daemon.worker.statuses import Statuses
from tests.worker.edge import Edge
from tests.worker.updates import SERVICE, TOPICS


class Speaking:
    """Wraps a started `Edge`; `say` returns what would be published now."""

    def __init__(self, edge: Edge, worker: str = "edge") -> None:
        self.edge, self.worker = edge, worker
        self.jitter = 0.0
        self.notes: list[str] = []
        self.keys = own_keys(edge.folder, worker)
        self._statuses = Statuses(
            self.keys, lambda: next_boot(edge.folder, edge.calendar_ms), [SERVICE], TOPICS,
            edge.follower.standing, lambda: edge.lookout.beacon, "test/1",
            clock=lambda: edge.clock, calendar=lambda: edge.calendar_ms,
            jitter=lambda: self.jitter, note=self.notes.append,
        )  # fmt: skip

    def connect(self) -> Status:
        """Connect, and return the status that is said at that."""
        self._statuses.connected()
        status = self.say()
        assert status is not None
        return status

    def say(self, seconds: float = 0.0) -> Status | None:
        """Let time pass and return what is said then, verified; None when there is nothing to say."""
        self.edge.clock += seconds
        self.edge.follower.tick()
        said = self._statuses.due()
        if not said:
            return None
        ((topic, raw),) = said
        assert TOPICS.status_about(topic) == (SERVICE, self.worker)
        return read_status(raw, SERVICE, self.worker, self.keys.public.verifier, self.keys.public.key_id)

    def after(self, raw: bytes) -> Status:
        """Deliver a message, and return the status that is said of it a second later."""
        self.edge.receive(raw)
        status = self.say(1.0)
        assert status is not None
        return status

    def next_life(self, *, mended: bool = False) -> Speaking:
        """Return the worker after a restart, connected; its first status was said."""
        life = Edge(self.edge.folder, mended=mended)
        life.clock, life.calendar_ms = self.edge.clock, self.edge.calendar_ms
        return Speaking(life.start(), self.worker)


def told(status: Status) -> tuple[int | None, int | None, str | None, str | None]:
    """Return a status in short: number that runs; number, state and reason of the last attempt."""
    attempt: Attempt | None = status.last_attempt
    return (
        status.running and status.running.sequence,
        attempt and attempt.sequence,
        attempt and attempt.state,
        attempt and attempt.reason,
    )
