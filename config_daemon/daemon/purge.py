"""Topics that are to hold nothing: of services that were deleted and purged, and of orphans that nobody needs.

Laws: of a service that lives nothing is cleared; a purge is in marks before anything is cleared, so that neither a
restart nor somebody's replay brings the message back; what was deleted stays known, and its versions go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from config_daemon import failpoints
from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.judge import Judge
from config_daemon.daemon.keeper import CacheKeeper
from config_daemon.daemon.mirror import Mirror
from config_daemon.daemon.requests import Request
from config_daemon.daemon.sight import Sight
from config_daemon.errors import BrokerUnavailable, NotAllowed, NotFound, StoreUnavailable, UsageError
from config_daemon.logs import Logger
from config_daemon.store.marks import PURGED_MOST, Numbers
from config_daemon.store.ports import Tombstone
from config_daemon.store.refusal import still_lives
from config_daemon.wire.topics import Topics, is_service

ANSWER_SECONDS = 10.0  # for the broker's word; the topic is cleared later all the same
ORPHAN = "orphan-retained"


class Purge:
    """Clears topics on request, and again whenever something is shown there."""

    def __init__(
        self,
        numbers: Numbers,
        judge: Judge,
        sight: Sight,
        plan: Plan,
        mirror: Mirror,
        keeper: CacheKeeper,
        broker: Broker,
        topics: Topics,
        findings: Findings,
        may_send: Callable[[], bool],
        accepted: Callable[[str], None],
        log: Logger,
    ) -> None:
        self._numbers, self._judge, self._sight, self._plan = numbers, judge, sight, plan
        self._mirror, self._keeper, self._broker, self._topics = mirror, keeper, broker, topics
        self._findings, self._may_send, self._accepted, self._log = findings, may_send, accepted, log
        self._sent: set[str] = set()
        self._refused: set[str] = set()
        self._asked: tuple[str, str, int, float] | None = None  # id, service, version, until when
        self._now = 0.0
        judge.purged, mirror.emptied = numbers.marks.purged, judge.emptied

    def carry(self, request: Request) -> dict[str, Any] | None:
        """Clear a service's topic; None until the broker has confirmed it.

        Raises: NotAllowed for a service that lives; NotFound; StoreError; BrokerUnavailable; UsageError.
        """
        if self._asked is None or self._asked[0] != request.id:
            service = request.arguments.get("service")
            if not isinstance(service, str) or not is_service(service):
                raise UsageError("a purge names a service")
            version = self._begin(service)
            self._asked = request.id, service, version, self._now + ANSWER_SECONDS
        _, service, version, until = self._asked
        if service in self._refused:
            raise BrokerUnavailable(
                f"the broker does not let the daemon clear the topic of {service}",
                suggestion="Let the daemon's user write the topic in the broker's ACL; it is tried again by itself.",
            )
        if service not in self._mirror.strays and service not in self._sent:
            return {"service": service, "version": version}
        if self._now >= until:
            raise BrokerUnavailable(
                f"the broker has not confirmed that the topic of {service} is cleared",
                suggestion="Nothing has to be done: the daemon clears it as soon as the broker lets it.",
            )
        return None

    def step(self, now: float) -> None:
        """Clear what has to be, and note what the broker confirmed."""
        self._now = now
        for service in [name for name in self._sent if self._broker.free(self._topics.config(name))]:
            self._sent.discard(service)
            self._findings.close(ORPHAN, service)
            self._accepted(service)
            self._log.info("topic_cleared", service=service)
        if not self._may_send():
            return
        for service in list(self._mirror.strays):
            topic = self._topics.config(service)
            if service not in self._judge.emptied:
                del self._mirror.strays[service]  # it lives again
            elif self._mirror.may_send(service, now) and self._broker.room(topic, now):
                del self._mirror.strays[service]
                self._sent.add(service)
                self._refused.discard(service)
                self._broker.send(topic, b"", 0, now)

    def lost(self) -> None:
        """Note that what was on its way may not have arrived."""
        self._mirror.strays.update(dict.fromkeys(self._sent))
        self._sent.clear()

    def refused(self, service: str) -> None:
        """Note that the broker does not let a topic be cleared; it is tried again when the back-off allows it."""
        if service in self._sent:
            self._sent.discard(service)
            self._refused.add(service)
            self._mirror.strays[service] = None

    def _begin(self, service: str) -> int:
        """Want nothing there any more; return the version of the deletion, 0 for an orphan. Raises: as `carry`."""
        if not self._may_send():
            raise StoreUnavailable(
                "nothing may be published now, and so nothing cleared",
                suggestion="See `config-daemon status` for why: no broker, a hold, or the first look at the broker.",
            )
        found = self._sight.found(service)
        if found is not None and not isinstance(found, Tombstone):
            raise still_lives(service)
        version = 0 if found is None else found.version
        if found is not None:
            self._refuse_unpublished(service, version)
            self._write_down(service, version)
            failpoints.reached("purge_marked")
            self._judge.judge(service, found)
            self._keeper.touch()
        elif any((one.name, one.subject) == (ORPHAN, service) for one in self._findings):
            self._judge.emptied.add(service)
        else:
            raise NotFound(f"{service} was not deleted, and no orphan is retained: there is nothing to purge")
        self._mirror.strays[service] = None
        return version

    def _refuse_unpublished(self, service: str, version: int) -> None:
        """Refuse while workers cannot have heard of a deletion. Raises: StoreUnavailable."""
        entry = self._plan.services.get(service)
        last = entry.sealed.fingerprint if entry is not None and entry.confirmed and entry.sealed else None
        is_out = last is not None and last.deleted and last.config_version == version
        if not is_out and self._judge.purged.get(service) != version:
            raise StoreUnavailable(
                f"the broker has not confirmed yet that {service} was deleted",
                suggestion="Try again once `config-daemon status` says that it is deleted.",
            )

    def _write_down(self, service: str, version: int) -> None:
        purged = {name: known for name, known in self._judge.purged.items() if name in self._judge.emptied}
        if len(purged) >= PURGED_MOST:
            raise NotAllowed(
                f"{PURGED_MOST} purged services are remembered already, and no more can be",
                code="TOO_MANY_PURGED",
                suggestion="Leave this tombstone where it is: it costs nobody anything.",
            )
        purged[service] = version
        try:
            self._numbers.write(purged=purged)
        except OSError as error:
            raise StoreUnavailable(
                f"marks.json cannot be written, and nothing was purged: {error.strerror}",
                suggestion="Free space in the data folder, then run the command again.",
            ) from error
        self._judge.purged = purged
