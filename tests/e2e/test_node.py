"""The worker in JavaScript with a real daemon and a real broker: what an operator and an attacker see of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.status import Status, read_status
from config_daemon.wire.workerkeys import PublicKeys
from tests.broker_conf import Tls
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.e2e.attacker import KEYRING, OWN_KEY, Attacker, HouseKeys, members
from tests.e2e.house import House, Process, until
from tests.e2e.test_trust_keys import at_generation
from tests.e2e.test_weather import TOPIC, confirmed
from tests.node.programs import workshop
from tests.real_broker import HOST, Broker

STATUS, PRESENCE = "system/status/stt-worker/kitchen", "system/presence/kitchen"


class Kitchen:
    """One worker's device: its folder stays, its processes come and go."""

    def __init__(self, house: House, attacker: Attacker, folder: Path) -> None:
        self._house, self.attacker = house, attacker
        self._argv = workshop(folder / "workshop", "worker_program.mjs")
        self.state, self._key = folder / "state", house.public_key
        self.process: Process

    def start(self, options: dict[str, Any] | None = None, **environment: str) -> Kitchen:
        """Begin another life; REFUSE and DIE are values at which the program throws or ends."""
        whole = {
            "services": ["stt-worker"], "worker": "kitchen", "broker": self._house.broker_url,
            "state": str(self.state), "publicKey": self._key, **(options or {}),
        }  # fmt: skip
        self.process = Process(self._argv, {"NODE_WORKER": json.dumps(whole), **environment})
        self._house._processes.append(self.process)
        return self

    def wait_for(self, what: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the program printed a line like this in its present life."""
        return until(
            lambda: next((one for line in list(self.process.lines) if fits(one := json.loads(line))), None),
            f"{what}; {self.process.lines[-4:]}, {self.process.talk[-4:]}",
        )

    def given(self, threshold: float, source: str = "broker") -> dict[str, Any]:
        """Wait until the program was given a value."""
        wanted = {"event": "config", "source": source}
        return self.wait_for(
            f"{threshold} from the {source}",
            lambda one: wanted.items() <= one.items() and one["values"]["vad_threshold"] == threshold,
        )

    def reported(self, **wanted: Any) -> dict[str, Any]:
        """Wait until a verdict has these members."""
        return self.wait_for(f"a report {wanted}", lambda one: wanted.items() <= one.items())

    def status(self, raw: bytes) -> Status:
        """Verify a status as whoever has the file with this worker's public keys."""
        public = PublicKeys.from_text((self.state / "worker.public.json").read_text())
        return read_status(raw, "stt-worker", "kitchen", public.verifier, public.key_id)

    def says(self, what: str, fits: Callable[[Status], bool]) -> Status:
        """Wait until the newest status, which the broker retains, is like this."""

        def look() -> Status | None:
            said = self.status(self.attacker.last(STATUS))
            return said if fits(said) else None

        return until(look, f"a status: {what}; {self.attacker.last(STATUS).decode()}")


@pytest.fixture
def attacker(house: House, raw_client: ClientFactory) -> Attacker:
    return Attacker(raw_client(house.broker_url))


@pytest.fixture
def kitchen(house: House, attacker: Attacker, tmp_path: Path) -> Kitchen:
    house.daemon()
    return Kitchen(house, attacker, tmp_path / "kitchen").start()


def test_it_applies_and_says_so_under_a_key_of_its_own_and_refuses_what_is_old(
    house: House, kitchen: Kitchen
) -> None:
    attacker = kitchen.attacker
    house.set("stt-worker", vad_threshold=0.1)
    kitchen.given(0.1)
    version = house.set("stt-worker", vad_threshold=0.2)
    place = kitchen.given(0.2)
    said = kitchen.says("it runs 2", lambda one: bool(one.running and one.running.config_version == version))
    assert said.running and said.last_attempt
    assert (said.running.sequence, said.running.source) == (place["sequence"], "broker")
    assert (said.last_attempt.state, said.last_attempt.reason, said.flags) == ("applied", None, [])
    assert attacker.last(PRESENCE) == b"online"

    confirmed(house, 2)
    attacker.write(TOPIC, attacker.of_version(1))
    kitchen.reported(state="rejected", reason="rollback")
    shown = attacker.first("system/evidence/stt-worker/kitchen", lambda body: body["config_version"] == 2)
    assert shown == attacker.of_version(2)
    after = kitchen.status(attacker.last(STATUS))
    assert (after.running, after.last_attempt) == (said.running, said.last_attempt)
    with pytest.raises(RejectedUpdate):
        kitchen.status(attacker.last(STATUS).replace(b'"config_version":2', b'"config_version":3'))

    kitchen.process.kill()
    until(lambda: attacker.last(PRESENCE) == b"offline", "the will")


def test_a_death_between_keeping_and_applying_and_a_start_without_a_broker(
    broker: Broker, house: House, kitchen: Kitchen
) -> None:
    house.set("stt-worker", vad_threshold=0.1)
    kitchen.given(0.1)
    kitchen.process.kill()
    boot = kitchen.status(kitchen.attacker.last(STATUS)).boot + 10**12
    text = json.dumps({"boot": boot})  # as if the clock had been put back by thirty years since
    digest = hashlib.sha256(text.encode()).hexdigest()
    (kitchen.state / "worker.boot").write_text(f"{digest}\n{text}")
    kitchen.start(DIE="0.2").given(0.1, "cache")
    kitchen.says("another life", lambda one: one.boot == boot + 1)
    house.set("stt-worker", vad_threshold=0.2)
    assert kitchen.process.wait() == -9

    broker.stop()
    kitchen.start().given(0.2, "cache")
    kitchen.reported(state="applied", config_version=2)
    assert kitchen.process.stop() == 0
    kitchen.start().given(0.2, "cache")
    broker.start()
    house.set("stt-worker", vad_threshold=0.3)
    kitchen.given(0.3)
    assert kitchen.process.stop() == 0


def test_what_the_program_refuses_stays_told_and_what_is_withdrawn_runs_until_the_end(
    house: House, kitchen: Kitchen
) -> None:
    house.set("stt-worker", vad_threshold=0.1)
    kitchen.given(0.1)
    kitchen.process.kill()
    kitchen.start(REFUSE="0.9").given(0.1, "cache")
    house.set("stt-worker", vad_threshold=0.9)
    kitchen.reported(state="rejected", reason="apply-failed", config_version=2)
    said = kitchen.says("2 failed", lambda one: bool(one.last_attempt and one.last_attempt.reason))
    assert said.running and said.running.config_version == 1
    assert said.last_attempt and (said.last_attempt.config_version, said.last_attempt.state) == (
        2,
        "rejected",
    )
    assert [one.message for one in said.last_attempt.errors] == ["mqtt://***@here takes no such threshold"]

    kitchen.process.kill()
    kitchen.start(REFUSE="0.9").given(0.1, "cache")  # and 2 is tried once more
    kitchen.reported(state="rejected", reason="apply-failed", config_version=2)
    house.set("stt-worker", vad_threshold=0.3)
    kitchen.given(0.3)
    kitchen.says("3 runs", lambda one: bool(one.running and one.running.config_version == 3))

    assert house.cli("delete", "stt-worker", "--yes")[0] == 0
    kitchen.wait_for("the tombstone", lambda one: one["event"] == "deleted")
    said = kitchen.says("deleted", lambda one: bool(one.last_attempt and one.last_attempt.state == "deleted"))
    assert said.running and said.running.config_version == 3
    assert kitchen.process.stop() == 0
    kitchen.start()
    said = kitchen.says("nothing runs", lambda one: one.boot > said.boot)
    assert said.running is None and said.last_attempt and said.last_attempt.state == "deleted"


def test_it_follows_new_keys_and_a_revocation(house: House, kitchen: Kitchen) -> None:
    keys, attacker = HouseKeys(house), kitchen.attacker
    house.set("stt-worker", vad_threshold=0.1)
    kitchen.given(0.1)
    confirmed(house, 1)
    old = attacker.of_version(1)
    new = keys.rotate()
    kitchen.reported(service="keyring", state="applied", sequence=2)
    house.set("stt-worker", vad_threshold=0.2)
    kitchen.given(0.2)
    confirmed(house, 2)

    keys.revoke(new)
    keys.followed()
    today = at_generation(house, attacker, 2)
    kitchen.reported(service="stt-worker", state="applied", generation=2)
    kitchen.says(
        "generation 2", lambda one: bool(one.running and one.running.generation == 2 and not one.flags)
    )
    attacker.write(TOPIC, old)
    kitchen.reported(service="stt-worker", state="rejected", reason="wrong-key")
    attacker.write(TOPIC, attacker.of_version(2))
    kitchen.reported(service="stt-worker", state="rejected", reason="revoked-key")
    assert members(today)["config_version"] == 2 and attacker.last(KEYRING)

    kitchen.process.kill()
    house.set("stt-worker", vad_threshold=0.3)
    kitchen.start().given(0.2, "cache")  # it remembers the keyring, whose keys its anchor does not list
    kitchen.given(0.3)


def test_what_it_kept_belongs_to_its_anchor(house: House, kitchen: Kitchen, tmp_path: Path) -> None:
    keys = HouseKeys(house)
    house.set("stt-worker", vad_threshold=0.1)
    kitchen.given(0.1)
    keys.stage()
    kitchen.reported(service="keyring", state="applied", sequence=1)
    installed = tmp_path / "keyring.json"
    installed.write_bytes(kitchen.attacker.last(KEYRING) + b"\n")
    kitchen.process.kill()
    anchor = {"keyringFile": str(installed)}  # it has two roots, where the public key was the only one
    kitchen.start(anchor).given(0.1, "cache")
    assert kitchen.reported(service="stt-worker", state="applied")["flags"] == ["unconfirmed"]
    kitchen.reported(service="stt-worker", state="applied", flags=[])  # the beacon lists it
    house.set("stt-worker", vad_threshold=0.2)
    kitchen.given(0.2)
    kitchen.process.kill()
    kitchen.start(anchor).given(0.2, "cache")
    assert kitchen.reported(service="stt-worker", state="applied")["flags"] == []
    kitchen.process.kill()
    kitchen.start({"publicKey": bytes(OWN_KEY.verify_key).hex()}).given(0.2, "cache")
    assert kitchen.reported(service="stt-worker", state="applied")["flags"] == ["unconfirmed", "stale"]
    kitchen.reported(service="stt-worker", state="rejected", reason="bad-signature")


def test_keys_that_are_gone_are_not_made_anew_beside_what_is_believed(house: House, kitchen: Kitchen) -> None:
    house.set("stt-worker", vad_threshold=0.1)
    kitchen.given(0.1)
    kitchen.process.kill()
    (kitchen.state / "worker.keys").unlink()
    assert kitchen.start().process.wait() == 1
    assert any("worker.keys is gone: put it back" in line for line in kitchen.process.talk)
    (kitchen.state / "worker.keys").write_text("{}")
    (kitchen.state / "worker.keys").chmod(0o600)
    assert kitchen.start().process.wait() == 1
    assert any("was changed or cut" in line for line in kitchen.process.talk)


def test_it_speaks_tls_with_a_password_below_another_prefix(
    broker_factory: BrokerFactory, tmp_path: Path, raw_client: ClientFactory
) -> None:
    ca, tls = trustme.CA(), Tls(*(tmp_path / name for name in ("ca.crt", "server.crt", "server.key")))
    ca.cert_pem.write_to_path(tls.ca)
    server = ca.issue_cert(HOST)
    server.private_key_pem.write_to_path(tls.key)
    server.cert_chain_pems[0].write_to_path(tls.certificate)
    broker = broker_factory(tls=tls, users={"kitchen": "its word", "daemon": "another"})
    host = broker.url.partition("://")[2]
    house = House(tmp_path / "data", f"mqtts://daemon:another@{host}")
    prefix = {"CONFIG_DAEMON_TOPIC_PREFIX": "site-1", "CONFIG_DAEMON_MQTT_CA_FILE": str(tls.ca)}
    try:
        house.daemon(**prefix)
        house.set("stt-worker", vad_threshold=0.1)
        watcher = raw_client(house.broker_url, ca=tls.ca)
        watcher.subscribe("site-1/#")
        kitchen = Kitchen(house, Attacker(watcher), tmp_path / "kitchen")
        login = {"username": "kitchen", "password": "a wrong word", "ca": tls.ca.read_text()}
        where = {"broker": f"mqtts://{host}", "topicPrefix": "site-1"}
        kitchen.start({**where, "mqttOptions": login})
        until(lambda: [line for line in kitchen.process.talk if "Not authorized" in line], "a refusal")
        assert not any("a wrong word" in line for line in kitchen.process.talk)
        kitchen.process.kill()
        kitchen.start({**where, "mqttOptions": {**login, "password": "its word"}}).given(0.1)
        kitchen.status(watcher.wait_for_topic("site-1/status/stt-worker/kitchen").payload)
        assert watcher.wait_for_topic("site-1/presence/kitchen").payload == b"online"
    finally:
        house.close()


def test_the_example_of_ten_lines_runs(house: House, tmp_path: Path) -> None:
    house.daemon()
    house.set("stt-worker", vad_threshold=0.4)
    node, _ = workshop(tmp_path / "workshop", "worker_program.mjs")
    example = tmp_path / "workshop/examples/node/example.mjs"
    assert len(example.read_text().splitlines()) <= 11  # and one that says how to call it
    (tmp_path / "key.pem").write_text(house.public_key)
    argv = ["env", "-C", str(tmp_path), node, str(example), house.broker_url, "stt-worker", "key.pem"]
    process = Process(argv, {})
    house._processes.append(process)
    until(lambda: "vad_threshold: 0.4" in " ".join(process.lines), f"version 1; {process.talk}")
    assert process.stop() == 0
