"""What the store says now, read a slice at a time.

Laws: the place in the change feed says what is unread, so only what changed is read; a database without
a place that was read before is another one, and stops publishing; a store that does not answer changes
nothing that was wanted before; after an error, or as another file, it is believed once SQLite has checked it,
and every row is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from config_daemon import failpoints
from config_daemon.core.health import Findings
from config_daemon.core.modes import Status
from config_daemon.daemon.events import Inspected
from config_daemon.daemon.faults import Faults
from config_daemon.daemon.inspection import Inspector
from config_daemon.daemon.judge import Found, Judge
from config_daemon.errors import (
    StoreCorrupted,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
)
from config_daemon.store.connection import CUT_OFF
from config_daemon.store.ports import Place, Reader, StoreFacts, Workers
from config_daemon.wire.messages import NIL_EPOCH

SLICE = 200
BACKLOG = 1000
THOROUGH_SECONDS = 0.02  # looks follow one another within microseconds; the file is not replaced so often
NOTHING_KNOWN = StoreFacts(NIL_EPOCH, 0, "")
PROBE_SECONDS = 0.25  # how often to ask whether anybody could write
AFRESH_SECONDS = 5.0  # how often whether anybody could open it, though nobody has written it
RETRY_SECONDS = 1.0  # between two looks at a store that is damaged


class Sight:
    """Follows one store; `known` is its identity as last read, else what the cache says."""

    def __init__(
        self,
        reader: Reader,
        judge: Judge,
        findings: Findings,
        now_text: Callable[[], str],
        places: Sequence[Place] = (),
        known: StoreFacts = NOTHING_KNOWN,
        *,
        inspector: Inspector,
        insist: Callable[[Place], None],
        happened: Callable[[str], None],
        expect: Callable[[Workers], None],
    ) -> None:
        self._reader, self._judge, self._findings, self._now_text = reader, judge, findings, now_text
        self._expected = tuple(places)
        self._inspector, self._insist, self._happened = inspector, insist, happened
        self._expect, self._workers_moved = expect, False
        self._stale, self._thorough_at = True, 0.0
        self._unread: dict[str, None] = {}
        self._faults = Faults(findings, now_text)
        self._answers = True
        self._identity: tuple[int, int] | None = None
        self._probe_at = self._afresh_at = self._not_before = 0.0
        self.known = known
        self.misfit = False  # the stored configs do not fit the definitions, or that is not recorded
        self.facts: StoreFacts | None = None
        self.place: Place | None = None

    @property
    def status(self) -> Status:
        """Return what the store's state is called."""
        if self._faults.stands:
            return self._faults.status
        if self.misfit:
            return "schema-mismatch"
        return "corrupted" if self._judge.corrupted else "healthy"

    @property
    def unread(self) -> int:
        """Return how many services are known to have changed and were not read yet."""
        return len(self._unread)

    def may_read_on(self, backlog: int) -> bool:
        """Tell whether the next look reads more of what has changed, while `backlog` services wait to be sent."""
        return bool(self._unread) and self.readable and backlog < BACKLOG

    @property
    def readable(self) -> bool:
        """Tell whether the store answered the last time it was asked."""
        return self._answers and not self._faults.stands

    @property
    def rows_known(self) -> bool:
        """Tell whether the rows of the right database were read, so that messages can be held against them."""
        return self.readable and self.place is not None and not self._unread

    @property
    def settled(self) -> bool:
        """Tell whether everything that can be read now was read."""
        return self._faults.stands or self._findings.holding or not (self._stale or self._unread)

    @property
    def knows(self) -> bool:
        """Tell whether there is anything true to say about the store yet."""
        return self.facts is not None or self._faults.stands

    def is_unread(self, service: str) -> bool:
        """Tell whether a service's row changed, or may have, since it was read."""
        return service in self._unread and self.readable

    def found(self, service: str) -> Found:
        """Return what the store holds of a service just now. Raises: StoreError."""
        return self._reader.read([service]).get(service)

    def holds(self, place: tuple[int, str]) -> bool:
        """Tell whether a place is in the database; True where it does not answer, which shows at the next look."""
        try:
            return self._reader.holds(Place(*place))
        except StoreError:
            return True

    def expect(self, place: tuple[int, str]) -> None:
        """Have the database be another one until it holds a place that somebody showed, over every restart."""
        shown = Place(*place)
        if shown not in self._expected:
            self._expected, self._stale = (*self._expected, shown), True
            self._insist(shown)
            self._lack(shown)

    def look(self, now: float, backlog: int) -> None:
        """Read what changed, at most a slice; nothing while `backlog` services wait to be sent."""
        if now < self._not_before:
            return
        try:
            self._read(now, backlog)
            self._answers = True
            self._probe(now)
        except StoreLocked as error:
            self._faults.blocked(error, now)
        except StoreError as error:
            self._not_before = now + RETRY_SECONDS
            self._fail(error)
        else:
            if not (self._faults.stands or self._stale or self._unread):
                self._inspector.step(now, self._judge.behind > SLICE)

    def inspected(self, event: Inspected) -> None:
        """Take what SQLite said of the whole file; what it could not look at shows when it is read."""
        if isinstance(event.error, StoreCorrupted | StoreFailing):
            self._fail(event.error)
        elif event.sweep:
            self._begin_anew()  # another connection: what this one has in memory may be better than the disk
            self._reread_all()

    def reread(self, services: Iterable[str]) -> None:
        """Have services read again although the store did not change."""
        self._unread.update(dict.fromkeys(services))

    def accept(self) -> None:
        """Take the database as it is for the true one, whatever place was expected in it; look at once."""
        self._expected, self.place, self._stale, self._not_before = (), None, True, 0.0
        self._findings.close("not-the-newest")
        self._findings.close("foreign-state")

    def _read(self, now: float, backlog: int) -> None:
        was_bad = self._faults.stands and not self._faults.is_lock
        try:
            if was_bad:
                self._reader.check(thorough=True)
                self._reread_all()
            self._read_on(now, backlog)
        except StoreLocked:
            self._answers = False
            raise
        except (StoreCorrupted, StoreFailing) as error:  # a disk that fails once reads as damage
            if was_bad or _is_cut_off(error):
                raise
            self._begin_anew()
            self._read_on(now, backlog)
        if was_bad:
            self._faults.clear()

    def _read_on(self, now: float, backlog: int) -> None:
        thorough = now >= self._thorough_at
        self._thorough_at = now + THOROUGH_SECONDS if thorough else self._thorough_at
        if self._reader.moved(thorough):
            self._stale = True
            self._faults.moved()
        if self._reader.identity != self._identity:
            self._enter(self._reader.identity)
        if self._stale:
            self._follow_feed()
        if self._workers_moved and self.place is not None:
            self._expect(self._reader.workers())
            self._workers_moved = False
        if self._unread and self.facts is not None and backlog < BACKLOG:
            self._read_slice()

    def _enter(self, identity: tuple[int, int] | None) -> None:
        """Begin with a file: one that was put in place of another is believed only after a check."""
        if self._identity is not None:
            self._reader.check(thorough=True)
            self._reread_all()
            self._happened("db-replaced")
        self._identity = identity

    def _reread_all(self) -> None:
        """Have every row read again, of a database that still holds the place where we stand."""
        if self.place is not None:
            self._expected, self.place = (*self._expected, self.place), None
        self._stale = True

    def _probe(self, now: float) -> None:
        """Find out whether anybody could write: a store that nobody can change is locked, though it can be read."""
        if now < self._probe_at and not self._faults.is_blocked:
            return
        self._probe_at = now + PROBE_SECONDS
        afresh = now >= self._afresh_at
        self._afresh_at = now + AFRESH_SECONDS if afresh else self._afresh_at
        try:
            self._try_to_write(afresh)
        except (StoreReadOnly, StoreFull) as error:
            self._faults.cannot_write(error)
        else:
            self._faults.cannot_write(None)
        if self._faults.is_lock:
            self._reader.check(thorough=False)
            self._stale = True
        self._faults.clear()

    def _try_to_write(self, afresh: bool) -> None:
        try:
            self._reader.probe(afresh)
        except (
            StoreCorrupted,
            StoreFailing,
        ) as error:  # as when reading: a disk that fails once is tried again
            if _is_cut_off(error):
                raise
            self._begin_anew()
            self._reader.probe(afresh=True)

    def _fail(self, error: StoreError) -> None:
        self._answers = False
        self._begin_anew()
        self._faults.set(error)

    def _begin_anew(self) -> None:
        self._reader.abandon()
        self._stale = True

    def _follow_feed(self) -> None:
        changes = self._reader.changes(self.place)
        self.known = self.facts = changes.facts
        self._judge.epoch, self._judge.model_hash = changes.facts.epoch, changes.facts.model_hash
        lacking = [place for place in self._expected if not self._reader.holds(place)]
        self._workers_moved |= changes.workers
        if changes.services is None and self.place is not None:
            lacking.append(self.place)
        if lacking or changes.services is None:
            self._expected, self.place = tuple(lacking), None
            self._lack(lacking[0])
            return
        if self._expected:
            self._expected = ()
            self._findings.close("not-the-newest", "config.db")
        if self.place is None:  # what was published and is in no table any more was lost without a word
            self.reread(self._judge.services)
        self.reread(changes.services)
        self.place = changes.place
        self._stale = False

    def _lack(self, place: Place) -> None:
        detail = f"the database lacks change {place.seq} ({place.token}), which was read before"
        self._findings.open("not-the-newest", "config.db", detail, self._now_text())

    def _read_slice(self) -> None:
        some = list(self._unread)[:SLICE]
        rows = self._reader.read(some)
        failpoints.reached("after_read")
        for service in some:
            self._judge.judge(service, rows.get(service))
            del self._unread[service]


def _is_cut_off(error: StoreError) -> bool:
    """Tell whether the end of a file is missing: another try reads what was before, and no disk recovers so."""
    return isinstance(error, StoreFailing) and error.name == CUT_OFF
