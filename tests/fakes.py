"""A broker, a network and a clock in memory: deterministic, and faulty only when a test says so.

Laws: what the daemon drives is its real `Broker`; only the link below it is made up, so that window,
pace and deadlines are the product's own. What the server does is what Mosquitto does:
`tests/contracts/test_broker.py` runs the same tests on both. Whoever owns the server may withhold,
forget and put back, but signs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from config_daemon.daemon.broker import Broker
from config_daemon.daemon.events import Arrived, Dialed, Subscribed
from config_daemon.daemon.link import Acked, Answered, Fact

READS_A_TURN = 20
NOBODY_LISTENS, DENIED, TOO_LARGE, QUOTA = 0x10, 0x87, 0x95, 0x97
_HEADER_BYTES = 5
Acks = Literal["sent", "held", "dropped"]


@dataclass
class FakeClock:
    """Monotonic seconds, and a calendar clock that may be wrong by `error_ms`."""

    seconds: float = 1000.0
    unix_ms_at_start: int = 1_750_000_000_000
    error_ms: int = 0

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return self.seconds

    def unix_ms(self) -> int:
        """Return milliseconds since 1970, as this machine believes."""
        return max(0, self.unix_ms_at_start + round(self.seconds * 1000) + self.error_ms)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


class Written(NamedTuple):
    """A message that the server took: from whom (empty: a client without a name), where, what."""

    writer: str
    topic: str
    raw: bytes


class _Wish(NamedTuple):
    """A subscription's options."""

    foreign_only: bool


