"""Whoever owns the broker keeps back, wipes or puts back all of it; and clocks that are far off."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.e2e.attacker import (
    BEACON,
    HIGHEST,
    PATIENCE,
    TTS_TOPIC,
    Attacker,
    HouseKeys,
    Machine,
    another_beacon,
    flagged,
    forged,
    never_went_back,
    refused,
    running,
    told,
    worker_with,
)
from tests.e2e.house import House, until
from tests.e2e.test_foul_play import TO_1970_NS, YEAR_NS
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts
from tests.real_broker import Broker, OwnBroker

DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def attacker(house: House, raw_client: ClientFactory) -> Attacker:
    return Attacker(raw_client(house.broker_url))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


# the whole broker ---------------------------------------------------------------------------------


def test_wiped_and_forged_retained_state_stops_nobody(house: House, attacker: Attacker) -> None:
    house.set("tts-worker", volume_percent=50)
    worker = running(house)
    good = attacker.of_version(2)
    beacon = attacker.last(BEACON)
    for topic in (TOPIC, TTS_TOPIC, BEACON):
        attacker.write(topic, b"")
    attacker.write(BEACON, forged(beacon, sequence=HIGHEST))
    attacker.write("system/trust/beacon/00", b"garbage")
    attacker.write("system/config/made-up", forged(good, service="made-up"))
    attacker.write("system/evidence/stt-worker/demo", forged(good, sequence=HIGHEST), retain=False)
    refused(worker, "wiped")
    until(lambda: attacker.last(TOPIC) == good, "the good message at the broker")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    told(house, "foreign-write")
    assert conditions(house) == {"foreign-write"}


def test_yesterdays_whole_broker_brings_no_worker_back(
    house: House, attacker: Attacker, machine: Machine
) -> None:
    """While the daemon is shut out, and when it is heard again."""
    daemon = house.daemon()
    worker = worker_with(house, **machine.environment)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    attacker.first(BEACON, lambda body: "stt-worker" in body["services"])
    yesterday = attacker.state()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    confirmed(house, 2)
    good = attacker.of_version(2)
    daemon.signal(signal.SIGSTOP)
    attacker.put_back(yesterday)
    refused(worker, "rollback")
    machine.wait(PATIENCE)
    flagged(worker, "stale")
    assert [report["config_version"] for report in worker.applied] == [1, 2]
    daemon.signal(signal.SIGCONT)
    told(house, "foreign-write")
    until(lambda: attacker.last(TOPIC) == good, "today's message at the broker")
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    never_went_back(worker)


def test_yesterdays_whole_broker_in_front_of_a_new_worker_runs_nothing(
    house: House, attacker: Attacker, machine: Machine
) -> None:
    """For this worker the broker's beacons are a day old."""
    running(house)
    machine.believe(DAY_NS)
    new = worker_with(house, "new", **machine.environment)
    until(lambda: [r for r in new.reports if r["config_version"] == 2], "the config, held")
    another_beacon(house, attacker)  # as old as the one before
    assert {(r["state"], tuple(r["flags"])) for r in new.reports} == {("held", ("unconfirmed",))}
    machine.wait(PATIENCE)
    flagged(new, "stale")
    assert new.applied == []


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


def test_every_beacon_ever_played_again_and_again_stops_nobody(house: House, attacker: Attacker) -> None:
    worker = running(house)
    another_beacon(house, attacker)
    heard = attacker.all(BEACON)
    assert len(heard) >= 2
    worker.wait_for(house.set("stt-worker", vad_threshold=0.3))
    another_beacon(house, attacker, "router")
    for raw in (*heard, *heard):
        attacker.write(BEACON, raw)
    for value in (0.4, 0.5):
        worker.wait_for(house.set("stt-worker", vad_threshold=value))
    assert conditions(house) == set()
    assert not {flag for report in worker.reports for flag in report["flags"]} - {"unconfirmed"}
    assert not attacker.seen("system/evidence/"), "to the worker nobody seemed to be behind"


# kept back ----------------------------------------------------------------------------------------


KEPT_BACK = {
    "a config": ("system/config/stt-worker",),
    "the keyring": ("system/trust/keyring", "system/trust/keyring/+"),
}


