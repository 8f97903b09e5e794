"""Subscribe at a broker, for ever, and say there what a worker has to say.

Laws: every connection is a fresh client; messages are handled by the caller's thread, one after the
other, and never inside a callback; what is to be delivered again is, by subscribing anew; what the broker
does not let us say is noted once, and breaks nothing; what a broker can make us keep is bounded.
"""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from config_daemon.wire.address import BrokerAddress
from config_daemon.worker.bounds import MAX_QUEUED, BoundedClient, Inbound, connect_properties

KEEPALIVE_SECONDS = 15
CONNECT_SECONDS = 5.0
CONNACK_SECONDS = 5.0
RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 60.0
AGAIN_FIRST_SECONDS = 0.25
TURN_SECONDS = 0.25
GOODBYE_SECONDS = 1.0
_TAKEN_OVER = 0x8E  # of MQTT 5: another client came with our id
PUBACK_SECONDS = 10.0
ONLINE, OFFLINE = b"online", b"offline"
Protocol = Literal["5", "3.1.1"]
_VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True, slots=True)
class Link:
    """How to reach the broker, and as whom; `client_id` is the worker's id.

    On `presence`, a topic, it is retained whether there is a connection.
    """

    address: BrokerAddress
    client_id: str
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = field(default=None, repr=False)
    protocol: Protocol = "5"
    presence: str | None = None


