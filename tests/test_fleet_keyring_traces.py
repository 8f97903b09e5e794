"""Keyrings in a whole fleet: the traces that a search of models of the protocol found.

Each of V7 to V14, V17, V18 and V24 goes red when its rule is taken away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config_daemon.wire import values
from config_daemon.wire.beacon import BEACON, Beacon, beacon_body
from config_daemon.wire.messages import parse_health
from config_daemon.wire.sealing import seal
from config_daemon.worker.health_order import HealthOrder
from tests.fleet import Fleet
from tests.fleet_keys import name
from tests.fleet_laws import TTS
from tests.test_fleet_keyring import (
    STT_WORKER,
    TTS_WORKER,
    YEAR_MS,
    first_key,
    flags,
    reasons,
    rotate,
    signer_of,
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


@pytest.mark.parametrize("jump_ms", [YEAR_MS, -YEAR_MS])
def test_trace_v7_a_daemon_whose_clock_jumps_a_year_is_believed_on_both_sides(
    fleet: Fleet, jump_ms: int
) -> None:
    fleet.clock.error_ms = jump_ms
    fleet.commit(TTS, 11)
    fleet.run(5.0)
    fleet.clock.error_ms = 0
    fleet.commit(TTS, 12)
    fleet.settle()
    assert not reasons(fleet.workers[TTS_WORKER])


def test_trace_v8_a_worker_that_boots_in_1970_refuses_nothing(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    worker.crash()
    worker.clock_error_ms = -fleet.clock.unix_ms()
    fleet.commit(TTS, 11)
    fleet.run(2.0)
    worker.start()
    fleet.run(2.0)
    assert worker.running["volume_percent"] == 11
    assert not reasons(worker)
    fleet.run(100.0, turn=1.0)
    assert flags(worker) == {"time-unsure"}


def test_trace_v9_a_thiefs_beacon_of_the_year_2100_leaves_nothing_behind(fleet: Fleet) -> None:
    key, worker = first_key(fleet), fleet.workers[TTS_WORKER]
    for number in (values.MAX_INTEGER - 1, values.MAX_INTEGER):
        forged = Beacon(
            version=1, generation=1, sequence=number, issued_at="2100-01-01T00:00:00.000Z", key_id=name(key),
            services={},
        )  # fmt: skip
        fleet.server.write(fleet.topics.beacon, seal(beacon_body(forged), BEACON, key))
        fleet.run(1.0)
    fleet.run(100.0, turn=1.0)
    assert "stale" in flags(worker), "no honest beacon lies above the thief's"
    fleet.holder.revoke(key)
    fleet.run(3.0)
    fleet.adopt()
    fleet.settle()
    fleet.run(100.0, turn=1.0)
    assert not flags(worker)


def test_trace_v10_a_config_that_came_before_its_keyring_is_delivered_again(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    keyrings = {fleet.topics.keyring, fleet.topics.keyring_number(1)}
    fleet.server.secret |= keyrings
    rotate(fleet)
    assert "bad-signature" in reasons(worker)
    fleet.server.secret -= keyrings
    fleet.server.write(fleet.topics.keyring, fleet.server.retained[fleet.topics.keyring])
    connections = len(fleet.server.links)
    fleet.run(1.0)
    assert worker.floor is not None and worker.floor.sequence == fleet.shown(TTS).sequence
    assert len(fleet.server.links) == connections
    fleet.settle()


@pytest.mark.parametrize("split", [False, True])
def test_trace_v11_a_sleeper_walks_over_every_root_that_it_missed(fleet: Fleet, split: bool) -> None:
    worker = fleet.workers[TTS_WORKER]
    worker.crash()
    if split:
        fleet.holder.split_root()
        fleet.run(3.0)
    for _ in range(3):
        old, _new = rotate(fleet)
        fleet.holder.retire(old)
        fleet.run(3.0)
    fleet.commit(TTS, 11)
    fleet.run(2.0)
    worker.start()
    fleet.run(5.0)
    assert worker.running["volume_percent"] == 11
    fleet.settle()


@pytest.mark.parametrize("hidden", [False, True])
def test_trace_v12_a_host_with_restored_keys_learns_what_the_workers_know(fleet: Fleet, hidden: bool) -> None:
    """Stage, backup, revoke the old key, restore: `hidden` when the broker has forgotten everything, too."""
    fleet.holder.stage()
    fleet.run(3.0)
    copy = fleet.holder.copy()
    fleet.holder.revoke(first_key(fleet))
    fleet.settle()
    fleet.stop_daemon()
    fleet.holder.restore(copy)
    fleet.lose_marks()
    fleet.lose_lkg()
    if hidden:
        fleet.wipe()
    fleet.start_daemon("behind")
    fleet.commit(TTS, 11)
    fleet.settle()
    assert fleet.process.parts.identity.keyring.generation == 2
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 11


def test_trace_v13_a_key_revoked_before_a_restore_stays_revoked(fleet: Fleet) -> None:
    """Backup, revoke a, restore, revoke b, stage c: the later keyring forgets a, and has the higher number."""
    first, worker = first_key(fleet), fleet.workers[TTS_WORKER]
    fleet.holder.split_root()
    second = fleet.holder.stage()
    fleet.run(3.0)
    copy = fleet.holder.copy()
    fleet.holder.revoke(first)
    fleet.settle()
    fleet.stop_daemon()
    worker.crash()
    fleet.workers[STT_WORKER].crash()
    fleet.holder.restore(copy)
    fleet.lose_marks()
    fleet.lose_lkg()
    fleet.wipe()
    fleet.holder.revoke(second)
    third = fleet.holder.stage()
    fleet.start_daemon()
    fleet.run(5.0)
    worker.start()
    fleet.run(5.0)
    assert "unrevoked" in reasons(worker)
    assert fleet.host.held >= {"keyring-unmerged"}
    fleet.settle()
    held = fleet.process.parts.identity.keyring
    assert held.revoked.keys() >= {name(first), name(second)}
    assert held.config_ids == {name(third)}
    assert signer_of(fleet, TTS) == name(third)


def test_trace_v14_a_cache_under_a_retired_key_starts_while_the_broker_is_away(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    fleet.server.secret.add(fleet.topics.config(TTS))  # it never sees the new seal
    old, _ = rotate(fleet)
    fleet.holder.retire(old)
    fleet.run(5.0)
    before = worker.running
    worker.crash()
    fleet.server.go_down()
    worker.start()
    assert worker.running == before
    assert "stale" in flags(worker)
    fleet.settle()
    assert "stale" not in flags(worker)


def test_trace_v17_a_mended_program_tries_again_what_it_refused(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    worker.bears = lambda config: config["volume_percent"] < 50
    fleet.commit(TTS, 60)
    fleet.run(2.0)
    assert (worker.state, worker.running["volume_percent"]) == ("rejected", 10)
    worker.crash()
    worker.bears = lambda _config: True
    worker.start()
    fleet.run(2.0)
    assert worker.running["volume_percent"] == 60
    fleet.settle()


def test_trace_v18_a_refused_message_does_not_take_the_good_one_from_the_next_start(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    worker.bears = lambda config: config["volume_percent"] < 50
    fleet.commit(TTS, 60)
    fleet.run(2.0)
    worker.crash()
    fleet.server.go_down()
    worker.start()
    assert worker.running["volume_percent"] == 10
    worker.bears = lambda _config: True
    worker.crash()
    fleet.settle()


def test_trace_v24_the_will_of_an_earlier_session_does_not_turn_a_live_daemon_off(fleet: Fleet) -> None:
    order, topic = HealthOrder(), fleet.topics.health("config-daemon")
    fleet.crash_daemon()
    will = fleet.server.retained[topic]
    assert json.loads(will)["event"] == "offline"
    fleet.start_daemon()
    fleet.run(5.0)
    heard = [one.raw for one in fleet.server.written if one.topic == topic]
    fleet.server.write(topic, will)
    for raw in heard:
        order.take(parse_health(raw[:-104] + b"}"))
    assert not order.take(parse_health(will[:-104] + b"}"))
    assert order.current is not None and order.current.ok
    fleet.settle()
