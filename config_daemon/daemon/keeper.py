"""Keep the last-known-good cache behind the broker, without holding anybody up.

Laws: only confirmed messages go in; it is written in slices while nothing waits to be published, and never
built in memory; the HMAC, the sync and the rename happen in a short thread that ends in one `inbox.put`;
writing takes at most a small share of the time, however large the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from config_daemon.core.plan import Plan
from config_daemon.core.sealed import Sealed
from config_daemon.daemon.events import CacheWritten
from config_daemon.daemon.work import Work, in_thread
from config_daemon.store.cache import Draft, Head

SLICE = 200
AGAIN_SECONDS = 10.0  # after a failure
WAIT_SECONDS = 5.0  # for a write that has begun, before the store is replaced
SHARE = 20  # one part writing, nineteen parts not


class CacheKeeper:
    """Writes the cache when what is confirmed has changed; `valid` says whether the one on disk is good."""

    def __init__(
        self,
        path: Path,
        hmac_key: Callable[[], bytes],
        plan: Plan,
        put: Callable[[CacheWritten], None],
        valid: bool,
        vouches: Callable[[Sealed], bool] = lambda _sealed: True,
        start: Callable[[Callable[[], None]], Work] = in_thread,
    ) -> None:
        self._path, self._hmac_key, self._plan, self._put, self._start = path, hmac_key, plan, put, start
        self.valid, self._vouches = valid, vouches
        self._stale = not valid
        self._draft: Draft | None = None
        self._draft_key = hmac_key()
        self._work: Work | None = None
        self._writing = False
        self._began = 0.0
        self._not_before = 0.0

    def touch(self) -> None:
        """Note that something confirmed has changed."""
        self._stale = True

    def abandon(self) -> None:
        """Have nothing of an earlier life put in place any more, and a cache of the next one written."""
        self.wait(WAIT_SECONDS)
        if self._draft is not None:
            self._draft.discard()
        self._draft, self._stale = None, True

    def step(self, head: Callable[[], Head | None], now: float) -> None:
        """Begin, write one slice, or hand over to the thread; call it while nothing is to be sent."""
        if self._writing or self.next_due(now) > 0:
            return
        try:
            if self._draft is None:
                self._begin(head(), now)
            elif not self._draft.write(SLICE):
                self._hand_over(self._draft)
        except OSError as error:
            self._give_up(error)

    def _begin(self, head: Head | None, now: float) -> None:
        self._began = now
        if head is None:
            self._not_before = now + AGAIN_SECONDS
            return
        self._stale = False
        kept = {
            service: entry.sealed
            for service, entry in self._plan.services.items()
            # what no worker would take any more is never confirmed again, and still was published
            if entry.sealed is not None and (entry.confirmed or not self._vouches(entry.sealed))
        }
        self._draft, self._draft_key = Draft(self._path, head, kept), self._hmac_key()

    def written(self, event: CacheWritten, now: float) -> None:
        """Take the thread's outcome."""
        self._writing = False
        self._not_before = now + SHARE * (now - self._began)
        self.valid = self.valid or event.error is None  # what could not be replaced is as good as it was
        if event.error is not None:
            self._stale, self._not_before = True, now + AGAIN_SECONDS

    def wait(self, seconds: float) -> None:
        """Wait until a write that is under way has ended, for the daemon's own end."""
        if self._work is not None:
            self._work.join(seconds)

    def finish(self, head: Callable[[], Head | None], now: float, seconds: float) -> None:
        """Write what was confirmed and not written yet, without the rests between, for the daemon's own end."""
        self.wait(seconds)
        self._writing, self._not_before = False, now
        self.step(head, now)
        while self._draft is not None:
            self.step(head, now)
        self.wait(seconds)

    def next_due(self, now: float) -> float:
        """Return in how many seconds there is something to do."""
        rekeyed = self._hmac_key() != self._draft_key
        if self._writing or not (self._stale or self._draft or rekeyed):
            return 60.0
        return 0.0 if self._draft else max(0.0, self._not_before - now)

    def _hand_over(self, draft: Draft) -> None:
        self._draft, self._writing, key = None, True, self._draft_key

        def work() -> None:
            try:
                draft.put_in_place(key)
            except OSError as error:
                draft.discard()
                self._put(CacheWritten(error.strerror or str(error)))
            else:
                self._put(CacheWritten(None))

        self._work = self._start(work)

    def _give_up(self, error: OSError) -> None:
        if self._draft is not None:
            self._draft.discard()
        self._draft, self._writing = None, True  # until the loop has heard of it
        self._put(CacheWritten(error.strerror or str(error)))
