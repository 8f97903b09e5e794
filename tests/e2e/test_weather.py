"""Every weather: broker down, wiped, rewritten; database locked, gone, older; caches tampered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.store.status import StatusView
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.e2e.house import House, until
from tests.real_broker import Broker

TOPIC = "system/config/stt-worker"
HEALTH = "system/health/config-daemon"


def facts(house: House) -> dict[str, Any]:
    return StatusView(house.files.status).daemon()


def state(house: House, service: str = "stt-worker") -> str:
    row = StatusView(house.files.status).service(service)
    return row.state if row else ""


def conditions(house: House) -> set[str]:
    return {row[0] for row in StatusView(house.files.status).conditions()}


def confirmed(house: House, version: int, service: str = "stt-worker") -> None:
    def look() -> bool:
        row = StatusView(house.files.status).service(service)
        return row is not None and (row.state, row.config_version) == ("confirmed", version)

    until(look, f"{service} version {version} confirmed")


def retained(client: Any, topic: str = TOPIC) -> bytes:
    """Return what the broker retains on a topic now, by subscribing anew."""
    client.clear()
    client.unsubscribe(topic)
    client.subscribe(topic)
    return bytes(client.wait_for_topic(topic).payload)


def health(client: Any) -> dict[str, Any]:
    return dict(json.loads(client.messages[-1].payload))


def test_the_daemon_starts_without_a_broker_and_connects_when_there_is_one(
    broker: Broker, house: House
) -> None:
    broker.stop()
    version = house.set("stt-worker", vad_threshold=0.6)
    house.daemon()
    until(lambda: "broker-down" in conditions(house), "the condition broker-down")
    broker.start()
    confirmed(house, version)
    assert "broker-down" not in conditions(house)


def test_a_killed_broker_loses_nothing_and_the_last_of_many_changes_arrives(
    broker: Broker, house: House
) -> None:
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    broker.kill()
    for step in range(2, 10):
        last = house.set("stt-worker", vad_threshold=step / 10)
    broker.start()
    worker.wait_for(last)
    versions = [report["config_version"] for report in worker.applied]
    assert versions == [1, last], "one message for eight changes"


def test_a_wiped_broker_gets_every_service_back(
    broker: Broker, house: House, raw_client: ClientFactory
) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    confirmed(house, house.set("tts-worker", volume_percent=50), "tts-worker")
    before = retained(raw_client(house.broker_url))
    broker.wipe()
    client = raw_client(house.broker_url)
    client.subscribe("system/config/+")
    client.wait_for(lambda messages: len({message.topic for message in messages}) == 2)
    assert client.wait_for_topic(TOPIC).payload == before, "the very bytes, not a new seal"


def test_after_a_reconnect_only_what_differs_is_sent(
    broker: Broker, house: House, raw_client: ClientFactory
) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    confirmed(house, house.set("tts-worker", volume_percent=50), "tts-worker")
    broker.stop()
    broker.start()
    client = raw_client(house.broker_url)
    client.subscribe("system/config/+")
    client.wait_for(lambda messages: len(messages) == 2)
    version = house.set("tts-worker", volume_percent=60)
    client.wait_for(lambda messages: json.loads(messages[-1].payload)["config_version"] == version)
    live = [message for message in client.messages if not message.retain]
    assert [message.topic for message in live] == ["system/config/tts-worker"]


def test_a_restart_of_the_daemon_sends_nothing_that_the_broker_holds(
    house: House, raw_client: ClientFactory
) -> None:
    first = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    assert first.stop() == 0
    client = raw_client(house.broker_url)
    client.subscribe("system/config/+", HEALTH)
    house.daemon()
    client.wait_for(lambda messages: any(m.topic == HEALTH and json.loads(m.payload)["behind"] == 0
                                         and json.loads(m.payload)["ok"] for m in messages))  # fmt: skip
    version = house.set("tts-worker", volume_percent=50)
    client.wait_for(lambda messages: any(m.topic == "system/config/tts-worker" for m in messages))
    assert version == 1
    assert not [m for m in client.messages if m.topic == TOPIC and not m.retain]


@pytest.mark.parametrize("payload", [b"", b"garbage", b'{"checksum":"forged"}'])
def test_a_foreign_write_is_put_right_within_a_second(
    house: House, raw_client: ClientFactory, payload: bytes
) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    attacker = raw_client(house.broker_url)
    before = retained(attacker)
    attacker.clear()
    attacker.publish(TOPIC, payload, retain=True)
    attacker.wait_for(lambda messages: messages[-1].payload == before, seconds=1.0)
    until(lambda: "foreign-write" in conditions(house), "the condition foreign-write")


def test_an_older_own_message_put_back_is_outdone(house: House, raw_client: ClientFactory) -> None:
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    attacker = raw_client(house.broker_url)
    old = retained(attacker)
    version = house.set("stt-worker", vad_threshold=0.2)
    worker.wait_for(version)
    confirmed(house, version)
    attacker.clear()
    attacker.publish(TOPIC, old, retain=True)
    newest = attacker.wait_for(lambda messages: next((m for m in messages if m.payload != old), None))
    assert json.loads(newest.payload)["config_version"] == version
    until(lambda: [r for r in worker.reports if r["reason"] == "rollback"], "the worker's refusal")
    assert worker.applied[-1]["config_version"] == version


def test_a_deleted_service_leaves_a_tombstone_and_comes_back_above_it(
    house: House, raw_client: ClientFactory
) -> None:
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    code, _, error = house.cli("delete", "stt-worker", "--yes")
    assert code == 0, error
    until(lambda: [r for r in worker.reports if r["state"] == "deleted"], "the tombstone")
    assert json.loads(retained(raw_client(house.broker_url)))["deleted"] is True
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    assert [r["config_version"] for r in worker.applied] == [1, 3]


def test_the_cache_is_written_and_a_tampered_one_is_set_aside(
    house: House, raw_client: ClientFactory
) -> None:
    first = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    until(
        lambda: facts(house).get("health", {}) and facts(house)["health"]["lkg_cache_valid"], "a valid cache"
    )
    assert first.stop() == 0
    content = house.files.cache.read_bytes()
    house.files.cache.write_bytes(content.replace(b"0.6", b"0.9"))
    client = raw_client(house.broker_url)
    client.subscribe(HEALTH)
    house.daemon()
    client.wait_for(lambda messages: any(
        "lkg-tampered" in {c["name"] for c in json.loads(m.payload)["conditions"]} for m in messages
    ))  # fmt: skip
    client.wait_for(lambda messages: json.loads(messages[-1].payload)["lkg_cache_valid"])
    assert list(house.files.quarantine.glob("lkg.bad-*"))


class Locker:
    """Another process's connection, standing in for it: apsw connections lock each other out as processes do."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(5000)

    def lock(self) -> None:
        self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._connection.execute("BEGIN EXCLUSIVE")
        self._connection.execute("UPDATE schema_version SET updated_at = updated_at")
        self._connection.execute("COMMIT")

    def unlock(self) -> None:
        self._connection.close()


