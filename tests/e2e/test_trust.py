"""Whoever owns the broker writes what they like, and has kept every message: what workers and operators make of it.

What takes 90 s of waiting is in `tests/test_fleet_beacon.py` and `tests/worker/test_lookout.py`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import CONFIG_UPDATE
from config_daemon.wire.sealing import canonical, seal
from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House, Process, Worker, until
from tests.e2e.test_foul_play import TO_1970_NS, WallClock, cached
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts
from tests.raw_client import RawClient

TTS_TOPIC, BEACON = "system/config/tts-worker", "system/trust/beacon"
EVIDENCE = "system/evidence/stt-worker/demo"
DAY_NS = 86_400 * 1_000_000_000
OWN_KEY = SigningKey(b"\x07" * 32)


class Attacker:
    """Owns the broker: reads all, writes all, forgets nothing."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        client.subscribe("system/#", no_local=True, retain_as_published=True)

    def last(self, topic: str) -> bytes:
        """Return the newest message that was ever on a topic; wait for the first."""
        return self.all(topic)[-1]

    def all(self, topic: str) -> list[bytes]:
        """Return every message that was ever on a topic, oldest first."""
        self._client.wait_for_topic(topic)
        return [message.payload for message in list(self._client.messages) if message.topic == topic]

    def of_version(self, version: int, topic: str = TOPIC) -> bytes:
        """Return the last message with this version, once it has come."""

        def look(messages: Any) -> bytes:
            fits = [
                message.payload
                for message in messages
                if message.topic == topic
                and message.payload
                and json.loads(message.payload)["config_version"] == version
            ]
            return fits[-1] if fits else b""

        return bytes(self._client.wait_for(look))

    def write(self, topic: str, raw: bytes, retain: bool = True) -> None:
        """Write as anybody may."""
        self._client.publish(topic, raw, retain=retain)

    def put_back(self, state: dict[str, bytes]) -> None:
        """Have the broker retain what it retained once, and nothing else below configs and trust."""
        now = {message.topic for message in list(self._client.messages)}
        for topic in now - set(state):
            if topic.startswith(("system/config/", "system/trust/")):
                self.write(topic, b"")
        for topic, raw in state.items():
            self.write(topic, raw)

    def state(self) -> dict[str, bytes]:
        """Return what the broker retains now of configs and beacons."""
        return {
            message.topic: message.payload
            for message in list(self._client.messages)
            if message.topic.startswith(("system/config/", "system/trust/"))
        }


@pytest.fixture
def attacker(house: House, raw_client: ClientFactory) -> Attacker:
    return Attacker(raw_client(house.broker_url))


def running(house: House, first: float = 0.1, second: float = 0.2) -> Worker:
    """Start a daemon and a worker that has taken two versions."""
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=first))
    worker.wait_for(house.set("stt-worker", vad_threshold=second))
    confirmed(house, 2)
    return worker


def refused(worker: Worker, reason: str) -> dict[str, Any]:
    """Wait until the worker refused something for a reason."""
    return until(
        lambda: next((report for report in worker.reports if report["reason"] == reason), None),
        f"a refusal {reason}; {worker.lines[-3:]}",
    )


def never_went_back(worker: Worker) -> None:
    versions = [report["config_version"] for report in worker.applied]
    numbers = [report["sequence"] for report in worker.applied]
    assert numbers == sorted(set(numbers)), versions


def told(house: House, condition: str) -> None:
    until(lambda: condition in conditions(house), f"the condition {condition}; {conditions(house)}")


def worker_with(house: House, clock: WallClock, name: str) -> Worker:
    """Start a worker whose machine believes in another time."""
    process = Worker(
        [sys.executable, "-m", "config_daemon.cli.demo_worker"],
        {
            "DEMO_MQTT_URL": house.broker_url, "CONFIG_SIGNATURE_PUBLIC_KEY": house.public_key,
            "DEMO_SERVICE": "stt-worker", "DEMO_WORKER": name, "DEMO_STATE": str(house.folder / f"worker-{name}"),
            **clock.environment,
            "PYTHONPATH": os.pathsep.join(filter(None, (clock.environment["PYTHONPATH"], os.getenv("PYTHONPATH")))),
        },
    )  # fmt: skip
    house._processes.append(process)
    return process


# what is written over a config ----------------------------------------------------------------------


def forged(raw: bytes, key: SigningKey = OWN_KEY, **changes: Any) -> bytes:
    """Return a message with members changed, under somebody's own signature."""
    body = json.loads(raw) | changes
    body.pop("signature")
    return seal(canonical(body), CONFIG_UPDATE, key)


