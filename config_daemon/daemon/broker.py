"""The broker, reduced to publishing and a few events.

Laws: the loop drives paho through its external-loop calls, so no thread of ours runs inside it; a
callback only appends an event (one that raised would be called with the same packet for ever); one
message in flight per topic, a window over all, one message per 50 ms and topic after the first;
accepted means PUBACK below 0x80.

What is published, and when a message counts as behind, is the plan's.

Sources: MQTT 5.0 §3.4.2.1 (PUBACK reason codes), §3.2.2.3.6 (Maximum Packet Size).
"""

from __future__ import annotations

import contextlib
import select
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from config_daemon.daemon.inbox import Dialed, Sockets

WINDOW = 200
PACE_SECONDS = 0.05
CONNACK_SECONDS = 5.0
PUBACK_SECONDS = 10.0
_HEADER_BYTES = 16  # fixed header, topic length, packet identifier, properties
_READS_A_TURN = 20


class Connected(NamedTuple):
    """The broker accepted us."""


class Lost(NamedTuple):
    """There is no connection (any more); `reason` is for a person and begins with a condition's name."""

    reason: str


class Confirmed(NamedTuple):
    """The broker holds the message."""

    topic: str
    number: int


class Refused(NamedTuple):
    """The broker will not hold the message: `denied`, `too-large` or `quota`; the code is MQTT's."""

    topic: str
    number: int
    why: str
    code: int


class Arrived(NamedTuple):
    """A message on one of our subscriptions."""

    topic: str
    payload: bytes


class Subscribed(NamedTuple):
    """The broker answered a subscription; `refused` counts the topics that it denied."""

    request: int
    refused: int


BrokerEvent = Connected | Lost | Confirmed | Refused | Arrived | Subscribed
Dial = Callable[[tuple[str, bytes], Callable[[Client], None]], None]
_WHY = {0x95: "too-large", 0x97: "quota"}


