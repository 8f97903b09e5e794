"""Whoever owns the broker writes what they like, and has kept every message: what workers and operators make of it.

`docs/security.md` names these tests, those of the other files `test_trust_*.py`, and what each is about.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import CONFIG_UPDATE
from config_daemon.wire.sealing import seal
from tests.broker_fixtures import ClientFactory
from tests.e2e.attacker import (
    BEACON,
    HEALTH,
    HIGHEST,
    KEYRING,
    OWN_KEY,
    TTS_TOPIC,
    Attacker,
    altered,
    body_of,
    doubled,
    forged,
    never_went_back,
    refused,
    running,
    signed_so,
    told,
    with_trailing_bits,
    worker_with,
)
from tests.e2e.house import House, Worker, until
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts

Make = Callable[[bytes, Attacker], bytes]


@pytest.fixture
def attacker(house: House, raw_client: ClientFactory) -> Attacker:
    return Attacker(raw_client(house.broker_url))


# what is written over a config ----------------------------------------------------------------------


FOUL: dict[str, tuple[str, Make]] = {
    "arbitrary content": ("bad-tail", lambda raw, _: b"hello"),
    "arbitrary config": ("bad-signature", lambda raw, _: altered(raw, config={"vad_threshold": 0.9})),
    "stripped signature": ("bad-tail", lambda raw, _: raw[:-104] + b"}"),
    "empty signature": ("bad-tail", lambda raw, _: raw[:-90] + b'"}'),
    "a message of another type": ("bad-signature", lambda raw, attacker: attacker.last(BEACON)),
    "a health message": ("bad-signature", lambda raw, attacker: attacker.last(HEALTH)),
    "a key taken from the message": (
        "bad-signature",
        lambda raw, _: forged(raw, key_id=key_id(bytes(OWN_KEY.verify_key)), sequence=HIGHEST),
    ),
    "a stranger under our key id": ("bad-signature", lambda raw, _: forged(raw)),
    "fast-forwarded sequence": ("bad-signature", lambda raw, _: altered(raw, sequence=HIGHEST)),
    "a higher generation": ("bad-signature", lambda raw, _: altered(raw, generation=2)),
    "a claimed tombstone": ("bad-signature", lambda raw, _: altered(raw, config={}, deleted=True)),
    "duplicate keys": ("bad-signature", lambda raw, _: doubled(raw)[:-1] + raw[-104:]),
    "trailing-bit base64": ("bad-tail", lambda raw, _: with_trailing_bits(raw)),
    "oversize": ("oversize", lambda raw, _: b"x" * 1_048_576),
    "wiped": ("wiped", lambda raw, _: b""),
    "across services": ("wrong-service", lambda raw, attacker: attacker.of_version(1, TTS_TOPIC)),
    "an older message": ("rollback", lambda raw, attacker: attacker.of_version(1)),
}


@pytest.mark.parametrize("attack", FOUL)
def test_over_a_config(house: House, attacker: Attacker, attack: str) -> None:
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


SLOPPY: dict[str, Make] = {
    "duplicate keys": lambda raw, _: doubled(raw),
    "not a number": lambda raw, _: body_of(raw).replace(b'"vad_threshold":0.2', b'"vad_threshold":NaN'),
}


@pytest.mark.parametrize("attack", SLOPPY)
def test_sloppy_json_under_the_right_key(house: House, attacker: Attacker, attack: str) -> None:
    """Parsers disagree about it; somebody had the daemon's own key sign it."""
    worker = running(house)
    good = attacker.of_version(2)
    body = SLOPPY[attack](good, attacker)
    attacker.write(TOPIC, seal(body, CONFIG_UPDATE, house.ground.keys.signer().key))
    refused(worker, "bad-json")
    told(house, "foreign-write")
    until(lambda: attacker.last(TOPIC) == good, "the very bytes at the broker")
    never_went_back(worker)


TWISTED = {
    "a config as a beacon": (BEACON, "", lambda attacker: attacker.of_version(1)),
    "a config as a beacon's shard": (f"{BEACON}/00", "", lambda attacker: attacker.of_version(1)),
    "a config as a keyring": (KEYRING, "bad-signature", lambda attacker: attacker.of_version(1)),
    "a beacon as a keyring": (KEYRING, "bad-signature", lambda attacker: attacker.last(BEACON)),
    "a health message as a keyring": (KEYRING, "bad-signature", lambda attacker: attacker.last(HEALTH)),
    "a health message as a beacon": (BEACON, "", lambda attacker: attacker.last(HEALTH)),
    "a beacon as a shard": (f"{BEACON}/00", "", lambda attacker: attacker.last(BEACON)),
}


@pytest.mark.parametrize("attack", TWISTED)
def test_across_topics(house: House, attacker: Attacker, attack: str) -> None:
    topic, reason, find = TWISTED[attack]
    worker = running(house)
    before = attacker.last(BEACON)
    foul = find(attacker)
    attacker.write(topic, foul)
    if reason:
        refused(worker, reason, "keyring")
        told(house, "foreign-write")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    confirmed(house, house.set("tts-worker", volume_percent=50), "tts-worker")
    until(lambda: attacker.last(BEACON) not in (before, foul), "another beacon of the daemon's")
    assert conditions(house) <= {"foreign-write"}
    assert [report["config_version"] for report in worker.applied] == [1, 2, 3]
    assert {flag for report in worker.reports for flag in report["flags"]} <= {"unconfirmed"}


