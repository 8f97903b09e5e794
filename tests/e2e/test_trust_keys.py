"""Whoever owns the broker has every keyring that was ever published, and perhaps a key that was revoked."""

from __future__ import annotations

import json
import shutil
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest

from config_daemon.wire.keyring import CONFIG, ROOT, ListedKey
from config_daemon.wire.keys import key_id
from tests.broker_fixtures import ClientFactory
from tests.e2e.attacker import (
    HIGHEST,
    KEYRING,
    OWN_KEY,
    Attacker,
    HouseKeys,
    forged,
    in_force,
    never_went_back,
    refused,
    running,
    told,
    worker_with,
)
from tests.e2e.house import House, Worker, until
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts
from tests.fleet_keys import name

EVIDENCE = "system/evidence/keyring/demo"


@pytest.fixture
def attacker(house: House, raw_client: ClientFactory) -> Attacker:
    return Attacker(raw_client(house.broker_url))


@pytest.fixture
def keys(house: House) -> HouseKeys:
    return HouseKeys(house)


def at_number(worker: Worker, number: int) -> dict[str, Any]:
    """Wait until the worker holds a keyring."""
    return until(
        lambda: next(
            (one for one in worker.applied if (one["service"], one["sequence"]) == ("keyring", number)), None
        ),
        f"keyring {number}; {worker.lines[-3:]}",
    )


def at_generation(house: House, attacker: Attacker, generation: int) -> bytes:
    """Wait until the config is sealed for a generation; return it."""
    raw = attacker.first(TOPIC, lambda body: body["generation"] == generation)
    until(lambda: in_force(house)["generation"] == generation, "the generation in status.db")
    return raw


def settled(house: House, keys: HouseKeys) -> Worker:
    """Move the roots away, revoke what then signs configs, start a worker: it holds keyring 4, of generation 2."""
    house.daemon()
    for version in (1, 2):
        confirmed(house, house.set("stt-worker", vad_threshold=version / 10))
    keys.split_root()
    keys.followed()
    keys.revoke(next(iter(keys.keys.values())))
    keys.followed()
    until(lambda: in_force(house)["generation"] == 2, "the generation in status.db")
    confirmed(house, house.set("stt-worker", vad_threshold=0.25))
    confirmed(house, house.set("tts-worker", volume_percent=50), "tts-worker")  # and a beacon that lists both
    worker = worker_with(house, CONFIG_SIGNATURE_PUBLIC_KEY=keys.installed)
    worker.wait_for(3)
    at_number(worker, keys.held.number)
    return worker


# keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [1, 2])
def test_a_revoked_key_signs_nothing_that_counts(
    house: House, attacker: Attacker, keys: HouseKeys, generation: int
) -> None:
    """Its thief writes for the generation it belonged to, or for the one of today."""
    worker, stolen = running(house), next(iter(keys.keys.values()))
    keys.revoke(stolen)
    at_number(worker, 2)
    today = at_generation(house, attacker, 2)
    confirmed(house, 2)
    theirs = forged(
        today, stolen, generation=generation, sequence=HIGHEST, key_id=name(stolen), config={"vad_threshold": 0.9}
    )  # fmt: skip
    attacker.write(TOPIC, theirs)
    refused(worker, "revoked-key")
    told(house, "foreign-write")
    until(lambda: attacker.last(TOPIC) == today, "today's message at the broker")
    assert conditions(house) == {"foreign-write"}
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    never_went_back(worker)


