"""The subscriber against whoever controls the broker: that one may delay and withhold, and no more."""

from __future__ import annotations

import os
import queue
import random
import select
import socket
import struct
import threading
import time

import pytest

from config_daemon.wire.tail import MAX_MESSAGE_BYTES
from config_daemon.worker import bounds, client
from tests.worker.fake_broker import CONNACK, Peer, fake_broker, publish
from tests.worker.following import Following

GOOD = publish(b"t/a", b"alive")


@pytest.fixture(autouse=True)
def _try_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(client, "RETRY_LAST_SECONDS", 0.002)


def good(peer: Peer) -> None:
    peer.welcome()
    peer.send(GOOD)
    peer.packet()


NONSENSE = {
    "nothing": b"",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an answer of no bytes": b"\x20\x00",
    "an answer cut short": b"\x20\x03\x00",
    "an unknown reason": b"\x20\x03\x00\xff\x00",
    "an unknown property": b"\x20\x05\x00\x00\x02\x7f\x00",
    "a property cut short": b"\x20\x05\x00\x00\x02\x27\x00",
    "a length without end": CONNACK + b"\x30\xff\xff\xff\xff\xff",
    "a message of no bytes": CONNACK + b"\x30\x00",
    "a message without topic": CONNACK + b"\x32\x05\x00\x00\x00\x01\x00",
    "a topic longer than the message": CONNACK + b"\x32\x04\xff\xff\x61\x62",
    "a topic that is no text": CONNACK + publish(b"t/\xff\xfe", b"x"),
    "a message without its number": CONNACK + b"\x32\x05\x00\x03t/a",
    "properties longer than the message": CONNACK + b"\x32\x08\x00\x03t/a\x00\x01\x7f",
    "properties of no kind": CONNACK + b"\x32\x0a\x00\x03t/a\x00\x01\x02\x7e\x00",
    "an acknowledgement of nothing": CONNACK + b"\x40\x02\x00\x09",
    "an acknowledgement cut short": CONNACK + b"\x40\x01\x00",
    "a subscription never asked for": CONNACK + b"\x90\x02\x00\x09",
    "a subscription's answer cut short": CONNACK + b"\x90\x00",
    "a goodbye with an unknown reason": CONNACK + b"\xe0\x02\xfe\x00",
    "a packet only clients send": CONNACK + b"\x82\x00",
    "a packet of no kind": CONNACK + b"\x00\x00",
    "a second welcome": CONNACK + CONNACK,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_neither_ends_the_run_nor_keeps_it_from_a_good_broker(name: str) -> None:
    def script(peer: Peer, number: int) -> None:
        if number > 1:
            return good(peer)
        peer.packet()
        peer.send(NONSENSE[name])
        return None

    with fake_broker(script) as url, Following(url) as following:
        while following.next()[1] != b"alive":
            pass
        assert following.death is None


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (0x8E, "the broker gave our name 'kitchen' to another connection"),
        (0x8B, "ended the connection: Server shutting down"),
    ],
)
def test_why_the_broker_ends_a_connection_is_told_where_it_says_so(reason: int, said: str) -> None:
    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(bytes([0xE0, 2, reason, 0]))
        peer.packet()

    with fake_broker(script) as url, Following(url, client_id="kitchen") as following:
        assert said in following.notes.get(timeout=5)


@pytest.mark.parametrize(
    "accept", ["Sec-WebSocket-Accept:x", "Sec-WebSocket-Accept: x", "Connection: close", ""]
)
def test_a_server_that_speaks_no_websockets_does_not_end_the_run(accept: str) -> None:
    def script(peer: Peer, _number: int) -> None:
        peer.send(f"HTTP/1.1 101 Switching Protocols\r\n{accept}\r\n\r\n".encode())

    with fake_broker(script) as url, Following(url.replace("mqtt:", "ws:")) as following:
        following.note("no connection")
        following.note("no connection")
        assert following.death is None


def test_random_bytes_end_a_connection_at_most_and_leak_nothing() -> None:
    dice = random.Random(7)  # noqa: S311 - the same bytes in every run
    descriptors: list[int] = []

    def script(peer: Peer, number: int) -> None:
        if number in (20, 300):
            descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        if number >= 300:
            return good(peer)
        peer.packet()
        kind = dice.choice(
            [b"", b"\x20", b"\x30", b"\x32", b"\x34", b"\x90", b"\x62", b"\xd0", b"\xe0", b"\xf0"]
        )
        body = dice.randbytes(dice.randrange(40))
        peer.send((CONNACK if dice.random() < 0.8 else b"") + kind + bytes([len(body)]) + body)
        return None

    with fake_broker(script) as url, Following(url) as following:
        while following.next(15)[1] != b"alive":
            pass
        assert following.death is None
    assert descriptors[1] - descriptors[0] <= 2


