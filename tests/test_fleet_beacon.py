"""Beacons and evidence in a whole fleet: what they find, what they heal, and that nobody can turn them round.

V3 and V22 are traces found by searching models of the protocol; each goes red when its rule is taken away.
"""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from nacl.signing import SigningKey

from config_daemon.daemon import beacons
from config_daemon.daemon.events import Arrived
from config_daemon.wire.beacon import BEACON, shard_of
from config_daemon.wire.sealing import canonical, seal
from tests.fakes import FakeLink
from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS
from tests.fleet_worker import FakeWorker
from tests.test_fleet_machine import DAEMON_POINTS

TTS_WORKER, STT_WORKER = f"{TTS}-1", f"{STT}-1"
STRANGER = SigningKey(b"\x09" * 32)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def flags(worker: FakeWorker) -> set[str]:
    return set(worker.reports[-1].flags)


def beacons_of(fleet: Fleet) -> list[int]:
    """Return the numbers of all beacons so far."""
    return [
        json.loads(one.raw)["sequence"] for one in fleet.server.written if one.topic == fleet.topics.beacon
    ]


def shown(fleet: Fleet) -> list[bytes]:
    """Return all evidence that workers published."""
    return [one.raw for one in fleet.server.written if "/evidence/" in one.topic and one.writer]


def taken_back(fleet: Fleet) -> None:
    """Trace V3: the daemon forgets a message that a worker holds, and the broker hides it."""
    fleet.env_edit("A")
    fleet.until_voice("A")
    fleet.run(2.0)
    before = dict(fleet.server.retained)
    fleet.env_edit("B")
    fleet.until_voice("B")
    fleet.crash_daemon()
    fleet.tick()
    assert fleet.workers[TTS_WORKER].running["piper_voice"] == "B"
    fleet.env_edit("A")
    fleet.wipe()
    fleet.server.retained.update(before)


def test_trace_v3_evidence_what_the_broker_hides_the_worker_shows(fleet: Fleet) -> None:
    taken_back(fleet)
    fleet.start_daemon("behind")
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["piper_voice"] == "A"
    assert fleet.workers[TTS_WORKER].floor[1] == fleet.shown(TTS).sequence  # type: ignore[index]
    assert shown(fleet)


def test_trace_v3_evidence_of_a_worker_that_slept_and_started_again_counts_as_well(fleet: Fleet) -> None:
    taken_back(fleet)
    fleet.workers[TTS_WORKER].crash()
    fleet.start_daemon("behind")
    fleet.run(600.0, turn=1.0)
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["piper_voice"] == "A"


def test_trace_v22_beacons_after_a_crash_with_the_clock_behind_lie_above_the_workers(fleet: Fleet) -> None:
    """Idle for long: beacons and health used up numbers that no message recorded."""
    for _ in range(40):
        fleet.run(30.0, turn=1.0)
    seen = beacons_of(fleet)[-1]
    assert seen > fleet.shown(TTS).sequence + 40
    fleet.crash_daemon()
    fleet.wipe()
    before = len(beacons_of(fleet))
    fleet.start_daemon("behind")
    fleet.run(35.0)
    assert all(number > seen for number in beacons_of(fleet)[before:])
    fleet.run(120.0, turn=1.0)
    assert all(flags(worker) == set() for worker in fleet.workers.values())
    fleet.settle()


def test_trace_v3_evidence_by_beacons_alone_where_the_broker_hides_the_config_too(fleet: Fleet) -> None:
    taken_back(fleet)
    topic = fleet.topics.config(TTS)
    held = fleet.workers[TTS_WORKER].floor
    fleet.server.secret.add(topic)
    fleet.start_daemon("behind")
    fleet.run(100.0, turn=0.25)
    assert [report.reason for report in fleet.workers[TTS_WORKER].reports if report.reason] == []
    assert held is not None and fleet.shown(TTS).sequence > held.sequence
    fleet.settle()


# what was excluded without evidence ---------------------------------------------------------------


@pytest.mark.parametrize("broker", ["wiped", "puts back the first", "puts back the last but one"])
@pytest.mark.parametrize("point", DAEMON_POINTS)
def test_a_daemon_that_dies_and_a_broker_that_hides_what_it_said_converge(
    fleet: Fleet, point: str, broker: str
) -> None:
    for voice in ("A", "B"):  # no version tells them apart
        fleet.env_edit(voice)
        fleet.until_voice(voice)
        fleet.run(0.5)
    fleet.env_edit(None)
    fleet.crash_daemon_at(point)
    fleet.tick()
    fleet.env_edit("A")
    match broker:
        case "wiped":
            fleet.wipe()
        case "puts back the first":
            fleet.put_back(fleet.published(TTS)[0])
        case _:
            fleet.put_back(fleet.published(TTS)[-2])
    fleet.start_daemon("behind")
    fleet.settle()


