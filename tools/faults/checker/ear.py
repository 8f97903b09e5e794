"""What the broker says, heard by a client of our own: every message while the run lasts, and what is retained."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

ANSWER_SECONDS = 3.0


class Heard(NamedTuple):
    """A message as it came; `at` is the machine's monotonic time in seconds."""

    at: float
    topic: str
    raw: bytes
    retained: bool


class Ear:
    """Listens to everything, and comes back whenever the broker does."""

    def __init__(self, broker: dict[str, Any]) -> None:
        self._broker = broker
        self.heard: list[Heard] = []
        self.listening = threading.Event()
        self._client = self._make("ear")
        self._client.on_message = lambda _c, _d, message: self.heard.append(_heard(message))
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self.listening.set()
        self._client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]
        self._client.connect_async(broker["host"], broker["port"], keepalive=5)
        self._client.loop_start()

    def retained(self) -> dict[str, bytes] | None:
        """Return what the broker retains now, by topic; None while it does not answer."""
        found: dict[str, bytes] = {}
        mark, done = f"faults/mark/{uuid.uuid4()}", threading.Event()

        def take(_client: Client, _data: object, message: MQTTMessage) -> None:
            if message.topic == mark:
                done.set()
            elif message.retain:
                found[message.topic] = bytes(message.payload)

        client = self._make(f"eye-{uuid.uuid4().hex[:8]}")
        client.on_message = take
        client.on_connect = lambda client, *_: client.subscribe([("system/#", 1), (mark, 1)])
        client.on_subscribe = lambda client, *_: client.publish(mark, b"", qos=1)
        try:
            client.connect(self._broker["host"], self._broker["port"], keepalive=5)
        except OSError:
            return None
        client.loop_start()
        answered = done.wait(ANSWER_SECONDS)
        client.disconnect()
        client.loop_stop()
        return found if answered else None

    def close(self) -> None:
        """Leave."""
        with contextlib.suppress(Exception):
            self._client.disconnect()
        self._client.loop_stop()

    def _make(self, name: str) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
        client.username_pw_set(self._broker["user"], self._broker["password"])
        if self._broker.get("ca"):
            client.tls_set(self._broker["ca"])
        return client


def _heard(message: MQTTMessage) -> Heard:
    return Heard(time.monotonic(), message.topic, bytes(message.payload), message.retain)
