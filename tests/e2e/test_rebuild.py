"""A store that is lost while a daemon runs: by a person's word or by itself it comes back, and workers go on."""

from __future__ import annotations

import json
import shutil
import signal
import time
from typing import Any

import apsw
import pytest

from config_daemon.store import journal
from config_daemon.store.cache import load
from config_daemon.store.status import StatusView
from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House, Process, until
from tests.e2e.test_weather import HEALTH, conditions, confirmed, facts


def running(house: House, **environment: str) -> Process:
    """Start a daemon that has published two services, and has them in its cache."""
    daemon = house.daemon(**environment)
    confirmed(house, house.set("router", router_stream_min_chars=9), "router")
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    cached(house, "stt-worker", 1)
    return daemon


def cached(house: House, service: str, version: int) -> None:
    def look() -> bool:
        found = load(house.files.cache, house.ground.keys.hmac_keys())
        return (
            found is not None
            and service in found.sealed
            and (found.sealed[service].fingerprint.config_version == version)
        )

    until(look, f"{service} version {version} in the cache")


def lose(house: House) -> None:
    for path in house.folder.glob("config.db*"):
        path.unlink()


def garble(house: House) -> None:
    """Put rubbish into the database's place."""
    rubbish = house.folder / "rubbish"
    rubbish.write_bytes(b"rubbish " * 4096)
    lose(house)
    rubbish.rename(house.files.database)


def changed(client: Any) -> list[tuple[str, str]]:
    """Return status and mode of the daemon as the world was told, without repetitions."""
    said = [json.loads(message.payload) for message in client.messages]
    found = [(one["database_status"], one["operational_mode"]) for one in said]
    return [pair for before, pair in zip([None, *found], found, strict=False) if pair != before]


def stored(house: House, service: str) -> dict[str, Any]:
    db = apsw.Connection(str(house.files.database))
    try:
        statement = "SELECT config_json FROM service_configs WHERE service = ?"
        return dict(json.loads(next(iter(db.execute(statement, (service,))))[0]))
    finally:
        db.close()


def lives(house: House, daemon: Process) -> None:
    """Wait for a daemon that was just started, where another one has left its word."""
    until(lambda: (facts(house).get("pid"), facts(house).get("mode")) == (daemon.pid, "normal"), "the daemon")


def waits(daemon: Process) -> None:
    until(lambda: any("rebuild_waits" in line for line in daemon.talk), "that the daemon waits for a person")


def quarantined(house: House) -> list[str]:
    folder = house.files.quarantine
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


@pytest.mark.parametrize("damage", [lose, garble])
def test_where_it_is_allowed_a_lost_database_comes_back_by_itself_within_five_seconds(
    house: House, raw_client: ClientFactory, damage: Any
) -> None:
    daemon = running(house, ALLOW_AUTO_REBUILD="1")
    worker = house.worker()
    worker.wait_for(1)
    client = raw_client(house.broker_url)
    client.subscribe(HEALTH)
    client.wait_for_topic(HEALTH)
    epoch, began = facts(house)["epoch"], time.monotonic()
    damage(house)
    until(lambda: facts(house)["epoch"] != epoch and facts(house)["mode"] == "normal", "another life")
    assert time.monotonic() - began < 5
    client.wait_for(lambda messages: json.loads(messages[-1].payload)["ok"])
    assert changed(client) == [
        ("healthy", "normal"), ("corrupted", "read-only-fallback"), ("corrupted", "rebuilding"), ("healthy", "normal"),
    ]  # fmt: skip
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    confirmed(house, 1, "router")
    cached(house, "stt-worker", 2)
    assert not [report for report in worker.reports if report["state"] == "rejected"]
    info = journal.load(house.files.rebuild_info, house.ground.keys.hmac_keys())
    assert info is not None and (info.by, info.state) == ("config-daemon", "done")
    # what is lost again at once is a person's matter, also for the next process
    lose(house)
    until(lambda: "db-missing" in conditions(house), "the second loss")
    waits(daemon)
    daemon.kill()
    daemon = house.daemon(ALLOW_AUTO_REBUILD="1")
    waits(daemon)
    assert not house.files.database.exists()
    assert house.cli("rebuild", "--yes")[0] == 0
    confirmed(house, 2)
    assert stored(house, "stt-worker") == {"vad_threshold": 0.2}


