"""What brokers, networks and attackers do: told, put right, and never a reason to go back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config_daemon.store.status import StatusView
from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS

TTS_WORKER, STT_WORKER = f"{TTS}-1", f"{STT}-1"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def test_a_wiped_broker_gets_the_same_bytes_again_and_nobody_applies_twice(fleet: Fleet) -> None:
    before = dict(fleet.server.retained)
    applied = [len([r for r in worker.reports if r.state == "applied"]) for worker in fleet.workers.values()]
    fleet.wipe()
    fleet.settle()
    for service in (TTS, STT):
        topic = fleet.topics.config(service)
        assert fleet.server.retained[topic] == before[topic]
    assert applied == [
        len([r for r in worker.reports if r.state == "applied"]) for worker in fleet.workers.values()
    ]


@pytest.mark.parametrize("what", ["older", "another service's", "garbage", "nothing"])
def test_what_an_attacker_writes_is_put_right_within_5_seconds(fleet: Fleet, what: str) -> None:
    older = fleet.published(TTS)[0]
    fleet.commit(TTS, 11)
    fleet.settle()
    topic = fleet.topics.config(TTS)
    newest = fleet.server.retained[topic]
    match what:
        case "older":
            fleet.put_back(older)
        case "another service's":
            fleet.put_back(fleet.published(STT)[0], TTS)
        case "garbage":
            fleet.deface(TTS, b"garbage")
        case "nothing":
            fleet.deface(TTS, b"")
    assert fleet.server.retained.get(topic) != newest
    fleet.run(5.0)
    assert fleet.server.retained[topic] == newest
    assert fleet.conditions == {"foreign-write"}
    fleet.settle()


def test_an_attacker_who_writes_on_and_on_does_not_make_the_daemon_do_so(fleet: Fleet) -> None:
    newest = fleet.published(TTS)[0]
    before = len(fleet.published())
    for _ in range(1200):  # a minute
        fleet.deface(TTS, b"garbage")
        fleet.tick()
    assert len(fleet.published()) - before < 10
    fleet.settle()
    assert fleet.published(TTS)[-1] != newest


def test_after_an_hour_without_a_broker_one_message_per_service_is_sent(fleet: Fleet) -> None:
    fleet.server.go_down()
    before = len(fleet.published())
    for value in range(50):
        fleet.commit(TTS, 100 + value)
        fleet.run(72.0, turn=6.0)
    fleet.server.up = True
    fleet.settle()
    assert len(fleet.published()) - before == 1
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 149


def test_swallowed_confirmations_cost_a_connection_and_no_order(fleet: Fleet) -> None:
    session = fleet.health["session"]
    fleet.server.acks = "dropped"
    for value in (11, 12, 13):
        fleet.commit(TTS, value)
        fleet.run(5.0)
    assert fleet.health["session"] != session
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 13


def test_a_frozen_broker_is_given_up_and_caught_up_with(fleet: Fleet) -> None:
    fleet.server.stall()
    fleet.commit(TTS, 11)
    fleet.run(12.0)
    assert "broker-down" in fleet.conditions
    fleet.commit(TTS, 12)
    fleet.run(5.0)
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 12


def test_a_broker_that_confirms_before_it_passes_on_causes_no_alarm(fleet: Fleet) -> None:
    fleet.server.acks_first = True
    for value in range(11, 60):
        fleet.commit(TTS, value)
        fleet.run(1.0)
    assert fleet.conditions == set()
    fleet.settle()


def test_a_denied_topic_stops_nobody_else_and_is_tried_again(fleet: Fleet) -> None:
    fleet.server.denied.add(fleet.topics.config(TTS))
    fleet.commit(TTS, 11)
    fleet.commit(STT, 21)
    fleet.run(2.0)
    assert fleet.conditions == {"publish-denied"}
    assert fleet.workers[STT_WORKER].running["vad_silence_duration_ms"] == 21
    fleet.server.denied.clear()
    fleet.run(60.0)
    assert fleet.conditions == set()
    fleet.settle()


def test_a_denied_topic_that_holds_our_bytes_again_is_no_trouble_any_more(fleet: Fleet) -> None:
    (newest,) = fleet.published(TTS)
    fleet.server.denied.add(fleet.topics.config(TTS))
    fleet.deface(TTS, b"")
    fleet.run(1.0)
    assert "publish-denied" in fleet.conditions
    fleet.put_back(newest)
    fleet.run(1.0)
    assert fleet.conditions == {"foreign-write"}
    assert fleet.health["ok"]


def test_what_the_broker_confirmed_and_did_not_keep_is_noticed(fleet: Fleet) -> None:
    fleet.swallow(TTS)
    version = fleet.commit(TTS, 11).version
    fleet.run(2.0)
    fleet.server.swallowed.clear()
    fleet.run(35.0)
    assert fleet.shown(TTS).config_version == version
    fleet.settle()


def test_what_the_broker_confirmed_and_lost_is_sent_again(fleet: Fleet) -> None:
    fleet.deface(TTS, b"")
    fleet.swallow(TTS)
    fleet.run(5.0)
    assert fleet.retained(TTS) is None
    fleet.server.swallowed.clear()
    fleet.run(35.0)
    assert fleet.retained(TTS) is not None
    fleet.settle()


def test_a_broker_that_shows_nothing_is_told_and_not_sent_to_for_ever(fleet: Fleet) -> None:
    """Mosquitto grants a subscription that its ACL forbids, and then shows nothing."""
    fleet.server.secret |= {fleet.topics.config(TTS), fleet.topics.config(STT)}
    fleet.commit(TTS, 11)
    before = len(fleet.published())
    fleet.run(600.0, turn=0.25)
    assert len(fleet.published()) - before <= 4
    assert "readback-unavailable" in fleet.conditions
    fleet.server.secret.clear()
    fleet.server.restart()
    fleet.settle()


def test_a_read_back_that_was_given_up_is_done_again(fleet: Fleet) -> None:
    fleet.server.restart()
    while not fleet.process.parts.mirror.waiting:
        fleet.tick()
    fleet.tick(31.0)  # the machine was suspended
    assert "readback-unavailable" in fleet.conditions
    fleet.run(60.0)
    assert fleet.conditions == set()


def test_what_a_read_back_finds_in_place_is_told_as_confirmed(fleet: Fleet) -> None:
    fleet.stop_daemon()
    fleet.start_daemon()
    fleet.run(5.0)
    rows = [StatusView(fleet.host.files.status).service(service) for service in (TTS, STT)]
    assert [row and row.state for row in rows] == ["confirmed", "confirmed"]
