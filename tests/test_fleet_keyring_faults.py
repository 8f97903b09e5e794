"""Keys that change while something else goes wrong: restored keyrings, full disks, connections under way.

Each of these was found by a review whose only task was to break the daemon.
"""

from __future__ import annotations

import errno
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from nacl.signing import SigningKey

from config_daemon.core.keyring import adding, keeping_roots, removing, revoking
from config_daemon.store import marks
from config_daemon.store.cache import load
from config_daemon.wire import values
from config_daemon.wire.keyring import CONFIG, KEYRING, ROOT, KeyringBody, follow, seal_keyring
from config_daemon.wire.keys import signing_key_pem
from config_daemon.wire.sealing import canonical, seal
from tests.fleet import Fleet
from tests.fleet_keys import name
from tests.fleet_laws import STT, TTS
from tests.test_fleet_keyring import first_key

AT = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def marked(fleet: Fleet) -> tuple[int, int]:
    """Return generation and number of the keyring that marks.json names."""
    found = marks.load(fleet.host.files.marks, fleet.host.ground.keys.hmac_keys())
    assert found is not None and found.keyring is not None
    return found.generation, found.keyring[0]


def put(fleet: Fleet, body: KeyringBody, root: SigningKey) -> None:
    """Issue a keyring on this host."""
    held = fleet.holder.held
    fleet.holder.rings.put(follow(held, seal_keyring(body, root)))


def spin(fleet: Fleet) -> float:
    """Return after which share of the ticks the loop would not wait at all."""
    hurried = [fleet.tick() or fleet.process.daemon._patience() == 0.0 for _ in range(300)]
    return sum(hurried) / len(hurried)


# a floor for keyrings -------------------------------------------------------------------------------


def test_whoever_shows_an_old_keyring_ends_no_hold(fleet: Fleet) -> None:
    staged = fleet.holder.stage(backed_up=False)
    fleet.run(3.0)
    old = fleet.server.retained[fleet.topics.keyring]
    fleet.holder.revoke(staged)
    fleet.settle()
    fleet.stop_daemon()
    for path in (fleet.host.files.keyring, *fleet.host.files.keyrings.iterdir()):
        path.unlink()
    fleet.wipe()
    fleet.server.write(fleet.topics.keyring, old)
    fleet.start_daemon()
    fleet.run(10.0)
    assert fleet.host.held == {"keyring-missing"}
    assert marked(fleet) == (2, 2)


def test_marks_name_a_keyring_that_a_start_walked_to(fleet: Fleet) -> None:
    staged = fleet.holder.stage()
    fleet.run(3.0)
    fleet.stop_daemon()
    fleet.holder.revoke(staged)
    fleet.start_daemon()
    fleet.settle()
    assert fleet.shown(TTS).generation == 2
    assert marked(fleet) == (2, 2)


def test_a_revocation_on_disk_is_not_overwritten_by_what_is_learnt(fleet: Fleet) -> None:
    first = first_key(fleet)
    staged = fleet.holder.stage(backed_up=False)
    fleet.run(3.0)
    other = SigningKey(b"\x55" * 32)
    theirs = seal_keyring(adding(fleet.holder.held, [(bytes(other.verify_key), [CONFIG])], AT), first)
    fleet.holder.revoke(staged)  # the command returned, and the daemon has not looked yet
    fleet.server.write(fleet.topics.keyring, theirs)
    fleet.run(30.0)
    assert name(staged) in fleet.process.parts.identity.keyring.revoked


def test_a_revocation_elsewhere_stays_unmerged_when_its_signer_is_a_root_no_more(fleet: Fleet) -> None:
    first = first_key(fleet)
    fleet.holder.split_root()
    fleet.run(3.0)
    fleet.holder.stage()
    fleet.run(3.0)
    one, other = fleet.holder.roots
    elsewhere = seal_keyring(revoking(fleet.holder.held, name(first), "stolen", AT), one)
    put(fleet, revoking(fleet.holder.held, name(other), "lost", AT), one)
    fleet.run(3.0)
    fleet.server.write(fleet.topics.keyring, elsewhere)
    fleet.run(3.0)
    assert "keyring-unmerged" in fleet.host.held
    new = [SigningKey(bytes([number]) * 32) for number in (0x61, 0x62)]
    put(fleet, adding(fleet.holder.held, [(bytes(key.verify_key), [ROOT]) for key in new], AT), one)
    put(fleet, keeping_roots(fleet.holder.held, map(name, new), AT), new[0])
    fleet.run(5.0)
    assert "keyring-unmerged" in fleet.host.held
    assert fleet.holder.rings.unmerged() == elsewhere