@pytest.mark.parametrize("lost", ["the cache", "the marks", "both"])
def test_a_daemon_without_memory_and_a_wiped_broker_converge(fleet: Fleet, lost: str) -> None:
    fleet.env_edit("A")
    fleet.until_voice("A")
    fleet.run(2.0)
    fleet.env_edit("B")
    fleet.until_voice("B")
    fleet.crash_daemon()
    fleet.tick()
    if lost != "the marks":
        fleet.lose_lkg()
    if lost != "the cache":
        fleet.lose_marks()
    fleet.wipe()
    fleet.env_edit("A")
    fleet.start_daemon("behind")
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["piper_voice"] == "A"


def test_a_lost_host_put_back_as_it_was_holds_by_what_a_worker_shows(fleet: Fleet) -> None:
    """Database, marks and cache are of one moment, and the broker is empty: only the workers remember."""
    fleet.stop_daemon()
    fleet.close_writer()
    rows, kept = dict(fleet.rows), fleet.folder / "kept"
    shutil.copytree(fleet.host.folder, kept)
    fleet.start_daemon()
    fleet.commit(TTS, 11)
    fleet.settle()
    fleet.crash_daemon()
    fleet.close_writer()
    shutil.rmtree(fleet.host.folder)
    shutil.copytree(kept, fleet.host.folder)
    fleet.rows, fleet.laws.numbers_may_repeat = rows, True
    fleet.wipe()
    fleet.start_daemon("behind")
    fleet.run(30.0)
    assert fleet.host.held == {"not-the-newest"}
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 11
    assert "a worker holds our own" in json.dumps(fleet.health["conditions"])
    fleet.adopt()
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 10


@pytest.mark.parametrize("clock", ["ok", "behind"])
def test_without_any_memory_a_beacon_of_ours_on_an_emptied_broker_is_asked_about(
    fleet: Fleet, clock: str
) -> None:
    """Else an older database would take the workers back: somebody cleared the configs and left the beacon."""
    backup = fleet.backup()
    fleet.commit(TTS, 11)
    fleet.settle()
    fleet.crash_daemon()
    fleet.restore_database(backup)
    fleet.lose_lkg()
    fleet.lose_marks()
    beacon = fleet.server.retained[fleet.topics.beacon]
    fleet.wipe()
    fleet.server.retained[fleet.topics.beacon] = beacon
    fleet.start_daemon(clock)
    fleet.run(30.0)
    assert fleet.host.held == {"foreign-state"}
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 11
    fleet.adopt()
    fleet.settle()


# copies, sleepers ---------------------------------------------------------------------------------


def test_a_copied_daemon_is_found_by_beacons_within_30_seconds(fleet: Fleet) -> None:
    """Nobody changes anything, and no config is published: V6 would go unnoticed."""
    fleet.stop_daemon()
    twin = fleet.copy_host("twin")
    fleet.start_daemon()
    fleet.run(17.0)
    twin.start()
    published = len(fleet.published())
    fleet.run_beside(twin, 31.0)
    assert sorted((fleet.host.held, twin.held), key=len) == [set(), {"not-the-newest"}]
    assert len(fleet.published()) == published
    assert all(flags(worker) == set() for worker in fleet.workers.values())
    twin.crash()


def test_a_sleeper_wakes_to_what_is_current(fleet: Fleet) -> None:
    sleeper = fleet.workers[TTS_WORKER]
    sleeper.crash()
    for value in range(11, 16):
        fleet.commit(TTS, value)
        fleet.run(40.0, turn=1.0)
    sleeper.start()
    assert sleeper.running["volume_percent"] == 10
    fleet.run(1.0)
    assert sleeper.running["volume_percent"] == 15
    assert flags(sleeper) == set()
    fleet.settle()


def test_a_sleeper_whose_topic_the_broker_freezes_says_so(fleet: Fleet) -> None:
    sleeper = fleet.workers[TTS_WORKER]
    sleeper.crash()
    fleet.commit(TTS, 11)
    fleet.run(2.0)
    fleet.server.secret.add(fleet.topics.config(TTS))
    sleeper.start()
    fleet.run(61.0)
    assert (sleeper.running["volume_percent"], flags(sleeper)) == (10, {"frozen"})
    fleet.server.secret.clear()
    fleet.server.restart()
    fleet.settle()
    assert flags(sleeper) == set()


