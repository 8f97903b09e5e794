"""Another database, or another life for this one: what an operator asks of the daemon, and when it acts by itself.

Laws: the world hears `rebuilding` before the work begins, which holds the loop up; a new epoch and numbers
above everything seen; by itself the daemon rebuilds only a database that is lost, only where it was allowed,
and not twice in ten minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config_daemon.catalog.catalog import Catalog
from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.daemon.auditor import Auditor
from config_daemon.daemon.keeper import CacheKeeper
from config_daemon.daemon.mirror import Mirror
from config_daemon.daemon.report import Reporter
from config_daemon.daemon.requests import Request
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.errors import CacheError, ConfigDaemonError, UsageError
from config_daemon.logs import Logger
from config_daemon.store import journal
from config_daemon.store.adopt import adopt_store
from config_daemon.store.choice import KIND, Order, Site, Source, source_of
from config_daemon.store.files import Files
from config_daemon.store.journal import Intent
from config_daemon.store.ports import Place
from config_daemon.store.rebuild import foresee, rebuild, still_sound, told
from config_daemon.store.seals import RowSealer
from config_daemon.store.unsealed import Fixed

ANNOUNCE_SECONDS = 0.5  # for whoever may hear it; nobody may be there
ANSWERS_SECONDS = 3.0  # until a store that was damaged is looked at again, and found whole
FORGOTTEN_SECONDS = 10.0  # a request may be taken away again
PATIENCE_SECONDS = 1.0
AGAIN_SECONDS = 600.0
SHOWN_SERVICES = 5
ITSELF, LOST = "config-daemon", "the database was lost"
_SOURCES: dict[tuple[str, Any], Source] = {
    ("rebuild", None): "rest", ("rebuild", "defaults"): "nothing", ("restore", "lkg"): "lkg",
    ("restore", "file"): "file", ("adopt", "lkg"): "lkg-alone",
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Recovery:
    """Carries out `adopt`, `restore` and `rebuild`; `by_itself` allows the daemon to rebuild without being asked."""

    files: Files
    row_sealer: RowSealer
    catalog: Catalog
    sealer: Sealer
    sight: Sight
    mirror: Mirror
    keeper: CacheKeeper
    auditor: Auditor
    reporter: Reporter
    findings: Findings
    plan: Plan
    log: Logger
    hmac_keys: Callable[[], tuple[bytes, ...]]
    fixed: Callable[[], Fixed]
    close_reader: Callable[[], None]
    alive: Callable[[], None]
    by_itself: bool
    _now: float = 0.0
    _announced_at: float | None = None
    _lost_since: float | None = None
    _not_before: float = field(default=float("-inf"))
    _over_at: float | None = None
    _place: Place | None = None
    _told: bool = False
    _answer: tuple[str, dict[str, Any]] | None = None

    def carry(self, request: Request) -> dict[str, Any] | None:
        """Do what was asked; None while the world has not heard yet that it begins, or how it ended.

        Raises: UsageError for what nobody knows; NotAllowed; StoreError; CacheError.
        """
        if self._answer is None or self._answer[0] != request.id:
            done = self._done_before(request.id) or self._done(request)
            if done is None:
                return None
            self._answer = request.id, done
            self._over_at = self._now + ANSWERS_SECONDS
        if self._over_at is not None:
            return None  # who hears that it is done looks at once whether all is well
        self.reporter.report(self._now)
        return self._answer[1]

    def preview(self, request: Request) -> dict[str, Any]:
        """Return what would be taken and lost. Raises: as `carry`."""
        kind = request.arguments.get("kind")
        order = self._order(kind if isinstance(kind, str) else "", request)
        return foresee(self._site(), order)

    def _done(self, request: Request) -> dict[str, Any] | None:
        if (request.kind, request.arguments.get("what")) == ("adopt", "db"):
            return told(self._go_on(self._adopt(request)))
        order = self._order(request.kind, request)
        if self._announced_at is None:
            self._refuse(order)
        if not self._announced():
            return None
        return told(self._rebuild(order))

    def _refuse(self, order: Order) -> None:
        """Refuse before anybody hears of a rebuild what can be refused by then. Raises: as `carry`."""
        source_of(self._site(), order)
        is_well = self.sight.rows_known and self.sight.status == "healthy" and not self.findings.holding
        if KIND[order.source] == "rebuild" and is_well and not order.force:
            raise still_sound(self.files.database)

    def _order(self, kind: str, request: Request) -> Order:
        what, file = (request.arguments.get(name) for name in ("what", "file"))
        source = _SOURCES.get((kind, what)) if what is None or isinstance(what, str) else None
        if source is None or (source == "file" and not isinstance(file, str)):
            raise UsageError(f"this daemon does not know {kind} of {what!r}")
        path = Path(file) if source == "file" and isinstance(file, str) else None
        return self._order_of(source, request.by, request.reason)._replace(
            request=request.id, file=path, force=request.arguments.get("force") is True
        )

    def _order_of(self, source: Source, by: str, reason: str | None) -> Order:
        return Order(
            source, by, reason, self.sealer.now(), highest_seen=self.mirror.highest_seen, known=self._known(),
            places=() if self._place is None else (self._place,),
        )  # fmt: skip

    def _site(self) -> Site:
        return Site(
            self.files, self.row_sealer, self.hmac_keys(), self.sealer.numbers, self.catalog,
            self.catalog.model_hash, self.fixed(), self.alive,
        )  # fmt: skip

    def step(self, now: float) -> None:
        """Note that the store was looked at again; rebuild it where it is lost and that is allowed."""
        self._now = now
        self._place = self.sight.place or self._place
        looked = self.sight.readable and self.sight.place is not None
        if self._over_at is not None and (now >= self._over_at or looked):
            self._over_at, self.reporter.rebuilding = None, False
        if self._announced_at is not None and now - self._announced_at > FORGOTTEN_SECONDS:
            self._end(now)
        if not self._may_act():
            if self._lost_since is not None and self._announced_at is not None:
                self._end(now)
            self._lost_since = None
            return
        self._lost_since = now if self._lost_since is None else self._lost_since
        if now - self._lost_since < PATIENCE_SECONDS or now < self._not_before:
            return
        if self._did_lately():
            self._not_before = now + AGAIN_SECONDS
            self.log.warning("rebuild_waits", why="this daemon began to rebuild by itself minutes ago")
            return
        if self._announced():
            try:
                self._note_attempt()
                self._rebuild(self._order_of("lkg", ITSELF, LOST))
            except Exception as error:  # noqa: BLE001 - it would be raised again after every restart
                self._not_before = now + AGAIN_SECONDS
                why = error.message if isinstance(error, ConfigDaemonError) else repr(error)
                self.log.warning("rebuild_failed", why=why)

    def _is_lost(self) -> bool:
        """Tell whether the database is damaged or gone, the cache is good, and nobody has to be asked first."""
        lost = any(condition.name in ("db-corrupted", "db-missing") for condition in self.findings)
        return lost and self.keeper.valid and not self.findings.holding

    def _may_act(self) -> bool:
        """Tell whether to rebuild unasked: not without the broker, nor while it shows what the cache does not know."""
        if not (self.by_itself and self._is_lost()):
            self._told = False
            return False
        if self.mirror.newer and not self._told:
            self._told = True
            services = ", ".join(sorted(self.mirror.newer)[:SHOWN_SERVICES])
            self.log.warning("rebuild_waits", why=f"the broker shows newer messages of ours: {services}")
        return self.mirror.shows_nothing_newer

    def _known(self) -> dict[str, int]:
        """Return the highest version of each service that was published, as far as anybody showed it."""
        known = {name: entry.version for name, entry in self.plan.services.items()}
        for name, version in self.mirror.newer.items():
            known[name] = max(version, known.get(name, 0))
        return known

    def _did_lately(self) -> bool:
        """Tell whether a daemon began to rebuild by itself minutes ago, in an earlier life too: a person's matter."""
        path = self.files.rebuild_info
        try:
            intent = journal.load(path, self.hmac_keys())
            recent = abs(time.time() - path.stat().st_mtime) < AGAIN_SECONDS
        except (CacheError, OSError):
            return False
        return intent is not None and intent.by == ITSELF and recent

    def _note_attempt(self) -> None:
        """Leave word of it before the work begins, which a process may not outlive. Raises: OSError."""
        now = self.sealer.now()
        begun = Intent("", "restore", "", ITSELF, LOST, now, "", 0, "", 0, state="abandoned")
        journal.write(self.files.rebuild_info, begun, self.hmac_keys()[0])

    def _announced(self) -> bool:
        """Have health say that a rebuild begins; True once it did."""
        if self._announced_at is None:
            self._announced_at, self.reporter.rebuilding = self._now, True
            return False
        return self.reporter.tells_of_rebuilding or self._now - self._announced_at >= ANNOUNCE_SECONDS

    def _end(self, at: float) -> None:
        """Have health say so no more: at a time, or as soon as the store has answered."""
        self._announced_at, self._over_at = None, at

    def _rebuild(self, order: Order) -> Intent:
        self.keeper.abandon()
        self.close_reader()
        self._end(self._now)
        intent = self._go_on(rebuild(self._site(), order))
        self._end(self._now + ANSWERS_SECONDS)
        return intent

    def _adopt(self, request: Request) -> Intent:
        self.keeper.abandon()
        return adopt_store(
            self.files, self.row_sealer, self.sealer.numbers, highest_seen=self.mirror.highest_seen,
            now=self.sealer.now(), by=request.by, reason=request.reason, request=request.id,
        )  # fmt: skip

    def _go_on(self, intent: Intent) -> Intent:
        """Have every part begin anew on the database that is there now."""
        self.log.warning(
            "store_replaced", kind=intent.kind, by=intent.by, services=intent.services,
            lost=len(intent.lost.get("services", ())),
        )  # fmt: skip
        heads = self.sealer.numbers.marks.audit
        assert heads is not None
        self.sight.accept()
        self._place = None
        self.mirror.adopted()
        self.keeper.touch()
        self.auditor.adopted(heads)
        self.reporter.last_rebuild = intent.at
        self.sight.reread(self.plan.services)
        return intent

    def _done_before(self, request: str) -> dict[str, Any] | None:
        """Return the answer to a request that was carried out by a process that died before it answered."""
        try:
            intent = journal.load(self.files.rebuild_info, self.hmac_keys())
        except CacheError:
            return None
        if intent is None or intent.id != request or intent.state != "done":
            return None
        return told(intent)