class Broker:
    """One connection at a time; owned and driven by the loop's thread."""

    def __init__(self, dial: Dial, window: int = WINDOW) -> None:
        self._dial, self._window = dial, window
        self._client: Client | None = None
        self._dialing = False
        self._connected = False
        self._since = 0.0
        self._limit = 0
        self._in_flight: dict[int, tuple[str, int, float]] = {}
        self._busy: set[str] = set()
        self._recent: dict[str, float] = {}
        self._events: list[BrokerEvent] = []

    @property
    def connected(self) -> bool:
        """Tell whether the broker has accepted us and the socket is open."""
        return self._connected

    @property
    def idle(self) -> bool:
        """Tell whether there is neither a connection nor an attempt at one."""
        return self._client is None and not self._dialing

    @property
    def in_flight(self) -> int:
        """Return how many messages wait for their PUBACK."""
        return len(self._in_flight)

    def open(self, will: tuple[str, bytes]) -> None:
        """Begin to connect; `will` is (topic, payload)."""
        self._dialing = True
        self._dial(will, self._prepare)

    def adopt(self, dialed: Dialed, now: float) -> None:
        """Take over what the dialing thread made."""
        self._dialing = False
        if dialed.client is None:
            self._events.append(Lost(dialed.error or "broker-down"))
        else:
            self._client, self._since = dialed.client, now

    def sockets(self) -> Sockets:
        """Return what the inbox must wait for."""
        socket: Any = self._client.socket() if self._client else None
        if socket is None or socket.fileno() < 0:
            return Sockets()
        number = socket.fileno()
        writable = (number,) if self._client and self._client.want_write() else ()
        return Sockets((number,), writable)

    def drive(self, now: float) -> list[BrokerEvent]:
        """Move bytes both ways, mind the deadlines, and return what happened."""
        if self._client is not None:
            self._move(self._client)
            self._mind_deadlines(now)
        events, self._events = self._events, []
        return events

    def room(self, topic: str, now: float) -> bool:
        """Tell whether a message to the topic may be sent right now."""
        while self._recent and now - (oldest := next(iter(self._recent.items())))[1] >= PACE_SECONDS:
            del self._recent[oldest[0]]
        return self.has_window and topic not in self._busy and topic not in self._recent

    def free(self, topic: str) -> bool:
        """Tell whether nothing is in flight on the topic, whatever the pace."""
        return self.has_window and topic not in self._busy

    @property
    def has_window(self) -> bool:
        """Tell whether any message may be sent."""
        return self._connected and len(self._in_flight) < self._window

    def next_room(self, now: float) -> float:
        """Return in how many seconds the pace lets the next topic go; a long time when it holds none back."""
        oldest = next(iter(self._recent.values()), None)
        return 60.0 if oldest is None else max(0.0, oldest + PACE_SECONDS - now)

    def send(self, topic: str, raw: bytes, number: int, now: float) -> None:
        """Publish a retained message at QoS 1; `number` comes back with its outcome."""
        assert self._client is not None
        if self._limit and len(raw) + len(topic.encode()) + _HEADER_BYTES > self._limit:
            self._events.append(Refused(topic, number, "too-large", 0x95))
            return
        info = self._client.publish(topic, raw, qos=1, retain=True)
        self._in_flight[info.mid] = (topic, number, now)
        self._busy.add(topic)
        self._recent[topic] = now

    def subscribe(self, topics: list[str], foreign_only: bool = False, retained: bool | None = None) -> int:
        """Subscribe at QoS 1; retained messages come too unless `foreign_only`; return the request's number."""
        assert self._client is not None
        with_retained = not foreign_only if retained is None else retained
        options = SubscribeOptions(
            qos=1,
            noLocal=foreign_only,
            retainAsPublished=foreign_only,
            retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
            if with_retained
            else SubscribeOptions.RETAIN_DO_NOT_SEND,
        )
        _, request = self._client.subscribe([(topic, options) for topic in topics])
        return request or 0

    def unsubscribe(self, topics: list[str]) -> None:
        """End subscriptions."""
        assert self._client is not None
        self._client.unsubscribe(topics)

    def close(self, drain_seconds: float) -> None:
        """Say good-bye so that the will does not fire, or give up after `drain_seconds`."""
        client, self._client, self._connected = self._client, None, False
        if client is None:
            return
        client.disconnect()
        socket: Any = client.socket()
        while client.want_write() and socket is not None and drain_seconds > 0:
            select.select((), (socket,), (), 0.05)
            drain_seconds -= 0.05
            client.loop_write()
            socket = client.socket()
        _shut(client)

    def _prepare(self, client: Client) -> None:
        """Attach the callbacks; called in the dialing thread, before anything can happen."""
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            word = "broker-auth" if reason.value in (0x86, 0x87) else "broker-down"
            self._drop(f"{word}: the broker refused us: {reason}")
            return
        self._limit = getattr(properties, "MaximumPacketSize", 0)
        self._connected = True
        self._events.append(Connected())

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        topic, number, _ = self._in_flight.pop(mid, ("", 0, 0.0))
        self._busy.discard(topic)
        if reason.value < 0x80:
            self._events.append(Confirmed(topic, number))
        else:
            self._events.append(Refused(topic, number, _WHY.get(reason.value, "denied"), reason.value))

    def _on_message(self, _client: Client, _data: Any, message: Any) -> None:
        self._events.append(Arrived(message.topic, message.payload))

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        self._events.append(Subscribed(mid, sum(reason.value >= 0x80 for reason in reasons)))

    def _move(self, client: Client) -> None:
        socket: Any = client.socket()
        result = MQTTErrorCode.MQTT_ERR_NO_CONN if socket is None else client.loop_misc()
        for _ in range(_READS_A_TURN):
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or not _has_bytes(socket):
                break
            result = client.loop_read()
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and client.want_write():
            result = client.loop_write()
        if self._client is not None and (result != MQTTErrorCode.MQTT_ERR_SUCCESS or client.socket() is None):
            self._drop("broker-down: the connection broke")

    def _mind_deadlines(self, now: float) -> None:
        if self._client is None:
            return
        if not self._connected and now - self._since > CONNACK_SECONDS:
            self._drop("broker-down: the broker accepts connections but does not answer")
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is not None and now - oldest[2] > PUBACK_SECONDS:
            self._drop("broker-down: the broker stopped confirming messages")

    def _drop(self, reason: str) -> None:
        client, self._client, self._connected = self._client, None, False
        self._in_flight.clear()
        self._busy.clear()
        self._recent.clear()
        self._events.append(Lost(reason))
        if client is not None:
            _shut(client)


def _has_bytes(socket: Any) -> bool:
    if isinstance(socket, ssl.SSLSocket) and socket.pending():
        return True
    return socket.fileno() >= 0 and bool(select.select((socket,), (), (), 0)[0])


def _shut(client: Client) -> None:
    """Close the socket without a word: a half-open peer would never take one."""
    socket: Any = client.socket()
    if socket is not None:
        with contextlib.suppress(OSError):
            socket.close()