@pytest.mark.parametrize("what", KEPT_BACK)
def test_one_topic_frozen_is_flagged_with_the_second_beacon(
    broker_factory: BrokerFactory, raw_client: ClientFactory, tmp_path: Path, what: str
) -> None:
    """The attacker has the broker keep it from this worker alone."""
    users = dict.fromkeys(("daemon", "edge", "attacker"), "pw")
    everything = "".join(f"user {user}\ntopic readwrite system/#\n" for user in users)
    broker = broker_factory(users=users, acl=everything)
    assert isinstance(broker, OwnBroker)
    house = House(tmp_path / "data", broker.url_for("daemon", "pw"))
    try:
        house.daemon()
        worker = house.worker(url=broker.url_for("edge", "pw"))
        worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
        broker.stop()
        denied = "".join(f"topic deny {topic}\n" for topic in KEPT_BACK[what])
        rest = everything.replace("user edge\n", f"user edge\n{denied}")
        (broker.folder / "acl").write_text(rest)
        broker.start()
        attacker = Attacker(raw_client(broker.url_for("attacker", "pw")))
        if what == "the keyring":
            keys = HouseKeys(house)
            keys.stage()
            keys.followed()
        else:
            confirmed(house, house.set("stt-worker", vad_threshold=0.2))
        another_beacon(house, attacker)
        another_beacon(house, attacker, "router")
        try:
            flagged(worker, "frozen", seconds=6.0)
        except AssertionError:  # it came back after the first of the two
            another_beacon(house, attacker, "llm-worker")
            flagged(worker, "frozen")
        assert [report["config_version"] for report in worker.applied] == [1]
        (broker.folder / "acl").write_text(everything)
        broker.stop()
        broker.start()
        if what == "the keyring":
            until(lambda: [r for r in worker.applied if r["service"] == "keyring"], "the keyring")
        else:
            worker.wait_for(2)
        assert "rejected" not in {report["state"] for report in worker.reports}
    finally:
        house.close()


def test_everything_frozen_is_flagged_by_the_worker_and_told_by_the_daemon(
    broker: Broker, house: House, machine: Machine
) -> None:
    first = house.daemon()  # the next one is no newcomer: see the test below
    worker = worker_with(house, **machine.environment)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    assert first.stop() == 0
    daemon = house.daemon(CONFIG_DAEMON_KEEPALIVE_SECONDS="5")
    until(lambda: facts(house).get("pid") == daemon.pid, "the next daemon")
    confirmed(house, 1)
    broker.suspend()
    house.set("stt-worker", vad_threshold=0.2)
    machine.wait(PATIENCE)
    flagged(worker, "stale")
    until(lambda: "broker-down" in conditions(house), "the condition broker-down", 30)
    assert [report["config_version"] for report in worker.applied] == [1]
    broker.resume()
    worker.wait_for(2, 30)
    until(lambda: "stale" not in worker.reports[-1]["flags"], "a fresh beacon")
    until(lambda: "broker-down" not in conditions(house), "the condition's end")


def test_a_daemon_in_its_first_life_puts_a_replay_right_that_came_while_it_was_cut_off(
    broker: Broker, house: House, attacker: Attacker, raw_client: ClientFactory
) -> None:
    daemon = house.daemon()
    for version in (1, 2):
        confirmed(house, house.set("stt-worker", vad_threshold=version / 10))
    old, good = attacker.of_version(1), attacker.of_version(2)
    daemon.signal(signal.SIGSTOP)
    broker.stop()
    broker.start()
    again = Attacker(raw_client(house.broker_url))
    again.write(TOPIC, old)
    daemon.signal(signal.SIGCONT)
    until(lambda: again.last(TOPIC) == good or "foreign-state" in conditions(house), "the replay noticed", 30)
    assert again.last(TOPIC) == good
    assert "foreign-state" not in conditions(house)


# clocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off_ns", "flag"),
    [(YEAR_NS, "stale"), (-YEAR_NS, "time-unsure"), (TO_1970_NS, "time-unsure")],
    ids=["a year ahead", "a year behind", "1970"],
)
def test_a_workers_clock_far_off_stops_no_config(
    house: House, attacker: Attacker, machine: Machine, off_ns: int, flag: str
) -> None:
    """It is set while the worker runs, and is still wrong when it boots again."""
    house.daemon()
    worker = worker_with(house, **machine.environment)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    machine.believe(off_ns)
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    worker.kill()
    version = house.set("stt-worker", vad_threshold=0.3)
    again = worker_with(house, **machine.environment)
    again.wait_for(version)
    another_beacon(house, attacker)
    another_beacon(house, attacker, "router")
    if flag == "stale":
        machine.wait(PATIENCE)
    flagged(again, flag)
    again.wait_for(house.set("stt-worker", vad_threshold=0.4))
    assert "rejected" not in {report["state"] for one in (worker, again) for report in one.reports}


def test_a_worker_that_woke_up_in_1970_runs_after_two_beacons_and_says_that_it_is_unsure(
    house: House, attacker: Attacker, machine: Machine
) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    attacker.first(BEACON, lambda body: "stt-worker" in body["services"])
    machine.believe(TO_1970_NS)
    new = worker_with(house, "new", **machine.environment)
    until(lambda: new.reports and new.reports[-1]["config_version"] == 1, "the config, held")
    assert new.applied == []
    another_beacon(house, attacker)
    assert new.wait_for(1)["flags"] == ["time-unsure"]
