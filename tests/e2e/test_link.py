"""The link to the broker: half open, swallowed acknowledgements, and systemd's socket."""

from __future__ import annotations

import json
import re
import resource
import socket
from pathlib import Path

from config_daemon.store.status import StatusView
from tests.broker_fixtures import ClientFactory
from tests.broker_proxy import Proxy
from tests.e2e.house import House, Process, until
from tests.e2e.test_weather import HEALTH, conditions, confirmed
from tests.raw_client import RawClient
from tests.real_broker import Broker


def test_a_half_open_connection_is_noticed_and_nothing_is_lost(
    broker: Broker, proxy: Proxy, tmp_path: Path
) -> None:
    """The network swallows everything both ways: no FIN, no RST, only silence."""
    house = House(tmp_path / "data", proxy.url)
    try:
        house.daemon(CONFIG_DAEMON_KEEPALIVE_SECONDS="2")
        confirmed(house, house.set("stt-worker", vad_threshold=0.1))
        proxy.swallow()
        until(lambda: "broker-down" in conditions(house), "the condition broker-down")
        version = house.set("stt-worker", vad_threshold=0.2)
        proxy.heal()
        confirmed(house, version)
    finally:
        house.close()


def test_swallowed_acknowledgements_bring_no_worker_back(
    broker: Broker, proxy: Proxy, tmp_path: Path
) -> None:
    house = House(tmp_path / "data", proxy.url)
    try:
        house.daemon(CONFIG_DAEMON_KEEPALIVE_SECONDS="2")
        worker = house.worker(url=broker.url)
        worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
        proxy.swallow("down")
        worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
        house.set("stt-worker", vad_threshold=0.3)
        last = house.set("stt-worker", vad_threshold=0.4)
        proxy.cut()
        proxy.heal()
        worker.wait_for(last)
        numbers = [report["sequence"] for report in worker.applied]
        assert numbers == sorted(numbers)
    finally:
        house.close()


def test_systemd_is_told_ready_watchdog_and_stopping(house: House, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(15)
        daemon = house.daemon(NOTIFY_SOCKET=str(tmp_path / "notify"))
        heard = [listener.recv(4096).decode() for _ in range(2)]
        assert set(heard) == {"READY=1", "WATCHDOG=1"}
        assert daemon.stop() == 0
        heard = [listener.recv(4096).decode()]
        while heard[-1] != "STOPPING=1":
            heard.append(listener.recv(4096).decode())


def test_the_wire_is_readable(house: House, raw_client: ClientFactory) -> None:
    """What `mosquitto_sub -t 'system/#' -v | jq` shows is plain JSON."""
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    client = raw_client(house.broker_url)
    client.subscribe("system/#")
    topics = {"system/config/stt-worker", "system/health/config-daemon", "system/trust/beacon"}
    client.wait_for(lambda messages: {message.topic for message in messages} == topics)
    for message in client.messages:
        assert list(json.loads(message.payload))[-1] == "signature"
    row = StatusView(house.files.status).service("stt-worker")
    assert row is not None
    assert row.sequence == json.loads(client.wait_for_topic("system/config/stt-worker").payload)["sequence"]


def names(daemon: Process) -> list[str]:
    """Return the client ids under which a daemon connected, in order."""
    return re.findall(r"broker_connected.*?(config-daemon-\w+)", "\n".join(daemon.talk))


def test_a_thief_of_the_daemons_name_is_told_and_evaded(broker: Broker, house: House) -> None:
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    (stolen,) = until(lambda: names(daemon), "the daemon's name")
    for connections in (1, 2, 3):
        until(lambda: len(names(daemon)) == connections, f"connection {connections}")  # noqa: B023
        RawClient(broker.url, stolen).close()
    until(lambda: len(names(daemon)) == 4, "a connection under another name")
    confirmed(house, house.set("stt-worker", vad_threshold=0.2))
    assert names(daemon)[:3] == [stolen] * 3
    with RawClient(broker.url, stolen) as thief:
        until(lambda: "client-id-conflict" in conditions(house), "the condition client-id-conflict")
        assert not thief.disconnected and len(names(daemon)) == 4
    assert house.status()["status"] == "degraded"


def test_without_descriptors_the_daemon_says_so_and_goes_on_with_those_it_has(
    house: House, raw_client: ClientFactory
) -> None:
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    client = raw_client(house.broker_url)
    client.subscribe(HEALTH)

    def open_ones() -> list[set[str]]:
        """Return the names of the conditions in each health message so far."""
        bodies = [json.loads(message.payload) for message in client.messages]
        return [{one["name"] for one in body["conditions"]} for body in bodies]

    open_now = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (open_now, before[1]))
    try:
        client.wait_for(lambda _: "fd-exhausted" in set().union(*open_ones()))
        worker = raw_client(house.broker_url)
        worker.subscribe("system/config/stt-worker")
        version = house.set("stt-worker", vad_threshold=0.2)
        worker.wait_for(
            lambda found: json.loads(found[-1].payload)["config_version"] == version if found else False
        )
        assert all(json.loads(m.payload)["database_status"] == "healthy" for m in client.messages)
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
    client.wait_for(lambda _: not open_ones()[-1], 20)  # a cache that could not be written waits ten seconds
    confirmed(house, house.set("stt-worker", vad_threshold=0.3))
