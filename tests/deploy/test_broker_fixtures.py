"""The test brokers, clients and networks do what tests rely on."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from tests import broker_fixtures
from tests.broker_conf import Tls
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.broker_proxy import Proxy
from tests.raw_client import RawClient, Refused
from tests.real_broker import Broker

NOT_AUTHORISED = 135


def ended(pid: int, seconds: float = 5.0) -> bool:
    """Wait for the end of a process that need not be our child."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)


def kept(client: RawClient) -> list[str]:
    """What the broker retains below `t/`, known to be all of it by a message that comes after."""
    client.clear()
    client.unsubscribe("t/#")
    client.subscribe("t/#")
    client.publish("t/mark", b"")
    client.wait_for_topic("t/mark")
    return [message.topic for message in client.messages if message.retain]


def test_it_listens_on_loopback_only_and_answers_anybody(broker: Broker, raw_client: ClientFactory) -> None:
    client = raw_client(broker)
    client.subscribe("t/#")
    assert client.publish("t/a", b"x") == 0
    assert client.wait_for_topic("t/a").payload == b"x"
    table = Path("/proc/net/tcp").read_text().splitlines()
    listening = [row.split()[1] for row in table if row.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(f":{broker.port:04X}")] == [
        f"0100007F:{broker.port:04X}"
    ]
    assert broker.port != 1883


def test_acknowledged_retained_messages_outlive_a_kill_and_a_stop(
    broker: Broker, raw_client: ClientFactory
) -> None:
    port, client = broker.port, raw_client(broker)
    client.publish("t/killed", b"1", retain=True)
    # mosquitto acknowledges first and writes its file after; the next answer shows that it has.
    client.publish("t/later", b"")
    broker.kill()
    broker.start()
    raw_client(broker).publish("t/stopped", b"2", retain=True)
    broker.stop()
    broker.start()
    assert broker.port == port
    assert sorted(kept(raw_client(broker))) == ["t/killed", "t/stopped"]


def test_a_wiped_broker_remembers_nothing(broker: Broker, raw_client: ClientFactory) -> None:
    raw_client(broker).publish("t/a", b"1", retain=True)
    broker.wipe()
    assert kept(raw_client(broker)) == []


def test_a_stopped_broker_refuses_and_nobody_else_is_given_its_port(broker: Broker) -> None:
    broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, broker.port), timeout=1)
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind((broker.host, broker.port))


def test_a_suspended_broker_says_nothing_until_it_resumes(broker: Broker, raw_client: ClientFactory) -> None:
    client = raw_client(broker)
    broker.suspend()
    with pytest.raises(AssertionError, match="the answer to a publish"):
        client.publish("t/a", b"x", seconds=0.1)
    broker.resume()
    assert client.publish("t/b", b"x") in (0, 16)
    assert not client.disconnected


def test_a_broker_can_be_stopped_while_it_is_suspended(broker: Broker) -> None:
    pid = broker.pid
    broker.suspend()
    broker.stop()
    assert ended(pid)


def test_what_a_test_wants_of_the_conf_wins(broker_factory: BrokerFactory, raw_client: ClientFactory) -> None:
    small = broker_factory(extra_conf="max_packet_size 500")
    client = raw_client(small)
    client._client.publish("t/a", b"x" * 1000, qos=1)
    client.wait_for_disconnect()


def test_users_and_acl_are_enforced(broker_factory: BrokerFactory, raw_client: ClientFactory) -> None:
    guarded = broker_factory(users={"anna": "p:ä@ß/"}, acl="user anna\ntopic write t/mine\n")
    assert raw_client(guarded.url_for("anna", "p:ä@ß/")).publish("t/mine", b"x") in (0, 16)
    assert raw_client(guarded.url_for("anna", "p:ä@ß/")).publish("t/other", b"x") == NOT_AUTHORISED
    for url in (guarded.url, guarded.url_for("anna", "wrong")):
        with pytest.raises(Refused) as refused:
            raw_client(url)
        assert refused.value.code == NOT_AUTHORISED


