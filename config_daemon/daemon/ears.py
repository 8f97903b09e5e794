"""A second connection, on which the daemon hears workers: whatever is shouted there holds no config up.

Laws: it is read in short turns with pauses between them, at QoS 0, so that what there is no time for waits in
the broker or is dropped there, and never in our memory; nothing is published on it; losing it costs nothing
but what workers say meanwhile.

Source: docs/adr/0019-statuses-on-a-connection-of-their-own.md
"""

from __future__ import annotations

from collections.abc import Callable

from config_daemon.daemon.events import Arrived, Dialed
from config_daemon.daemon.inbox import Sockets
from config_daemon.daemon.link import Answered, Link
from config_daemon.wire.status import MAX_STATUS_BYTES

TURN_SECONDS = 0.01  # between two turns
CARE_SECONDS = 1.0  # how often an idle connection is looked after
RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS = 1.0, 60.0
CONNACK_SECONDS = 5.0
LARGEST_PACKET_BYTES = MAX_STATUS_BYTES + 1024  # with room for the topic


class Ears:
    """One connection at a time, opened while `wanted`; the loop's thread owns it."""

    def __init__(self, dial: Callable[[], None]) -> None:
        self._dial = dial
        self._link: Link | None = None
        self._dialing = self.hears = False
        self._dial_at = self._since = self._turn_at = self._care_at = 0.0
        self._retry_seconds = RETRY_FIRST_SECONDS
        self.trouble: str | None = None

    def adopt(self, dialed: Dialed, now: float) -> None:
        """Take over what the dialing thread made."""
        self._dialing, self._link, self._since = False, dialed.link, now
        self._turn_at = self._care_at = now
        if self._link is None:
            self._lost(dialed.error or "broker-down", now)

    def sockets(self, now: float) -> Sockets:
        """Return what the inbox must wait for: nothing during a pause."""
        if self._link is None or now < self._turn_at:
            return Sockets()
        return Sockets(*self._link.descriptors())

    def listen(self, now: float, wanted: bool) -> tuple[list[Arrived], bool]:
        """Take a turn if it is time; return what came, and whether the connection has just been made."""
        if not wanted:
            self.close()
        elif self._link is None:
            if not self._dialing and now >= self._dial_at:
                self._dialing = True
                self._dial()
        elif now >= self._turn_at or now >= self._care_at:
            return self._turn(self._link, now)
        return [], False

    def subscribe(self, topics: list[str]) -> None:
        """Subscribe at QoS 0: what is lost is said again within a minute; retained messages come too."""
        if self._link is not None and topics:
            self._link.subscribe(topics, False, True, qos=0)

    def unsubscribe(self, topics: list[str]) -> None:
        """End subscriptions."""
        if self._link is not None and topics:
            self._link.unsubscribe(topics)

    def next_due(self, now: float) -> float:
        """Return in how many seconds there is something to do, whatever comes."""
        if self._link is None:
            return CARE_SECONDS
        return max(0.0, self._turn_at - now) if now < self._turn_at else CARE_SECONDS

    def close(self) -> None:
        """Go without a word: nobody waits for one."""
        link, self._link, self.hears = self._link, None, False
        self._dial_at, self._retry_seconds, self.trouble = 0.0, RETRY_FIRST_SECONDS, None
        if link is not None:
            link.leave(0.0)

    def _turn(self, link: Link, now: float) -> tuple[list[Arrived], bool]:
        facts, stands = link.move()
        came = [fact for fact in facts if isinstance(fact, Arrived)]
        answer = next((fact for fact in facts if isinstance(fact, Answered)), None)
        if came:  # the pause is for those who shout; who says one word is heard at once
            self._turn_at = now + TURN_SECONDS
        self._care_at = now + CARE_SECONDS
        if answer is not None and answer.refusal is None:
            self.hears, self.trouble, self._retry_seconds = True, None, RETRY_FIRST_SECONDS
        elif answer is not None or not stands:
            self._lost((answer.refusal if answer else None) or "the connection broke", now)
        elif not self.hears and now - self._since > CONNACK_SECONDS:
            self._lost("the broker accepts the connection but does not answer", now)
        return came, answer is not None and self.hears

    def _lost(self, why: str, now: float) -> None:
        link, self._link, self.hears = self._link, None, False
        self.trouble, self._dial_at = why, now + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_LAST_SECONDS)
        if link is not None:
            link.drop()