def test_what_waits_to_be_merged_is_kept_once_the_disk_takes_it(fleet: Fleet) -> None:
    fleet.holder.split_root()
    fleet.run(3.0)
    one, other = fleet.holder.roots
    fresh = SigningKey(b"\x55" * 32)
    theirs = seal_keyring(adding(fleet.holder.held, [(bytes(fresh.verify_key), [CONFIG])], AT), one)
    put(fleet, revoking(fleet.holder.held, name(other), "lost", AT), one)
    fleet.run(3.0)
    rings = fleet.process.parts.identity._rings
    with patch.object(rings, "set_unmerged", side_effect=OSError(errno.ENOSPC, "full")):
        fleet.server.write(fleet.topics.keyring, theirs)
        fleet.run(3.0)
        assert "keyring-unmerged" in fleet.host.held
    fleet.run(5.0)
    assert rings.unmerged() == theirs


def test_a_keyring_with_the_highest_number_ends_nobody(fleet: Fleet) -> None:
    first = first_key(fleet)
    fleet.holder.revoke(fleet.holder.stage(backed_up=False))
    fleet.run(3.0)
    body = fleet.holder.held.body.model_copy(update={"number": values.MAX_INTEGER, "revoked": []})
    fleet.server.write(fleet.topics.keyring, seal(canonical(body.model_dump(mode="json")), KEYRING, first))
    fleet.run(5.0)
    assert "keyring-unmerged" in fleet.host.held


# disks and numbers ----------------------------------------------------------------------------------


def test_a_disk_that_fills_between_two_writes_has_no_unlisted_key_sign(fleet: Fleet) -> None:
    first, second = first_key(fleet), fleet.holder.stage()
    fleet.run(3.0)
    theirs = seal_keyring(removing(fleet.holder.held, name(first), AT), second)
    numbers = fleet.process.parts.sealer.numbers
    enter = numbers.enter

    def filling(*arguments: object) -> None:
        enter(*arguments)  # type: ignore[arg-type]
        fleet.host.disk_full = True

    with patch.object(numbers, "enter", filling):
        fleet.server.write(fleet.topics.keyring, theirs)
        fleet.run(40.0)  # fleet_laws: whoever signs is listed
    fleet.settle()


def test_a_key_that_used_up_the_numbers_and_is_revoked_while_nobody_runs_mutes_nobody(fleet: Fleet) -> None:
    staged = fleet.holder.stage()
    fleet.run(3.0)
    fleet.process.parts.sealer.numbers.raise_to(values.MAX_INTEGER)  # as `adopt --db` does above a thief
    fleet.commit(TTS, 11)
    fleet.run(3.0)
    assert fleet.host.held
    fleet.crash_daemon()
    fleet.holder.revoke(staged)
    fleet.start_daemon()
    fleet.settle()
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == 11


def test_a_service_held_back_over_a_revocation_stays_in_the_cache(fleet: Fleet) -> None:
    fleet.edit_row_by_hand(TTS, 33)
    fleet.run(3.0)
    fleet.holder.revoke(first_key(fleet))
    fleet.run(5.0)
    fleet.wipe()
    fleet.run(60.0, turn=0.25)
    fleet.commit(STT, 21)
    fleet.run(60.0, turn=0.25)
    fleet.stop_daemon()
    cache = load(fleet.host.files.cache, fleet.host.ground.keys.hmac_keys())
    assert cache is not None and TTS in cache.sealed


# what is said ---------------------------------------------------------------------------------------


def test_the_will_is_of_the_key_in_force_also_where_connecting_took_long(fleet: Fleet) -> None:
    fleet.server.stall()
    fleet.server.restart()
    fleet.run(2.0)
    assert not fleet.process.parts.broker.connected and not fleet.process.parts.broker.idle
    fleet.holder.revoke(first_key(fleet))
    fleet.run(1.5)
    fleet.server.resume()
    fleet.settle()
    will = next(link.will for link in fleet.server.links if link.name == fleet.host.name)
    assert will is not None
    body = json.loads(will[1])
    assert (body["generation"], body["key_id"]) == fleet.process.parts.identity.signs


