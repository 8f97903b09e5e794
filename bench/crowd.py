"""Many clients in one process, each with a connection of its own: plain subscribers, or workers that verify and say so.

Laws: every worker verifies each message by itself, with the product's own trust, and signs a status of its own; the
wire is spoken in its few bytes here, since a thousand of paho's clients would measure paho.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import selectors
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self

from nacl.signing import VerifyKey

from bench.scene import PREFIX, BenchBroken
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import of_key
from config_daemon.wire.messages import timestamp
from config_daemon.wire.status import Running, Status
from config_daemon.wire.topics import Topics
from config_daemon.wire.workerkeys import WorkerKeys
from config_daemon.worker.trust import Belief, Trust

AGAIN_SECONDS = 0.05


def keys_of(number: int) -> WorkerKeys:
    """Return the keys of a worker: the same ones in every process."""
    seed = hashlib.sha256(b"%d" % number).digest()
    return WorkerKeys(f"crowd-{number:04}", seed, seed[::-1])


class Crowd:
    """A process of clients; leaving the `with` block ends it. Without a key they are plain subscribers of `topic`."""

    def __init__(self, url: str, topic: str, count: int, service: str = "", public_key: bytes = b"") -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run, args=(url, topic, count, service, public_key, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.take()  # all have subscribed

    def take(self, seconds: float = 60.0) -> int:
        """Return when all had received the next message (monotonic, ns). Raises: BenchBroken."""
        if not self._pipe.poll(seconds):
            raise BenchBroken(f"not every client received it within {seconds:.0f} s")
        moment: int = self._pipe.recv()
        return moment

    def drain(self) -> None:
        """Forget what was said so far."""
        while self._pipe.poll(0.2):
            self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join(10.0)


@dataclass(slots=True)
class _Worker:
    """What one worker believes and says."""

    keys: WorkerKeys
    service: str
    trust: Trust
    topic: str
    belief: Belief = field(default_factory=Belief)
    running: Running | None = None
    beacon: int = 0
    boot: int = 0
    n: int = 0

    def take(self, topic: str, raw: bytes) -> None:
        accepted = self.trust.judge(topic, raw, self.belief)
        self.belief = Belief(accepted.floor)
        update = accepted.update
        self.running = Running(
            generation=update.generation, sequence=update.sequence, config_version=update.config_version,
            body_sha256=accepted.floor.body_sha256, source="broker", applied_at=_now(),
        )  # fmt: skip

    def status(self, beacon: int) -> bytes:
        self.n += 1
        said = Status(
            service=self.service, worker=self.keys.public.worker, boot=self.boot, n=self.n, key_id=self.keys.key_id,
            issued_at=_now(), beacon=beacon, running=self.running, last_attempt=None, flags=[], agent="bench/1",
        )  # fmt: skip
        return self.keys.sign(said)


class _Client:
    """One connection, in MQTT 3.1.1 at QoS 0."""

    def __init__(self, address: BrokerAddress, name: str, topics: list[str]) -> None:
        self.socket = socket.create_connection((address.host, address.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.socket.sendall(_packet(0x10, _text("MQTT") + b"\x04\x02\x00\x00" + _text(name)))
        self.socket.sendall(_packet(0x82, b"\x00\x01" + b"".join(_text(topic) + b"\x00" for topic in topics)))

    def messages(self) -> tuple[list[tuple[str, bytes]], bool]:
        """Return what came, and whether the subscription was answered. Raises: OSError when the connection is gone."""
        some = self.socket.recv(1 << 18)
        if not some:
            raise ConnectionError
        self.buffer += some
        found, subscribed = [], False
        while (packet := _cut(self.buffer)) is not None:
            kind, content = packet
            if kind >> 4 == 3:
                length = int.from_bytes(content[:2], "big")
                found.append((content[2 : 2 + length].decode(), content[2 + length :]))
            subscribed |= kind >> 4 == 9
        return found, subscribed


def _run(url: str, topic: str, count: int, service: str, public_key: bytes, pipe: Connection) -> None:
    address, topics = BrokerAddress.parse(url), Topics(PREFIX)
    workers = [_worker(number, service, public_key, topics) for number in range(count)] if public_key else []
    wanted = [topic, topics.beacon] if workers else [topic]
    selector, beacon, seen, subscribed = selectors.DefaultSelector(), 0, 0, 0

    def connect(number: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                client = _Client(address, f"bench-crowd-{bool(workers)}-{number}", wanted)
                selector.register(client.socket, selectors.EVENT_READ, (number, client))
                return
            time.sleep(AGAIN_SECONDS)

    def say(client: _Client, worker: _Worker) -> None:
        client.socket.sendall(_packet(0x31, _text(worker.topic) + worker.status(beacon)))

    for number in range(count):
        connect(number)
    while True:
        for key, _ in selector.select():
            number, client = key.data
            try:
                came, answered = client.messages()
                for where, raw in came:
                    if where == topics.beacon:
                        beacon = max(beacon, json.loads(raw)["sequence"])
                        if (
                            workers and workers[number].beacon == 0
                        ):  # as the SDK does: it is news that it is fresh
                            workers[number].beacon = beacon
                            say(client, workers[number])
                    elif raw:
                        if workers:
                            workers[number].take(where, raw)
                            say(client, workers[number])
                        seen += 1
                        if seen % count == 0:
                            pipe.send(time.monotonic_ns())
                if answered and workers:
                    say(client, workers[number])
            except OSError:
                selector.unregister(client.socket)
                client.socket.close()
                connect(number)
                continue
            subscribed += answered
            if answered and subscribed == count:
                pipe.send(0)


def _worker(number: int, service: str, public_key: bytes, topics: Topics) -> _Worker:
    keys = keys_of(number)
    trust = Trust(of_key(VerifyKey(public_key)), [service], topics)
    return _Worker(
        keys, service, trust, topics.status(service, keys.public.worker), boot=time.time_ns() // 1_000_000
    )


def _now() -> str:
    return timestamp(time.time_ns() // 1_000_000)


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()


def _packet(kind: int, content: bytes) -> bytes:
    length, digits = len(content), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind]) + bytes(digits) + content


def _cut(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take the first whole packet out of a buffer; None while there is none."""
    length, place = 0, 1
    while True:
        if place >= len(buffer):
            return None
        length |= (buffer[place] & 0x7F) << (7 * (place - 1))
        place += 1
        if not buffer[place - 1] & 0x80:
            break
    if len(buffer) < place + length:
        return None
    packet: Any = buffer[0], bytes(buffer[place : place + length])
    del buffer[: place + length]
    return packet