def altered(raw: bytes, **changes: Any) -> bytes:
    """Return a message with members changed under its old signature."""
    body = json.loads(raw) | changes
    body.pop("signature")
    return canonical(body)[:-1] + raw[-104:]


def with_trailing_bits(raw: bytes) -> bytes:
    """Return the same signature in base64 of another spelling."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = raw[-5:-4]
    other = alphabet[alphabet.index(last) ^ 1 :][:1]
    spelled = raw[:-5] + other + raw[-4:]
    assert base64.b64decode(spelled[-90:-2]) == base64.b64decode(raw[-90:-2])
    return spelled


FOUL: dict[str, tuple[str, Callable[[bytes, Attacker], bytes]]] = {
    "arbitrary content": ("bad-tail", lambda raw, _: b"hello"),
    "arbitrary config": ("bad-signature", lambda raw, _: altered(raw, config={"vad_threshold": 0.9})),
    "stripped signature": ("bad-tail", lambda raw, _: raw[:-104] + b"}"),
    "empty signature": ("bad-tail", lambda raw, _: raw[:-90] + b'"}'),
    "a message of another type": ("bad-signature", lambda raw, attacker: attacker.last(BEACON)),
    "a health message": (
        "bad-signature",
        lambda raw, attacker: attacker.last("system/health/config-daemon"),
    ),
    "a key taken from the message": (
        "bad-signature",
        lambda raw, _: forged(raw, key_id=key_id(bytes(OWN_KEY.verify_key)), sequence=2**53 - 1),
    ),
    "a stranger under our key id": ("bad-signature", lambda raw, _: forged(raw)),
    "fast-forwarded sequence": ("bad-signature", lambda raw, _: altered(raw, sequence=2**53 - 1)),
    "a higher generation": ("bad-signature", lambda raw, _: altered(raw, generation=2)),
    "a claimed tombstone": ("bad-signature", lambda raw, _: altered(raw, config={}, deleted=True)),
    "duplicate keys": (
        "bad-signature",
        lambda raw, _: raw.replace(b'"version":1', b'"version":1,"version":1'),
    ),
    "trailing-bit base64": ("bad-tail", lambda raw, _: with_trailing_bits(raw)),
    "oversize": ("oversize", lambda raw, _: b"x" * 1_048_576),
    "wiped": ("wiped", lambda raw, _: b""),
    "another service's message": ("wrong-service", lambda raw, attacker: attacker.of_version(1, TTS_TOPIC)),
    "an older message": ("rollback", lambda raw, attacker: attacker.of_version(1)),
}


@pytest.mark.parametrize("attack", FOUL)
def test_what_is_written_over_a_config_is_refused_by_name_and_put_right(
    house: House, attacker: Attacker, attack: str
) -> None:
    reason, make = FOUL[attack]
    house.set("tts-worker", volume_percent=50)
    worker = running(house)
    good = attacker.of_version(2)
    attacker.write(TOPIC, make(good, attacker))
    refused(worker, reason)
    told(house, "foreign-write")
    until(lambda: worker.reports[-1]["state"] == "held", "the good message again")
    until(lambda: attacker.last(TOPIC) == good, "the very bytes at the broker")
    never_went_back(worker)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))


# replay -------------------------------------------------------------------------------------------


def test_replay_of_an_older_message_live_is_refused(house: House, attacker: Attacker) -> None:
    worker = running(house)
    attacker.write(TOPIC, attacker.of_version(1), retain=False)
    refused(worker, "rollback")
    never_went_back(worker)


def test_replay_after_a_worker_restart_runs_what_it_kept(house: House, attacker: Attacker) -> None:
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    old = attacker.of_version(1)
    house._processes[0].stop()
    worker.kill()
    attacker.write(TOPIC, old)
    again = house.worker()
    again.wait_for(2)
    refused(again, "rollback")
    never_went_back(again)


def test_replay_during_a_daemon_restart_is_put_right_by_the_next(house: House, attacker: Attacker) -> None:
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    old, good = attacker.of_version(1), attacker.of_version(2)
    assert daemon.stop() == 0
    attacker.write(TOPIC, old)
    refused(worker, "rollback")
    next_one = house.daemon()
    until(lambda: facts(house).get("pid") == next_one.pid, "the next daemon")
    until(lambda: attacker.last(TOPIC) == good, "the good message at the broker")
    assert "not-the-newest" not in conditions(house)
    never_went_back(worker)


def test_replay_from_another_epoch_after_an_older_database_was_adopted(
    house: House, attacker: Attacker
) -> None:
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    assert daemon.stop() == 0
    shutil.copy(house.files.database, house.folder / "backup")
    daemon = house.daemon()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    assert daemon.stop() == 0
    for name in ("config.db", "config.db-wal", "config.db-shm"):
        (house.folder / name).unlink(missing_ok=True)
    shutil.copy(house.folder / "backup", house.files.database)
    assert house.cli("adopt", "--db", "--yes")[0] == 0
    newest = attacker.of_version(2)
    house.daemon()
    until(lambda: [r["config_version"] for r in worker.applied] == [1, 2, 1], "the adopted version")
    attacker.write(TOPIC, newest)
    refused(worker, "rollback")
    assert [r["config_version"] for r in worker.applied] == [1, 2, 1]
    told(house, "foreign-write")
    assert "not-the-newest" not in conditions(house)


# the whole broker ---------------------------------------------------------------------------------


def test_wiped_and_forged_retained_state_stops_nobody(house: House, attacker: Attacker) -> None:
    house.set("tts-worker", volume_percent=50)
    worker = running(house)
    good = attacker.of_version(2)
    beacon = attacker.last(BEACON)
    for topic in (TOPIC, TTS_TOPIC, BEACON):
        attacker.write(topic, b"")
    attacker.write(BEACON, forged(beacon, sequence=2**53 - 1))
    attacker.write("system/trust/beacon/00", b"garbage")
    attacker.write("system/config/made-up", forged(good, service="made-up"))
    attacker.write("system/evidence/stt-worker/demo", forged(good, sequence=2**53 - 1), retain=False)
    refused(worker, "wiped")
    until(lambda: attacker.last(TOPIC) == good, "the good message at the broker")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    told(house, "foreign-write")
    assert conditions(house) == {"foreign-write"}


def test_yesterdays_whole_broker_in_front_of_a_new_worker_runs_nothing(
    house: House, attacker: Attacker, tmp_path: Path
) -> None:
    """For this worker the broker's beacons are a day old."""
    running(house)
    clock = WallClock(tmp_path / "clock")
    clock.set(DAY_NS)
    new = worker_with(house, clock, "new")
    until(lambda: [r for r in new.reports if r["config_version"] == 2], "the config, held")
    house.set("tts-worker", volume_percent=50)  # has the daemon send another beacon, as old as the one before
    confirmed(house, 1, "tts-worker")
    until(lambda: len(attacker.all(BEACON)) >= 2, "another beacon")
    assert {(r["state"], tuple(r["flags"])) for r in new.reports} == {("held", ("unconfirmed",))}


