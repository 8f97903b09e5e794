"""Keyrings that only the workers still have: hosts from before a root change, folders that were emptied, copies.

The broker has lost everything too, so that nothing else could tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from config_daemon.core.keyring import adding, keeping_roots, removing, revoking
from config_daemon.wire.keyring import CONFIG, ROOT, Keyring, KeyringBody, follow, seal_keyring
from tests.fleet import Fleet
from tests.fleet_keys import KeyCopy, name
from tests.fleet_laws import TTS
from tests.test_fleet_keyring import first_key

AT = "2026-01-01T00:00:00.000Z"
MINUTES = 150.0  # two beacons, evidence, and once more


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def comes_back_from(fleet: Fleet, copy: KeyCopy) -> None:
    """Have the host die, and another stand in its place with old keys, no marks, no cache, an empty broker."""
    fleet.crash_daemon()
    fleet.holder.restore(copy)
    fleet.lose_marks()
    fleet.lose_lkg()
    fleet.wipe()
    fleet.start_daemon()


def issue(held: Keyring, body: KeyringBody, root: SigningKey) -> Keyring:
    return follow(held, seal_keyring(body, root))


def test_a_host_from_before_the_roots_were_split_learns_the_way_from_a_worker(fleet: Fleet) -> None:
    copy = fleet.holder.copy()
    fleet.holder.split_root()
    fleet.settle()
    newest = fleet.process.parts.identity.keyring
    comes_back_from(fleet, copy)
    fleet.run(MINUTES, turn=0.25)
    assert fleet.process.parts.identity.keyring == newest
    fleet.commit(TTS, 17)
    fleet.settle()
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == 17


def test_the_way_is_kept_over_a_restart_of_the_workers(fleet: Fleet) -> None:
    copy = fleet.holder.copy()
    fleet.holder.split_root()
    fleet.run(3.0)
    one, _ = fleet.holder.roots
    fresh = [SigningKey(bytes([number]) * 32) for number in (0x61, 0x62)]
    held = fleet.holder.held
    fleet.holder.rings.put(
        issue(held, adding(held, [(bytes(key.verify_key), [ROOT]) for key in fresh], AT), one)
    )
    held = fleet.holder.held
    fleet.holder.rings.put(issue(held, keeping_roots(held, map(name, fresh), AT), fresh[0]))
    fleet.settle()
    newest = fleet.process.parts.identity.keyring
    for worker in fleet.workers.values():
        worker.crash()
        worker.start()
    comes_back_from(fleet, copy)
    fleet.run(MINUTES, turn=0.25)
    assert fleet.process.parts.identity.keyring == newest
    fleet.settle()


def test_a_folder_without_the_keyring_that_marks_name_is_filled_by_a_worker(fleet: Fleet) -> None:
    fleet.holder.stage()
    fleet.settle()
    newest = fleet.process.parts.identity.keyring
    fleet.stop_daemon()
    for path in (fleet.host.files.keyring, *fleet.host.files.keyrings.iterdir()):
        path.unlink()
    fleet.wipe()
    fleet.start_daemon()
    fleet.run(3.0)
    assert fleet.host.held == {"keyring-missing"}
    fleet.run(
        MINUTES, turn=0.25
    )  # a held daemon sends no beacon: the workers are stale, and say what they hold
    assert fleet.process.parts.identity.keyring == newest
    assert fleet.holder.held == newest
    fleet.settle()


def test_workers_that_hold_no_keyring_say_nothing_while_no_beacon_comes(fleet: Fleet) -> None:
    fleet.stop_daemon()
    before = len(fleet.server.written)
    fleet.run(MINUTES, turn=0.25)
    assert not [one for one in fleet.server.written[before:] if "evidence/" in one.topic and one.writer]


def test_two_copies_that_revoke_the_same_key_are_told_apart_and_told_of(fleet: Fleet) -> None:
    first = first_key(fleet)
    other = SigningKey(b"\x55" * 32)
    staged = adding(fleet.holder.held, [(bytes(other.verify_key), [CONFIG, ROOT])], AT)
    added = issue(fleet.holder.held, staged, first)
    newest = issue(added, revoking(added, name(first), "stolen", AT), other)
    fleet.holder.revoke(first)
    fleet.settle()
    assert "keyring-forked" not in fleet.conditions
    fleet.server.write(fleet.topics.keyring_number(added.number), added.raw)
    fleet.server.write(fleet.topics.keyring, newest.raw)
    fleet.run(3.0)
    assert "keyring-forked" in fleet.conditions
    assert fleet.health["ok"] is False
    assert not fleet.host.held  # whoever stole a root would stop the daemon with it
    fleet.commit(TTS, 18)
    fleet.run(3.0)
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == 18
    fleet.run(700.0, turn=1.0)
    assert "keyring-forked" not in fleet.conditions


def test_what_a_stranger_or_our_own_past_signed_is_no_fork(fleet: Fleet) -> None:
    first, stranger = first_key(fleet), SigningKey(b"\x77" * 32)
    fleet.holder.stage()
    fleet.run(3.0)
    old = fleet.server.retained[fleet.topics.keyring]
    fleet.holder.retire(first)
    fleet.settle()
    fleet.server.write(fleet.topics.keyring, old)
    body = removing(fleet.holder.held, name(first), AT).model_copy(update={"number": 9})
    fleet.server.write(fleet.topics.keyring, seal_keyring(body, stranger))
    fleet.run(3.0)
    assert "keyring-forked" not in fleet.conditions
