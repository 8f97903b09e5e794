"""Every input that the daemon follows while it runs: .env, schema files, rows edited by hand."""

from __future__ import annotations

import json
from typing import Any

import apsw
import pytest

from config_daemon.errors import NotFound
from config_daemon.store.status import StatusView
from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House, until
from tests.e2e.test_weather import retained

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {"speed": {"type": "integer", "minimum": 0, "default": 3, "description": "how fast"}},
}

KEYS = ("CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_MASTER_KEY_BASE64", "LKG_HMAC_KEY_BASE64")


def env_lines(house: House, *lines: str) -> None:
    """Write lines below the keys of `.env`, as an editor does: a new file renamed over the old one."""
    path = house.files.environment
    kept = [line for line in path.read_text().splitlines() if "__" not in line.partition("=")[0]]
    beside = path.with_name(".env.swp")
    beside.write_text("\n".join([*kept, *lines]) + "\n")
    beside.chmod(0o600)
    beside.replace(path)


def board(house: House) -> StatusView:
    return StatusView(house.files.status)


def service(house: House, name: str = "stt-worker") -> dict[str, Any]:
    row = board(house).service(name)
    return row._asdict() if row else {}


def value(house: House) -> Any:
    """Return the effective threshold of stt-worker as the daemon tells it."""
    return json.loads(service(house).get("effective_json", "{}")).get("vad_threshold")


def confirmed_value(house: House, threshold: float) -> None:
    until(
        lambda: (value(house), service(house).get("state")) == (threshold, "confirmed"),
        f"the broker holds {threshold}",
    )


def condition(house: House, name: str) -> dict[str, Any] | None:
    found = [dict(zip(("name", "subject", "severity", "since", "detail"), row, strict=False)) for row in
             board(house).conditions()]  # fmt: skip
    return next((c for c in found if c["name"] == name), None)


def test_env_wins_over_the_database_and_falls_back_when_removed(house: House) -> None:
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.6))
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=0.9")
    until(lambda: value(house) == 0.9, "the value of .env")
    code, out, _ = house.cli("get", "stt-worker", "vad_threshold", "--source", "--json")
    assert code == 0
    assert str(house.files.environment) in json.loads(out)["source"]
    code, _, error = house.cli("set", "stt-worker", "vad_threshold=0.5")
    assert code == 4
    assert ".env" in error
    env_lines(house)
    until(lambda: value(house) == 0.6, "the database's value again")


def test_a_broken_env_changes_nothing_and_is_told(house: House) -> None:
    house.daemon()
    worker = house.worker()
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=0.9")
    worker.wait_for(house.set("stt-worker", channels=2))
    until(lambda: value(house) == 0.9, "the value of .env")
    env_lines(house, 'STT_WORKER__VAD_THRESHOLD="0.1')
    until(lambda: condition(house, "env-invalid"), "the condition env-invalid")
    assert value(house) == 0.9
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=0.3")
    until(lambda: value(house) == 0.3, "the mended value")
    assert condition(house, "env-invalid") is None


def test_an_env_that_lost_the_daemons_keys_is_torn_and_changes_nothing(
    house: House, raw_client: ClientFactory
) -> None:
    house.daemon()
    house.set("stt-worker", vad_threshold=0.5)
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=0.9")
    confirmed_value(house, 0.9)
    client = raw_client(house.broker_url)
    before, whole = retained(client), house.files.environment.read_bytes()
    secrets = [house.ground.env_file.get(name) for name in KEYS]
    house.files.environment.write_bytes(b"")
    told = until(lambda: condition(house, "env-invalid"), "the condition env-invalid")["detail"]
    assert all(name in told for name in KEYS)
    assert "put the file back" in told
    assert not any(secret in told for secret in secrets)
    house.files.environment.write_bytes(whole)
    until(lambda: condition(house, "env-invalid") is None, "the file put back")
    assert retained(client) == before, "the database's value was never sent"
    house.set("stt-worker", channels=2)
    until(lambda: service(house).get("config_version") == 2, "the next change")
    assert value(house) == 0.9


def test_an_invalid_value_in_env_holds_back_its_service_only(house: House) -> None:
    house.daemon()
    worker = house.worker()
    version = house.set("stt-worker", vad_threshold=0.6)
    worker.wait_for(version)
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=loud")
    until(lambda: service(house).get("state") == "invalid", "the state invalid")
    house.set("tts-worker", volume_percent=50)
    until(lambda: service(house, "tts-worker").get("state") == "confirmed", "the other service")
    assert [report["config_version"] for report in worker.applied] == [version]


def test_a_misspelt_name_in_env_is_told_with_the_one_meant(house: House) -> None:
    house.daemon()
    env_lines(house, "STT_WORKER__VAD_TRESHOLD=0.9")
    found = until(lambda: condition(house, "env-unknown"), "the condition env-unknown")
    assert "STT_WORKER__VAD_THRESHOLD" in found["detail"]


def test_a_secret_in_env_is_known_by_name_only(house: House) -> None:
    house.daemon()
    env_lines(house, "LLM_WORKER__API_KEY=canary-5f2c")
    house.set("llm-worker", temperature=0.5)
    found = until(lambda: condition(house, "secrets-held-back"), "the condition secrets-held-back")
    assert found["severity"] == "info"
    until(lambda: service(house, "llm-worker").get("state") == "confirmed", "published without the secret")
    until(lambda: house.files.cache.exists(), "the cache")
    for path in house.folder.rglob("*"):
        if path.is_file() and path.name != ".env":
            assert b"canary-5f2c" not in path.read_bytes(), path


def test_a_schema_file_dropped_in_defines_a_service(house: House) -> None:
    house.daemon()
    with pytest.raises(NotFound):
        house.set("crane", speed=4)
    (house.files.schemas / "crane.schema.json").write_text(json.dumps(SCHEMA))
    house.set("crane", speed=4)
    until(lambda: service(house, "crane").get("state") == "confirmed", "published")


def test_a_schema_file_that_is_none_is_told(house: House) -> None:
    house.daemon()
    (house.files.schemas / "crane.schema.json").write_text("{")
    assert "crane" in until(lambda: condition(house, "schema-file-invalid"), "the condition")["subject"]


def test_a_row_edited_by_hand_is_not_published_until_it_is_adopted(house: House) -> None:
    house.daemon()
    worker = house.worker()
    first = house.set("stt-worker", vad_threshold=0.6)
    worker.wait_for(first)
    connection = apsw.Connection(str(house.files.database))
    connection.execute("UPDATE service_configs SET config_json = '{\"vad_threshold\":0.1}'")
    connection.close()
    until(lambda: service(house).get("state") == "row-corrupted", "the state row-corrupted")
    until(lambda: board(house).daemon().get("mode") == "read-only-fallback", "the fallback")
    assert board(house).daemon()["database_status"] == "corrupted"
    code, out, error = house.cli("adopt", "stt-worker", "--yes", "--json")
    assert code == 0, error
    worker.wait_for(json.loads(out)["config_version"])
    assert [report["config_version"] for report in worker.applied] == [first, first + 1]
    until(lambda: board(house).daemon()["mode"] == "normal", "normal again")


def test_get_shows_the_value_of_env_that_is_wrong_and_says_that_nothing_is_published(house: House) -> None:
    house.daemon()
    house.set("stt-worker", vad_threshold=0.6)
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=loud")
    until(lambda: service(house).get("state") == "invalid", "the state invalid")
    code, out, talk = house.cli("get", "stt-worker", "vad_threshold")
    assert (code, out) == (0, "loud\n")
    assert "not published" in talk
    assert ".env line" in talk
