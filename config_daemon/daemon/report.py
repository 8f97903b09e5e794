"""Tell the world how the daemon is: the health message, status.db, systemd.

Laws: health goes out at every change of what it says and at least at its interval; numbers that move
all the time (how many are behind) cause one message a second at most; status.db is written after the
fact and in batches.
"""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

from config_daemon.core.health import CONDITIONS, Facts, Findings, make_health
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.sealer import Sealer
from config_daemon.store.files import READABLE_MODE, Files, replace
from config_daemon.store.status import StatusBoard
from config_daemon.wire.messages import Health

COUNTS_SECONDS = 1.0
BOARD_SECONDS = 0.1
BOARD_ROWS = 2000


class Reporter:
    """Publishes health when it is due; owns the session of the present connection."""

    def __init__(
        self,
        sealer: Sealer,
        broker: Broker,
        findings: Findings,
        board: StatusBoard,
        files: Files,
        topic: str,
        health_seconds: float,
        created_at: str,
    ) -> None:
        self._sealer, self._broker, self._findings, self._board, self._files = (
            sealer,
            broker,
            findings,
            board,
            files,
        )
        self.topic, self._health_seconds, self._created_at = topic, health_seconds, created_at
        self.session = str(uuid.uuid4())
        self.event: str | None = None
        self._said: tuple[Any, ...] = ()
        self._counted: tuple[int, bool] = (0, False)
        self._sent_at = float("-inf")
        self._flushed_at = float("-inf")

    def will(self, facts: Facts) -> tuple[str, bytes]:
        """Seal the will of a new connection, which gets a session of its own."""
        self.session = str(uuid.uuid4())
        health = self._health(facts._replace(event="offline")).model_copy(update={"ok": False})
        return self.topic, self._sealer.health(health)

    def again(self) -> None:
        """Have health published at the next turn, whatever it says."""
        self._sent_at = float("-inf")

    def report(self, facts: Facts, now: float) -> None:
        """Publish health if it is due, and write status.db if enough has gathered."""
        said = (
            facts.status, facts.mode, facts.epoch, facts.schema_version, facts.lkg_valid, facts.event, self.session,
            frozenset((c.name, c.subject) for c in self._findings),
        )  # fmt: skip
        counted = (facts.services, facts.behind == 0)
        changed = said != self._said
        recounted = counted != self._counted and now - self._sent_at >= COUNTS_SECONDS
        if changed:
            self._tell_board(facts)
        if changed or recounted or now - self._sent_at >= self._health_seconds:
            self._publish(facts, said, counted, now)
        if self._board.pending and (
            now - self._flushed_at >= BOARD_SECONDS or self._board.pending > BOARD_ROWS
        ):
            self.flush(now)

    def farewell(self, facts: Facts, now: float) -> int:
        """Publish the last health, whatever the pace; return its number."""
        health = self._health(facts).model_copy(update={"ok": False})
        if self._broker.connected:
            self._broker.send(self.topic, self._sealer.health(health), health.sequence, now)
        self._keep(health)
        return health.sequence

    def flush(self, now: float) -> None:
        """Write status.db."""
        self._board.flush()
        self._flushed_at = now

    def next_due(self, now: float) -> float:
        """Return in how many seconds something is to be reported."""
        due = self._sent_at + self._health_seconds - now
        return min(due, BOARD_SECONDS) if self._board.pending else due

    def _publish(self, facts: Facts, said: tuple[Any, ...], counted: tuple[int, bool], now: float) -> None:
        if not self._broker.connected:
            if said != self._said:
                self._said = said
                self._keep(make_health(facts, self._findings, self.session, **self._sealer.unsealed()))
            return
        if not self._broker.room(self.topic, now):
            return
        health = self._health(facts)
        self._broker.send(self.topic, self._sealer.health(health), health.sequence, now)
        self._said, self._counted, self._sent_at = said, counted, now
        self._board.daemon(
            generation=health.generation, sequence=health.sequence, written_at=health.issued_at,
            health=health.model_dump(mode="json"),
        )  # fmt: skip
        self._keep(health)

    def _health(self, facts: Facts) -> Health:
        return make_health(facts, self._findings, self.session, **self._sealer.numbered())

    def _tell_board(self, facts: Facts) -> None:
        self._board.daemon(
            mode=facts.mode,
            database_status=facts.status,
            session=self.session,
            pid=os.getpid(),
            epoch=facts.epoch,
        )
        self._board.conditions(
            (c.name, c.subject, c.severity, c.since, c.detail, CONDITIONS[c.name].remedy)
            for c in self._findings
        )

    def _keep(self, health: Health) -> None:
        """Leave the epoch and the last health where they can be read without database and broker."""
        content = {
            "config_epoch": health.config_epoch,
            "schema_version": health.schema_version,
            "created_at": self._created_at,
            "last_rebuild": None,
            "health": health.model_dump(mode="json"),
        }
        try:
            replace(self._files.epoch, json.dumps(content, indent=1).encode(), READABLE_MODE)
        except OSError as error:
            self._findings.open(
                "lkg-unwritable", self._files.epoch.name, str(error.strerror), self._sealer.now()
            )
