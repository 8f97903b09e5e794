"""What the store says now, read a slice at a time.

Laws: the place in the change feed says what is unread, so only what changed is read; a database without
a place that was read before is another one, and stops publishing; a store that does not answer changes
nothing that was wanted before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from config_daemon import failpoints
from config_daemon.core.health import Findings
from config_daemon.core.modes import Status
from config_daemon.daemon.judge import Judge
from config_daemon.errors import SchemaMismatch, StoreCorrupted, StoreError, StoreLocked, StoreUnavailable
from config_daemon.store.ports import Place, Reader, StoreFacts
from config_daemon.wire.messages import NIL_EPOCH

SLICE = 200
BACKLOG = 1000
LOCK_SECONDS = 0.5
THOROUGH_SECONDS = 0.02  # looks follow one another within microseconds; the file is not replaced so often
NOTHING_KNOWN = StoreFacts(NIL_EPOCH, 0, "")
_FAULT: tuple[tuple[type[StoreError], str, Status], ...] = (
    (StoreLocked, "db-locked", "locked"),
    (SchemaMismatch, "schema-too-new", "schema-mismatch"),
    (StoreCorrupted, "db-corrupted", "corrupted"),
    (StoreUnavailable, "db-missing", "corrupted"),
    (StoreError, "db-error", "corrupted"),
)


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
    ) -> None:
        self._reader, self._judge, self._findings, self._now_text = reader, judge, findings, now_text
        self._expected = tuple(places)
        self._stale, self._thorough_at = True, 0.0
        self._unread: dict[str, None] = {}
        self._fault: StoreError | None = None
        self._locked_since: float | None = None
        self.known = known
        self.facts: StoreFacts | None = None
        self.place: Place | None = None

    @property
    def status(self) -> Status:
        """Return what the store's state is called."""
        if self._fault is not None:
            return next(status for kind, _, status in _FAULT if isinstance(self._fault, kind))
        return "corrupted" if self._judge.corrupted else "healthy"

    @property
    def unread(self) -> int:
        """Return how many services are known to have changed and were not read yet."""
        return len(self._unread)

    @property
    def readable(self) -> bool:
        """Tell whether the store answered the last time it was asked."""
        return self._fault is None and self._locked_since is None

    @property
    def rows_known(self) -> bool:
        """Tell whether the rows of the right database were read, so that messages can be held against them."""
        return self.readable and self.place is not None and not self._unread

    @property
    def settled(self) -> bool:
        """Tell whether everything that can be read now was read."""
        return self._fault is not None or self._findings.holding or not (self._stale or self._unread)

    @property
    def knows(self) -> bool:
        """Tell whether there is anything true to say about the store yet."""
        return self.facts is not None or self._fault is not None

    def is_unread(self, service: str) -> bool:
        """Tell whether a service's row changed, or may have, since it was read."""
        return service in self._unread and self.readable

    def look(self, now: float, backlog: int) -> None:
        """Read what changed, at most a slice; nothing while `backlog` services wait to be sent."""
        try:
            thorough = now >= self._thorough_at
            self._thorough_at = now + THOROUGH_SECONDS if thorough else self._thorough_at
            if self._reader.moved(thorough):
                self._stale = True
            if self._stale:
                self._follow_feed()
            if self._unread and self.facts is not None and backlog < BACKLOG:
                self._read_slice()
        except StoreError as error:
            self._reader.close()
            self._stale = True
            self._note_fault(error, now)
        else:
            self._clear_fault()

    def reread(self, services: Iterable[str]) -> None:
        """Have services read again although the store did not change."""
        self._unread.update(dict.fromkeys(services))

    def accept(self) -> None:
        """Take the database as it is for the true one, whatever place was expected in it."""
        self._expected, self.place, self._stale = (), None, True
        self._findings.close("not-the-newest")
        self._findings.close("foreign-state")

    def _follow_feed(self) -> None:
        self.known = self.facts = self._reader.facts()
        self._judge.epoch = self.facts.epoch
        lacking = [place for place in self._expected if not self._reader.holds(place)]
        changes = self._reader.changes(self.place)
        if changes.services is None and self.place is not None:
            lacking.append(self.place)
        if lacking or changes.services is None:
            self._expected, self.place = tuple(lacking), None
            detail = f"the database lacks change {lacking[0].seq} ({lacking[0].token}), which was read before"
            self._findings.open("not-the-newest", "config.db", detail, self._now_text())
            return
        if self._expected:
            self._expected = ()
            self._findings.close("not-the-newest", "config.db")
        self._unread.update(dict.fromkeys(changes.services))
        self.place = changes.place
        self._stale = False

    def _read_slice(self) -> None:
        some = list(self._unread)[:SLICE]
        rows = self._reader.read(some)
        failpoints.reached("after_read")
        for service in some:
            self._judge.judge(service, rows.get(service))
            del self._unread[service]

    def _note_fault(self, error: StoreError, now: float) -> None:
        if isinstance(error, StoreLocked) and not isinstance(self._fault, StoreLocked):
            self._locked_since = now if self._locked_since is None else self._locked_since
            if now - self._locked_since < LOCK_SECONDS:
                return  # short locks are everyday life
        name = _name_of(error)
        if self._fault is not None and _name_of(self._fault) != name:
            self._findings.close(_name_of(self._fault), "config.db")
        self._fault = error
        self._findings.open(name, "config.db", error.message, self._now_text())

    def _clear_fault(self) -> None:
        self._locked_since = None
        if self._fault is not None:
            self._findings.close(_name_of(self._fault), "config.db")
            self._fault = None


def _name_of(error: StoreError) -> str:
    return next(name for kind, name, _ in _FAULT if isinstance(error, kind))