def test_a_lower_generation_under_a_key_that_still_signs_is_refused(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """Revocation raised the generation; the other key had signed before that as well."""
    worker, old = running(house), next(iter(keys.keys.values()))
    keys.activate(keys.stage())
    at_number(worker, 1)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    before = attacker.of_version(3)
    assert json.loads(before)["key_id"] != name(old)
    keys.revoke(old)
    at_number(worker, 2)
    today = at_generation(house, attacker, 2)
    attacker.write(TOPIC, before)
    refused(worker, "rollback")
    told(house, "foreign-write")
    until(lambda: attacker.last(TOPIC) == today, "today's message at the broker")
    never_went_back(worker)


def test_a_thief_who_used_up_the_numbers_is_outlived(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """Until the key is revoked its thief is believed: that is not promised. After that nothing of theirs is left."""
    worker, stolen = running(house), next(iter(keys.keys.values()))
    theirs = forged(attacker.of_version(2), stolen, sequence=HIGHEST, config_version=99)
    attacker.write(TOPIC, theirs)
    told(house, "not-the-newest")
    until(lambda: [one for one in worker.reports if one["sequence"] == HIGHEST], "the thief's message taken")
    keys.revoke(stolen)
    keys.followed()
    assert house.cli("adopt", "--db", "--yes")[0] == 0
    at_number(worker, 2)
    confirmed(house, 2)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    attacker.write(TOPIC, theirs)
    refused(worker, "revoked-key")
    assert worker.applied[-1]["config_version"] == 3


# keyrings -----------------------------------------------------------------------------------------


def test_an_old_keyring_is_refused_and_put_right(house: House, attacker: Attacker, keys: HouseKeys) -> None:
    """The one before the revocation, which lists the stolen key; a root of today signed it."""
    worker = settled(house, keys)
    old = next(
        raw for raw in keys.rings.stored() if json.loads(raw)["number"] == 3
    )  # perhaps never published
    held = keys.held.raw
    attacker.write(KEYRING, old)
    refused(worker, "rollback", "keyring")
    until(lambda: attacker.last(EVIDENCE) == held, "its bytes as evidence, unchanged, behind the way to it")
    told(house, "foreign-write")
    until(lambda: attacker.last(KEYRING) == held, "the newest keyring at the broker")
    attacker.write(TOPIC, forged(attacker.last(TOPIC), next(iter(keys.keys.values())), sequence=HIGHEST))
    refused(worker, "revoked-key")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    assert in_force(house)["number"] == 4


@pytest.mark.parametrize("who", ["a stranger", "the key that signs configs", "a root of yesterday"])
def test_a_keyring_from_a_non_root_changes_nothing(
    house: House, attacker: Attacker, keys: HouseKeys, who: str
) -> None:
    worker, first = settled(house, keys), next(iter(keys.keys.values()))
    signer = {
        "a stranger": OWN_KEY, "the key that signs configs": keys._active(), "a root of yesterday": first,
    }[who]  # fmt: skip
    held, mine = keys.held, bytes(OWN_KEY.verify_key)
    added = ListedKey(key_id=key_id(mine), public_key=mine.hex(), roles=[CONFIG, ROOT])
    theirs = keys.sealed(signer, number=9, keys=[*held.body.keys, added])
    for topic in (KEYRING, f"{KEYRING}/9"):
        attacker.write(topic, theirs)
    refused(worker, "bad-signature", "keyring")
    told(house, "foreign-write")
    until(lambda: attacker.last(KEYRING) == held.raw, "the true keyring at the broker")
    attacker.write(TOPIC, forged(attacker.last(TOPIC), sequence=HIGHEST, key_id=key_id(mine)))
    refused(worker, "bad-signature")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    assert in_force(house)["number"] == held.number
    once_a_root = {"keyring-forked"} if who == "a root of yesterday" else set()
    assert conditions(house) == {"foreign-write"} | once_a_root


def test_a_keyring_with_fewer_revocations_is_refused_and_stops_the_daemon(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """A root signed it on a day when it knew less: somebody restored keys, and issued keyrings from there."""
    worker, first = settled(house, keys), next(iter(keys.keys.values()))
    shorter = keys.sealed(keys.roots[0], number=9, revoked=[])
    attacker.write(KEYRING, shorter)
    refused(worker, "unrevoked", "keyring")
    told(house, "keyring-unmerged")
    until(
        lambda: attacker.last(EVIDENCE) == keys.held.raw,
        "its bytes as evidence, unchanged, behind the way to it",
    )
    until(lambda: keys.rings.unmerged() is not None, "what is to be merged")
    keys.merge()
    at_number(worker, 10)
    until(lambda: "keyring-unmerged" not in conditions(house), "the hold's end")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    assert set(keys.held.revoked) == {name(first)}


def test_a_keyring_with_a_lower_generation_is_refused(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """Below the generation of today every message of yesterday would be good again."""
    worker = settled(house, keys)
    yesterday, held = attacker.of_version(2), keys.held
    attacker.write(KEYRING, keys.sealed(keys.roots[0], number=9, generation=1))
    refused(worker, "rollback", "keyring")
    told(house, "keyring-unmerged")
    attacker.write(TOPIC, yesterday)
    refused(worker, "revoked-key")
    assert in_force(house) == {"number": held.number, "generation": 2, "signs": name(keys._active())}
    never_went_back(worker)


def test_another_keyring_under_the_same_number_is_refused(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    worker = settled(house, keys)
    attacker.write(KEYRING, keys.sealed(keys.roots[0], issued_at="2020-01-01T00:00:00.000Z"))
    refused(worker, "fork", "keyring")
    told(house, "keyring-unmerged")


def test_a_small_order_key_in_a_keyring_is_refused_with_all_of_it(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """Somebody had a root sign it: under such a key everybody can sign."""
    worker, weak = running(house), (1).to_bytes(32, "little")
    keys.stage()
    keys.followed()
    at_number(worker, 1)
    held = keys.held
    listed = ListedKey(key_id=key_id(weak), public_key=weak.hex(), roles=[CONFIG, ROOT])
    attacker.write(KEYRING, keys.sealed(keys._active(), number=9, keys=[*held.body.keys, listed]))
    refused(worker, "wrong-key", "keyring")
    told(house, "foreign-write")
    until(lambda: attacker.last(KEYRING) == held.raw, "the true keyring at the broker")
    assert in_force(house)["number"] == 1


def test_a_keyring_as_a_config_is_refused(house: House, attacker: Attacker, keys: HouseKeys) -> None:
    worker = running(house)
    keys.stage()
    at_number(worker, 1)
    attacker.write(TOPIC, attacker.last(KEYRING))
    refused(worker, "bad-signature")
    told(house, "foreign-write")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))


def test_wiped_keyrings_come_back(house: House, attacker: Attacker, keys: HouseKeys) -> None:
    worker = running(house)
    keys.split_root()
    keys.followed()
    at_number(worker, 2)
    topics = {KEYRING: 2, f"{KEYRING}/1": 1, f"{KEYRING}/2": 2}
    for topic in topics:
        attacker.last(topic)
        attacker.write(topic, b"")
    refused(worker, "wiped", "keyring")
    told(house, "foreign-write")
    for topic, number in topics.items():
        until(lambda where=topic, what=number: json.loads(attacker.last(where) or b"{}").get("number") == what,
              f"keyring {number} on {topic}")  # fmt: skip


# kept back ----------------------------------------------------------------------------------------


def test_a_config_before_its_keyring_waits_for_it_and_is_delivered_again(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """The worker knows the key already, and not yet that the other one was revoked."""
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    keys.stage()
    at_number(worker, 1)
    worker.kill()
    keys.revoke(next(iter(keys.keys.values())))
    keys.followed()
    version = house.set("stt-worker", vad_threshold=0.2)
    attacker.first(TOPIC, lambda body: (body["generation"], body["config_version"]) == (2, version))
    confirmed(house, version)
    assert daemon.stop() == 0
    for topic in (KEYRING, f"{KEYRING}/1", f"{KEYRING}/2"):
        attacker.write(topic, b"")
    again = worker_with(house, CONFIG_SIGNATURE_PUBLIC_KEY=keys.installed)
    refused(again, "keyring-behind")
    assert [one["config_version"] for one in again.applied if one["service"] != "keyring"] == [1]
    configs = len(attacker.all(TOPIC))
    house.daemon()
    at_number(again, 2)
    again.wait_for(version)
    assert len(attacker.all(TOPIC)) == configs, "nobody published it again"


@pytest.mark.parametrize("kept", ["all of them", "only the newest"])
def test_a_sleeper_that_missed_three_keyrings_walks_over_each(
    house: House, attacker: Attacker, keys: HouseKeys, kept: str
) -> None:
    """Each moved the root role. Where the broker keeps the earlier ones back, nothing is believed."""
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    worker.kill()
    for _ in range(3):
        keys.rotate()
    version = house.set("stt-worker", vad_threshold=0.2)
    confirmed(house, version)
    if kept == "only the newest":
        house._processes[0].signal(SIGSTOP)
        for topic in sorted({one for one in attacker.state() if one.startswith(f"{KEYRING}/")}):
            attacker.write(topic, b"")
    again = worker_with(house, CONFIG_SIGNATURE_PUBLIC_KEY=keys.installed)
    if kept == "only the newest":
        refused(again, "bad-signature", "keyring")
        refused(again, "bad-signature")
        assert [one["config_version"] for one in again.applied] == [1]
        house._processes[0].signal(SIGCONT)
        told(house, "foreign-write")
    at_number(again, keys.held.number)
    again.wait_for(version)
    never_went_back(again)


# the data folder ----------------------------------------------------------------------------------


def put_there(house: House, keyring: bytes) -> None:
    """Replace the keyring's files, as whoever may write the folder."""
    for path in (house.files.keyrings / "9.json", house.files.keyring):
        beside = path.with_name("beside")
        beside.write_bytes(keyring)
        beside.replace(path)


def with_their_key(keys: HouseKeys, **changes: Any) -> bytes:
    """Return a keyring that a stranger signed and that lists their key beside ours."""
    mine = bytes(OWN_KEY.verify_key)
    added = ListedKey(key_id=key_id(mine), public_key=mine.hex(), roles=[CONFIG, ROOT])
    return keys.sealed(OWN_KEY, number=9, keys=[*keys.held.body.keys, added], **changes)


def test_whoever_replaces_the_keyrings_file_is_not_believed(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """Group write access to the folder, and no key: neither a running daemon nor the next one follows."""
    worker = running(house)
    keys.split_root()
    keys.followed()
    at_number(worker, 2)
    theirs = with_their_key(keys)
    put_there(house, theirs)
    told(house, "keyring-refused")
    assert house._processes[0].stop() == 0
    daemon = house.daemon()
    until(lambda: facts(house).get("pid") == daemon.pid, "the next daemon")
    told(house, "keyring-refused")
    assert in_force(house)["number"] == 2
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    assert theirs not in attacker.all(KEYRING)
    shutil.copy(house.files.keyrings / "2.json", house.files.keyring)
    until(lambda: "keyring-refused" not in conditions(house), "the file as it was")


def test_whoever_replaces_the_keyrings_file_and_deletes_the_marks_stops_the_fleet_and_no_more(
    house: House, attacker: Attacker, keys: HouseKeys
) -> None:
    """What is not promised: the next daemon believes the file. No worker does, and none runs anything of theirs."""
    worker = running(house)
    keys.split_root()
    keys.followed()
    at_number(worker, 2)
    theirs = with_their_key(keys, generation=2)
    assert house._processes[0].stop() == 0
    put_there(house, theirs)
    house.files.marks.unlink()
    house.daemon()
    refused(worker, "bad-signature", "keyring")
    house.set("stt-worker", vad_threshold=0.3)
    ours = attacker.first(TOPIC, lambda body: body["generation"] == 2)
    refused(worker, "keyring-behind")
    attacker.write(TOPIC, forged(ours, sequence=HIGHEST, key_id=key_id(bytes(OWN_KEY.verify_key))))
    refused(worker, "bad-signature")
    assert worker.applied[-1]["sequence"] != HIGHEST
    assert {one["config_version"] for one in worker.applied if one["service"] != "keyring"} == {1, 2}
