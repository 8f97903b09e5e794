"""What decides whether other models are taken, and what does not: the real daemon in the simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.catalog.catalog import Catalog
from config_daemon.daemon import sight
from config_daemon.store.ports import Edit
from config_daemon.store.status import StatusView
from config_daemon.store.writer import SqliteWriter
from tests.fleet import Fleet
from tests.fleet_host import by_hand
from tests.fleet_laws import TTS

SPEED = {"type": "integer", "default": 3, "description": "how fast"}
NAME = {"type": "string", "description": "what it is called"}
CRANE = "system/config/crane"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def define(fleet: Fleet, service: str = "crane", required: tuple[str, ...] = (), **properties: Any) -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
              "additionalProperties": False, "properties": properties, "required": list(required)}  # fmt: skip
    beside = fleet.host.files.schemas / "beside"
    beside.write_text(json.dumps(schema))
    beside.replace(fleet.host.files.schemas / f"{service}.schema.json")


def write(fleet: Fleet, service: str = "crane", **values: Any) -> None:
    files = fleet.host.files
    writer = SqliteWriter(
        files.database, fleet.host.ground.keys.row_sealer(), Catalog.load(files.schemas),
        lock=files.store_lock, now=lambda: "2026-01-02T03:04:05.678Z", synchronous="OFF",
    )  # fmt: skip
    with closing(writer):
        writer.commit([Edit(service, lambda stored: {**stored, **values})], by="test")


def published(fleet: Fleet, topic: str = CRANE) -> dict[str, Any] | None:
    raw = fleet.server.retained.get(topic)
    return None if raw is None else json.loads(raw)["config"]


def said(fleet: Fleet) -> tuple[object, ...]:
    health = fleet.health
    return health["database_status"], health["operational_mode"], health["ok"], health["event"]


def recorded(fleet: Fleet) -> tuple[int, str]:
    with closing(apsw.Connection(str(fleet.host.files.database))) as connection:
        return next(iter(connection.execute("SELECT version, model_hash FROM schema_version")))


def is_recorded(fleet: Fleet) -> bool:
    return recorded(fleet)[1] == Catalog.load(fleet.host.files.schemas).model_hash


def follow(fleet: Fleet) -> None:
    """Let the daemon see the schema folder: without a hint it looks every five seconds."""
    fleet.run(7.0, turn=0.25)


MISMATCH = ("schema-mismatch", "read-only-fallback", False, "model-hash")


def test_a_value_of_env_that_breaks_its_definition_decides_nothing(fleet: Fleet) -> None:
    path = fleet.host.files.environment
    path.write_text(f"{path.read_text()}TTS_WORKER__VOLUME_PERCENT=900\n")
    fleet.until(lambda: "row-invalid" in fleet.conditions)
    define(fleet, speed=SPEED)
    follow(fleet)
    assert is_recorded(fleet)
    assert said(fleet)[3] == "schema-upgraded"
    assert {"row-invalid"} == fleet.conditions


def test_a_service_without_a_definition_decides_nothing(fleet: Fleet) -> None:
    define(fleet, speed=SPEED)
    follow(fleet)
    write(fleet, speed=4)
    follow(fleet)
    (fleet.host.files.schemas / "crane.schema.json").unlink()
    follow(fleet)
    assert is_recorded(fleet)
    assert fleet.conditions == {"definition-missing"}
    assert published(fleet) == {"speed": 4}
    define(fleet, speed={**SPEED, "maximum": 3})
    follow(fleet)
    assert said(fleet) == MISMATCH, "it came back, and asks for less than what is stored"


def test_a_required_value_that_is_asked_of_a_published_config_is_a_mismatch(fleet: Fleet) -> None:
    define(fleet, speed=SPEED)
    follow(fleet)
    write(fleet, speed=4)
    follow(fleet)
    define(fleet, required=("name",), speed=SPEED, name=NAME)
    follow(fleet)
    assert said(fleet) == MISMATCH
    assert "crane (name)" in str(fleet.health["err"])
    write(fleet, name="north")
    follow(fleet)
    assert said(fleet) == ("healthy", "normal", True, "schema-upgraded")
    assert published(fleet) == {"speed": 4, "name": "north"}


def test_a_config_that_was_never_complete_decides_nothing(fleet: Fleet) -> None:
    define(fleet, required=("name",), speed=SPEED, name=NAME)
    follow(fleet)
    write(fleet, speed=4)
    follow(fleet)
    assert fleet.conditions == {"incomplete"}
    define(fleet, "lift", speed=SPEED)
    follow(fleet)
    assert is_recorded(fleet)
    assert fleet.conditions == {"incomplete"}


def test_a_row_that_somebody_edited_decides_nothing(fleet: Fleet) -> None:
    fleet.edit_row_by_hand(TTS, 900)
    define(fleet, speed=SPEED)
    follow(fleet)
    assert is_recorded(fleet)
    assert fleet.conditions == {"rows-corrupted"}


def test_nothing_new_is_published_while_a_config_does_not_fit(fleet: Fleet) -> None:
    define(fleet, speed=SPEED)
    define(fleet, "lift", speed=SPEED)
    follow(fleet)
    write(fleet, speed=4)
    write(fleet, "lift", speed=4)
    follow(fleet)
    fleet.stop_daemon()
    fleet.commit(TTS, 77)
    define(fleet, speed={**SPEED, "maximum": 3})
    define(fleet, "lift", speed=SPEED, name={**NAME, "default": "north"})
    before = dict(fleet.server.retained)
    fleet.wipe()
    fleet.start_daemon()
    follow(fleet)
    assert said(fleet) == MISMATCH
    configs = [topic for topic in before if topic.startswith("system/config/")]
    assert {topic: fleet.server.retained.get(topic) for topic in configs} == {
        topic: before[topic] for topic in configs
    }
    write(fleet, speed=1)
    follow(fleet)
    assert (published(fleet), published(fleet, "system/config/lift")) == (
        {"speed": 1}, {"speed": 4, "name": "north"},
    )  # fmt: skip
    fleet.settle()


def test_while_somebody_writes_the_record_waits_and_nothing_is_wrong(fleet: Fleet) -> None:
    with closing(apsw.Connection(str(fleet.host.files.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        define(fleet, speed=SPEED)
        follow(fleet)
        assert not is_recorded(fleet)
        assert "model-hash" not in fleet.conditions
        other.execute("ROLLBACK")
    fleet.run(1.0)
    assert is_recorded(fleet)
    assert recorded(fleet)[0] == 2


def test_a_record_that_cannot_be_written_is_told_and_tried_again(fleet: Fleet) -> None:
    database = fleet.host.files.database
    by_hand(
        database,
        "CREATE TRIGGER no BEFORE UPDATE ON schema_version BEGIN SELECT RAISE(ABORT, 'not today'); END",
    )
    define(fleet, speed=SPEED)
    follow(fleet)
    assert said(fleet) == MISMATCH
    assert "not today" in str(fleet.health["err"])
    by_hand(database, "DROP TRIGGER no")
    fleet.run(2.0)
    assert said(fleet) == ("healthy", "normal", True, "schema-upgraded")
    fleet.settle()


@pytest.mark.parametrize(
    ("point", "event"), [("before_commit", "schema-upgraded"), ("after_commit", "started")]
)
def test_a_kill_while_the_models_are_recorded_raises_the_version_once(
    fleet: Fleet, point: str, event: str
) -> None:
    define(fleet, speed=SPEED)
    fleet.crash_daemon_at(point)
    fleet.start_daemon()
    follow(fleet)
    assert said(fleet) == ("healthy", "normal", True, event)
    assert (recorded(fleet)[0], is_recorded(fleet)) == (2, True)


def test_who_may_be_written_is_told_again_to_a_new_status_db(fleet: Fleet) -> None:
    define(fleet, speed=SPEED)
    follow(fleet)
    write(fleet, speed=4)
    follow(fleet)
    define(fleet, speed={**SPEED, "maximum": 3})
    follow(fleet)
    for path in fleet.host.folder.glob("status.db*"):
        path.unlink()
    fleet.run(40.0, turn=0.25)  # something is told at least as often as health
    assert StatusView(fleet.host.files.status).daemon()["misfits"] == ["crane"]


def test_nothing_is_recorded_in_a_database_that_may_be_a_copy(fleet: Fleet) -> None:
    fleet.stop_daemon()
    fleet.lose_lkg()
    fleet.lose_marks()
    fleet.start_daemon()
    fleet.until(lambda: "foreign-state" in fleet.conditions)
    define(fleet, speed=SPEED)
    follow(fleet)
    assert not is_recorded(fleet)
    fleet.adopt()
    follow(fleet)
    assert is_recorded(fleet)


def test_the_last_row_that_is_read_decides_as_well(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "SLICE", 1)
    define(fleet, "zeppelin", speed=SPEED)
    follow(fleet)
    write(fleet, "zeppelin", speed=4)
    follow(fleet)
    before = recorded(fleet)
    fleet.stop_daemon()
    define(fleet, "zeppelin", speed={**SPEED, "maximum": 3})
    fleet.start_daemon()
    follow(fleet)
    assert said(fleet) == MISMATCH
    assert recorded(fleet) == before


@pytest.mark.parametrize("source", ["database", "cache"])
def test_a_rebuild_does_not_make_configs_fit(fleet: Fleet, source: str) -> None:
    define(fleet, speed=SPEED)
    fleet.run(2)
    write(fleet, speed=9)
    fleet.settle()
    define(fleet, speed={**SPEED, "maximum": 5})
    fleet.run(5)
    before = said(fleet)
    assert before[0] == "schema-mismatch"
    if source == "cache":
        fleet.close_writer()
        fleet.stop_daemon()
        for path in fleet.host.folder.glob("config.db*"):
            path.unlink()
        fleet.start_daemon()
        fleet.until(lambda: "db-missing" in fleet.conditions)
    fleet.ask("rebuild")
    fleet.run(10)
    assert said(fleet) == before