def test_a_message_that_arrived_is_handled_even_if_the_broker_dies_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "RETRY_FIRST_SECONDS", 3600.0)
    first_is_here, broker_is_gone = threading.Event(), threading.Event()
    seen: queue.Queue[bytes] = queue.Queue()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(publish(b"t/a", b"first"))
        first_is_here.wait(5)
        peer.send(publish(b"t/a", b"last", 2))
        peer.reset()
        broker_is_gone.set()

    def receive(_topic: str, raw: bytes) -> bool:
        if raw == b"first":
            first_is_here.set()
            broker_is_gone.wait(5)
        seen.put(raw)
        return True

    with fake_broker(script) as url, Following(url, receive=receive):
        assert [seen.get(timeout=5), seen.get(timeout=5)] == [b"first", b"last"]


def test_a_broker_that_accepts_and_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNACK_SECONDS", 0.05)

    def script(peer: Peer, number: int) -> None:
        if number > 1:
            return good(peer)
        while peer.packet()[0]:  # until the client leaves
            pass
        return None

    with fake_broker(script) as url, Following(url) as following:
        assert "does not answer" in following.note("does not")
        assert following.next() == ("t/a", b"alive")


def test_a_broker_is_told_how_long_a_packet_may_be() -> None:
    connects: queue.Queue[bytes] = queue.Queue()

    with fake_broker(lambda peer, _: connects.put(peer.packet()[1])) as url, Following(url):
        body = connects.get(timeout=5)
    assert body[10:16] == b"\x05\x27" + struct.pack(">I", bounds.MAX_PACKET_BYTES)
    assert bounds.MAX_PACKET_BYTES > MAX_MESSAGE_BYTES


def test_a_packet_longer_than_any_of_ours_ends_the_connection_before_it_is_read() -> None:
    left = threading.Event()

    def script(peer: Peer, number: int) -> None:
        if number > 1:
            return good(peer)
        peer.welcome()
        peer.send(b"\x32\xff\xff\xff\x7f" + b"\x00\x03t/a\x00\x01\x00")  # 256 MiB are to come
        while peer.packet()[0]:
            pass
        left.set()
        return None

    with fake_broker(script) as url, Following(url) as following:
        assert str(bounds.MAX_PACKET_BYTES) in following.note("broke")
        assert left.wait(5)
        assert following.next() == ("t/a", b"alive")


def test_while_a_message_is_handled_the_newest_of_each_topic_waits_and_no_other() -> None:
    all_sent, seen = threading.Event(), queue.Queue[tuple[str, bytes]]()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(publish(b"t/a", b"0"))
        for number, (topic, raw) in enumerate([(b"t/a", b"1"), (b"t/b", b"1"), (b"t/a", b"2")], 2):
            peer.packet()  # what came before was taken
            peer.send(publish(topic, raw, number))
        peer.packet()
        all_sent.set()
        peer.packet()

    def receive(topic: str, raw: bytes) -> bool:
        while raw == b"0" and not all_sent.is_set():
            following.subscriber.serve()
        seen.put((topic, raw))
        return True

    with fake_broker(script) as url:
        following = Following(url, receive=receive)
        with following:
            assert [seen.get(timeout=5) for _ in range(3)] == [("t/a", b"0"), ("t/b", b"1"), ("t/a", b"2")]


def test_what_finds_no_room_while_a_message_is_handled_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MAX_WAITING_BYTES", 1200)  # two small ones
    asked_again, seen = threading.Event(), queue.Queue[str]()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(publish(b"t/0", b"x"))
        for number in range(1, 4):
            peer.packet()
            peer.send(publish(b"t/%d" % number, b"x", number + 1))
        while peer.packet()[0] != 0x82:
            pass
        asked_again.set()

    def receive(topic: str, _raw: bytes) -> bool:
        until = time.monotonic() + 0.1
        while topic == "t/0" and time.monotonic() < until:
            following.subscriber.serve()
        seen.put(topic)
        return True

    with fake_broker(script) as url:
        following = Following(url, receive=receive)
        with following:
            assert [seen.get(timeout=5) for _ in range(3)] == ["t/0", "t/1", "t/2"]
            assert asked_again.wait(5)


def test_messages_that_come_together_are_acknowledged_in_one_go_each_before_it_is_handled() -> None:
    acknowledged: queue.Queue[bytes] = queue.Queue()
    seen: queue.Queue[bytes] = queue.Queue()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(b"".join(publish(b"t/a", b"%d" % number, number) for number in (1, 2, 300)))
        acknowledged.put(peer.connection.recv(100))
        peer.packet()

    def receive(_topic: str, raw: bytes) -> bool:
        seen.put(raw if raw != b"1" else acknowledged.get(timeout=5))
        return True

    with fake_broker(script) as url, Following(url, receive=receive):
        acks = b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\x01\x2c"
        assert [seen.get(timeout=5) for _ in range(3)] == [acks, b"2", b"300"]


