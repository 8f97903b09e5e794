"""`watch` at a broker that somebody else owns: what it calls good is good, and what it calls current is current."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.broker_fixtures import ClientFactory
from tests.e2e.attacker import HEALTH, Attacker, HouseKeys, forged
from tests.e2e.house import House, Process, until
from tests.e2e.test_weather import TOPIC, confirmed, facts


@pytest.fixture
def attacker(house: House, raw_client: ClientFactory) -> Attacker:
    return Attacker(raw_client(house.broker_url))


class Watching(Process):
    """A running `watch --json`."""

    def __init__(self, house: House, *words: str) -> None:
        program = [sys.executable, "-m", "config_daemon.cli.main", "watch", *words]
        super().__init__([*program, "--data", str(house.folder), "--broker", house.broker_url], {})
        house._processes.append(self)

    def of(self, topic: str, **members: Any) -> dict[str, Any]:
        """Wait for the first message on a topic that has these members."""

        def look() -> dict[str, Any] | None:
            shown = [json.loads(line) for line in list(self.lines)]
            wanted = {"topic": topic, **members}.items()
            return next((one for one in shown if all(one.get(key) == value for key, value in wanted)), None)

        return until(look, f"{members} on {topic}; {self.lines[-3:]}")


def after_a_crash(house: House, attacker: Attacker) -> bytes:
    """Have a daemon crash and another one start; return the will of the first."""
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    daemon.kill()
    will = attacker.first(HEALTH, lambda body: body["event"] == "offline")
    following = house.daemon()
    until(lambda: facts(house).get("pid") == following.pid, "the next daemon")
    confirmed(house, 1)
    return will


def test_watch_does_not_take_a_replayed_will_for_the_daemons_end(house: House, attacker: Attacker) -> None:
    will = after_a_crash(house, attacker)
    watching, reading = Watching(house, "--json"), Watching(house)
    now = watching.of(HEALTH, verdict="good", ok=True)
    until(lambda: any("  ok  normal" in line for line in reading.lines), "the daemon's health, as text")
    older = attacker.first(HEALTH, lambda body: body["ok"])
    assert json.loads(older)["session"] == json.loads(will)["session"] != now["session"]
    for raw in (will, older):
        attacker.write(HEALTH, raw)
        gone = watching.of(HEALTH, session=json.loads(raw)["session"], event=json.loads(raw)["event"])
        assert (gone["verdict"], gone["current"]) == ("good", False)
    until(lambda: any("OLD  NOT OK" in line and "offline" in line for line in reading.lines), "it, as text")
    shown = [json.loads(line) for line in watching.lines]
    assert not [one for one in shown if "current" in one and one["session"] == now["session"]]
    house.set("stt-worker", vad_threshold=0.2)
    assert "current" not in watching.of(TOPIC, config_version=2)


def test_watch_takes_the_daemons_own_will_and_says_so_once_it_is_back(
    house: House, attacker: Attacker
) -> None:
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    watching = Watching(house, "--json")
    watching.of(HEALTH, ok=True)
    daemon.kill()
    assert "current" not in watching.of(HEALTH, event="offline")
    house.daemon()
    session = watching.of(HEALTH, event="offline")["session"]
    until(
        lambda: [
            one for one in map(json.loads, watching.lines) if one.get("ok") and one["session"] != session
        ],
        "the next daemon's health",
    )
    assert not [line for line in watching.lines if '"current"' in line]


def test_watch_shows_a_forged_health_message_as_rejected(house: House, attacker: Attacker) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    watching = Watching(house, "--json")
    watching.of(HEALTH, ok=True)
    attacker.write(HEALTH, forged(attacker.last(HEALTH), ok=False))
    assert watching.of(HEALTH, verdict="rejected")["reason"] == "bad-signature"


def test_watch_follows_the_keyring(house: House, attacker: Attacker) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    watching, keys = Watching(house, "--json"), HouseKeys(house)
    watching.of(TOPIC, verdict="good", generation=1)
    keys.revoke(next(iter(keys.keys.values())))
    keys.followed()
    watching.of(TOPIC, verdict="good", generation=2)
    watching.of(HEALTH, verdict="good", generation=2)