def test_without_a_word_nothing_is_rebuilt_and_a_persons_word_is_announced(
    house: House, raw_client: ClientFactory
) -> None:
    running(house)
    worker = house.worker()
    worker.wait_for(1)
    client = raw_client(house.broker_url)
    client.subscribe(HEALTH)
    lose(house)
    until(lambda: "db-missing" in conditions(house), "the loss")
    assert "database missing" in house.cli("status")[1]
    assert house.cli("set", "stt-worker", "vad_threshold=0.3")[0] == 69
    code, out, error = house.cli(
        "restore", "--from", "lkg", "--yes", "--json", "--reason", "somebody deleted it"
    )
    assert code == 0, error
    now, done = house.status(), json.loads(out)
    assert (now["operational_mode"], now["database_status"]) == ("normal", "healthy")
    assert "db-missing" not in {condition["name"] for condition in now["conditions"]}
    assert (done["services"], done["lost"]["services"]) == (2, {})
    assert done["lost"]["after"]["feed"] > 0
    until(
        lambda: facts(house)["epoch"] == done["config_epoch"] and facts(house)["mode"] == "normal", "the end"
    )
    assert ("corrupted", "rebuilding") in changed(client)
    assert client.messages and "rebuilding" in {
        json.loads(m.payload)["operational_mode"] for m in client.messages
    }
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    assert json.loads(house.files.epoch.read_text())["last_rebuild"]
    assert house.status()["last_rebuild"]["reason"] == "somebody deleted it"


def test_a_copy_is_restored_while_the_daemon_runs_and_a_bad_one_is_refused(
    house: House, raw_client: ClientFactory
) -> None:
    running(house)
    client = raw_client(house.broker_url)
    client.subscribe(HEALTH)
    worker = house.worker()
    worker.wait_for(1)
    copy = house.folder.parent / "copy.db"
    db = apsw.Connection(str(house.files.database))
    db.execute(f"VACUUM INTO '{copy}'")
    db.close()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.9))
    bad = shutil.copy(copy, house.folder.parent / "bad.db")
    db = apsw.Connection(str(bad))
    db.execute("UPDATE service_configs SET version = 5")
    db.close()
    for words in (["--yes"], ["--dry-run"]):
        code, _, error = house.cli("restore", "--from", f"{copy}.typo", *words)
        assert (code, "No such file" in error) == (69, True), error
    code, _, error = house.cli("rebuild", "--yes")
    assert (code, "--force" in error) == (4, True), error
    code, out, error = house.cli("restore", "--from", str(copy), "--dry-run", "--json")
    assert code == 0, error
    foreseen = json.loads(out)
    assert foreseen["sound"]
    assert "rebuilding" not in {mode for _, mode in changed(client)}
    code, _, error = house.cli("restore", "--from", str(bad), "--yes")
    assert (code, "router, stt-worker" in error) == (69, True), error
    code, out, error = house.cli("restore", "--from", str(copy), "--yes", "--json")
    assert code == 0, error
    assert json.loads(out)["lost"] == foreseen["lost"]
    assert foreseen["lost"]["services"] == {"stt-worker": {"from": 2, "to": 1}}
    assert foreseen["lost"]["history_rows"] == 1
    until(
        lambda: [r["config_version"] for r in worker.applied] == [1, 2, 1], "the copy's values at the worker"
    )
    until(lambda: facts(house)["mode"] == "normal", "normal")


def test_who_asked_a_daemon_that_died_meanwhile_reads_what_was_asked_and_what_to_do(house: House) -> None:
    daemon = running(house)
    daemon.stop()
    daemon = house.daemon(failpoint="rebuild_moved:kill")
    lives(house, daemon)
    code, _, error = house.cli("rebuild", "--force", "--yes")
    assert code == 69, error
    assert daemon.wait() == -signal.SIGKILL
    assert "the daemon ended before it answered `config-daemon rebuild`" in error
    assert "Start the daemon: it finishes what was begun" in error
    half = house.cli("rebuild", "--dry-run")[1]
    assert "began at" in half and "is half done, and is finished first" in half
    lives(house, house.daemon())
    assert house.status()["last_rebuild"]["state"] == "done"


@pytest.mark.parametrize(
    "point", ["rebuild_intended", "rebuild_moved", "rebuild_cache_aside", "rebuild_marked"]
)
def test_a_daemon_that_dies_in_a_rebuild_ends_it_at_its_next_start_and_answers_once(
    house: House, point: str
) -> None:
    daemon = running(house)
    house.set("stt-worker", vad_threshold=0.5)
    confirmed(house, 2)
    daemon.stop()
    daemon = house.daemon(failpoint=f"{point}:kill")
    confirmed(house, 2)
    request = house.files.requests / "the-request.json"
    beside = request.with_suffix(".new")
    beside.write_text(json.dumps({"kind": "rebuild", "by": "test", "arguments": {"force": True}}))
    beside.rename(request)
    assert daemon.wait() == -signal.SIGKILL
    house.daemon()
    answer = until(lambda: StatusView(house.files.status).answer("the-request"), "the answer")
    assert answer[0] == "done", answer
    assert not request.exists()
    until(lambda: facts(house).get("epoch") == answer[1]["config_epoch"], "the new life")
    confirmed(house, 2)
    assert stored(house, "stt-worker") == {"vad_threshold": 0.5}
    assert len(quarantined(house)) == 1
    assert house.set("stt-worker", vad_threshold=0.6) == 3
    confirmed(house, 3)
    assert not conditions(house)
