"""One connection to a broker: paho, driven from outside and reduced to facts.

Laws: no thread of paho's runs; a callback only appends a fact (one that raised would be called with the
same packet for ever); a link is used for one connection and then thrown away.

Source: paho-mqtt, "External event loop support".
"""

from __future__ import annotations

import contextlib
import select
import ssl
import time
from typing import Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from config_daemon.daemon.batching import BatchingClient
from config_daemon.daemon.client_name import CONFLICT
from config_daemon.daemon.events import Arrived, Subscribed

_READS_A_TURN, _CARE_SECONDS = 20, 0.1
_OK = MQTTErrorCode.MQTT_ERR_SUCCESS
_TAKEN_OVER = 0x8E


class Answered(NamedTuple):
    """The broker's CONNACK: accepted with the largest packet it takes (0: any), or why not; or its farewell."""

    limit: int
    refusal: str | None


class Acked(NamedTuple):
    """The broker's PUBACK: accepted below 0x80."""

    request: int
    code: int


Fact = Answered | Acked | Arrived | Subscribed


class Link:
    """Wraps a client that is not connected yet; `move` is called until it says that the link is gone."""

    def __init__(self, client: BatchingClient) -> None:
        self._client = client
        self._facts: list[Fact] = []
        self._care_at = 0.0
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect

    def move(self) -> tuple[list[Fact], bool]:
        """Move bytes both ways; return what happened, and whether the link still stands."""
        try:
            stands = self._move()
        except Exception:  # noqa: BLE001 - whatever a hostile peer makes paho raise, it costs this link only
            stands = False
        facts, self._facts = self._facts, []
        return facts, stands

    def _move(self) -> bool:
        socket: Any = self._client.socket()
        result = MQTTErrorCode.MQTT_ERR_NO_CONN if socket is None else self._care()
        reads = 0
        while result == _OK and (self._client.has_ahead or (reads < _READS_A_TURN and _has_bytes(socket))):
            result, reads = self._client.loop_read(), reads + 1
        if result == _OK and self._client.want_write():
            result = self._client.loop_write()
        return result == _OK and self._client.socket() is not None

    def _care(self) -> MQTTErrorCode:
        """Have paho mind its keepalive, and not at each of the many turns that follow one another at a change."""
        now = time.monotonic()
        if now < self._care_at:
            return _OK
        self._care_at = now + _CARE_SECONDS
        return self._client.loop_misc()

    def descriptors(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the descriptors to wait for, to read and to write, when all of a turn was said."""
        self._client.gathers = False
        self._client.flush()
        socket: Any = self._client.socket()
        if socket is None or socket.fileno() < 0:
            return (), ()
        number = socket.fileno()
        return (number,), (number,) if self._client.want_write() else ()

    def publish(self, topic: str, raw: bytes) -> int:
        """Publish a retained message at QoS 1; return the request's number.

        The first one of a turn leaves at once, those that follow leave together.
        """
        number = self._client.publish(topic, raw, qos=1, retain=True).mid
        self._client.gathers = True
        return number

    def subscribe(self, topics: list[str], foreign_only: bool, retained: bool, qos: int = 1) -> int:
        """Subscribe, at QoS 1 unless told otherwise; return the request's number."""
        sends = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(
            qos, noLocal=foreign_only, retainAsPublished=foreign_only, retainHandling=sends
        )
        return self._client.subscribe([(topic, options) for topic in topics])[1] or 0

    def unsubscribe(self, topics: list[str]) -> None:
        """End subscriptions."""
        self._client.unsubscribe(topics)

    def leave(self, drain_seconds: float) -> None:
        """Say good-bye so that the will does not fire, or give up after `drain_seconds`."""
        self._client.disconnect()
        while (
            self._client.want_write() and (socket := self._client.socket()) is not None and drain_seconds > 0
        ):
            select.select((), (socket,), (), 0.05)
            drain_seconds -= 0.05
            self._client.loop_write()
        self.drop()

    def drop(self) -> None:
        """Close the socket without a word: a half-open peer would never take one."""
        socket: Any = self._client.socket()
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.close()

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        refusal = None
        if reason.is_failure:
            word = "broker-auth" if reason.value in (0x86, 0x87) else "broker-down"
            refusal = f"{word}: the broker refused us: {reason}"
        self._facts.append(Answered(getattr(properties, "MaximumPacketSize", 0), refusal))

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server and reason.value == _TAKEN_OVER:
            refusal = f"{CONFLICT}: another client connected under the daemon's client id"
            self._facts.append(Answered(0, refusal))

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._facts.append(Acked(mid, reason.value))

    def _on_message(self, _client: Client, _data: Any, message: Any) -> None:
        self._facts.append(Arrived(message.topic, message.payload, message.retain))

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        self._facts.append(Subscribed(mid, sum(reason.value >= 0x80 for reason in reasons)))


def _has_bytes(socket: Any) -> bool:
    if isinstance(socket, ssl.SSLSocket) and socket.pending():
        return True
    return socket.fileno() >= 0 and bool(select.select((socket,), (), (), 0)[0])
