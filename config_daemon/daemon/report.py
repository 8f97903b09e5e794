"""Tell the world how the daemon is: the health message, status.db, the epoch file.

Laws: health goes out at every change of what it says and at least at its interval; counts that move all
the time cause one message a second at most; status.db is written after the fact and in batches; nothing
here decides anything.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from config_daemon.core.health import CONDITIONS, Facts, Findings, event_of, make_health
from config_daemon.core.modes import Status, mode_of
from config_daemon.core.plan import Plan, Service, is_behind
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.chronicle import Chronicle
from config_daemon.daemon.keeper import CacheKeeper
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.logs import Logger
from config_daemon.store.files import READABLE_MODE, replace
from config_daemon.store.ground import Ground
from config_daemon.store.status import StatusBoard
from config_daemon.store.unsealed import Fixed
from config_daemon.wire.messages import Health
from config_daemon.wire.topics import Topics

COUNTS_SECONDS = 1.0
BOARD_SECONDS, BUSY_BOARD_SECONDS = 0.1, 1.0  # between two writes; while many services are behind
MANY = 100
BOARD_ROWS = 500
REFUSALS = {"denied": "publish-denied", "too-large": "too-large", "quota": "quota"}
BROKER_CONDITIONS = ("broker-down", "broker-auth", "broker-tls")


class Reporter:
    """Publishes health when it is due; owns the session of the present connection."""

    def __init__(
        self,
        sealer: Sealer,
        broker: Broker,
        findings: Findings,
        board: StatusBoard,
        ground: Ground,
        log: Logger,
        plan: Plan,
        sight: Sight,
        keeper: CacheKeeper,
        env_services: Callable[[], Iterable[str]],
        env_fixed: Callable[[], Fixed],
        event: str,
        tell_all: Callable[[], None],
    ) -> None:
        self._sealer, self._broker, self._findings, self._board = sealer, broker, findings, board
        self._ground, self._log, self._env_services, self._env_fixed = ground, log, env_services, env_fixed
        self._plan, self._sight, self._keeper = plan, sight, keeper
        self._event, self._mode = event, ""
        self._tell_all, self._chronicle = tell_all, Chronicle(log, board)
        self._created_at, self.last_rebuild = ground.created_at, ground.last_rebuild
        self.rebuilding = self.checked = False
        self._seconds = ground.settings.health_seconds
        self.topic = Topics(ground.settings.topic_prefix).health(ground.settings.name)
        self._session, self._will_signs = str(uuid.uuid4()), sealer.signs
        self._refused: set[str] = set()
        self._said: tuple[Any, ...] = ()
        self._counted = (0, False, False)
        self._caught_up_at = float("-inf")
        self._sent_at = self._flushed_at = float("-inf")
        self._board_seconds = BOARD_SECONDS

    def happened(self, event: str) -> None:
        """Have the next health call what happened by this name."""
        self._event = event

    def facts(self) -> Facts:
        """Return how the daemon is now."""
        status = self._sight.status
        self._tell_of_the_source(status)
        mode = mode_of(status, self._findings.holding, self.rebuilding)
        if mode != self._mode:
            if self._mode:
                self._log.warning("mode_changed", before=self._mode, after=mode, status=status)
                self._event = "recovered"
            self._mode = mode
        return Facts(
            status=status,
            mode=mode,
            epoch=self._sight.known.epoch,
            schema_version=self._sight.known.schema_version,
            lkg_valid=self._keeper.valid,
            event=event_of(self._findings, self._event),
            services=len(self._plan.services),
            behind=len(self._plan) + self._sight.unread,
            checked=self.checked,
        )

    def _tell_of_the_source(self, status: Status) -> None:
        """Say so where neither the store nor the cache can be used."""
        is_lost = not self._sight.readable and not self._keeper.valid
        for name, meant in (("no-source", "locked"), ("needs-restore", "corrupted")):
            if is_lost and status == meant:
                detail = f"the database is {status}, and there is no valid last-known-good cache"
                self._findings.open(name, self._ground.files.cache.name, detail, self._sealer.now())
            else:
                self._findings.close(name)

    def will(self) -> tuple[str, bytes] | None:
        """Seal the will of a new connection, which gets a session of its own; None while nothing can be sealed."""
        self._session, self._will_signs = str(uuid.uuid4()), self._sealer.signs
        health = self._health(self.facts()._replace(event="offline"))
        if health is None:
            return None
        return self.topic, self._sealer.health(health.model_copy(update={"ok": False}))

    def upgraded(self) -> None:
        """Note that the models, and with them the schema's version, are others now, and that all configs fit."""
        version = self.facts().schema_version  # what ends with this is no event of its own
        self._event = "schema-upgraded"
        self._log.info("schema_upgraded", schema_version=version)

    def renew(self) -> None:
        """Note that another key signs, or another keyring is in force."""
        self._tell_all()

    @property
    def tells_of_rebuilding(self) -> bool:
        """Tell whether the last health said that the store is being rebuilt."""
        return bool(self._said) and self._said[0].mode == "rebuilding"

    @property
    def has_old_will(self) -> bool:
        """Tell whether the last will was sealed before another key signed."""
        return self._will_signs != self._sealer.signs

    def connected(self) -> None:
        """Note that the broker accepted us; health goes out at once."""
        for name in BROKER_CONDITIONS:
            self._findings.close(name)
        self._sent_at = float("-inf")

    def lost(self, reason: str) -> None:
        """Note that there is no connection; `reason` begins with a condition's name."""
        name, _, detail = reason.partition(": ")
        for other in BROKER_CONDITIONS:
            if other != name:
                self._findings.close(other)
        if self._findings.open(name, "broker", detail or reason, self._sealer.now()):
            self._log.warning("broker_lost", reason=reason)

    def confirmed(self, service: str, entry: Service) -> None:
        """Note that the broker holds a service's last message; a newer one may be on its way."""
        sealed = entry.sealed
        assert sealed is not None
        self.accepted(service)
        done = "deleted" if sealed.fingerprint.deleted else "confirmed"
        self._board.confirmed(
            service, sealed.fingerprint.generation, sealed.sequence, sealed.body_sha256, self._sealer.now(),
            state="" if entry.wanted is None or is_behind(entry) else done,
        )  # fmt: skip

    def accepted(self, subject: str) -> None:
        """Note that the broker took a message for a service, or on another topic of ours."""
        if subject in self._refused:
            self._refused.discard(subject)
            for name in REFUSALS.values():
                self._findings.close(name, subject)

    def refused(self, service: str, state: str, code: int) -> None:
        """Note that the broker will not hold a message; `code` is MQTT's."""
        if self._findings.open(REFUSALS[state], service, f"the broker answered {code}", self._sealer.now()):
            self._refused.add(service)
            self._log.warning("publish_refused", service=service, why=state, code=code)
        self._board.state(service, state, self._sealer.now())

    def cache_written(self, error: str | None) -> None:
        """Note whether the last-known-good cache could be written."""
        name = self._ground.files.cache.name
        if error is None:
            self._findings.close("lkg-unwritable", name)
        elif self._findings.open("lkg-unwritable", name, error, self._sealer.now()):
            self._log.warning("cache_unwritable", error=error)

    def sentinel(self, now: float) -> bytes | None:
        """Publish health as the mark that ends a read-back; None while one is still on its way."""
        if not self._broker.free(self.topic):
            return None
        health = self._health(self.facts())
        if health is None:
            return None
        raw = self._sealer.health(health)
        self._broker.send(self.topic, raw, health.sequence, now)
        return raw

    def report(self, now: float) -> None:
        """Publish health if it is due, and write status.db if enough has gathered."""
        if not self._sight.knows:
            return
        facts = self.facts()
        said = (facts._replace(services=0, behind=0), self._session, self._findings.revision)
        self._caught_up_at = now if facts.behind == 0 else self._caught_up_at
        # being behind for a moment is everyday life and no reason for a message, unless one has told of it
        is_late = now - self._caught_up_at >= COUNTS_SECONDS
        counted = (facts.services, is_late, self._counted[2] and facts.behind > 0)
        recounted = counted != self._counted and now - self._sent_at >= COUNTS_SECONDS
        if said != self._said:
            self._tell_board(facts)
        if said != self._said or recounted or now - self._sent_at >= self._seconds:
            self._publish(facts, said, now, is_late)
        self._board_seconds = BUSY_BOARD_SECONDS if facts.behind > MANY else BOARD_SECONDS
        if self._board.pending and (
            now - self._flushed_at >= self._board_seconds or self._board.pending > BOARD_ROWS
        ):
            self.flush(now)

    def farewell(self, now: float, event: str) -> int:
        """Publish the last health of a connection, whatever the pace; return its number."""
        health = self._health(self.facts()._replace(event=event))
        if health is None:
            return 0
        health = health.model_copy(update={"ok": False})
        if self._broker.connected:
            self._broker.send(self.topic, self._sealer.health(health), health.sequence, now)
        self._keep(health)
        return health.sequence

    def flush(self, now: float) -> None:
        """Write status.db; when it was lost meanwhile, have everything told again."""
        self._flushed_at = now
        if self._board.flush():
            self._said = ()
            self._sight.reread(self._plan.services)
            self._tell_all()

    def next_due(self, now: float) -> float:
        """Return in how many seconds something is to be reported."""
        due = self._sent_at + self._seconds - now if self._broker.connected else self._seconds
        if self._board.pending:
            return max(0.0, min(due, self._flushed_at + self._board_seconds - now))
        return max(due, 0.05)

    def _publish(self, facts: Facts, said: tuple[Any, ...], now: float, is_late: bool) -> None:
        if not self._broker.connected:
            if said != self._said:
                self._said = said
                self._keep(make_health(facts, self._findings, self._session, **self._sealer.unsealed()))
            return
        if not self._broker.room(self.topic, now):
            return
        health = self._health(facts)
        if health is None:
            return
        self._broker.send(self.topic, self._sealer.health(health), health.sequence, now)
        self._said, self._sent_at = said, now
        self._counted = (facts.services, is_late, facts.behind > 0)
        self._board.daemon(
            generation=health.generation, sequence=health.sequence, written_at=health.issued_at,
            health=health.model_dump(mode="json"),
        )  # fmt: skip
        self._keep(health)

    def _health(self, facts: Facts) -> Health | None:
        members = self._sealer.numbered()
        return None if members is None else make_health(facts, self._findings, self._session, **members)

    def _tell_board(self, facts: Facts) -> None:
        self._chronicle.look(self._findings, self._sealer.now())
        self._board.daemon(
            mode=facts.mode,
            database_status=facts.status,
            session=self._session,
            epoch=facts.epoch,
            event=facts.event,
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
            "last_rebuild": self.last_rebuild,
            "env_services": sorted(self._env_services()),
            "env_fixed": self._env_fixed(),
            "health": health.model_dump(mode="json"),
        }
        path = self._ground.files.epoch
        try:
            replace(path, json.dumps(content, indent=1).encode(), READABLE_MODE)
        except OSError as error:
            self._findings.open("lkg-unwritable", path.name, str(error.strerror), self._sealer.now())
        else:
            self._findings.close("lkg-unwritable", path.name)
