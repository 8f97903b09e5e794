"""What the daemon says when models or the database's own format are others than before, read from the wire."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import apsw
import pytest

from config_daemon.catalog.catalog import Catalog
from config_daemon.store.connection import FORMAT_VERSION
from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House, until
from tests.e2e.test_weather import HEALTH, conditions, confirmed, facts, retained
from tests.fleet_host import by_hand
from tests.raw_client import RawClient
from tests.real_broker import Broker

CRANE = "system/config/crane"
SPEED = {"type": "integer", "minimum": 0, "default": 3, "description": "how fast"}
REACH = {"type": "number", "default": 2.5, "description": "how far"}

# database_status, operational_mode, ok, lkg_cache_valid, event
Row = tuple[str, str, bool, bool, str]
STARTED: Row = ("healthy", "normal", True, True, "started")
UPGRADED: Row = ("healthy", "normal", True, True, "schema-upgraded")
MISMATCH: Row = ("schema-mismatch", "read-only-fallback", False, True, "model-hash")


def define(house: House, service: str = "crane", required: tuple[str, ...] = (), **properties: Any) -> None:
    """Drop a schema file in, as a deployment does: a new file renamed over the old one."""
    path = house.files.schemas / f"{service}.schema.json"
    beside = path.with_name("beside")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
              "additionalProperties": False, "properties": properties, "required": list(required)}  # fmt: skip
    beside.write_text(json.dumps(schema))
    beside.replace(path)


def row_of(payload: bytes) -> Row:
    said = json.loads(payload)
    return (
        said["database_status"], said["operational_mode"], said["ok"], said["lkg_cache_valid"], said["event"],
    )  # fmt: skip


def said(client: RawClient) -> list[Row]:
    """Return what the daemon's health said, without repetitions."""
    rows = [row_of(message.payload) for message in client.messages if message.topic == HEALTH]
    return [row for row, before in zip(rows, [None, *rows], strict=False) if row != before]


def wait_for(client: RawClient, row: Row) -> None:
    client.wait_for(lambda ms: any(m.topic == HEALTH and row_of(m.payload) == row for m in ms))


def recorded(house: House) -> tuple[int, str]:
    """Return the schema's version and the hash that the database holds."""
    connection = apsw.Connection(str(house.files.database))
    try:
        return next(iter(connection.execute("SELECT version, model_hash FROM schema_version")))
    finally:
        connection.close()


def hash_of(house: House) -> str:
    return Catalog.load(house.files.schemas).model_hash


@pytest.fixture
def cranes(house: House) -> House:
    """A house that has published one config by its definition, and whose daemon is stopped."""
    define(house, speed=SPEED)
    daemon = house.daemon()
    confirmed(house, house.set("crane", speed=4), "crane")
    until(lambda: recorded(house) == (2, hash_of(house)), "the first models recorded")
    until(lambda: house.files.cache.exists(), "the cache")
    assert daemon.stop() == 0
    return house


@pytest.fixture
def listener(house: House, raw_client: ClientFactory) -> Callable[[], RawClient]:
    """Listen to health from now on: what was retained before is not what is waited for."""

    def listen() -> RawClient:
        client = raw_client(house.broker_url)
        client.subscribe(HEALTH)
        client.wait_for_topic(HEALTH)
        client.clear()
        return client

    return listen


def test_model_hash_differs_and_every_stored_config_is_valid_at_the_start(
    cranes: House, raw_client: ClientFactory, listener: Callable[[], RawClient]
) -> None:
    client = listener()
    define(cranes, speed=SPEED, reach=REACH)
    daemon = cranes.daemon()
    wait_for(client, UPGRADED)
    assert "model-hash" not in {row[-1] for row in said(client)}
    assert recorded(cranes) == (3, hash_of(cranes))
    assert said(client)[-1] == UPGRADED
    confirmed(cranes, 1, "crane")
    config = json.loads(retained(raw_client(cranes.broker_url), CRANE))
    assert (config["config"], config["config_version"]) == ({"speed": 4, "reach": 2.5}, 1)
    assert daemon.stop() == 0
    client.clear()
    cranes.daemon()
    wait_for(client, STARTED)
    assert recorded(cranes) == (3, hash_of(cranes)), "the same models are no news"


