"""The broker, reduced to publishing and a few events.

Laws: accepted means PUBACK below 0x80; a connection that goes silent is given up; what was in flight on
it is known by nobody, and sent again by whoever still wants it.

Source: MQTT 5.0 §3.4.2.1 (PUBACK reason codes), §3.2.2.3.6 (Maximum Packet Size).
"""

from __future__ import annotations

from collections.abc import Callable

from config_daemon.daemon import events as e
from config_daemon.daemon.inbox import Sockets
from config_daemon.daemon.link import Acked, Answered, Fact, Link
from config_daemon.daemon.traffic import Traffic

CONNACK_SECONDS, LEAVE_SECONDS = 5.0, 1.0
_HEADER_BYTES = 16  # fixed header, topic length, packet identifier, properties
_WHY = {0x95: "too-large", 0x97: "quota"}
Dial = Callable[[tuple[str, bytes]], None]


class Broker:
    """One connection at a time; owned and driven by the loop's thread."""

    def __init__(self, dial: Dial) -> None:
        self._dial, self._traffic = dial, Traffic()
        self._link: Link | None = None
        self._dialing = self.connected = False
        self._since, self._limit = 0.0, 0
        self._events: list[e.BrokerEvent] = []

    @property
    def idle(self) -> bool:
        """Tell whether there is neither a connection nor an attempt at one."""
        return self._link is None and not self._dialing

    @property
    def in_flight(self) -> int:
        """Return how many messages wait for their PUBACK."""
        return len(self._traffic)

    @property
    def has_window(self) -> bool:
        """Tell whether any message may be sent."""
        return self.connected and self._traffic.has_window

    def open(self, will: tuple[str, bytes]) -> None:
        """Begin to connect; `will` is (topic, payload)."""
        self._dialing = True
        self._dial(will)

    def adopt(self, dialed: e.Dialed, now: float) -> None:
        """Take over what the dialing thread made."""
        self._dialing, self._link, self._since = False, dialed.link, now
        if self._link is None:
            self._events.append(e.Lost(dialed.error or "broker-down"))

    def sockets(self) -> Sockets:
        """Return what the inbox must wait for."""
        return Sockets(*self._link.descriptors()) if self._link else Sockets()

    def drive(self, now: float) -> list[e.BrokerEvent]:
        """Move bytes both ways, mind the deadlines, and return what happened."""
        if self._link is not None:
            facts, stands = self._link.move()
            for fact in facts:
                self._learn(fact)
            if not stands:
                self.drop("broker-down: the connection broke")
            elif not self.connected and now - self._since > CONNACK_SECONDS:
                self.drop("broker-down: the broker accepts connections but does not answer")
            elif self._traffic.is_overdue(now):
                self.drop("broker-down: the broker stopped confirming messages")
        events, self._events = self._events, []
        return events

    def room(self, topic: str, now: float) -> bool:
        """Tell whether a message to the topic may be sent right now."""
        return self.connected and self._traffic.room(topic, now)

    def free(self, topic: str) -> bool:
        """Tell whether nothing is in flight on the topic, whatever the pace."""
        return self.connected and self._traffic.free(topic)

    def next_room(self, now: float) -> float:
        """Return in how many seconds the pace lets the next topic go; a long time when it holds none back."""
        return self._traffic.next_room(now)

    def send(self, topic: str, raw: bytes, number: int, now: float) -> None:
        """Publish a retained message at QoS 1; `number` comes back with its outcome."""
        assert self._link is not None
        if self._limit and len(raw) + len(topic.encode()) + _HEADER_BYTES > self._limit:
            # paho would disconnect and send it again for ever
            self._events.append(e.Refused(topic, number, "too-large", 0x95))
            return
        self._traffic.sent(self._link.publish(topic, raw), topic, number, now, len(raw))

    def subscribe(self, topics: list[str], foreign_only: bool = False, retained: bool | None = None) -> int:
        """Subscribe at QoS 1; retained messages come too unless `foreign_only`; return the request's number.

        Where the link is gone already (told by a `Lost` still to come) nothing happens, and 0 is returned.
        """
        if self._link is None:
            return 0
        return self._link.subscribe(topics, foreign_only, not foreign_only if retained is None else retained)

    def unsubscribe(self, topics: list[str]) -> None:
        """End subscriptions."""
        if self._link is not None and topics:
            self._link.unsubscribe(topics)

    def close(self, drain_seconds: float = LEAVE_SECONDS) -> None:
        """Say good-bye so that the will does not fire, or give up after `drain_seconds`."""
        link, self._link, self.connected = self._link, None, False
        self._traffic = Traffic()
        if link is not None:
            link.leave(drain_seconds)

    def _learn(self, fact: Fact) -> None:
        match fact:
            case Answered(_, str() as refusal):
                self.drop(refusal)
            case Answered(limit):
                self._limit, self.connected = limit, True
                self._events.append(e.Connected())
            case Acked(request, code):
                topic, number = self._traffic.acked(request)
                refused = e.Refused(topic, number, _WHY.get(code, "denied"), code)
                self._events.append(e.Confirmed(topic, number) if code < 0x80 else refused)
            case e.Arrived() | e.Subscribed():
                self._events.append(fact)

    def drop(self, reason: str) -> None:
        """End the connection without a word, so that the will fires; `reason` is told as a `Lost`."""
        link, self._link, self.connected = self._link, None, False
        self._traffic = Traffic()
        if link is not None:
            link.drop()
            self._events.append(e.Lost(reason))