def test_inside_the_freshness_window_a_new_worker_runs_what_was_true_then(
    house: House, attacker: Attacker
) -> None:
    """What is not promised: whoever has no floor cannot tell a minute ago from now."""
    daemon = house.daemon()
    house.worker().wait_for(house.set("stt-worker", vad_threshold=0.1))
    attacker.of_version(1)
    until(lambda: "stt-worker" in json.loads(attacker.last(BEACON))["services"], "a beacon that lists it")
    a_moment_ago = attacker.state()
    confirmed(house, house.set("stt-worker", vad_threshold=0.2))
    assert daemon.stop() == 0
    attacker.put_back(a_moment_ago)
    new = house.worker("new")
    assert new.wait_for(1)["flags"] == []
    house.daemon()
    new.wait_for(2)
    never_went_back(new)


def test_a_worker_that_woke_up_in_1970_runs_after_two_beacons_and_says_that_it_is_unsure(
    house: House, attacker: Attacker, tmp_path: Path
) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    until(lambda: "stt-worker" in json.loads(attacker.last(BEACON))["services"], "a beacon that lists it")
    clock = WallClock(tmp_path / "clock")
    clock.set(TO_1970_NS)
    new = worker_with(house, clock, "new")
    until(lambda: new.reports and new.reports[-1]["config_version"] == 1, "the config, held")
    assert new.applied == []
    house.set("tts-worker", volume_percent=50)  # has the daemon send another beacon
    assert new.wait_for(1)["flags"] == ["time-unsure"]


# forgetting, copies -------------------------------------------------------------------------------


def test_evidence_stops_a_daemon_that_lost_its_cache_its_marks_and_its_clock(
    house: House, attacker: Attacker, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path / "clock")
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    held = attacker.of_version(1)
    assert daemon.stop() == 0
    for name in ("config.lkg.json", "config.lkg.json.1", "marks.json"):
        (house.folder / name).unlink(missing_ok=True)
    attacker.put_back({})
    clock.set(TO_1970_NS)
    house.daemon(**clock.environment)
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