def test_a_message_that_comes_alone_is_handled_first_and_acknowledged_then() -> None:
    """Whoever waits for a config does not wait for its acknowledgement to be sent."""
    told: queue.Queue[tuple[bool, bytes]] = queue.Queue()
    handled = threading.Event()
    connections: queue.Queue[socket.socket] = queue.Queue()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        connections.put(peer.connection)
        peer.send(publish(b"t/a", b"x", 7))
        assert handled.wait(5)
        told.put((True, peer.connection.recv(100)))
        peer.packet()

    def receive(_topic: str, _raw: bytes) -> bool:
        readable, _, _ = select.select([connections.get(timeout=5)], [], [], 0)
        told.put((bool(readable), b""))
        handled.set()
        return True

    with fake_broker(script) as url, Following(url, receive=receive):
        assert [told.get(timeout=5) for _ in range(2)] == [(False, b""), (True, b"\x40\x02\x00\x07")]


def test_a_message_is_the_same_whatever_a_broker_adds_to_it() -> None:
    expiry, word = b"\x05\x02\x00\x00\x00\x09", b"\x07\x26\x00\x01k\x00\x01v"
    packets = {
        "nothing": b"\x32\x09\x00\x03t/a\x00\x01\x00x",
        "retained and sent again": b"\x3b\x09\x00\x03t/b\x00\x01\x00x",
        "no content": b"\x32\x08\x00\x03t/c\x01\x00\x00",
        "an expiry": b"\x32\x0e\x00\x03t/d\x00\x02" + expiry + b"x",
        "a word of the user": b"\x32\x10\x00\x03t/e\x00\x03" + word + b"x",
        "no wish for an answer": b"\x30\x07\x00\x03t/f\x00x",
        "a name of two bytes a letter": b"\x32\x0a\x00\x04t/\xc3\xa9\x00\x04\x00x",
    }
    acknowledged: queue.Queue[bytes] = queue.Queue()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(b"".join(packets.values()))
        while body := peer.packet()[1]:
            acknowledged.put(body)

    with fake_broker(script) as url, Following(url) as following:
        got = [following.next() for _ in packets]
        mids = [int.from_bytes(acknowledged.get(timeout=5)) for _ in range(len(packets) - 1)]
    contents = [b"x", b"x", b"", b"x", b"x", b"x", b"x"]
    assert got == list(zip(["t/a", "t/b", "t/c", "t/d", "t/e", "t/f", "t/é"], contents, strict=True))
    assert mids == [1, 1, 256, 2, 3, 4]


def test_what_was_read_already_waits_for_no_other_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bounds, "MAX_TURN_BYTES", 30
    )  # two or three packets, of a hundred that are read at once
    monkeypatch.setattr(client, "TURN_SECONDS", 60.0)

    def script(peer: Peer, number: int) -> None:
        if number > 1:
            return
        peer.welcome()
        peer.send(b"".join(publish(b"t/a", b"%d" % number, number) for number in range(1, 101)))
        for _ in range(100):
            peer.packet()

    with fake_broker(script) as url, Following(url) as following:
        assert [following.next()[1] for _ in range(100)] == [b"%d" % number for number in range(1, 101)]


def test_long_messages_in_a_row_are_never_more_than_there_is_room_for() -> None:
    packets: queue.Queue[int] = queue.Queue()
    long, count = b"x" * 1_000_000, 12
    assert count * len(long) > bounds.MAX_WAITING_BYTES

    def script(peer: Peer, number: int) -> None:
        if number > 1:
            return
        peer.welcome()
        for _ in range(20):
            peer.packet()
        peer.send(b"".join(publish(b"t/%d" % number, long, number + 1) for number in range(count)))
        for _ in range(count):
            packets.put(peer.packet()[0])

    with fake_broker(script) as url:
        following = Following(url)
        # paho reads as many packets at once as answers are missing
        following.subscriber._greet = lambda: [following.subscriber.publish("t", b"") for _ in range(20)]
        with following:
            assert [following.next() for _ in range(count)] == [
                (f"t/{number}", long) for number in range(count)
            ]
            kinds = [packets.get(timeout=5) for _ in range(count)]
    assert kinds == [0x40] * count, "it had to ask for nothing again"