def test_model_hash_differs_and_every_stored_config_is_valid_while_the_daemon_runs(
    cranes: House, raw_client: ClientFactory, listener: Callable[[], RawClient]
) -> None:
    cranes.daemon()
    confirmed(cranes, 1, "crane")
    client = listener()
    wait_for(client, STARTED)
    define(cranes, speed=SPEED, reach=REACH)
    wait_for(client, UPGRADED)
    assert said(client)[-2:] == [STARTED, UPGRADED]
    assert recorded(cranes) == (3, hash_of(cranes))
    configs = raw_client(cranes.broker_url)
    until(lambda: json.loads(retained(configs, CRANE))["config"] == {"speed": 4, "reach": 2.5}, "the default")


def test_model_hash_differs_by_a_service_that_is_new(
    cranes: House, listener: Callable[[], RawClient]
) -> None:
    client = listener()
    define(cranes, "lift", speed=SPEED)
    cranes.daemon()
    wait_for(client, UPGRADED)
    assert recorded(cranes) == (3, hash_of(cranes))
    confirmed(cranes, cranes.set("lift", speed=1), "lift")


def test_model_hash_is_the_one_of_init_at_the_first_start(house: House, raw_client: ClientFactory) -> None:
    before = recorded(house)
    client = raw_client(house.broker_url)
    client.subscribe(HEALTH)
    house.daemon()
    wait_for(client, ("healthy", "normal", True, True, "initialised"))
    assert recorded(house) == before == (1, hash_of(house))


def test_model_hash_differs_and_some_stored_config_is_invalid_at_the_start(
    cranes: House, broker: Broker, raw_client: ClientFactory, listener: Callable[[], RawClient]
) -> None:
    configs = raw_client(cranes.broker_url)
    before, hashes = retained(configs, CRANE), recorded(cranes)
    client = listener()
    cranes.set("tts-worker", volume_percent=50)
    define(cranes, speed={**SPEED, "maximum": 3}, reach=REACH)
    cranes.daemon()
    wait_for(client, MISMATCH)
    assert said(client)[-1] == MISMATCH
    told = json.loads(client.messages[-1].payload)
    detail = next(c["detail"] for c in told["conditions"] if c["name"] == "model-hash")
    assert "crane (speed)" in detail
    assert told["err"] == f"model-hash: {detail}"
    assert told["schema_version"] == hashes[0]
    broker.wipe()
    client = raw_client(cranes.broker_url)
    client.subscribe("system/config/+")
    assert client.wait_for_topic(CRANE).payload == before, "what was published stays, to the byte"
    assert client.topics() == [CRANE], "nothing new is published, of no service"
    assert recorded(cranes) == hashes


def test_model_hash_differs_and_some_stored_config_is_invalid_until_the_values_are_mended(
    cranes: House, raw_client: ClientFactory, listener: Callable[[], RawClient]
) -> None:
    cranes.daemon()
    confirmed(cranes, 1, "crane")
    confirmed(cranes, cranes.set("tts-worker", volume_percent=50), "tts-worker")
    client = listener()
    define(cranes, speed={**SPEED, "maximum": 3})
    wait_for(client, MISMATCH)
    until(lambda: facts(cranes).get("misfits") == ["crane"], "who may be written")
    code, _, error = cranes.cli("set", "tts-worker", "volume_percent=60")
    assert code == 69
    assert "model-hash" in error
    assert "crane (speed)" in error
    code, out, _ = cranes.cli("get", "tts-worker", "volume_percent")
    assert (code, out) == (0, "50\n")
    code, _, error = cranes.cli("set", "crane", "speed=2")
    assert code == 0, error
    wait_for(client, UPGRADED)
    assert said(client) in ([STARTED, MISMATCH, UPGRADED], [MISMATCH, UPGRADED])
    confirmed(cranes, 2, "crane")
    assert recorded(cranes) == (3, hash_of(cranes))
    assert json.loads(retained(raw_client(cranes.broker_url), CRANE))["config"] == {"speed": 2}
    code, _, error = cranes.cli("set", "tts-worker", "volume_percent=60")
    assert code == 0, error