def test_a_daemon_that_cannot_come_back_after_a_rotation_is_not_said_to_be_well(fleet: Fleet) -> None:
    fleet.holder.stage()
    fleet.run(3.0)
    fleet.server.up = False  # no new connection; the one that stands goes on
    fleet.run(60.0, turn=0.5)
    assert fleet.health["ok"]
    fleet.activate()
    fleet.run(60.0, turn=0.5)
    assert not fleet.health["ok"]
    assert fleet.health["event"] == "key-changed"


def test_a_restored_host_whose_key_was_retired_learns_so_from_a_worker_and_holds(fleet: Fleet) -> None:
    copy, first = fleet.holder.copy(), first_key(fleet)
    fleet.holder.stage()
    fleet.run(3.0)
    fleet.activate()
    fleet.run(3.0)
    fleet.holder.retire(first)
    fleet.settle()
    fleet.stop_daemon()
    fleet.holder.restore(copy)
    fleet.lose_marks()
    fleet.lose_lkg()
    fleet.wipe()
    fleet.start_daemon()
    fleet.commit(TTS, 11)
    fleet.run(30.0, turn=0.25)
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == 10
    assert fleet.host.held == {"key-unlisted"}
    newest = fleet.process.parts.identity.keyring
    assert (newest.number, name(first) in newest.config_ids) == (2, False)


def test_a_later_keyring_that_no_root_here_knows_is_told_and_changes_nothing(fleet: Fleet) -> None:
    stranger = SigningKey(b"\x77" * 32)
    body = KeyringBody(version=1, number=7, generation=3, issued_at=AT, keys=[], revoked=[])
    listed = adding(fleet.holder.held, [(bytes(stranger.verify_key), [CONFIG, ROOT])], AT).keys
    raw = seal_keyring(body.model_copy(update={"keys": listed}), stranger)
    fleet.server.connect("worker-7").show(fleet.topics.keyring_evidence("worker-7"), raw)
    fleet.run(3.0)
    assert "keyring-unknown" in fleet.conditions
    assert not fleet.host.held
    fleet.commit(TTS, 11)
    fleet.settle()


def test_a_key_file_that_was_mended_is_read(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "next.pem"
    fleet.holder.set_env(CONFIG_SIGNATURE_NEXT_PRIVATE_KEY_FILE=str(file))
    fleet.run(3.0)
    assert "keys-unusable" in fleet.conditions
    file.write_text(signing_key_pem(SigningKey(b"\x55" * 32)))
    file.chmod(0o600)
    fleet.run(5.0)
    assert "keys-unusable" not in fleet.conditions


@pytest.mark.parametrize(
    "weather", ["fine", "no key that is listed", "a full disk and no broker", "held back"]
)
def test_the_loop_waits_between_its_ticks(fleet: Fleet, weather: str) -> None:
    if weather == "no key that is listed":
        before = fleet.host.files.environment.read_bytes()
        fleet.holder.revoke(first_key(fleet))
        fleet.settle()
        fleet.stop_daemon()
        fleet.host.files.environment.write_bytes(before)
        fleet.start_daemon()
    elif weather == "a full disk and no broker":
        fleet.host.disk_full = True
        fleet.server.go_down()
        fleet.run(200.0, turn=0.5)
        fleet.server.up = True
    elif weather == "held back":
        fleet.edit_row_by_hand(TTS, 33)
        fleet.run(3.0)
        fleet.holder.revoke(first_key(fleet))
        fleet.run(5.0)
        fleet.wipe()
        fleet.run(40.0)
    fleet.run(5.0)
    assert spin(fleet) < 0.1


def test_an_hmac_key_that_comes_with_an_activation_seals_marks_as_well(fleet: Fleet) -> None:
    fleet.holder.stage()
    fleet.run(3.0)
    old_id, old = fleet.host.ground.keys.hmac_key()
    fresh = b"\x33" * 32
    fleet.holder.set_env(
        LKG_HMAC_KEY_BASE64=b64encode(fresh).decode(), LKG_HMAC_KEY_ID="the-next-one",
        LKG_HMAC_KEY_OLD_BASE64=b64encode(old).decode(), LKG_HMAC_KEY_OLD_ID=old_id,
    )  # fmt: skip
    fleet.activate()  # before the daemon has looked at `.env` twice
    fleet.run(10.0)
    assert marks.load(fleet.host.files.marks, (fresh,)) is not None
    fleet.settle()
