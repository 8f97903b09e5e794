"""Bugs that were found by using the daemon, each as a user would meet it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil

from config_daemon.store.status import StatusView
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.e2e.house import House, until
from tests.e2e.test_inputs import env_lines
from tests.e2e.test_weather import TOPIC, Locker, conditions, confirmed, facts, retained
from tests.real_broker import Broker


def test_a_first_start_without_a_broker_does_not_spin(broker: Broker, house: House) -> None:
    broker.stop()
    house.set("stt-worker", vad_threshold=0.6)
    daemon = psutil.Process(house.daemon().pid)
    until(lambda: "broker-down" in conditions(house), "the condition broker-down")
    before, began = sum(daemon.cpu_times()[:2]), time.monotonic()
    until(lambda: time.monotonic() - began > 2.0, "two seconds of idling")
    assert (sum(daemon.cpu_times()[:2]) - before) / (time.monotonic() - began) < 0.2


def test_a_change_made_while_the_daemon_was_away_is_no_foreign_write(house: House) -> None:
    first = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    assert first.stop() == 0
    version = house.set("stt-worker", vad_threshold=0.2)
    second = house.daemon()
    until(lambda: facts(house).get("pid") == second.pid, "the second daemon")
    confirmed(house, version)
    confirmed(house, house.set("tts-worker", volume_percent=50), "tts-worker")
    assert "foreign-write" not in conditions(house)


def test_a_kill_before_the_cache_and_a_locked_start_end_in_no_hold(house: House) -> None:
    first = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    until(lambda: house.files.cache.exists(), "the cache")
    assert first.stop() == 0
    dying = house.daemon(failpoint="after_confirm:kill")
    house.set("stt-worker", vad_threshold=0.2)
    assert dying.wait() == -signal.SIGKILL
    locker = Locker(house.files.database)
    locker.lock()
    third = house.daemon()
    until(
        lambda: facts(house).get("pid") == third.pid and "db-locked" in conditions(house), "the lock noticed"
    )
    locker.unlock()
    until(lambda: facts(house).get("mode") == "normal", "normal again")
    confirmed(house, house.set("stt-worker", vad_threshold=0.3))


def test_a_missing_env_is_guarded_at_every_start(
    house: House, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """With credentials the daemon can start without `.env`; the value that it gave must not fall back."""
    keys = {entry.name: entry.value for entry in house.ground.env_file.entries.values()}
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, credential in (
        ("CONFIG_SIGNATURE_PRIVATE_KEY", "signing-key"),
        ("CONFIG_MASTER_KEY_BASE64", "master-key"),
        ("LKG_HMAC_KEY_BASE64", "lkg-hmac-key"),
    ):
        (credentials / credential).write_text(keys[name])
        (credentials / credential).chmod(0o600)
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    daemon = house.daemon(**environment)
    house.set("stt-worker", vad_threshold=0.5)
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=0.9")
    client = raw_client(house.broker_url)
    until(lambda: json.loads(retained(client))["config"]["vad_threshold"] == 0.9, "the value of .env")
    assert daemon.stop() == 0
    house.files.environment.rename(house.folder / "env.away")
    for _ in range(2):
        daemon = house.daemon(**environment)
        pid = daemon.pid
        until(
            lambda pid=pid: facts(house).get("pid") == pid and "env-missing" in conditions(house),
            "env-missing",
        )
        until(lambda: facts(house).get("health"), "a health message")
        assert json.loads(retained(client))["config"]["vad_threshold"] == 0.9
        assert daemon.stop() == 0


def test_the_cache_is_written_although_one_service_is_denied(
    broker_factory: BrokerFactory, tmp_path: Path
) -> None:
    acl = "user daemon\ntopic deny system/config/tts-worker\ntopic readwrite system/#\n"
    broker = broker_factory(users={"daemon": "pw"}, acl=acl)
    house = House(tmp_path / "data", broker.url_for("daemon", "pw"))
    try:
        house.daemon()
        house.set("tts-worker", volume_percent=50)
        confirmed(house, house.set("stt-worker", vad_threshold=0.6))
        until(lambda: house.files.cache.exists(), "the cache")
    finally:
        house.close()


def test_rubbish_among_the_requests_harms_nobody(house: House) -> None:
    house.daemon()
    (house.files.requests / "folder.json").mkdir()
    (house.files.requests / "link.json").symlink_to("/nowhere")
    (house.files.requests / "torn.json").write_text("{")
    until(lambda: StatusView(house.files.status).answer("torn"), "the answer to what is no request")
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))


def test_a_foreign_state_hold_survives_a_restart(house: House, raw_client: ClientFactory) -> None:
    """A host without a past finds its own messages on the broker: only a person can say what that means."""
    first = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.6))
    assert first.stop() == 0
    for name in ("marks.json", "config.lkg.json", "config.lkg.json.1"):
        (house.folder / name).unlink(missing_ok=True)
    before = retained(raw_client(house.broker_url))
    for _ in range(2):
        daemon = house.daemon()
        pid = daemon.pid
        until(
            lambda pid=pid: facts(house).get("pid") == pid and "foreign-state" in conditions(house),
            "the hold",
        )
        assert daemon.stop() == 0
    assert retained(raw_client(house.broker_url)) == before
    assert not house.files.cache.exists()
    code, _, error = house.cli("adopt", "--db", "--yes")
    assert code == 0, error
    house.daemon()
    until(lambda: retained(raw_client(house.broker_url), TOPIC) != before, "the adopted config")


def test_a_first_life_that_dies_early_is_no_foreign_state(house: House) -> None:
    dying = house.daemon(failpoint="after_send:kill")
    house.set("stt-worker", vad_threshold=0.1)
    assert dying.wait() == -signal.SIGKILL
    second = house.daemon()
    until(lambda: facts(house).get("pid") == second.pid, "the second daemon")
    confirmed(house, 1)
    assert "foreign-state" not in conditions(house)


def test_an_unwritable_cache_is_told_until_it_can_be_written(house: House) -> None:
    previous = house.files.cache.with_name(f"{house.files.cache.name}.1")
    previous.mkdir()
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    until(lambda: house.files.cache.exists(), "the first cache")
    confirmed(house, house.set("stt-worker", vad_threshold=0.2))
    until(lambda: "lkg-unwritable" in conditions(house), "the condition lkg-unwritable")
    previous.rmdir()
    until(lambda: "lkg-unwritable" not in conditions(house), "written again", 20)
