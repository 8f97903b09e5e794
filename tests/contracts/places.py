"""Where the broker's contract is tested: the fake server, and a real Mosquitto behind a breakable network.

Laws: a test says the same to both; whoever waits has a bound; what is compared is what the loop sees.
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

from config_daemon.daemon.broker import Broker
from config_daemon.daemon.dial import Credentials, dial
from config_daemon.daemon.events import Arrived, BrokerEvent, Confirmed, Connected, Dialed
from config_daemon.daemon.inbox import Inbox
from config_daemon.daemon.watch import Watch
from config_daemon.wire.address import BrokerAddress
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.broker_proxy import Proxy
from tests.fakes import FakeBroker, FakeServer

SECONDS = 5.0
WILL = ("system/health/test", b"gone")
KEEPALIVE_SECONDS = 15
MARK = "test/mark"


class Line:
    """One daemon's broker, driven as the loop drives it; `events` keeps all that happened, in order."""

    def __init__(self, make: Callable[[Callable[[Dialed], None]], Broker], patience_seconds: float) -> None:
        self.inbox = Inbox(Watch())
        self.broker = make(self.inbox.put)
        self.events: list[BrokerEvent] = []
        self._patience = patience_seconds

    def connected(self) -> Line:
        """Connect and wait for the broker's answer."""
        self.broker.open(WILL)
        self.until(Connected())
        return self

    def turn(self, later: float = 0.0) -> list[BrokerEvent]:
        """Drive the broker once, as if `later` seconds had passed."""
        for event in self.inbox.wait(self._patience, self.broker.sockets()):
            assert isinstance(event, Dialed)
            self.broker.adopt(event, time.monotonic())
        happened = [
            event._replace(retained=False) if isinstance(event, Arrived) else event
            for event in self.broker.drive(time.monotonic() + later)
        ]
        self.events += happened
        return happened

    def until(self, wanted: BrokerEvent) -> None:
        """Drive until an event has happened."""
        self.until_true(lambda: wanted in self.events, str(wanted))

    def until_true(self, look: Callable[[], object], what: str) -> None:
        """Drive until `look` says yes."""
        end = time.monotonic() + SECONDS
        while not look():
            assert time.monotonic() < end, f"{what} did not come; what came: {self.events}"
            self.turn()

    def send(self, topic: str, raw: bytes, number: int = 1) -> None:
        """Send now."""
        self.broker.send(topic, raw, number, time.monotonic())

    def deliver(self, topic: str, raw: bytes, number: int = 1) -> None:
        """Send as soon as there is room, and wait until the broker holds it."""
        self.until_true(lambda: self.broker.room(topic, time.monotonic()), f"room for {topic}")
        self.send(topic, raw, number)
        self.until(Confirmed(topic, number))

    def arrived(self) -> list[tuple[str, bytes]]:
        """Return what came from subscriptions, in order."""
        return [(event.topic, event.payload) for event in self.events if isinstance(event, Arrived)]

    def close(self) -> None:
        """End it."""
        self.broker.close(1.0)
        self.inbox.close()


class Place(ABC):
    """A broker, somebody else who writes and reads there, and faults."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def line(self) -> Line:
        """Return a broker of a daemon of its own, not connected."""
        line = self._make(f"test-{uuid.uuid4().hex[:8]}")
        self._lines.append(line)
        return line

    def close(self) -> None:
        """End all."""
        for line in self._lines:
            line.close()

    @abstractmethod
    def _make(self, name: str) -> Line: ...

    @abstractmethod
    def write(self, topic: str, raw: bytes) -> None:
        """Write retained as another client, and wait until it is taken."""

    @abstractmethod
    def retained(self, topic: str) -> bytes | None:
        """Return what a newcomer gets."""

    @abstractmethod
    def cut(self) -> None:
        """Break every daemon's connection; new ones are welcome."""

    @abstractmethod
    def freeze(self) -> None:
        """Have the broker stand still."""

    @abstractmethod
    def thaw(self) -> None:
        """Let it go on."""

    @abstractmethod
    def go_down(self) -> None:
        """Stop the broker; it may forget what it retained."""


class FakePlace(Place):
    """The fake server."""

    def __init__(self, denied: Sequence[str] = (), secret: Sequence[str] = (), limit_bytes: int = 0) -> None:
        super().__init__()
        self.server = FakeServer()
        self.server.denied, self.server.secret = set(denied), set(secret)
        self.server.limit_bytes = limit_bytes

    def _make(self, name: str) -> Line:
        return Line(lambda put: FakeBroker(self.server, put, name), 0.0)

    def write(self, topic: str, raw: bytes) -> None:
        self.server.write(topic, raw)

    def retained(self, topic: str) -> bytes | None:
        return self.server.retained.get(topic)

    def cut(self) -> None:
        self.server.restart()

    def freeze(self) -> None:
        self.server.stall()

    def thaw(self) -> None:
        self.server.resume()

    def go_down(self) -> None:
        self.server.go_down()


class MosquittoPlace(Place):
    """A Mosquitto; daemons reach it through a proxy, everybody else directly."""

    def __init__(
        self,
        factory: BrokerFactory,
        clients: ClientFactory,
        topics: Sequence[str],
        denied: Sequence[str] = (),
        secret: Sequence[str] = (),
        limit_bytes: int = 0,
    ) -> None:
        super().__init__()
        acl = None
        if denied or secret:
            every = (*topics, WILL[0], MARK)
            rights = [("read", topic) for topic in every if topic not in secret]
            rights += [("write", topic) for topic in every if topic not in denied]
            acl = "".join(f"topic {right} {topic}\n" for right, topic in rights)
        self.broker = factory(acl=acl, extra_conf=f"max_packet_size {limit_bytes}\n" if limit_bytes else "")
        self._proxy = Proxy(self.broker.port, self.broker.host, scheme=self.broker.scheme)
        self._clients = clients

    def _make(self, name: str) -> Line:
        dialing = partial(dial, BrokerAddress.parse(self._proxy.url), Credentials(), name, KEEPALIVE_SECONDS)

        def make(put: Callable[[Dialed], None]) -> Broker:
            return Broker(lambda will: dialing(will, put))

        return Line(make, 0.02)

    def write(self, topic: str, raw: bytes) -> None:
        with self._clients(self.broker) as client:
            assert client.publish(topic, raw, retain=True) < 0x80

    def retained(self, topic: str) -> bytes | None:
        with self._clients(self.broker) as client:
            client.subscribe(topic, MARK)
            client.publish(MARK, b"all came before this")
            client.wait_for_topic(MARK)
            return next((message.payload for message in client.messages if message.topic == topic), None)

    def cut(self) -> None:
        self._proxy.cut()

    def freeze(self) -> None:
        self.broker.suspend()

    def thaw(self) -> None:
        self.broker.resume()

    def go_down(self) -> None:
        self.broker.kill()

    def close(self) -> None:
        super().close()
        self._proxy.close()