def test_a_sleeper_whose_whole_broker_is_frozen_says_so(fleet: Fleet) -> None:
    fleet.stop_daemon()  # nothing new is ever shown
    fleet.run(100.0, turn=1.0)
    assert all(flags(worker) == {"stale"} for worker in fleet.workers.values())
    sleeper = fleet.workers[TTS_WORKER]
    sleeper.crash()
    sleeper.start()
    fleet.run(91.0, turn=1.0)
    assert (sleeper.running["volume_percent"], flags(sleeper)) == (10, {"stale"})
    fleet.start_daemon()
    fleet.settle()
    assert all(flags(worker) == set() for worker in fleet.workers.values())


def test_a_new_worker_in_front_of_yesterdays_broker_does_not_run_it(fleet: Fleet) -> None:
    yesterday = dict(fleet.server.retained)
    fleet.commit(TTS, 11)
    fleet.settle()
    fleet.stop_daemon()
    fleet.run(86_400.0, turn=600.0)
    fleet.server.wipe()
    fleet.server.retained.update(yesterday)
    late = fleet.add_worker("late", TTS)
    late.start()
    fleet.run(300.0, turn=1.0)
    assert (late.running, flags(late)) == (None, {"unconfirmed", "stale"})
    fleet.start_daemon()
    fleet.settle()
    assert late.running["volume_percent"] == 11


# attackers ----------------------------------------------------------------------------------------


def test_an_older_beacon_of_ours_put_back_changes_nothing_and_is_outdone(fleet: Fleet) -> None:
    old = fleet.server.retained[fleet.topics.beacon]
    fleet.commit(TTS, 11)
    fleet.run(60.0)
    fleet.server.write(fleet.topics.beacon, old)
    fleet.run(1.0)
    assert fleet.conditions == set()
    assert all(flags(worker) == set() for worker in fleet.workers.values())
    assert shown(fleet) == []
    fleet.run(30.0)
    assert fleet.server.retained[fleet.topics.beacon] != old
    fleet.settle()


def test_every_beacon_ever_played_again_and_again_stops_nobody(fleet: Fleet) -> None:
    fleet.commit(TTS, 11)
    fleet.run(90.0, turn=1.0)
    recorded = [one.raw for one in fleet.server.written if one.topic == fleet.topics.beacon]
    for _ in range(60):
        for raw in recorded:
            fleet.server.write(fleet.topics.beacon, raw)
        fleet.run(1.0)
    assert fleet.conditions == set()
    assert all(flags(worker) == set() for worker in fleet.workers.values())
    fleet.settle()


def test_floods_of_forged_beacons_and_evidence_are_bounded_and_change_nothing(fleet: Fleet) -> None:
    fleet.run(1.0)
    published = len(fleet.published())
    body = json.loads(fleet.server.retained[fleet.topics.beacon])
    body.pop("signature")
    for number in range(3000):
        body["sequence"] = 2**53 - 1 - number
        forged = seal(canonical(body), BEACON, STRANGER)
        fleet.server.write(fleet.topics.beacon, forged)
        fleet.server.write(fleet.topics.beacon_shard(f"{number % 256:02x}"), forged)
        fleet.server.write(fleet.topics.evidence(f"made-up-{number}", "nobody"), forged)
    for _ in range(500):
        fleet.tick()
    assert fleet.conditions == set()
    assert len(fleet.published()) == published
    fleet.settle()


@pytest.mark.parametrize(
    ("size", "many"), [(0, 60_000), (1, 60_000), (1_000, 20_000), (1_000_000, 100)], ids=str
)
def test_evidence_is_bounded_while_the_daemon_cannot_judge_it(fleet: Fleet, size: int, many: int) -> None:
    """So many are shown that all of them together would take more than the daemon may."""
    fleet.host.disk_full = True
    for value in range(11, 30):
        fleet.commit(TTS, value)
        fleet.run(1.0)
    assert fleet.host.held == {"disk-full"}
    payload = b"x" * (size - 1)
    tracemalloc.start()
    for number in range(many):
        topic = fleet.topics.evidence(f"made-up-{number}", "x")
        fleet.process.parts.mirror.arrived(Arrived(topic, payload + bytes([number % 256])[:size], False))
        if tracemalloc.get_traced_memory()[0] > 16 << 20:
            break
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 6 << 20
    fleet.settle()


@pytest.mark.parametrize("topic", ["system/trust/beacon", "system/trust/beacon/{:02x}"])
def test_forged_beacons_are_bounded_in_bytes_until_somebody_judges_them(fleet: Fleet, topic: str) -> None:
    tracemalloc.start()
    for number in range(256):
        payload = bytes([number]) * 1_000_000
        fleet.process.parts.mirror.arrived(Arrived(topic.format(number), payload, False))
        if tracemalloc.get_traced_memory()[0] > 16 << 20:
            break
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 6 << 20
    fleet.settle()


