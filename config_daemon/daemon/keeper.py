"""Keep the last-known-good cache behind the broker, without holding anybody up.

Laws: only messages that were confirmed go in, and rows that are newer are named; it is written in slices, with
pauses, while nothing waits to be published, and never built in memory; the HMAC, the sync and the rename happen
in a short thread that ends in one `inbox.put`; writing takes at most a small share of the time, however large the
cache; of a large fleet only what changed is written, beside the whole that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from config_daemon.core.plan import Plan
from config_daemon.daemon.events import CacheWritten
from config_daemon.daemon.heap import give_back
from config_daemon.daemon.holdings import Holdings
from config_daemon.daemon.work import Work, in_thread
from config_daemon.store.cache import Cache, Draft, GoneMessage, Head, additions

SLICE = 200
PAUSE_SECONDS = 0.002  # between slices: who never sleeps is kept waiting by the scheduler
AGAIN_SECONDS = 10.0  # after a failure
WAIT_SECONDS = 5.0  # for a write that has begun, before the store is replaced
LAST_WRITES = 3  # at the end: what was on its way, what changed meanwhile, and once more where one failed
LOOK_SECONDS = 5.0
LARGE = 2000  # services: of fewer, the whole cache is written every time
MOST_ADDED = 8  # the whole is written anew when more than an eighth of it has changed
SHARE = 20  # one part writing, nineteen parts not


_Stamp = tuple[int, int, int]


class CacheKeeper:
    """Writes the cache when what is confirmed has changed; `valid` says whether the one on disk is good."""

    def __init__(
        self,
        path: Path,
        hmac_key: Callable[[], bytes],
        plan: Plan,
        put: Callable[[CacheWritten], None],
        cached: Cache | None,
        gone: Callable[[str], None],
        start: Callable[[Callable[[], None]], Work] = in_thread,
    ) -> None:
        self._path, self._hmac_key, self._plan, self._put, self._start = path, hmac_key, plan, put, start
        self.valid, self._gone = cached is not None, gone
        self._holdings = Holdings(plan, cached)
        self._whole = cached.mac if cached is not None else ""  # the MAC of the one that can be added to
        self._stamp, self._look_at = _stamp(path), 0.0
        self._stale = True  # each life begins with a cache of its own
        self._draft: Draft | None = None
        self._draft_key = hmac_key()
        self._sent: Draft | None = None  # to the thread
        self._work: Work | None = None
        self._writing = False
        self._began = 0.0
        self._not_before = 0.0

    def look(self, now: float) -> None:
        """Find out now and then whether the file is still the one that was put there; else it is written anew."""
        if now < self._look_at or self._writing:
            return
        self._look_at = now + LOOK_SECONDS
        if self.valid and _stamp(self._path) != self._stamp:
            self.valid, self._stale, self._whole = False, True, ""

    def touch(self) -> None:
        """Have it written although nothing else has changed than what its head says."""
        self._stale = True

    def abandon(self) -> None:
        """Have nothing of an earlier life put in place any more, and a cache of the next one written."""
        self.wait(WAIT_SECONDS)
        if self._draft is not None:
            self._draft.discard()
        self._draft, self._stale, self._whole = None, True, ""

    def step(self, head: Callable[[], Head | None], now: float) -> None:
        """Begin, write one slice, or hand over to the thread; call it while nothing is to be sent."""
        if self._writing or self.next_due(now) > 0:
            return
        try:
            if self._draft is None:
                self._begin(head(), now)
            elif self._draft.write(SLICE):
                self._not_before = now + PAUSE_SECONDS
                self._began += PAUSE_SECONDS  # it counts as rest
            else:
                self._hand_over(self._draft)
        except OSError as error:
            self._give_up(error)
        except GoneMessage as gone:
            self._leave_out(str(gone))

    def _leave_out(self, service: str) -> None:
        """Begin anew without a message that cannot be read back, and have its service sealed anew."""
        if self._draft is not None:
            self._draft.discard()
        self._draft, self._stale = None, True
        entry = self._plan.services.get(service)
        if entry is not None:  # else it was forgotten while this was written
            entry.kept = None
            self._gone(service)

    def _begin(self, head: Head | None, now: float) -> None:
        self._began = now
        if head is None:
            self._not_before = now + AGAIN_SECONDS
            return
        is_rekeyed, self._draft_key = self._hmac_key() != self._draft_key, self._hmac_key()
        if not self._holdings.update(head.config_epoch) and not (self._stale or is_rekeyed):
            return
        self._stale = False
        if is_rekeyed or not self._can_add:
            self._whole = ""
        self._draft = self._drafted(head)

    def _drafted(self, head: Head) -> Draft:
        held = self._holdings
        head = replace(head, uncovered=dict(held.uncovered), base=self._whole)
        if self._whole:
            return Draft(self._path, head, {name: held.sealed[name] for name in held.beside})
        held.written_whole()
        return Draft(self._path, head, dict(held.sealed))

    @property
    def _can_add(self) -> bool:
        held = self._holdings
        is_large, is_little = len(held.sealed) >= LARGE, len(held.beside) * MOST_ADDED <= len(held.sealed)
        return bool(self._whole) and held.fits and is_large and is_little

    def written(self, event: CacheWritten, now: float) -> None:
        """Take the thread's outcome."""
        self._writing = False
        self._not_before = now + SHARE * (now - self._began)
        sent, self._sent = self._sent, None
        if event.error is not None:  # what could not be replaced is as good as it was
            self._stale, self._not_before = True, now + AGAIN_SECONDS
        elif sent is not None:
            self._note_in_place(sent)

    def _note_in_place(self, draft: Draft) -> None:
        stamp = _stamp(self._path)
        if draft.adds:  # what became of the whole meanwhile is still to be noticed
            stamp = (self._stamp[0], stamp[1])
        else:
            self._whole, self.valid = draft.mac, True
        self._stamp = stamp

    def wait(self, seconds: float) -> None:
        """Wait until a write that is under way has ended, for the daemon's own end."""
        if self._work is not None:
            self._work.join(seconds)

    def finish(
        self, head: Callable[[], Head | None], hear: Callable[[], None], now: float, seconds: float
    ) -> None:
        """Write what was confirmed and not written yet, without the rests between, for the daemon's own end.

        `hear` has `written` called with the outcome of a write that has ended.
        """
        for _ in range(LAST_WRITES if head() is not None else 0):
            self.wait(seconds)
            hear()
            if self._writing:
                return  # the disk hangs, and the next start goes on from what is there
            self._not_before = now
            while self.next_due(self._not_before) <= 0:
                self.step(head, self._not_before)
        self.wait(seconds)
        hear()

    def next_due(self, now: float) -> float:
        """Return in how many seconds there is something to do."""
        rekeyed = self._hmac_key() != self._draft_key
        if self._writing or not (self._stale or self._draft or rekeyed or self._holdings.may_differ):
            return 60.0
        return max(0.0, self._not_before - now)

    def _hand_over(self, draft: Draft) -> None:
        self._draft, self._sent, self._writing, key = None, draft, True, self._draft_key

        def work() -> None:
            try:
                draft.put_in_place(key)
            except OSError as error:
                draft.discard()
                self._put(CacheWritten(error.strerror or str(error)))
            else:
                self._put(CacheWritten(None))
                if not draft.adds and draft.count >= LARGE:
                    give_back()  # so many came by on their way; for a few it costs more than it gives

        self._work = self._start(work)

    def _give_up(self, error: OSError) -> None:
        if self._draft is not None:
            self._draft.discard()
        self._draft, self._writing = None, True  # until the loop has heard of it
        self._put(CacheWritten(error.strerror or str(error)))


def _stamp(path: Path) -> tuple[_Stamp | None, _Stamp | None]:
    return _stamp_of(path), _stamp_of(additions(path))


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
