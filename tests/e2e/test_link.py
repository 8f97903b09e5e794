"""The link to the broker: half open, swallowed acknowledgements, and systemd's socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from config_daemon.store.status import StatusView
from tests.broker_fixtures import ClientFactory
from tests.broker_proxy import Proxy
from tests.e2e.house import House, until
from tests.e2e.test_weather import conditions, confirmed
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
