"""The subscriber against a real broker: what arrives, what comes again, how it ends and comes back."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trustme

from config_daemon.worker import client
from tests.broker_conf import Tls
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.broker_proxy import Proxy
from tests.real_broker import Broker
from tests.worker.edge import Edge
from tests.worker.following import Following
from tests.worker.test_keyrings import NEW, REVOKED
from tests.worker.test_keyrings import Edge as KeyringEdge
from tests.worker.updates import SERVICE, TOPIC, TOPICS, update

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _try_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(client, "RETRY_LAST_SECONDS", 0.1)


def test_it_receives_what_is_retained_and_what_comes_live(broker: Broker, raw_client: ClientFactory) -> None:
    sender = raw_client(broker)
    sender.publish("t/retained", b"old", retain=True)
    with Following(broker.url, ["t/retained", "t/live"]) as following:
        assert following.next() == ("t/retained", b"old")
        sender.publish("t/live", b"new")
        assert following.next() == ("t/live", b"new")
        sender.publish("t/retained", b"", retain=True)
        assert following.next() == ("t/retained", b"")
        sender.publish("t/other", b"not asked for")
        sender.publish("t/live", b"\x00" * 1_040_000)
        assert following.next() == ("t/live", b"\x00" * 1_040_000)


def test_messages_are_handed_over_one_after_the_other_by_the_thread_that_runs(
    broker: Broker, raw_client: ClientFactory
) -> None:
    seen: queue.Queue[tuple[int | None, bytes]] = queue.Queue()

    def receive(_topic: str, raw: bytes) -> bool:
        seen.put((threading.get_ident(), raw))
        return True

    sender = raw_client(broker)
    sender.publish("t/first", b"0", retain=True)
    with Following(broker.url, receive=receive) as following:
        runner = following.thread.ident
        assert seen.get(timeout=5) == (runner, b"0")
        for number in range(1, 50):
            sender.publish("t/more", b"%d" % number)
        assert [seen.get(timeout=5) for _ in range(1, 50)] == [
            (runner, b"%d" % number) for number in range(1, 50)
        ]


def test_without_a_broker_the_worker_runs_from_what_it_keeps_in_under_a_second(
    tmp_path: Path, proxy: Proxy
) -> None:
    Edge(tmp_path).start().receive(update(1))
    proxy.refuse()
    began = time.monotonic()
    edge = Edge(tmp_path).start()
    assert edge.runs == {"number": 1}
    with Following(proxy.url, [TOPIC], edge.follower.receive) as following:
        assert "no connection to mqtt://127.0.0.1" in following.note("no connection")
        assert time.monotonic() - began < 1.0


def test_it_comes_back_when_the_broker_does(broker: Broker, raw_client: ClientFactory) -> None:
    raw_client(broker).publish("t/a", b"1", retain=True)
    with Following(broker.url) as following:
        assert following.next() == ("t/a", b"1")
        broker.kill()
        following.note("broke")
        following.note("no connection")
        broker.start()
        # whichever the broker still holds, the new one arrives
        raw_client(broker).publish("t/a", b"2", retain=True)
        while following.next() != ("t/a", b"2"):
            pass


def test_it_comes_back_through_a_network_that_breaks(
    broker: Broker, proxy: Proxy, raw_client: ClientFactory
) -> None:
    sender = raw_client(broker)
    sender.publish("t/a", b"0", retain=True)
    with Following(proxy.url) as following:
        assert following.next() == ("t/a", b"0")
        for number in range(1, 6):
            proxy.refuse()
            sender.publish("t/a", b"%d" % number, retain=True)
            proxy.heal()
            assert following.next() == ("t/a", b"%d" % number)


def test_what_was_not_taken_is_delivered_again(broker: Broker, raw_client: ClientFactory) -> None:
    seen: queue.Queue[tuple[str, bytes]] = queue.Queue()
    answers = iter([False, False])

    def receive(topic: str, raw: bytes) -> bool:
        seen.put((topic, raw))
        return topic != "t/wanted" or next(answers, True)

    raw_client(broker).publish("t/wanted", b"now", retain=True)
    with Following(broker.url, receive=receive):
        assert [seen.get(timeout=5) for _ in range(3)] == [("t/wanted", b"now")] * 3
        raw_client(broker).publish("t/live", b"it goes on")
        assert seen.get(timeout=5) == ("t/live", b"it goes on")


def test_what_is_not_taken_comes_again_on_the_same_connection_at_once_and_then_ever_later(
    broker: Broker, raw_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_LAST_SECONDS", 60.0)
    seen: queue.Queue[float] = queue.Queue()

    def refuse(topic: str, _raw: bytes) -> bool:
        if topic == "t/wanted":
            seen.put(time.monotonic())
        return False

    sender = raw_client(broker)
    sender.publish("t/wanted", b"now", retain=True)
    with Following(broker.url, receive=refuse) as following:
        at = [seen.get(timeout=10) for _ in range(5)]
        # at once, after 0.25 s, 0.5 s, 1 s: none of them sooner, however often it is refused
        assert at[1] - at[0] < 0.25
        assert at[4] - at[1] >= 1.75
        for number in range(50):
            sender.publish("t/live", b"%d" % number)
        sender.publish("t/wanted", b"later", retain=True)
        began = time.monotonic()
        assert seen.get(timeout=5) - began < 1.0, "what comes by itself is handed over at once"
        assert seen.qsize() <= 1, "fifty refusals are one wish"
        assert following.notes.empty(), "the connection has not ended"


def test_a_keyring_brings_what_was_refused_before_it_at_once(
    broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    edge = KeyringEdge(tmp_path).start()
    sender = raw_client(broker)
    sender.publish(TOPIC, later := update(7, key=NEW, generation=2), retain=True)
    topics = [TOPICS.every_keyring_number, TOPICS.keyring, TOPIC]
    states: queue.Queue[tuple[str, str | None]] = queue.Queue()

    def receive(topic: str, raw: bytes) -> bool:
        wanted = edge.follower.receive(topic, raw)
        states.put((edge.reports[-1].state, edge.reports[-1].reason))
        return wanted

    with Following(broker.url, topics, receive) as following:
        assert states.get(timeout=5) == ("rejected", "bad-signature")
        sender.publish(TOPICS.keyring, REVOKED, retain=True)
        assert states.get(timeout=5) == ("applied", None)
        while edge.applied == []:
            states.get(timeout=1)
        assert following.notes.empty()
    assert edge.keep.load(SERVICE).belief.current == later


@pytest.mark.parametrize("state", ["connected", "no broker", "silent broker"])
def test_it_stops_quickly_in_any_state(
    broker: Broker, proxy: Proxy, raw_client: ClientFactory, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(client, "RETRY_FIRST_SECONDS", 60.0)
    raw_client(broker).publish("t/a", b"1", retain=True)
    if state == "no broker":
        proxy.refuse()
    elif state == "silent broker":
        proxy.swallow("down")
    with Following(proxy.url) as following:
        if state == "connected":
            following.next()
        elif state == "no broker":
            following.note("no connection")
        began = time.monotonic()
        following.subscriber.stop()
        assert following.ended(1.0)
        assert time.monotonic() - began < 1.0


def test_it_ends_at_once_on_a_signal(broker: Broker, raw_client: ClientFactory) -> None:
    program = (
        "import signal, sys\n"
        "from config_daemon.worker.client import Link, Subscriber\n"
        "from config_daemon.wire.address import BrokerAddress\n"
        "def receive(topic, raw): print(raw.decode(), flush=True); return True\n"
        "link = Link(BrokerAddress.parse(sys.argv[1]), 'signalled')\n"
        "subscriber = Subscriber(link, ['t/a'], receive)\n"
        "signal.signal(signal.SIGTERM, lambda *_: subscriber.stop())\n"
        "subscriber.run()\n"
        "print('ended', flush=True)\n"
    )
    raw_client(broker).publish("t/a", b"running", retain=True)
    process = subprocess.Popen(
        [sys.executable, "-c", program, broker.url], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "ended\n"
        assert process.wait(5) == 0
        assert time.monotonic() - began < 2.0


def test_a_trouble_of_the_program_ends_the_run_and_is_no_connection_trouble(
    broker: Broker, raw_client: ClientFactory
) -> None:
    def receive(_topic: str, _raw: bytes) -> bool:
        raise BrokenPipeError("nobody reads what this program prints")

    raw_client(broker).publish("t/a", b"1", retain=True)
    with Following(broker.url, receive=receive) as following:
        assert following.ended(5)
    assert isinstance(following.death, BrokenPipeError)
    assert following.notes.empty()


def test_it_takes_only_a_broker_that_its_ca_vouches_for(
    broker_factory: BrokerFactory, raw_client: ClientFactory, tmp_path: Path
) -> None:
    ca, other = trustme.CA(), trustme.CA()
    server = ca.issue_cert("127.0.0.1")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "other", "certificate", "key")}
    ca.cert_pem.write_to_path(str(files["ca"]))
    other.cert_pem.write_to_path(str(files["other"]))
    server.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    server.private_key_pem.write_to_path(str(files["key"]))
    broker = broker_factory(tls=Tls(files["ca"], files["certificate"], files["key"]))
    raw_client(broker, ca=files["ca"]).publish("t/a", b"secure" * 9000, retain=True)
    with Following(broker.url, ca_file=files["ca"]) as following:
        assert following.next() == ("t/a", b"secure" * 9000)
    with Following(broker.url, ca_file=files["other"]) as refusing:
        assert "certificate verify failed" in refusing.note("no connection")
        assert refusing.messages.empty()


def test_it_shows_its_password_to_the_broker_and_in_no_note(
    broker_factory: BrokerFactory, raw_client: ClientFactory
) -> None:
    broker = broker_factory(users={"worker": "p@ss:word"})
    right = broker.url_for("worker", "p@ss:word")
    raw_client(right).publish("t/a", b"1", retain=True)
    with Following(right) as following:
        assert following.next() == ("t/a", b"1")
    with Following(broker.url_for("worker", "wr0ng")) as refused:
        note = refused.note("refused us")
        assert "wr0ng" not in note and "Not authorized" in note


def test_it_speaks_websockets(broker_factory: BrokerFactory, raw_client: ClientFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = broker_factory(extra_conf=f"listener {port} 127.0.0.1\nprotocol websockets")
    raw_client(broker).publish("t/a", b"1" * 1000, retain=True)
    with Following(f"ws://127.0.0.1:{port}") as following:
        assert following.next() == ("t/a", b"1" * 1000)
        raw_client(broker).publish("t/a", b"2")
        assert following.next() == ("t/a", b"2")