@pytest.fixture
def locked_at_start(house: House) -> Iterator[Locker]:
    """A house whose database was published once and is locked before the daemon starts again."""
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    until(lambda: house.files.cache.exists(), "the cache")
    assert daemon.stop() == 0
    locker = Locker(house.files.database)
    locker.lock()
    yield locker
    locker.unlock()


def test_a_locked_database_is_served_from_the_cache(
    house: House, broker: Broker, raw_client: ClientFactory, locked_at_start: Locker
) -> None:
    before = retained(raw_client(house.broker_url))
    broker.wipe()
    client = raw_client(house.broker_url)
    client.subscribe(TOPIC, HEALTH)
    house.daemon()
    assert client.wait_for_topic(TOPIC).payload == before
    client.wait_for(
        lambda ms: any(m.topic == HEALTH and json.loads(m.payload)["event"] == "db-locked" for m in ms)
    )
    said = [json.loads(m.payload) for m in client.messages if m.topic == HEALTH][-1]
    assert (said["ok"], said["database_status"], said["operational_mode"], said["lkg_cache_valid"]) == (
        False, "locked", "read-only-fallback", True,
    )  # fmt: skip
    locked_at_start.unlock()
    client.wait_for(
        lambda ms: json.loads([m for m in ms if m.topic == HEALTH][-1].payload)["ok"], seconds=5.0
    )
    assert not [m for m in client.messages if m.topic == TOPIC and m.payload not in (before, b"")]