def test_model_hash_differs_and_some_stored_config_is_invalid_until_the_models_are_mended(
    cranes: House, raw_client: ClientFactory, listener: Callable[[], RawClient]
) -> None:
    before = retained(raw_client(cranes.broker_url), CRANE)
    cranes.daemon()
    confirmed(cranes, 1, "crane")
    client, hashes = listener(), recorded(cranes)
    define(cranes, speed={**SPEED, "maximum": 3})
    wait_for(client, MISMATCH)
    define(cranes, speed=SPEED)
    wait_for(client, ("healthy", "normal", True, True, "recovered"))
    until(lambda: not conditions(cranes), "nothing open")
    assert recorded(cranes) == hashes
    assert retained(raw_client(cranes.broker_url), CRANE) == before


LATER = "tests.e2e.later_version"
SCRIPT = "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT);"


def format_of(house: House) -> int:
    connection = apsw.Connection(str(house.files.database))
    try:
        found: int = connection.pragma("user_version")
        return found
    finally:
        connection.close()


def test_schema_newer(cranes: House, raw_client: ClientFactory, listener: Callable[[], RawClient]) -> None:
    before, client = retained(raw_client(cranes.broker_url), CRANE), listener()
    by_hand(cranes.files.database, "PRAGMA user_version = 99")
    cranes.daemon()
    wait_for(client, ("schema-mismatch", "read-only-fallback", False, True, "schema-too-new"))
    code, _, error = cranes.cli("set", "crane", "speed=2")
    assert (code, "schema-too-new" in error) == (69, True)
    assert retained(raw_client(cranes.broker_url), CRANE) == before
    assert format_of(cranes) == 99
    assert not list(cranes.folder.glob("config.db.format-*"))


def test_schema_older(cranes: House, raw_client: ClientFactory, listener: Callable[[], RawClient]) -> None:
    before, client = retained(raw_client(cranes.broker_url), CRANE), listener()
    daemon = cranes.daemon("before_upgrade:kill", LATER, LATER_SCRIPT=SCRIPT)
    assert daemon.wait() == -signal.SIGKILL
    assert (facts(cranes)["database_status"], facts(cranes)["mode"]) == ("schema-mismatch", "rebuilding")
    assert format_of(cranes) == FORMAT_VERSION
    daemon = cranes.daemon(program=LATER, LATER_SCRIPT=SCRIPT)
    wait_for(client, STARTED)
    assert said(client)[-1] == STARTED
    assert format_of(cranes) == FORMAT_VERSION + 1
    assert len(list(cranes.folder.glob(f"config.db.format-{FORMAT_VERSION}.*"))) == 2, (
        "a copy of each attempt"
    )
    assert retained(raw_client(cranes.broker_url), CRANE) == before
    assert any("store_upgraded" in line for line in daemon.talk)


def test_schema_older_and_the_migration_fails(
    cranes: House, broker: Broker, raw_client: ClientFactory, listener: Callable[[], RawClient]
) -> None:
    before, client = retained(raw_client(cranes.broker_url), CRANE), listener()
    cranes.daemon(program=LATER, LATER_SCRIPT="CREATE TABLE access_log (id INTEGER);")
    wait_for(client, ("schema-mismatch", "read-only-fallback", False, True, "schema-too-old"))
    until(lambda: conditions(cranes) == {"schema-too-old", "upgrade-failed"}, "both conditions")
    told = json.loads(client.messages[-1].payload)["conditions"]
    assert "access_log already exists" in next(c["detail"] for c in told if c["name"] == "upgrade-failed")
    assert format_of(cranes) == FORMAT_VERSION
    broker.wipe()
    assert retained(raw_client(cranes.broker_url), CRANE) == before
