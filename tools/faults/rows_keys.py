"""Rows 51 to 54 and 64 to 67: keys change, are stolen, come back from old copies; two daemons; an older database."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from config_daemon.store.files import Files
from config_daemon.wire.messages import CONFIG_UPDATE
from config_daemon.wire.sealing import canonical, seal
from tests.e2e.attacker import HouseKeys
from tests.fleet_keys import name
from tools.faults.hands import client, command, retained
from tools.faults.run import fault
from tools.faults.stage import Stage

HIGHEST = 2**53 - 1
KEYRING = "system/trust/keyring"


class _Home:
    """A stage, as the people with its keys see it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self._stage.data

    @property
    def files(self) -> Files:
        """What is in it."""
        return self._stage.files

    @cached_property
    def ground(self) -> Any:
        """Settings and keys of the first day."""
        return self._stage.ground


def _holders(stage: Stage) -> HouseKeys:
    return HouseKeys(_Home(stage))  # type: ignore[arg-type]


def _at_generation(stage: Stage, generation: int) -> None:
    """Wait until every worker runs every service in a generation."""

    def look() -> bool:
        for worker in stage.workers:
            last = {
                one["service"]: one["generation"]
                for one in stage.reports(worker)
                if one.get("state") == "applied"
            }
            if any(last.get(service) != generation for service in stage.services):
                return False
        return True

    stage.until(look, f"generation {generation} everywhere", 60)


def _killed_now_and_then(stage: Stage) -> None:
    """Kill the daemon or not, as chance has it, and have it back."""
    if stage.rng.random() < 0.6:
        stage.pass_time(stage.rng.uniform(0, 0.3))
        stage.kill_daemon()
        stage.start_daemon()
    stage.until(stage.connected, "the daemon")


# keys ---------------------------------------------------------------------------------------------


@fault(51, "key-rotated", rate=20, options={"patience": 30})
def key_rotated(stage: Stage) -> None:
    """The signing key is staged, activated and retired under load, with kills between the steps."""
    for _ in range(int(stage.scaled(1, 10))):
        keys = _holders(stage)
        old = keys._active()
        new = keys.stage()
        _killed_now_and_then(stage)
        keys.followed()
        keys.activate(new)
        _killed_now_and_then(stage)
        stage.until(
            lambda new=new: stage.view.daemon().get("keyring", {}).get("signs") == name(new),
            "the new key signs",
        )
        keys.retire(old)
        _killed_now_and_then(stage)
        keys.followed()


@fault(51, "hmac-key-rotated", rate=20, options={"patience": 20})
def hmac_key_rotated(stage: Stage) -> None:
    """The key of cache and marks changes under load; the daemon is killed before and after it."""
    for point in ("", "after_rekey:kill:1") if stage.full else [stage.rng.choice(("", "after_rekey:kill:1"))]:
        stage.kill_daemon()
        daemon = stage.start_daemon(point)
        stage.until(stage.connected, "the daemon")
        code, told = command(stage, "keys", "rotate", "--hmac")
        stage.must(code == 0, f"the key is changed; {told}")
        if point:
            stage.must(daemon.wait() != 0, "the daemon was to die when it had changed the key")
            stage.start_daemon()
        stage.until(lambda: stage.connected() and stage.cache_is_sealed(), "a cache sealed with the new key")
        code, told = command(stage, "keys", "rotate", "--hmac", "--retire")
        stage.must(code == 0, f"the old key is taken out; {told}")
        stage.must("lkg-tampered" not in stage.conditions, "nothing is called tampered with")


@fault(52, "key-revoked", rate=10, options={"patience": 60})
def key_revoked(stage: Stage) -> None:
    """A key is revoked: the next generation everywhere, and what was said before is refused when it is shown again."""
    before = retained(stage)
    keys = _holders(stage)
    keys.revoke(next(iter(keys.keys.values())))
    _at_generation(stage, 2)
    with client(stage) as attacker:
        for topic, raw in before.items():
            attacker.publish(topic, stage.theirs(raw), retain=True)
        stage.until(lambda: "foreign-write" in stage.conditions, "the condition foreign-write")


@fault(53, "numbers-used-up", rate=0, options={"patience": 60})
def numbers_used_up(stage: Stage) -> None:
    """A thief seals with the highest number of all: a new generation leads past it."""
    keys = _holders(stage)
    stolen, topic = next(iter(keys.keys.values())), f"system/config/{stage.services[0]}"
    body = json.loads(retained(stage)[topic])
    body.pop("signature")
    theirs = stage.theirs(seal(canonical(body | {"sequence": HIGHEST}), CONFIG_UPDATE, stolen))
    with client(stage) as thief:
        thief.publish(topic, theirs, retain=True)
        stage.see(condition="not-the-newest", ok=False)
        keys.revoke(stolen)
        stage.pass_time(0.5)
    code, told = command(stage, "adopt", "--db", "--yes", "--reason", "a thief used up the numbers")
    stage.must(code == 0, f"a person takes the database for the true one; {told}")
    _at_generation(stage, 2)


@fault(66, "old-keys-restored", rate=5, options={"patience": 60})
def old_keys_restored(stage: Stage) -> None:
    """A key is revoked, and then keys and keyrings are restored from before: the revoked key stays so."""
    keys = _holders(stage)
    copy = keys.copy()
    revoked = next(iter(keys.keys.values()))
    keys.revoke(revoked)
    _at_generation(stage, 2)
    stage.kill_daemon()
    keys.restore(copy)
    stage.start_daemon()
    stage.pass_time(1)
    keys.put_back()
    stage.kill_daemon()
    stage.start_daemon()
    stage.until(stage.connected, "the daemon")
    stage.must(_signs(stage) != name(revoked), "the revoked key does not sign")


def _signs(stage: Stage) -> object:
    return stage.view.daemon().get("keyring", {}).get("signs")


@fault(67, "keyrings-missed", rate=5, options={"patience": 60})
def keyrings_missed(stage: Stage) -> None:
    """A worker sleeps through several keyrings and a new root, and walks up to today's."""
    keys = _holders(stage)
    stage.workers["edge-1"].kill()
    keys.split_root()
    keys.followed()
    for _ in range(2):
        keys.rotate()
    stage.start_worker("edge-1")
