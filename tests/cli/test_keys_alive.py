"""Keys are rotated and revoked while daemon, broker and worker run: nobody is lost, and everybody follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config_daemon.wire.keyring import installed_keyring
from tests.cli.conftest import Cli, refused
from tests.e2e.house import House, Process, until
from tests.real_broker import Broker


@pytest.fixture
def house(broker: Broker, tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "data", broker.url)
    yield house
    house.close()


def done(house: House, *words: str, text: str = "") -> dict[str, Any]:
    return dict(Cli(house.folder).json(*words, text=text))


def signs(house: House, key_id: str, daemon: Process) -> None:
    def found() -> bool:
        keyring = done(house, "keys", "list")["keyring"]
        return bool(keyring and keyring["signs"] == key_id)

    until(found, f"key {key_id} signs; {daemon.talk[-5:]}")


def healthy(house: House, daemon: Process) -> None:
    def found() -> bool:
        return bool(Cli(house.folder)("status", "--json").data["status"] == "healthy")

    until(found, f"healthy; {daemon.talk[-5:]}")


def test_a_rotation_from_its_first_to_its_last_step(house: House, tmp_path: Path) -> None:
    daemon, worker = house.daemon(), house.worker()
    worker.wait_for(house.set("stt-worker", channels=2))
    staged = done(house, "keys", "rotate")
    new, old = staged["key_id"], staged["old_key_id"]
    refused(Cli(house.folder)("keys", "rotate", "--activate"), 1, "is in no backup")
    stick = tmp_path / "stick"
    assert done(house, "keys", "backup", str(stick), text="a phrase")["keyrings"] == 1
    assert done(house, "keys", "rotate", "--activate") == {
        "key_id": new, "activated": True, "keyring": {"number": 1, "generation": 1, "held_by": []},
    }  # fmt: skip
    signs(house, new, daemon)
    assert done(house, "keys", "rotate", "--activate")["activated"] is False
    worker.wait_for(house.set("stt-worker", channels=1))
    assert done(house, "keys", "rotate", "--retire")["retired"] == [old]
    healthy(house, daemon)
    worker.wait_for(house.set("stt-worker", channels=2))
    late = house.worker("late", first_use="run")  # with the public key that is in .env now
    late.wait_for(house.set("stt-worker", channels=1))
    assert daemon.stop() == 0
    again = house.daemon()
    signs(house, new, again)
    assert "warning" not in Cli(house.folder).ok("keys", "list").err, "the new key is in a backup"


def test_a_stolen_key_is_revoked_and_the_worker_goes_on(house: House) -> None:
    daemon, worker = house.daemon(), house.worker()
    worker.wait_for(house.set("stt-worker", channels=2))
    stolen = done(house, "keys", "public")["key_id"]
    revoked = done(house, "keys", "revoke", stolen[:12], "--reason", "stolen", "--yes")
    assert revoked["keyring"] == {"number": 2, "generation": 2, "held_by": []}
    signs(house, revoked["signing_key_id"], daemon)
    worker.wait_for(house.set("stt-worker", channels=1))
    anchor = Cli(house.folder).ok("keys", "public", "--keyring").out
    assert installed_keyring(anchor.rstrip("\n").encode()).number == 2
    assert done(house, "keys", "public")["key_id"] == revoked["signing_key_id"] != stolen


def test_without_its_root_a_daemon_goes_on_and_the_root_replaces_its_key(
    house: House, tmp_path: Path
) -> None:
    daemon, worker = house.daemon(), house.worker()
    roots = [str(tmp_path / "root-1.pem"), str(tmp_path / "root-2.pem")]
    split = done(house, "keys", "split-root", *roots)
    worker.wait_for(house.set("stt-worker", channels=2))
    refused(Cli(house.folder)("keys", "rotate"), 2, "--root-key FILE")
    new = done(house, "keys", "rotate", "--root-key", roots[1])["key_id"]
    assert done(house, "keys", "rotate", "--activate", "--without-backup")["activated"]
    signs(house, new, daemon)
    refused(Cli(house.folder)("keys", "rotate", "--retire"), 2, "--root-key FILE")
    done(house, "keys", "rotate", "--retire", "--root-key", roots[0])
    worker.wait_for(house.set("stt-worker", channels=1))
    assert done(house, "keys", "public")["key_id"] == split["roots"][0]["key_id"]
    late = House.worker(
        house, "late"
    )  # .env has the key that signs, which is no root: the worker follows nothing
    assert late.running


def test_the_hmac_key_is_rotated_beside_a_running_daemon(house: House) -> None:
    daemon, worker = house.daemon(), house.worker()
    worker.wait_for(house.set("stt-worker", channels=2))
    until(lambda: Cli(house.folder)("lkg", "verify").code == 0, "an LKG")
    rotated = done(house, "keys", "rotate", "--hmac")
    assert rotated["in_use"] is True
    assert done(house, "keys", "rotate", "--hmac", "--retire")["retired"] == rotated["old_key_id"]
    Cli(house.folder).ok("lkg", "verify")
    assert daemon.stop() == 0
    again = house.daemon()
    healthy(house, again)
