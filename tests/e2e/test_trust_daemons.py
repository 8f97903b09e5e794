"""Daemons that forgot, were restored or copied; what passes for the daemon's health; a stolen connection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from config_daemon.wire.sealing import canonical
from tests.broker_fixtures import ClientFactory
from tests.e2e.attacker import Attacker, Machine, never_went_back, refused, running, told
from tests.e2e.house import House, Process, until
from tests.e2e.test_foul_play import TO_1970_NS, cached
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts

EVIDENCE = "system/evidence/stt-worker/demo"


@pytest.fixture
def attacker(house: House, raw_client: ClientFactory) -> Attacker:
    return Attacker(raw_client(house.broker_url))


# forgetting ---------------------------------------------------------------------------------------


def test_evidence_stops_a_daemon_that_lost_its_cache_its_marks_and_its_clock(
    house: House, attacker: Attacker, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "machine")
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    held = attacker.of_version(1)
    assert daemon.stop() == 0
    for name in ("config.lkg.json", "config.lkg.json.1", "marks.json"):
        (house.folder / name).unlink(missing_ok=True)
    attacker.put_back({})
    machine.believe(TO_1970_NS)
    house.daemon(**machine.environment)
    refused(worker, "rollback")
    assert attacker.last(EVIDENCE) == held, "unchanged"
    told(house, "not-the-newest")
    assert house.cli("adopt", "--db", "--yes")[0] == 0
    until(lambda: len(worker.applied) >= 2, "the adopted config")
    never_went_back(worker)


def test_evidence_makes_a_daemon_seal_anew_what_it_forgot(house: House, attacker: Attacker) -> None:
    """The value of `.env` went there and back, the cache is of the first, and the broker hides the second."""
    environment = house.files.environment
    plain = environment.read_text()
    there, back = (plain + f"STT_WORKER__VAD_THRESHOLD={value}\n" for value in (0.9, 0.8))
    write_env(environment, back)
    version = house.set("stt-worker", vad_threshold=0.1)
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(version)
    until(lambda: cached(house.files.cache) == version, "the cache")
    first, cache = attacker.of_version(version), house.files.cache.read_bytes()
    write_env(environment, there)
    until(lambda: len(worker.applied) == 2, "the value of .env")
    daemon.kill()
    worker.kill()
    house.files.cache.write_bytes(cache)
    write_env(environment, back)
    attacker.write(TOPIC, first)
    daemon = house.daemon()
    until(lambda: facts(house).get("pid") == daemon.pid, "the daemon")
    confirmed(house, 1)
    again = house.worker()
    until(lambda: len(again.applied) == 2, "the first value again, under a higher number")
    never_went_back(again)
    assert again.reports[0]["sequence"] > worker.applied[0]["sequence"]
    assert not conditions(house) & {"not-the-newest", "foreign-state"}


def write_env(path: Path, text: str) -> None:
    beside = path.with_name(".env.swp")
    beside.write_text(text)
    beside.chmod(0o600)
    beside.replace(path)


# restored -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("commits", [0, 1, 3])
def test_a_restored_daemon_publishes_nothing_also_once_it_is_past_its_old_height(
    house: House, attacker: Attacker, commits: int
) -> None:
    """Three versions were published; the restored database has one, and others are committed to it."""
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    assert daemon.stop() == 0
    shutil.copy(house.files.database, house.folder / "backup")
    daemon = house.daemon()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    confirmed(house, 3)
    assert daemon.stop() == 0
    for name in ("config.db", "config.db-wal", "config.db-shm"):
        (house.folder / name).unlink(missing_ok=True)
    shutil.copy(house.folder / "backup", house.files.database)
    for step in range(commits):
        house.set("stt-worker", vad_threshold=0.5 + step / 10)
    published = attacker.all(TOPIC)
    assert published[-1] == attacker.of_version(3)
    house.daemon()
    told(house, "not-the-newest")
    house.set("stt-worker", vad_threshold=0.9)
    attacker.write(TOPIC, attacker.of_version(1))
    refused(worker, "rollback")
    until(lambda: facts(house).get("mode") == "read-only-fallback", "the fallback")
    assert worker.applied[-1]["config_version"] == 3
    assert attacker.all(TOPIC) == [*published, attacker.of_version(1)], "nothing of the daemon's"
    assert house.cli("adopt", "--db", "--yes")[0] == 0
    until(lambda: len(worker.applied) == 4, "the adopted config")
    never_went_back(worker)


# copied -------------------------------------------------------------------------------------------


def test_a_copied_daemon_is_found_though_nobody_changes_anything(house: House, tmp_path: Path) -> None:
    first = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    assert first.stop() == 0
    shutil.copytree(house.folder, tmp_path / "copy")
    copy = House(tmp_path / "copy", house.broker_url)
    try:
        pids: list[Process] = [house.daemon(), copy.daemon()]
        until(
            lambda: [facts(one).get("pid") for one in (house, copy)] == [one.pid for one in pids],
            "two daemons",
        )
        until(
            lambda: ["not-the-newest" in conditions(one) for one in (house, copy)].count(True) == 1,
            "that one of them holds",
        )
    finally:
        copy.close()


# connections and health ---------------------------------------------------------------------------


def test_a_stolen_client_id_costs_a_connection_and_no_config(house: House, raw_client: ClientFactory) -> None:
    worker = running(house)
    thief = raw_client(house.broker_url, "demo")
    until(lambda: any("broke" in line for line in worker.talk), "the lost connection")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    thief.wait_for_disconnect()


def test_forged_health_and_a_replayed_will_tell_the_operator_nothing(
    house: House, attacker: Attacker
) -> None:
    running(house)
    topic = "system/health/config-daemon"
    healthy = json.loads(attacker.last(topic))
    attacker.write(topic, canonical({**healthy, "ok": False, "event": "offline"}))
    attacker.write(topic, b"")
    house.set("stt-worker", vad_threshold=0.3)
    confirmed(house, 3)
    assert "offline" not in str(facts(house)["health"])
    assert conditions(house) == set()