class Subscriber:
    """Hands every message on some topic filters to `receive(topic, payload)`; False has it delivered again.

    `tick` is called about four times a second, connected or not; `greet` when a connection begins,
    `part` before we end it.
    """

    def __init__(
        self,
        link: Link,
        filters: Sequence[str],
        receive: Callable[[str, bytes], bool],
        note: Callable[[str], None] = lambda text: None,
        tick: Callable[[], None] = lambda: None,
        greet: Callable[[], None] = lambda: None,
        part: Callable[[], None] = lambda: None,
    ) -> None:
        self._link, self._filters, self._receive, self._note = link, tuple(filters), receive, note
        self._tick, self._greet, self._part = tick, greet, part
        self._connected: BoundedClient | None = None
        self._stopping = False
        self._inbound, self._is_serving = Inbound(), False
        self._accepted = False
        self._parting = ""
        self._redelivery = _Redelivery()
        self._sent: dict[int, str] = {}  # by the number of the packet: what was not acknowledged yet
        self._denied: set[str] = set()
        self._unheard_seconds, self._turned_at, self._ticked_at = 0.0, 0.0, 0.0

    @property
    def is_connected(self) -> bool:
        """Tell whether the broker has accepted us; what is published otherwise is lost."""
        return self._connected is not None

    def run(self) -> None:
        """Follow the broker until `stop` is called."""
        delay = RETRY_FIRST_SECONDS
        while not self._stopping:
            began = time.monotonic()
            trouble = self._session()
            if trouble is not None:
                self._note(trouble)
            if time.monotonic() - began > RETRY_LAST_SECONDS:
                delay = RETRY_FIRST_SECONDS
            self._pause(delay * (0.5 + random.random()))  # noqa: S311 - spreads load, guards nothing
            delay = min(2 * delay, RETRY_LAST_SECONDS)

    def publish(self, topic: str, raw: bytes, retain: bool = False) -> None:
        """Send a message, if there is a connection; for the thread of `run`, in `receive` or `tick`."""
        if self._connected is not None:
            self._send(self._connected, topic, raw, retain)

    def serve(self) -> None:
        """Keep the connection alive, without waiting, while `receive` takes long; for the thread of `run`."""
        if self._connected is not None:
            self._is_serving = True
            self._turn(self._connected, 0.0)  # should it break, `run` finds it broken
            self._is_serving = False

    def stop(self) -> None:
        """Have `run` return soon; may be called from a signal handler or another thread."""
        self._stopping = True

    def _session(self) -> str | None:
        """Live through one connection; return what ended it, None when we did."""
        self._accepted, self._parting = False, ""
        self._unheard_seconds, self._turned_at = 0.0, time.monotonic()
        try:
            client = self._connect()
        except Exception as error:  # noqa: BLE001 - paho raises whatever the other side's bytes provoke
            return f"no connection to {self._link.address}: {error}"
        try:
            return self._live(client)
        finally:
            self._connected = None
            self._sent.clear()

    def _live(self, client: BoundedClient) -> str | None:
        until = time.monotonic() + CONNACK_SECONDS
        while not self._stopping:
            trouble = self._turn(client, TURN_SECONDS)
            # what arrived is handled first: the program's own troubles are none of the connection's
            if not self._handle_inbound():
                self._redelivery.wish(time.monotonic())
            self._tick_now()
            if trouble is not None:
                return trouble
            if not self._accepted and time.monotonic() > until:
                return f"no connection to {self._link.address}: it accepts connections but does not answer"
            if self._accepted and self._redelivery.is_due(time.monotonic()):
                self._subscribe(client)
        self._leave(client)
        return None

    def _leave(self, client: BoundedClient) -> None:
        """Say the last words, and wait a little until the broker has heard them."""
        if self._accepted:
            self._part()
            if self._link.presence is not None:
                self._send(client, self._link.presence, OFFLINE, retain=True)
        until = time.monotonic() + GOODBYE_SECONDS
        while self._accepted and self._sent and time.monotonic() < until:
            if self._turn(client, until - time.monotonic()) is not None:
                return
        client.disconnect()

    def _connect(self) -> BoundedClient:
        client = self._client()
        client.connect(
            self._link.address.host, self._link.address.port, keepalive=KEEPALIVE_SECONDS,
            properties=connect_properties() if self._link.protocol == "5" else None,
        )  # fmt: skip
        connection: Any = client.socket()
        if isinstance(connection, socket.socket):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def _turn(self, client: BoundedClient, seconds: float) -> str | None:
        """Wait for packets and read them; return why there is no connection any more."""
        detail = ""
        try:
            if client.move(max(0.0, seconds)) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                return self._unheard(client)
            if client.refusal:
                detail = f": {client.refusal}"
        except Exception as error:  # noqa: BLE001 - as above
            detail = f": {error}"
        return self._parting or f"the connection to {self._link.address} broke{detail}"

    def _unheard(self, client: BoundedClient) -> str | None:
        """Return why to leave a broker that has acknowledged nothing for long, although it was told all."""
        now = time.monotonic()
        passed = min(now - self._turned_at, 2 * TURN_SECONDS)  # what was not listened to is no silence
        self._turned_at = now
        is_waiting = bool(self._sent) and not client.want_write()
        self._unheard_seconds = self._unheard_seconds + passed if is_waiting else 0.0
        if self._unheard_seconds < PUBACK_SECONDS:
            return None
        return f"the connection to {self._link.address} was left: it acknowledges nothing"

    def _handle_inbound(self) -> bool:
        """Hand over what arrived, and call `tick` in time meanwhile; False when something was not taken."""
        are_taken = True
        for topic, raw in self._inbound.take():
            if self._stopping:  # what is retained comes again at the next start
                break
            are_taken &= self._receive(topic, raw)
            if time.monotonic() - self._ticked_at >= TURN_SECONDS:
                self._tick_now()
        return are_taken

    def _tick_now(self) -> None:
        self._ticked_at = time.monotonic()
        self._tick()

    def _client(self) -> BoundedClient:
        address = self._link.address
        client = BoundedClient(
            CallbackAPIVersion.VERSION2,
            self._link.client_id,
            protocol=_VERSIONS[self._link.protocol],
            transport=address.transport,
        )
        client.connect_timeout = CONNECT_SECONDS
        client.max_queued_messages_set(MAX_QUEUED)
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.secure:
            context = ssl.create_default_context(cafile=self._link.ca_file and str(self._link.ca_file))
            if self._link.certificate_file:
                context.load_cert_chain(self._link.certificate_file, self._link.key_file)
            client.tls_set_context(context)
        if address.transport == "websockets":
            client.ws_set_options(path=address.path)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        if self._link.presence is not None:
            client.will_set(self._link.presence, OFFLINE, qos=1, retain=True)
        return client

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._note(f"{self._link.address} refused us: {reason}")
            return
        self._accepted, self._connected = True, client
        self._subscribe(client)
        if self._link.presence is not None:
            self._send(client, self._link.presence, ONLINE, retain=True)
        self._greet()

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if not flags.is_disconnect_packet_from_server:
            return
        self._parting = f"{self._link.address} ended the connection: {reason}"
        if reason == _TAKEN_OVER:
            name = self._link.client_id
            self._parting = (
                f"the broker gave our name {name!r} to another connection; "
                "if no other program should run under it, give each worker a name of its own"
            )

    def _subscribe(self, client: BoundedClient) -> None:
        client.subscribe([(one, 1) for one in self._filters])

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        for one, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure:
                self._note(f"{self._link.address} refused the subscription to {one}: {reason}")

    def _on_message(self, _client: Client, _data: Any, message: Any) -> None:
        if not self._inbound.add(message.topic, message.payload, newest_only=self._is_serving):
            self._redelivery.wish(time.monotonic())

    def _send(self, client: BoundedClient, topic: str, raw: bytes, retain: bool) -> None:
        info = client.publish(topic, raw, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self._sent[info.mid] = topic

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        topic, self._unheard_seconds = self._sent.pop(mid, ""), 0.0
        if not reason.is_failure:
            self._denied.discard(topic)
        elif topic not in self._denied:
            self._denied.add(topic)
            self._note(f"{self._link.address} refused what was published on {topic}: {reason}")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            self._tick_now()
            time.sleep(min(TURN_SECONDS, max(0.0, until - time.monotonic())))


class _Redelivery:
    """When to subscribe anew: at once, then later and later, until nobody wished for it for a while."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._seconds, self._wished_at = 0.0, float("-inf")

    def wish(self, now: float) -> None:
        """Have what is retained delivered again: a broker does so once per subscription."""
        if self._due is None:
            is_first = now - self._wished_at > 2 * RETRY_LAST_SECONDS
            longer = min(max(AGAIN_FIRST_SECONDS, 2 * self._seconds), RETRY_LAST_SECONDS)
            self._seconds = 0.0 if is_first else longer
            # one message may have all workers of a fleet ask at the same moment
            self._due = now + self._seconds * (1 + random.random())  # noqa: S311 - spreads load, guards nothing
        self._wished_at = now

    def is_due(self, now: float) -> bool:
        """Tell once whether it is time."""
        if self._due is None or now < self._due:
            return False
        self._due = None
        return True
