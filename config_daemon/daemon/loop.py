"""THE daemon: one level-triggered loop. Start reading here.

    wake → tick: what happened, what is wanted, what the broker lacks, send that, say how we are

Laws: every wake-up runs the same tick, an event is only a reason to look; this thread owns all state;
what cannot be sent now is still behind at the next tick. Start-up, a reconnect, a wiped broker, a
changed row and a fallback are one path.
"""

from __future__ import annotations

from config_daemon import failpoints
from config_daemon.core.plan import must_keep
from config_daemon.daemon import events as e
from config_daemon.daemon.goodbye import say_goodbye
from config_daemon.daemon.parts import Parts
from config_daemon.daemon.renewal import renew

RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS = 1.0, 60.0


class Daemon:
    """Owns all mutable state; `run` returns when the daemon was asked to stop."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._stopping = self._waiting = False
        self._dial_at, self._retry_seconds = 0.0, RETRY_FIRST_SECONDS

    def run(self) -> None:
        """Tick until stopped, then say good-bye."""
        while not self._stopping:
            self.tick(self._p.inbox.wait(self._patience(), self._p.sockets()))
        say_goodbye(self._p, self._learn, self._may_keep)

    def tick(self, events: list[e.Event]) -> None:
        """Look at everything once and send what is missing."""
        p, now = self._p, self._p.clock()
        near = {name for event in events for name in self._heed(event, now)}
        for happened in p.broker.drive(now):
            self._learn(happened, now)
        p.keyrings.judge(now)
        self._look(now, near)
        if p.sight.settled:
            p.sight.reread(p.mirror.judge(now, p.sight.rows_known, self._confirm))
        p.mirror.step(now, p.sight.settled, lambda: p.reporter.sentinel(now))
        p.keyrings.step(now, self._may_send())
        p.sealer.tend(now, p.sight.place if self._may_send() else None, p.sight.known.epoch)
        self._waiting = self._send(now)
        if self._may_send():
            p.beacons.step(now, p.mirror.witness.take_shards())
        p.edge.step(now, self._may_send(), self._waiting or bool(near))
        if self._may_keep():
            p.keeper.step(lambda: p.sealer.head(p.sight.place, p.sight.facts), now)
        if p.broker.idle and now >= self._dial_at:
            self._dial_at = now + RETRY_FIRST_SECONDS  # where nothing can be sealed there is no will either
            if will := p.reporter.will():
                p.broker.open(will)
        p.obey(now, "requests" in near)
        p.reporter.report(now)
        p.alive()

    def _heed(self, event: e.Event, now: float) -> frozenset[str]:
        match event:
            case e.Stop():
                self._stopping = True
            case e.Dialed():
                self._p.dialed(event, now)
            case e.CacheWritten():
                self._p.cache_written(event, now)
            case e.Inspected():
                self._p.sight.inspected(event)
            case e.Hint(near):
                return near
        return frozenset()

    def _learn(self, event: e.BrokerEvent, now: float) -> None:
        p = self._p
        match event:
            case e.Connected():
                self._retry_seconds = RETRY_FIRST_SECONDS
                p.connected()
            case e.Lost(reason):
                p.plan.doubt_all()
                p.reporter.lost(p.name.lost(reason, now))
                self._dial_at = now + self._retry_seconds * (0.5 + p.jitter())
                self._retry_seconds = min(2 * self._retry_seconds, RETRY_LAST_SECONDS)
            case e.Confirmed(topic, number):
                service = p.topics.service_of(topic)
                if service is None:
                    p.accepted(topic)
                elif self._confirm(service, number):
                    p.mirror.changed(service, now)
            case e.Refused():
                p.refused(event, now)
            case e.Arrived():
                if not p.keyrings.arrived(event):
                    p.mirror.arrived(event)
            case e.Subscribed():
                p.mirror.subscribed(event)

    def _look(self, now: float, near: set[str]) -> None:
        p = self._p
        p.sight.reread(p.surroundings.look(now, near))
        if (news := p.identity.look(now, near, p.surroundings.env_file)) and renew(p, news, now):
            self._dial_at = now
        if p.surroundings.settled:
            # only what is being sent drains: reading must go on where nothing may be sent yet
            p.see(now, len(p.plan) if self._may_send() else 0)
        if p.sight.place is not None:
            p.mirror.store_seen()

    def _may_send(self) -> bool:
        """Tell whether more than health may be published at all just now."""
        return self._p.broker.connected and self._p.mirror.ready and not self._p.findings.holding

    def _may_keep(self) -> bool:
        """Tell whether there is time for the cache, and everything it holds is sure."""
        waiting = self._waiting and len(self._p.plan) > 0
        return self._may_send() and not waiting and self._p.sight.settled and self._p.sight.readable

    def _send(self, now: float) -> bool:
        """Send what the broker lacks: the bytes of the last seal where they still hold, else a new one.

        Returns whether anything waits for its turn or its confirmation; what is put off does not count.
        """
        p, waiting = self._p, False
        for service, entry in p.plan.behind() if self._may_send() else ():
            if not p.broker.has_window:
                return True
            if must_keep(entry) and not (
                p.mirror.may_send(service, now) and p.identity.vouches(entry.sealed)
            ):
                continue
            waiting, topic = True, p.topics.config(service)
            if not p.broker.room(topic, now) or p.sight.is_unread(service):
                continue
            if not must_keep(entry):
                sealed = p.sealer.update(service, entry)
                if sealed is None:
                    return True
                p.plan.remember(service, sealed)
            p.publish(service, topic, entry.sealed, now)
            failpoints.reached("after_send")
        return waiting

    def _confirm(self, service: str, number: int) -> bool:
        """Note that the broker holds a service's message; False when that is not its last one."""
        p = self._p
        if not p.plan.confirm(service, number):
            return False
        failpoints.reached("after_confirm")
        p.confirmed(service)
        failpoints.reached("after_status")
        return True

    def _patience(self) -> float:
        """Return for how many seconds nothing can be due."""
        p, now = self._p, self._p.clock()
        if p.sight.may_read_on(len(p.plan) if self._may_send() else 0):
            return 0.0
        waits = [p.poll_seconds, p.reporter.next_due(now), p.surroundings.next_due(now), p.edge.next_due(now)]
        if self._may_send():
            waits.append(p.beacons.next_due(now))
        if self._may_keep():
            waits.append(p.keeper.next_due(now))
        if len(p.plan) > p.broker.in_flight:
            waits.append(p.broker.next_room(now))
        if p.broker.idle:
            waits.append(self._dial_at - now)
        return max(0.0, min(waits))
