"""What the cache is to hold: every message that was ever confirmed in this epoch, and which rows are newer.

Laws: its cost follows what changed, not how much there is; doubt about the broker takes nothing away, since what
it holds now says nothing of what was acknowledged.
"""

from __future__ import annotations

from config_daemon.core.plan import Plan
from config_daemon.core.sealed import Sealed
from config_daemon.store.cache import Cache


class Holdings:
    """`sealed` by service, `uncovered` the versions of newer rows, `beside` what the whole cache on disk lacks.

    `fits` says whether nothing that the whole cache holds is to go, so that it can be added to.
    """

    def __init__(self, plan: Plan, cached: Cache | None) -> None:
        """Begin with what lies on disk."""
        self._plan, self._changed = plan, plan.follow()
        self._epoch = "" if cached is None else cached.head.config_epoch
        self.sealed: dict[str, Sealed] = {} if cached is None else dict(cached.sealed)
        self.uncovered: dict[str, int] = {} if cached is None else dict(cached.head.uncovered)
        self.beside: set[str] = set() if cached is None else set(cached.added)
        self.fits = cached is not None
        self._changed.update(self.sealed, self.uncovered)

    @property
    def may_differ(self) -> bool:
        """Tell whether anything has happened since the last `update`."""
        return bool(self._changed)

    def update(self, epoch: str) -> bool:
        """Take over what became of the services; False when nothing of it changes what the cache is to hold."""
        is_news = epoch != self._epoch
        if is_news:
            self._epoch = epoch
            self._changed.update(self._plan.services, self.sealed, self.uncovered)
        for service in self._changed:
            is_news |= self._note_confirmed(service) | self._note_newer(service)
        self._changed.clear()
        return is_news

    def written_whole(self) -> None:
        """Begin to note anew what the whole cache lacks, which is about to be written."""
        self.beside.clear()
        self.fits = True

    def _note_confirmed(self, service: str) -> bool:
        entry, before = self._plan.services.get(service), self.sealed.get(service)
        last = entry.kept if entry is not None else None
        if last is not None and last.fingerprint.epoch == self._epoch:
            self.sealed[service] = last
            if before is not None and before.sequence == last.sequence:
                return False
            self.beside.add(service)
            return True
        if before is None:
            return False
        del self.sealed[service]
        self.fits = False
        return True

    def _note_newer(self, service: str) -> bool:
        entry, held = self._plan.services.get(service), self.sealed.get(service)
        before = self.uncovered.pop(service, None)
        version = entry.version if entry is not None else 0
        if version > (held.fingerprint.config_version if held is not None else 0):
            self.uncovered[service] = version
        return self.uncovered.get(service) != before