def test_a_first_start_whose_read_back_was_given_up_does_not_take_its_own_beacon_for_a_strangers(
    tmp_path: Path,
) -> None:
    with closing(Fleet(tmp_path)) as fleet:
        fleet.commit(TTS, 10)
        fleet.start_daemon()
        fleet.until(lambda: fleet.process.parts.mirror.waiting)
        fleet.tick(31.0)  # the machine was suspended
        fleet.run(40.0)
        fleet.server.restart()
        fleet.run(10.0)
        assert not fleet.host.held


def test_garbage_beside_a_workers_evidence_does_not_keep_it_from_being_heard(fleet: Fleet) -> None:
    """Any worker may write evidence below its own name: one that is broken must not silence another."""
    taken_back(fleet)
    fleet.start_daemon("behind")
    stranger = _stranger(fleet)
    for _ in range(2400):  # two minutes
        fleet.tick()
        fleet.server.pass_on(stranger, fleet.topics.evidence(TTS, "broken"), b"garbage")
    assert fleet.workers[TTS_WORKER].running["piper_voice"] == "A"
    fleet.settle()


def test_replayed_evidence_and_that_of_other_topics_change_nothing(fleet: Fleet) -> None:
    fleet.commit(TTS, 11)
    fleet.settle()
    published, stranger = len(fleet.published()), _stranger(fleet)
    for index in fleet.published():
        raw = fleet.server.written[index].raw
        for service in (TTS, STT, "made-up"):
            fleet.server.pass_on(stranger, fleet.topics.evidence(service, "x"), raw)
            fleet.server.write(fleet.topics.evidence(service, "y"), raw)  # retained: no worker does that
    fleet.run(5.0)
    assert fleet.conditions == set()
    assert len(fleet.published()) == published
    fleet.settle()


def _stranger(fleet: Fleet) -> FakeLink:
    return fleet.server.connect("stranger")


# shards -------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose two services are one too many for one beacon."""
    with patch.object(beacons, "INLINE_SERVICES", 1), closing(Fleet.settled(tmp_path)) as made:
        assert set(listed_shards(made)) == {shard_of(TTS), shard_of(STT)}
        yield made


def listed_shards(fleet: Fleet) -> dict[str, str]:
    return dict(json.loads(fleet.server.retained[fleet.topics.beacon]).get("shards") or {})


def late_joiner_runs(fleet: Fleet, service: str) -> bool:
    """Tell whether a new worker is confirmed within a minute."""
    late = fleet.add_worker(f"late-{len(fleet.workers)}", service)
    late.start()
    fleet.run(60.0, turn=0.5)
    return late.running is not None and flags(late) == set()


def test_workers_are_confirmed_by_their_shards(sharded: Fleet) -> None:
    sharded.commit(TTS, 11)
    sharded.run(40.0)
    assert late_joiner_runs(sharded, TTS) and late_joiner_runs(sharded, STT)
    assert all(flags(worker) == set() for worker in sharded.workers.values())
    assert shown(sharded) == []


def test_a_service_that_is_unconfirmed_for_a_while_takes_no_other_shard_off_the_list(sharded: Fleet) -> None:
    """It is not listed meanwhile, and the rest fits into one beacon; then there are too many again."""
    sharded.server.denied.add(sharded.topics.config(TTS))
    sharded.commit(TTS, 11)
    sharded.run(35.0)
    sharded.server.denied.clear()
    sharded.run(95.0)
    assert set(listed_shards(sharded)) == {shard_of(TTS), shard_of(STT)}
    assert late_joiner_runs(sharded, STT)


@pytest.mark.parametrize("raw", [b"", b"garbage"])
def test_a_shard_that_somebody_overwrites_comes_back(sharded: Fleet, raw: bytes) -> None:
    sharded.server.write(sharded.topics.beacon_shard(shard_of(STT)), raw)
    assert late_joiner_runs(sharded, STT)
    assert all(flags(worker) == set() for worker in sharded.workers.values())


def test_a_wiped_broker_gets_beacon_and_shards_back(sharded: Fleet) -> None:
    sharded.wipe()
    sharded.settle()
    assert set(listed_shards(sharded)) == {shard_of(TTS), shard_of(STT)}
    assert late_joiner_runs(sharded, TTS) and late_joiner_runs(sharded, STT)


def test_a_broker_that_keeps_back_a_config_and_its_shard_is_told_of(sharded: Fleet) -> None:
    topics = sharded.topics
    sharded.server.secret |= {topics.config(TTS), topics.beacon_shard(shard_of(TTS))}
    sharded.commit(TTS, 11)
    sharded.run(90.0, turn=0.25)
    assert flags(sharded.workers[TTS_WORKER]) == {"frozen"}