def test_ticks_come_in_time_while_many_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TURN_SECONDS", 0.0)  # a tick is due after each
    happened: list[str] = []
    end = threading.Event()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(b"".join(publish(b"t/a", b"%d" % number, number) for number in (1, 2, 3)))
        peer.packet()

    def receive(_topic: str, raw: bytes) -> bool:
        happened.append(raw.decode())
        if raw == b"3":
            end.set()
        return True

    with fake_broker(script) as url:
        following = Following(url, receive=receive)
        following.subscriber._tick = lambda: happened.append("tick")
        with following:
            assert end.wait(5)
    first = happened.index("1")
    assert happened[first : first + 5] == ["1", "tick", "2", "tick", "3"]


def test_who_stops_while_messages_wait_is_given_no_other() -> None:
    seen: list[bytes] = []

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(b"".join(publish(b"t/a", b"%d" % number, number) for number in (1, 2, 3)))
        while peer.packet()[0]:
            pass

    def receive(_topic: str, raw: bytes) -> bool:
        seen.append(raw)
        following.subscriber.stop()
        return True

    with fake_broker(script) as url:
        following = Following(url, receive=receive)
        following.thread.start()
        assert following.ended(5)
    assert seen == [b"1"]


def test_a_broker_that_sends_what_nobody_may_keep_for_it_is_left() -> None:
    """At QoS 2 a message is kept until the sender says more: as many of them as it likes."""

    def script(peer: Peer, number: int) -> None:
        if number > 1:
            return good(peer)
        peer.welcome()
        peer.send(publish(b"t/a", b"twice", qos=2))
        while peer.packet()[0]:
            pass
        return None

    with fake_broker(script) as url, Following(url) as following:
        assert "QoS 2" in following.note("broke")
        assert following.next() == ("t/a", b"alive")


def test_a_broker_that_acknowledges_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PUBACK_SECONDS", 0.1)

    def script(peer: Peer, number: int) -> None:
        if number > 1:
            return good(peer)
        peer.welcome()
        peer.send(publish(b"t/a", b"speak"))
        while peer.packet()[0]:
            pass
        return None

    seen: queue.Queue[bytes] = queue.Queue()

    def receive(_topic: str, raw: bytes) -> bool:
        if raw == b"speak":
            following.subscriber.publish("t/evidence", b"proof")
        seen.put(raw)
        return True

    with fake_broker(script) as url:
        following = Following(url, receive=receive)
        with following:
            following.note("acknowledges nothing")
            assert [seen.get(timeout=5), seen.get(timeout=5)] == [b"speak", b"alive"]


def test_what_is_not_acknowledged_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_QUEUED", 3)
    kept: queue.Queue[int] = queue.Queue()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(GOOD)
        while peer.packet()[0]:
            pass

    def receive(_topic: str, _raw: bytes) -> bool:
        for _ in range(10):
            following.subscriber.publish("t/evidence", b"proof")
        kept.put(len(following.subscriber._sent))
        return True

    with fake_broker(script) as url:
        following = Following(url, receive=receive)
        with following:
            assert kept.get(timeout=5) == 3


def test_it_says_goodbye_when_it_stops() -> None:
    packets: queue.Queue[int] = queue.Queue()

    def script(peer: Peer, _number: int) -> None:
        peer.welcome()
        peer.send(GOOD)
        while first := peer.packet()[0]:
            packets.put(first)

    with fake_broker(script) as url:
        with Following(url) as following:
            following.next()
        assert [packets.get(timeout=5) & 0xF0 for _ in range(2)] == [0x40, 0xE0]  # PUBACK, DISCONNECT


def test_it_asks_for_the_path_of_the_url() -> None:
    requests: queue.Queue[bytes] = queue.Queue()

    with (
        fake_broker(lambda peer, _: requests.put(peer.connection.recv(100))) as url,
        Following(f"{url.replace('mqtt:', 'ws:')}/fleet/mqtt"),
    ):
        assert requests.get(timeout=5).startswith(b"GET /fleet/mqtt HTTP/1.1\r\n")


def test_a_refused_subscription_is_told() -> None:
    def script(peer: Peer, _number: int) -> None:
        peer.welcome(granted=0x87)
        peer.packet()

    with fake_broker(script) as url, Following(url, ["t/secret"]) as following:
        assert "t/secret" in following.note("Not authorized")


def test_an_answer_that_is_a_refusal_is_told_and_tried_again() -> None:
    def script(peer: Peer, number: int) -> None:
        if number > 2:
            return good(peer)
        peer.packet()
        peer.send(b"\x20\x03\x00\x88\x00")  # server unavailable
        return None

    with fake_broker(script) as url, Following(url) as following:
        assert "Server unavailable" in following.note("refused us")
        assert following.next() == ("t/a", b"alive")
