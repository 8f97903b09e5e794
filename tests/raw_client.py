"""A small MQTT 5 client that is no part of the product: what a person with mosquitto_sub would see.

Laws: every call waits for the broker's answer, with a bound, and a test never sleeps; what arrives is
kept in order in `messages`, and looked at under the lock that the network thread writes it with.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from config_daemon.wire.address import BrokerAddress

SECONDS = 5.0
T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """One message as it arrived; `at` is `time.monotonic()` in seconds."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    at: float
    properties: Properties | None = field(default=None, repr=False, compare=False)


class Refused(Exception):
    """The broker did not let the client in; `code` is the CONNACK's reason, None when there was none."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(text)
        self.code = code


class RawClient:
    """Connected when constructed; `messages` grows until `close`."""

    def __init__(
        self,
        url: str,
        client_id: str = "",
        *,
        ca: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        will: tuple[str, bytes] | None = None,
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
        keepalive: int = 15,
        seconds: float = SECONDS,
    ) -> None:
        self.address = BrokerAddress.parse(url)
        self.messages: list[Message] = []
        self.connack: Any = None
        self.disconnected = False
        self._changed = threading.Condition()
        self._acks: dict[tuple[str, int], list[int]] = {}
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False
        )
        if self.address.username is not None:
            client.username_pw_set(self.address.username, self.address.password)
        if self.address.secure:
            context = ssl.create_default_context(cafile=ca)
            if certificate is not None:
                context.load_cert_chain(*certificate)
            client.tls_set_context(context)
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        client.max_inflight_messages_set(0)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message, client.on_publish = self._on_message, self._on_publish
        client.on_subscribe = client.on_unsubscribe = self._on_suback
        client.connect(self.address.host, self.address.port, keepalive)
        client.loop_start()
        try:
            self._wait(lambda: self.connack is not None or self.disconnected, seconds, "a CONNACK")
        except AssertionError:
            self.close()
            raise
        if self.connack is None or self.connack.is_failure:
            self.close()
            code = None if self.connack is None else self.connack.value
            raise Refused(code, f"{self.address} answered {self.connack or 'by closing the connection'}")

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 1,
        retain: bool = False,
        seconds: float = SECONDS,
    ) -> int:
        """Publish and return the broker's reason code: 0 taken, 16 nobody listens, 135 not allowed."""
        sent = self._client.publish(topic, payload, qos=qos, retain=retain)
        return 0 if qos == 0 else self._ack("publish", sent.mid, seconds)[0]

    def subscribe(
        self,
        *filters: str,
        qos: int = 1,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        seconds: float = SECONDS,
    ) -> list[int]:
        """Subscribe to all filters in one packet and return the granted QoS, or reason, of each."""
        options = SubscribeOptions(qos, no_local, retain_as_published, retain_handling)
        v5 = self._client.protocol == MQTTProtocolVersion.MQTTv5
        wanted: list[tuple[str, Any]] = [(name, options if v5 else qos) for name in filters]
        _, mid = self._client.subscribe(wanted)
        return self._ack("subscribe", mid or 0, seconds)

    def unsubscribe(self, *filters: str, seconds: float = SECONDS) -> list[int]:
        """Unsubscribe from all filters in one packet and return the reason of each."""
        _, mid = self._client.unsubscribe(list(filters))
        return self._ack("subscribe", mid or 0, seconds)

    def wait_for(self, predicate: Callable[[Sequence[Message]], T], seconds: float = SECONDS) -> T:
        """Return the first true answer of `predicate(messages)`, asked anew after every arrival.

        Raises AssertionError with the topics that did arrive when `seconds` have passed.
        """
        return self._wait(lambda: predicate(self.messages), seconds, "messages that fit")

    def wait_for_topic(self, topic: str, seconds: float = SECONDS) -> Message:
        """Return the first message of exactly this topic, once it is there."""
        found = self.wait_for(lambda got: [message for message in got if message.topic == topic], seconds)
        return found[0]

    def wait_for_disconnect(self, seconds: float = SECONDS) -> None:
        """Return once the connection is gone."""
        self._wait(lambda: self.disconnected, seconds, "the end of the connection")

    def topics(self) -> list[str]:
        """Return the topics of all messages so far, in order of arrival."""
        with self._changed:
            return [message.topic for message in self.messages]

    def clear(self) -> None:
        """Forget the messages that arrived so far."""
        with self._changed:
            self.messages.clear()

    def drop(self) -> None:
        """End the connection without DISCONNECT, so that the broker sends the will."""
        connection: Any = self._client.socket()
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)
        self.wait_for_disconnect()

    def close(self) -> None:
        """Leave politely; again does nothing."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ack(self, kind: str, mid: int, seconds: float) -> list[int]:
        def answer() -> list[int]:
            codes = self._acks.pop((kind, mid), [])
            if not codes and self.disconnected:
                raise AssertionError(f"the connection ended before the answer to a {kind} came")
            return codes

        return self._wait(answer, seconds, f"the answer to a {kind}")

    def _wait(self, predicate: Callable[[], T], seconds: float, wanted: str) -> T:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (answer := predicate()):
                left = deadline - time.monotonic()
                if left <= 0:
                    topics = [message.topic for message in self.messages]
                    raise AssertionError(f"{wanted} did not come within {seconds:g} s; arrived: {topics}")
                self._changed.wait(left)
            return answer

    def _on_connect(self, _client: Client, _data: object, _flags: object, reason: Any, _p: object) -> None:
        with self._changed:
            self.connack = reason
            self._changed.notify_all()

    def _on_disconnect(self, *_: object) -> None:
        with self._changed:
            self.disconnected = True
            self._changed.notify_all()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        properties = getattr(message, "properties", None)
        kept = Message(
            message.topic, bytes(message.payload), message.qos, message.retain, time.monotonic(), properties
        )
        with self._changed:
            self.messages.append(kept)
            self._changed.notify_all()

    def _on_publish(self, _client: Client, _data: object, mid: int, reason: ReasonCode, _p: object) -> None:
        self._acked("publish", mid, [reason.value])

    def _on_suback(
        self, _client: Client, _data: object, mid: int, reasons: Sequence[ReasonCode], _p: object
    ) -> None:
        self._acked("subscribe", mid, [reason.value for reason in reasons] or [0])  # 3.1.1 gives no reasons

    def _acked(self, kind: str, mid: int, codes: list[int]) -> None:
        with self._changed:
            self._acks[kind, mid] = codes
            self._changed.notify_all()
