"""The receiving end, as a process of its own: a plain paho subscriber, or a worker that judges each message.

Laws: both note the moment on the same clock (CLOCK_MONOTONIC, the same in all processes of a machine):
the plain one on entry to its callback, the worker after `Trust.judge` returned; what they say goes
through a pipe, each message at once (`every` = 1) or the first and last of every `every` messages.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

from nacl.signing import VerifyKey
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bench.scene import PREFIX, BenchBroken
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import of_key
from config_daemon.wire.topics import Topics
from config_daemon.worker.client import Link, Subscriber
from config_daemon.worker.trust import Belief, Trust

ANSWER_SECONDS = 300.0


class Received(NamedTuple):
    """Messages that were received, and verified if it is a worker; times in ns, version of the last."""

    topic: str
    version: int
    first_ns: int
    last_ns: int
    payload_bytes: int


@dataclass(slots=True)
class Tally:
    """Counts messages and says so through the pipe."""

    pipe: Connection
    every: int
    count: int = 0
    first_ns: int = 0

    def note(self, topic: str, version: int, moment_ns: int, payload_bytes: int) -> None:
        """Count one message."""
        if self.count == 0:
            self.first_ns = moment_ns
        self.count += 1
        if self.count == self.every:
            self.count = 0
            self.pipe.send(Received(topic, version, self.first_ns, moment_ns, payload_bytes))


class Receiver:
    """A receiving process; leaving the `with` block ends it."""

    def __init__(self, url: str, topic_filter: str, every: int, worker: Worker | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        target = _plain if worker is None else _judging
        arguments = (url, topic_filter, theirs, every) + (() if worker is None else (worker,))
        self._process = context.Process(target=target, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.take(30.0)  # its first word is that it has subscribed

    def take(self, seconds: float = ANSWER_SECONDS) -> Received:
        """Return the next thing that it says.

        Raises: BenchBroken when it says nothing.
        """
        if not self._pipe.poll(seconds):
            raise BenchBroken(f"nothing was received within {seconds:.0f} s")
        try:
            said: Received = self._pipe.recv()
        except EOFError as error:
            raise BenchBroken("the receiving process has ended") from error
        return said

    def waiting(self) -> bool:
        """Tell whether it has said something already."""
        return self._pipe.poll(0)

    def drain(self, quiet_seconds: float) -> list[Received]:
        """Return everything that it says until it is silent for a while."""
        said = []
        while self._pipe.poll(quiet_seconds):
            said.append(self.take())
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join(10.0)


@dataclass(frozen=True, slots=True)
class Worker:
    """Whom the judging receiver believes, and what it follows."""

    public_key: bytes = field(repr=False)
    services: Sequence[str]


def connected(url: str, client_id: str, in_flight: int = 20) -> Client:
    """Return a plain paho client (MQTT 5, TCP_NODELAY) that is connected and whose loop does not run yet."""
    address = BrokerAddress.parse(url)
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(in_flight)
    client.connect(address.host, address.port)
    connection: Any = client.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


_SUBSCRIBED = Received("", 0, 0, 0, 0)


def _plain(url: str, topic_filter: str, pipe: Connection, every: int) -> None:
    tally = Tally(pipe, every)

    def on_message(_client: Client, _data: Any, message: Any) -> None:
        tally.note(message.topic, 0, time.monotonic_ns(), len(message.payload))

    client = connected(url, "bench-plain-receiver")
    client.on_message = on_message
    client.on_subscribe = lambda *_: pipe.send(_SUBSCRIBED)

    def on_connect(_client: Client, *_: Any) -> None:
        _client.subscribe(topic_filter, 1)

    client.on_connect = on_connect
    client.loop_forever()


def _judging(url: str, topic_filter: str, pipe: Connection, every: int, worker: Worker) -> None:
    tally, topics = Tally(pipe, every), Topics(PREFIX)
    trust = Trust(of_key(VerifyKey(worker.public_key)), worker.services, topics)
    belief: dict[str, Belief] = {}

    def receive(topic: str, raw: bytes) -> bool:
        accepted = trust.judge(topic, raw, belief.get(topic, Belief()))
        moment = time.monotonic_ns()
        belief[topic] = Belief(accepted.floor)
        if not accepted.again:
            tally.note(topic, accepted.update.config_version, moment, len(raw))
        return True

    class _Announcing(Subscriber):
        def _client(self) -> Client:
            client = super()._client()
            client.on_subscribe = lambda *_: pipe.send(_SUBSCRIBED)
            return client

    link = Link(BrokerAddress.parse(url), "bench-worker")
    _Announcing(link, [topic_filter], receive).run()