def test_a_small_order_key_is_not_even_loaded(house: House, attacker: Attacker) -> None:
    """Under the neutral point whatever has this signature is signed: S = 1 and R = 1·B, for any message."""
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    weak, one = (1).to_bytes(32, "little"), (1).to_bytes(32, "little")
    signature = crypto_scalarmult_ed25519_base_noclamp(one) + one
    good = attacker.of_version(1)
    attacker.write(TOPIC, signed_so(body_of(good, key_id=key_id(weak)), signature))
    worker = worker_with(house, CONFIG_SIGNATURE_PUBLIC_KEY=weak.hex())
    assert worker.wait() != 0
    assert "not a valid point" in "\n".join(worker.talk)
    assert worker.reports == []
    told(house, "foreign-write")


# replay -------------------------------------------------------------------------------------------


def test_replay_of_an_older_message_live_is_refused(house: House, attacker: Attacker) -> None:
    worker = running(house)
    attacker.write(TOPIC, attacker.of_version(1), retain=False)
    refused(worker, "rollback")
    told(house, "foreign-write")
    never_went_back(worker)


def test_replay_after_a_worker_restart_runs_what_it_kept(house: House, attacker: Attacker) -> None:
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    old = attacker.of_version(1)
    assert daemon.stop() == 0
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


@pytest.mark.parametrize("ended", ["stopped", "killed", "killed-without-cache"])
def test_replay_after_a_daemon_restart_is_refused_and_told(
    house: House, attacker: Attacker, ended: str
) -> None:
    """The daemon of today never sealed either message, and knows which of them is the older one."""
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    confirmed(house, 2)
    old, good = attacker.of_version(1), attacker.of_version(2)
    if ended == "stopped":
        assert daemon.stop() == 0
    else:
        until(lambda: json.loads(good)["signature"].encode() in house.files.cache.read_bytes(), "the cache")
        daemon.kill()
    if ended == "killed-without-cache":  # then it seals the same anew, under a higher number
        house.files.cache.unlink()
    beacons = len(attacker.all(BEACON))
    house.daemon()
    until(
        lambda: len(attacker.all(BEACON)) > beacons,
        "the next daemon's beacon, which comes after its read-back",
    )
    if ended == "killed-without-cache":
        below = json.loads(good)["sequence"]
        good = attacker.first(TOPIC, lambda body: body["sequence"] > below)
        assert json.loads(good)["config_version"] == 2
    attacker.write(TOPIC, old)
    refused(worker, "rollback")
    told(house, "foreign-write")
    until(lambda: attacker.last(TOPIC) == good, "the good message at the broker")
    assert "not-the-newest" not in conditions(house)
    never_went_back(worker)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))


# epochs -------------------------------------------------------------------------------------------


def with_an_older_database(house: House, *services: tuple[str, str, float]) -> list[Worker]:
    """Publish a first value of services, back up, publish a second one, restore, and adopt; return their workers."""
    daemon = house.daemon()
    workers = [house.worker(service, service) for service, _, _ in services]
    for worker, (service, key, value) in zip(workers, services, strict=True):
        worker.wait_for(house.set(service, **{key: value}))
    assert daemon.stop() == 0
    shutil.copy(house.files.database, house.folder / "backup")
    daemon = house.daemon()
    for worker, (service, key, value) in zip(workers, services, strict=True):
        worker.wait_for(house.set(service, **{key: 2 * value}))
    assert daemon.stop() == 0
    for name in ("config.db", "config.db-wal", "config.db-shm"):
        (house.folder / name).unlink(missing_ok=True)
    shutil.copy(house.folder / "backup", house.files.database)
    assert house.cli("adopt", "--db", "--yes")[0] == 0
    return workers


def test_replay_from_another_epoch_after_an_older_database_was_adopted(
    house: House, attacker: Attacker
) -> None:
    (worker,) = with_an_older_database(house, ("stt-worker", "vad_threshold", 0.1))
    newest = attacker.of_version(2)
    house.daemon()
    until(lambda: [r["config_version"] for r in worker.applied] == [1, 2, 1], "the adopted version")
    attacker.write(TOPIC, newest)
    refused(worker, "rollback")
    assert [r["config_version"] for r in worker.applied] == [1, 2, 1]
    told(house, "foreign-write")
    assert "not-the-newest" not in conditions(house)


def test_mixed_epochs_bring_no_service_back_to_the_ended_one(house: House, attacker: Attacker) -> None:
    """One service of the epoch that ended, its beacon, and one service of today."""
    services = ("stt-worker", "vad_threshold", 0.1), ("tts-worker", "volume_percent", 20)
    workers = with_an_older_database(house, *services)
    ended, beacon = attacker.of_version(2, TTS_TOPIC), attacker.last(BEACON)
    house.daemon()
    for worker in workers:
        until(lambda who=worker: [r["config_version"] for r in who.applied] == [1, 2, 1], "what was adopted")
    today = attacker.last(TTS_TOPIC)
    attacker.write(BEACON, beacon)
    attacker.write(TTS_TOPIC, ended)
    refused(workers[1], "rollback", "tts-worker")
    told(house, "foreign-write")
    until(lambda: attacker.last(TTS_TOPIC) == today, "today's message at the broker")
    workers[0].wait_for(house.set("stt-worker", vad_threshold=0.7))
    assert conditions(house) == {"foreign-write"}
    for worker in workers:
        never_went_back(worker)
        assert worker.applied[2]["config_version"] == 1
        assert "frozen" not in {flag for report in worker.reports for flag in report["flags"]}