def test_tls_is_spoken_and_checked(
    broker_factory: BrokerFactory, raw_client: ClientFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    ca, tls = trustme.CA(), Tls(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    server = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(tls.ca)
    server.private_key_pem.write_to_path(tls.key)
    server.cert_chain_pems[0].write_to_path(tls.certificate)
    broker = broker_factory(tls=tls, folder=folder)
    assert broker.url.startswith("mqtts://")
    assert raw_client(broker, ca=tls.ca).publish("t/a", b"x") in (0, 16)
    with pytest.raises(OSError, match="certificate verify failed"):
        raw_client(broker)


def test_a_broken_conf_fails_with_the_brokers_words(broker_factory: BrokerFactory) -> None:
    with pytest.raises(AssertionError, match="Unknown configuration variable"):
        broker_factory(extra_conf="no_such_setting 1")


def test_no_broker_outlives_a_killed_test_run(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from tests.broker_conf import Conf;"
        "from tests.real_broker import LocalBroker; from tests.broker_fixtures import mosquitto_programs;"
        "b = LocalBroker(mosquitto_programs()[0], pathlib.Path(sys.argv[1]), Conf());"
        "print(b.pid, flush=True); sys.stdin.read()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "b")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert run.stdin is not None and run.stdout is not None
    with run.stdin, run.stdout:
        pid = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert ended(pid)


def test_waiting_in_vain_tells_what_did_arrive(broker: Broker, raw_client: ClientFactory) -> None:
    client = raw_client(broker)
    client.subscribe("t/#")
    client.publish("t/other", b"x")
    client.wait_for_topic("t/other")
    with pytest.raises(AssertionError, match="t/other"):
        client.wait_for_topic("t/wanted", seconds=0.05)


def test_dropping_sends_the_will_and_leaving_politely_does_not(
    broker: Broker, raw_client: ClientFactory
) -> None:
    watcher = raw_client(broker)
    watcher.subscribe("t/#")
    raw_client(broker, will=("t/polite", b"gone")).close()
    raw_client(broker, will=("t/dropped", b"gone")).drop()
    watcher.wait_for_topic("t/dropped")
    assert watcher.topics() == ["t/dropped"]


def test_a_cut_network_ends_connections_and_takes_new_ones(
    proxy: Proxy, broker: Broker, raw_client: ClientFactory
) -> None:
    through = raw_client(proxy, will=("t/will", b"gone"))
    watcher = raw_client(broker)
    watcher.subscribe("t/#")
    proxy.cut()
    through.wait_for_disconnect()
    watcher.wait_for_topic("t/will")
    assert raw_client(proxy).publish("t/a", b"x") == 0
    assert proxy.connections == 2


def test_swallowed_answers_leave_the_message_with_the_broker(
    proxy: Proxy, broker: Broker, raw_client: ClientFactory
) -> None:
    watcher, through = raw_client(broker), raw_client(proxy)
    watcher.subscribe("t/#")
    proxy.swallow("down")
    with pytest.raises(AssertionError, match="the answer to a publish"):
        through.publish("t/a", b"x", seconds=0.1)
    watcher.wait_for_topic("t/a")
    proxy.heal()
    assert through.publish("t/b", b"x") == 0


def test_swallowed_messages_never_reach_the_broker(
    proxy: Proxy, broker: Broker, raw_client: ClientFactory
) -> None:
    watcher, through = raw_client(broker), raw_client(proxy)
    watcher.subscribe("t/#")
    proxy.swallow("up")
    with pytest.raises(AssertionError, match="the answer to a publish"):
        through.publish("t/lost", b"x", seconds=0.1)
    watcher.publish("t/mark", b"x")
    watcher.wait_for_topic("t/mark")
    assert watcher.topics() == ["t/mark"]


def test_a_slow_network_is_late_in_order_and_not_narrow(proxy: Proxy, raw_client: ClientFactory) -> None:
    client = raw_client(proxy)
    client.subscribe("t/#")
    proxy.delay(0.15, "down")
    begun = time.monotonic()
    for number in range(20):
        client._client.publish(f"t/{number}", b"x" * 50_000, qos=1)
    client.wait_for(lambda got: len(got) == 20)
    took = time.monotonic() - begun
    assert client.topics() == [f"t/{number}" for number in range(20)]
    assert 0.15 <= took < 20 * 0.15


def test_a_dripping_network_tears_every_packet_and_loses_nothing(
    proxy: Proxy, raw_client: ClientFactory
) -> None:
    client = raw_client(proxy)
    client.subscribe("t/#")
    proxy.drip(3, 0.001)
    begun = time.monotonic()
    assert client.publish("t/a", b"x" * 300) == 0
    assert client.wait_for_topic("t/a").payload == b"x" * 300
    assert time.monotonic() - begun >= 2 * 100 * 0.001, "once up, once down"
    proxy.heal()
    assert client.publish("t/b", b"x" * 300_000) == 0


def test_a_refusing_network_refuses_until_it_heals(proxy: Proxy, raw_client: ClientFactory) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        raw_client(proxy)
    proxy.heal()
    assert raw_client(proxy).publish("t/a", b"x") in (0, 16)


@pytest.mark.parametrize(
    ("wish", "kind", "words"),
    [
        ("local", "", "apt-get install mosquitto"),
        ("auto", "", "apt-get install mosquitto"),
        ("docker", "", "Docker"),
        ("nonsense", "", "nonsense"),
        ("mqtt://u:secret@127.0.0.1:7", "external", "your own"),
    ],
)
def test_the_choice_of_a_broker_is_told_plainly(
    monkeypatch: pytest.MonkeyPatch, wish: str, kind: str, words: str
) -> None:
    monkeypatch.setenv(broker_fixtures.VARIABLE, wish)
    monkeypatch.setattr(broker_fixtures, "mosquitto_programs", lambda: None)
    monkeypatch.setattr(broker_fixtures, "_docker_version", lambda: None)
    found, told = broker_fixtures.chosen.__wrapped__()
    assert found == kind
    assert words in told and "secret" not in told


def test_docker_goes_before_a_local_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(broker_fixtures.VARIABLE, "auto")
    monkeypatch.setattr(broker_fixtures, "_docker_version", lambda: "28.2")
    assert broker_fixtures.chosen.__wrapped__()[0] == "docker"
    monkeypatch.setenv(broker_fixtures.VARIABLE, "local")
    monkeypatch.setattr(
        broker_fixtures, "mosquitto_programs", lambda: ("/x/mosquitto", "/x/mosquitto_passwd")
    )
    assert broker_fixtures.chosen.__wrapped__() == ("local", "local /x/mosquitto")


def test_an_external_broker_must_be_empty_and_is_emptied(
    broker: Broker, broker_factory: BrokerFactory, raw_client: ClientFactory
) -> None:
    from tests.real_broker import ExternalBroker

    external = ExternalBroker(broker.url)
    client = raw_client(external)
    client.publish("t/a", b"x", retain=True)
    with pytest.raises(AssertionError, match="not empty"):
        ExternalBroker(broker.url)
    with pytest.raises(AssertionError, match="CONFIG_DAEMON_TEST_BROKER=local"):
        external.kill()
    external.close()
    assert kept(client) == []