def test_a_damaged_database_is_served_from_the_cache(
    house: House, broker: Broker, raw_client: ClientFactory
) -> None:
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    until(lambda: house.files.cache.exists(), "the cache")
    assert daemon.stop() == 0
    before = retained(raw_client(house.broker_url))
    with house.files.database.open("r+b") as stream:
        stream.write(bytes(100))
    broker.wipe()
    client = raw_client(house.broker_url)
    client.subscribe(TOPIC, HEALTH)
    house.daemon()
    assert client.wait_for_topic(TOPIC).payload == before
    client.wait_for(
        lambda ms: any(
            m.topic == HEALTH and json.loads(m.payload)["database_status"] == "corrupted" for m in ms
        )
    )


def test_a_database_that_is_gone_is_never_made_anew(house: House) -> None:
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    assert daemon.stop() == 0
    house.files.database.rename(house.folder / "elsewhere.db")
    house.daemon()
    until(lambda: "db-missing" in conditions(house), "the condition db-missing")
    assert not house.files.database.exists()
    code, _, error = house.cli("init")
    assert code == 78
    assert str(house.files.database) in error


def test_an_older_database_publishes_nothing_until_it_is_adopted(
    house: House, raw_client: ClientFactory
) -> None:
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    assert daemon.stop() == 0
    shutil.copy(house.files.database, house.folder / "backup")
    daemon = house.daemon()
    newest = house.set("stt-worker", vad_threshold=0.2)
    worker.wait_for(newest)
    confirmed(house, newest)
    assert daemon.stop() == 0
    for name in ("config.db", "config.db-wal", "config.db-shm"):
        (house.folder / name).unlink(missing_ok=True)
    shutil.copy(house.folder / "backup", house.files.database)

    client = raw_client(house.broker_url)
    client.subscribe(HEALTH, TOPIC)
    house.daemon()
    client.wait_for(
        lambda ms: any(m.topic == HEALTH and json.loads(m.payload)["event"] == "not-the-newest" for m in ms)
    )
    until(lambda: facts(house)["mode"] == "read-only-fallback", "the fallback")
    house.set("stt-worker", vad_threshold=0.3)
    code, out, error = house.cli("adopt", "--db", "--yes", "--reason", "restored", "--json")
    assert code == 0, error
    assert json.loads(out)["services"] == 1
    until(
        lambda: worker.applied[-1]["sequence"] > 0 and len(worker.applied) == 3, "the adopted config applied"
    )
    assert not [r for r in worker.reports if r["state"] == "rejected"]
    until(lambda: facts(house)["mode"] == "normal", "normal again")
    confirmed(house, 2)


def test_a_denied_topic_holds_up_that_service_only(broker_factory: BrokerFactory, tmp_path: Path) -> None:
    acl = "user daemon\ntopic deny system/config/tts-worker\ntopic readwrite system/#\n"
    broker = broker_factory(users={"daemon": "pw"}, acl=acl)
    house = House(tmp_path / "data", broker.url_for("daemon", "pw"))
    try:
        house.daemon()
        house.set("tts-worker", volume_percent=50)
        confirmed(house, house.set("stt-worker", vad_threshold=0.6))
        until(lambda: state(house, "tts-worker") == "denied", "the state denied")
        until(lambda: "publish-denied" in conditions(house), "the condition publish-denied")
    finally:
        house.close()


def test_a_wrong_password_is_named(broker_factory: BrokerFactory, tmp_path: Path) -> None:
    broker = broker_factory(users={"daemon": "right"})
    house = House(tmp_path / "data", broker.url_for("daemon", "canary-77"))
    try:
        daemon = house.daemon()
        until(lambda: "broker-auth" in conditions(house), "the condition broker-auth")
        assert not [line for line in daemon.talk if "canary-77" in line]
    finally:
        house.close()


def test_a_config_over_the_brokers_limit_holds_up_that_service_only(
    broker_factory: BrokerFactory, tmp_path: Path
) -> None:
    broker = broker_factory(extra_conf="max_packet_size 2000")
    house = House(tmp_path / "data", broker.url)
    try:
        house.daemon()
        house.set("router", router_stream_boundary_regex="a" * 3000)
        confirmed(house, house.set("stt-worker", vad_threshold=0.6))
        until(lambda: state(house, "router") == "too-large", "the state too-large")
        assert "broker-down" not in conditions(house)
    finally:
        house.close()
