"""Fifty workers, a broker that lies, and seven troubles at once: what an operator is told of each of them is true."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.attacker import Attacker
from tests.e2e.crowd import SERVICE, Crowd, refusing
from tests.e2e.house import House, until
from tests.raw_client import RawClient
from tests.real_broker import Broker

TOPIC = f"system/config/{SERVICE}"
SIMULATED = 45
BAD_RELOAD, BAD_VERIFY = 0.66, 0.77
# what a worker that is not well is said to be, and a word that tells an operator why
TROUBLES = {
    "model-refuses": ("rejected", "vad_threshold must be at most 0.6"),
    "disk-full": ("pending", "No space left"),
    "gone": ("offline", "left the broker"),
}
STUCK = {"model-refuses", "disk-full"}


@pytest.fixture
def crowd(house: House, tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(house, tmp_path / "edge")
    yield crowd
    crowd.close()


def gather(crowd: Crowd) -> None:
    """Start all fifty: five processes, the others in threads."""
    crowd.python("killed")
    crowd.python("in-1970", "tests.e2e.before_1980")
    crowd.node("in-javascript")
    crowd.agent("reload-fails", "--reload", f"/bin/sh -c '! grep -q {BAD_RELOAD} {{file}}'")
    crowd.agent("verify-fails", "--verify", f"/bin/sh -c '! grep -q {BAD_VERIFY} {{file}}'")
    for number in range(SIMULATED - 4):
        crowd.simulate(f"plain-{number:02}")
    for name in ("disk-full", "state-corrupted", "gone"):
        crowd.simulate(name)
    crowd.simulate("model-refuses", refusing)


def wait(house: House, version: int, seconds: float) -> tuple[int, dict[str, str]]:
    """Run `wait`; return its exit code, and the state of each worker that it names."""
    code, out, error = house.cli(
        "wait", SERVICE, "--version", str(version), "--timeout", str(seconds), "--json"
    )
    assert out, error
    last = json.loads(out.splitlines()[-1])
    return code, {one["worker"]: one["state"] for one in last["waiting"]}


def lines(house: House) -> dict[str, dict[str, Any]]:
    """Return what `worker list` says, by worker."""
    code, out, error = house.cli("worker", "list", "--json")
    assert code == 0, error
    return {one["worker"]: one for one in json.loads(out)}


@pytest.mark.timeout(240)
def test_a_hostile_afternoon(house: House, broker: Broker, crowd: Crowd) -> None:
    house.set(SERVICE, vad_threshold=0.5)
    house.daemon()
    gather(crowd)
    until(crowd.has_keys, "every worker wrote its keys", 60.0)
    crowd.expect_all()
    assert len(crowd.names) == 50
    assert wait(house, 1, 60.0) == (0, {})

    with RawClient(broker.url) as client:
        attacker = Attacker(client)
        old = attacker.of_version(1, TOPIC)

        # one dies between keeping a config and applying it, another one's disk is full
        crowd.processes["killed"].stop()
        crowd.python("killed", failpoint="worker_after_persist:kill")
        crowd.simulated["disk-full"].fill_disk()
        until(lambda: lines(house)["killed"]["state"] == "applied", "it is back, and armed")
        second = house.set(SERVICE, vad_threshold=BAD_RELOAD)
        assert crowd.processes["killed"].wait() == -signal.SIGKILL
        code, waiting = wait(house, second, 6.0)
        assert (code, waiting) == (1, {
            "killed": "offline", "disk-full": "pending", "model-refuses": "rejected", "reload-fails": "rolled-back",
        })  # fmt: skip
        assert crowd.rendered("reload-fails") == 0.5

        # the broker plays yesterday, forgets everything, and freezes
        attacker.write(TOPIC, old)
        house.set(SERVICE, vad_threshold=BAD_VERIFY)
        attacker.write(TOPIC, old)
        until(lambda: crowd.simulated["plain-00"].given[-1].threshold == BAD_VERIFY, "the third one goes on")
    broker.wipe()
    until(lambda: crowd.rendered("reload-fails") == BAD_VERIFY, "the third one helps this program", 60.0)
    broker.suspend()
    fourth = house.set(SERVICE, vad_threshold=0.8)
    broker.resume()

    # what can be mended is mended; what cannot stays as it is
    corrupted = crowd.simulated["state-corrupted"]
    corrupted.client.stop()
    (corrupted.folder / f"{SERVICE}.state").write_bytes(b"{ half a file")
    corrupted.start()
    crowd.python("killed")
    until(lambda: wait(house, fourth, 1.0)[1].keys() == STUCK, "all but two run the fourth one", 60.0)
    crowd.simulated["gone"].client.stop()
    fifth = house.set(SERVICE, vad_threshold=0.9)
    until(lambda: wait(house, fifth, 1.0)[1].keys() == TROUBLES.keys(), "all that can run the newest", 60.0)

    said = lines(house)
    assert said.keys() == set(crowd.names)
    for name, line in said.items():
        state, words = TROUBLES.get(name, ("applied", ""))
        assert (name, line["state"]) == (name, state)
        assert words in line["why"], line
        assert line["wanted"] == fifth
        assert (line["runs"] == fifth) == (name not in TROUBLES), line
    assert said["model-refuses"]["runs"] == 1
    assert "floor-lost" in said["state-corrupted"]["flags"]
    told = house.status()
    assert "47 of 50 applied, 1 rejected, 1 offline, 1 pending" in json.dumps(told), told

    assert crowd.rendered("verify-fails") == crowd.rendered("reload-fails") == 0.9
    for name, worker in crowd.simulated.items():
        assert worker.given == sorted(worker.given), f"{name} went back: {worker.given}"
        newest = {"model-refuses": 0.5, "disk-full": 0.5}.get(name, 0.8 if name == "gone" else 0.9)
        assert worker.given[-1].threshold == newest, name
