"""More services than one turn of the loop, one window or one backlog holds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config_daemon.catalog.catalog import Catalog
from config_daemon.store.ports import Edit
from config_daemon.store.status import StatusView
from config_daemon.store.writer import SqliteWriter
from config_daemon.wire.messages import timestamp
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.e2e.house import House, until

SERVICES = 2500
SCHEMA = json.dumps(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"speed": {"type": "integer", "default": 3, "description": "how fast"}},
        "additionalProperties": False,
    }
)


@pytest.fixture
def house(broker_factory: BrokerFactory, tmp_path: Path) -> Iterator[House]:
    """A house whose broker saves seldom: our conf has Mosquitto write all it retains at every change."""
    broker = broker_factory(extra_conf="autosave_on_changes false\nautosave_interval 3600")
    house = House(tmp_path / "data", broker.url)
    yield house
    house.close()


@pytest.fixture
def names(house: House) -> list[str]:
    names = [f"crane-{number}" for number in range(SERVICES)]
    for name in names:
        (house.files.schemas / f"{name}.schema.json").write_text(SCHEMA)
    write(house, names, 4)
    return names


def write(house: House, names: list[str], speed: int) -> None:
    """Change all services in one transaction."""
    ground = house.ground
    writer = SqliteWriter(
        ground.files.database, ground.keys.row_sealer(), Catalog.load(ground.files.schemas),
        lock=ground.files.store_lock, now=lambda: timestamp(time.time_ns() // 1_000_000),
    )  # fmt: skip
    writer.commit([Edit(name, lambda stored: {**stored, "speed": speed}) for name in names], by="test")
    writer.close()


def all_confirmed(house: House, version: int) -> bool:
    rows = StatusView(house.files.status).services()
    return len(rows) == SERVICES and all((r.state, r.config_version) == ("confirmed", version) for r in rows)


def test_thousands_of_services_start_change_and_restart(
    house: House, names: list[str], raw_client: ClientFactory
) -> None:
    first = house.daemon()
    until(lambda: all_confirmed(house, 1), "every service after a cold start", 40)
    write(house, names, 5)
    until(lambda: all_confirmed(house, 2), "every service after one transaction", 40)
    until(lambda: house.files.cache.exists(), "the cache")
    assert first.stop() == 0
    client = raw_client(house.broker_url)
    client.subscribe("system/config/+")
    client.wait_for(lambda messages: len(messages) == SERVICES)
    client.clear()
    house.daemon()
    version = 3
    write(house, names[:1], 6)
    client.wait_for(
        lambda messages: any(json.loads(m.payload)["config_version"] == version for m in messages), 30
    )
    assert len(client.messages) == 1, "a restart sends only what differs"