@dataclass(eq=False)
class FakeLink:
    """One client's connection; the daemon's side has the methods of `daemon.link.Link`."""

    server: FakeServer
    name: str
    will: tuple[str, bytes] | None = None
    wishes: dict[str, _Wish] = field(default_factory=dict)
    facts: deque[Fact] = field(default_factory=deque)
    waiting: deque[Callable[[], None]] = field(default_factory=deque)  # sent, while the network stands still
    held: list[Acked] = field(default_factory=list)
    stands: bool = True
    _request: int = 0

    def move(self) -> tuple[list[Fact], bool]:
        """Return what came, at most a turn's worth, and whether the link still stands."""
        if self.server.stalled:
            return [], self.stands
        some = [self.facts.popleft() for _ in range(min(READS_A_TURN, len(self.facts)))]
        return some, self.stands

    def descriptors(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """There is nothing that a selector could wait for."""
        return (), ()

    def show(self, topic: str, raw: bytes) -> None:
        """Publish a message that nobody retains, as workers show evidence."""
        self.tell(lambda: self.server.pass_on(self, topic, raw))

    def publish(self, topic: str, raw: bytes) -> int:
        """Publish a retained message at QoS 1; return the request's number."""
        return self._ask(lambda request: self.server.publish(self, request, topic, raw))

    def subscribe(
        self, topics: list[str], foreign_only: bool = False, retained: bool = True, qos: int = 1
    ) -> int:
        """Subscribe; return the request's number. Nothing is lost here, whatever the QoS."""
        return self._ask(
            lambda request: self.server.subscribe(self, request, topics, _Wish(foreign_only), retained)
        )

    def unsubscribe(self, topics: list[str]) -> None:
        """End subscriptions."""

        def forget(_request: int) -> None:
            for topic in topics:
                self.wishes.pop(topic, None)

        self._ask(forget)

    def leave(self, drain_seconds: float) -> None:
        """Say good-bye: no will."""

        def part() -> None:
            self.will = None
            self.server.end(self)

        self.tell(part)

    def drop(self) -> None:
        """Go without a word, as a killed process does."""
        self.tell(lambda: self.server.end(self))

    def tell(self, packet: Callable[[], None]) -> None:
        """Have the server take a packet: now, or when it moves again."""
        if self.server.stalled:
            self.waiting.append(packet)
        elif self.stands:
            packet()

    def _ask(self, ask: Callable[[int], None]) -> int:
        self._request += 1
        request = self._request
        self.tell(lambda: ask(request))
        return request


class FakeServer:
    """An MQTT 5 broker; its attributes are its settings, its faults and what it retains."""

    def __init__(self) -> None:
        self.up = True
        self.retained: dict[str, bytes] = {}
        self.written: list[Written] = []  # everything ever taken, for those who put it back
        self.links: list[FakeLink] = []
        self.limit_bytes = 0
        self.denied: set[str] = set()  # nobody may write these
        self.secret: set[str] = set()  # nobody may read these; like Mosquitto's, the SUBACK says nothing
        self.full: set[str] = set()  # over quota
        self.swallowed: set[str] = set()  # confirmed, and neither kept nor passed on
        self.acks: Acks = "sent"
        self.acks_first = False  # some brokers confirm before they pass a message on
        self.stalled = False

    def dial(self, name: str, will: tuple[str, bytes] | None, put: Callable[[Dialed], None]) -> None:
        """Connect a daemon; ends in `put(Dialed(...))` like the real one."""
        try:
            link = self.connect(name, will)
        except ConnectionRefusedError:
            put(Dialed(None, "broker-down: nothing listens at the fake server"))
        else:
            put(Dialed(link, None))

    def connect(self, name: str, will: tuple[str, bytes] | None = None) -> FakeLink:
        """Return a new connection.

        Raises: ConnectionRefusedError while the server is down.
        """
        if not self.up:
            raise ConnectionRefusedError
        link = FakeLink(self, name, will)
        self.links.append(link)
        link.tell(lambda: self._accept(link))
        return link

    def publish(self, sender: FakeLink, request: int, topic: str, raw: bytes) -> None:
        """Take a retained QoS 1 message from a client."""
        if self.limit_bytes and len(raw) + len(topic.encode()) + _HEADER_BYTES > self.limit_bytes:
            self.end(sender)
            return
        code = DENIED if topic in self.denied else QUOTA if topic in self.full else 0
        if self.acks_first:
            self._confirm(sender, Acked(request, code))
        if not code:
            code = self._take(Written(sender.name, topic, raw), sender)
        if not self.acks_first:
            self._confirm(sender, Acked(request, code))

    def subscribe(
        self, client: FakeLink, request: int, topics: list[str], wish: _Wish, retained: bool
    ) -> None:
        """Take a subscription; what is retained comes at once."""
        for topic in topics:
            client.wishes[topic] = wish
            for name in sorted(self.retained) if retained else ():
                if _matches(topic, name) and name not in self.secret:
                    client.facts.append(Arrived(name, self.retained[name], True))
        client.facts.append(Subscribed(request, 0))

    def write(self, topic: str, raw: bytes, writer: str = "") -> None:
        """Write as some other client would; empty bytes clear the topic."""
        self._take(Written(writer, topic, raw), None)

    def pass_on(self, sender: FakeLink, topic: str, raw: bytes) -> None:
        """Take a message that is not to be retained."""
        if topic not in self.swallowed:
            self.written.append(Written(sender.name, topic, raw))
            self._deliver(Written(sender.name, topic, raw), sender, retained=False)

    def wipe(self) -> None:
        """Lose everything retained, as a broker without persistence does when it restarts."""
        self.restart()
        self.retained.clear()

    def restart(self) -> None:
        """End every connection; wills are published."""
        for link in list(self.links):
            self.end(link)

    def go_down(self) -> None:
        """Stop listening."""
        self.up = False
        self.restart()

    def stall(self) -> None:
        """Stand still: connections stay open, what is sent waits, nothing is answered."""
        self.stalled = True

    def resume(self) -> None:
        """Go on where it stood still."""
        self.stalled = False
        for link in list(self.links):
            while link.waiting:  # in the order in which the clients came
                link.waiting.popleft()()

    def release_acks(self) -> None:
        """Send the confirmations that were held."""
        self.acks = "sent"
        for link in self.links:
            link.facts.extend(link.held)
            link.held.clear()

    def end(self, link: FakeLink) -> None:
        """End a connection; its will is published unless it said good-bye, what was under way is lost."""
        if not link.stands:
            return
        link.stands = False
        link.facts.clear()
        link.waiting.clear()
        self.links.remove(link)
        if link.will is not None:
            self._take(Written(link.name, *link.will), link)

    def _accept(self, link: FakeLink) -> None:
        for other in [other for other in self.links if other.name == link.name and other is not link]:
            self.end(other)  # a client id has one connection, the newest
        link.facts.append(Answered(self.limit_bytes, None))

    def _take(self, message: Written, sender: FakeLink | None) -> int:
        self.written.append(message)
        if message.topic in self.swallowed:
            return 0
        if message.raw:
            self.retained[message.topic] = message.raw
        else:
            self.retained.pop(message.topic, None)
        return self._deliver(message, sender, retained=True)

    def _deliver(self, message: Written, sender: FakeLink | None, *, retained: bool) -> int:
        reached = 0
        for link in self.links:
            wishes = [wish for topic, wish in link.wishes.items() if _matches(topic, message.topic)]
            if message.topic not in self.secret and any(
                not (wish.foreign_only and link is sender) for wish in wishes
            ):
                as_published = any(wish.foreign_only for wish in wishes)  # our own wishes go together so
                link.facts.append(Arrived(message.topic, message.raw, retained and as_published))
                reached += 1
        return 0 if reached else NOBODY_LISTENS

    def _confirm(self, client: FakeLink, ack: Acked) -> None:
        if self.acks == "sent":
            client.facts.append(ack)
        elif self.acks == "held":
            client.held.append(ack)


class FakeBroker(Broker):
    """The real broker, connected to a fake server."""

    def __init__(self, server: FakeServer, put: Callable[[Dialed], None], name: str = "daemon") -> None:
        super().__init__(lambda will: server.dial(name, will, put))
        self._server, self._name = server, name

    def die(self) -> None:
        """End the connections as the kernel does for a killed process."""
        for link in [link for link in self._server.links if link.name == self._name]:
            link.drop()


def _matches(wish: str, topic: str) -> bool:
    """Tell whether a filter with `+` matches; `#` is not needed here."""
    if "+" not in wish:
        return wish == topic
    wanted, found = wish.split("/"), topic.split("/")
    return len(wanted) == len(found) and all(w in ("+", f) for w, f in zip(wanted, found, strict=True))
