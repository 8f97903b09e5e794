"""Named plays of the fleet: what a rule prevents, what a fault costs, how each one ends.

The traces V1, V2, … are those of docs/protocol.md; each goes red when its rule is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config_daemon.store.cache import load as load_cache
from config_daemon.store.status import StatusView
from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS
from tests.test_fleet_machine import DAEMON_POINTS, WORKER_POINTS

TTS_WORKER, STT_WORKER = f"{TTS}-1", f"{STT}-1"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that has converged: two services, a worker for each, last-known-good written."""
    fleet = Fleet(tmp_path)
    fleet.commit(TTS, 10)
    fleet.commit(STT, 20)
    for worker in fleet.workers.values():
        worker.start()
    fleet.start_daemon()
    fleet.settle()
    yield fleet
    fleet.close()


def until_published(fleet: Fleet, service: str, version: int) -> None:
    """Run until the broker retains a version, and not a tick longer."""
    for _ in range(200):
        if (update := fleet.retained(service)) and update.config_version == version:
            return
        fleet.tick()
    raise AssertionError(f"version {version} of {service} was not published")


def until_voice(fleet: Fleet, voice: str) -> None:
    """Run until the broker retains a voice of `.env`, and not a tick longer."""
    for _ in range(200):
        if (update := fleet.retained(TTS)) and update.config["piper_voice"] == voice:
            return
        fleet.tick()
    raise AssertionError(f"voice {voice} was not published")


def cached_number(fleet: Fleet, service: str) -> int:
    """Return the number of a service's message in the last-known-good cache."""
    cache = load_cache(fleet.host.files.cache, [fleet.host.ground.keys.hmac_key()[1]])
    assert cache is not None
    return cache.sealed[service].sequence


# the traces ---------------------------------------------------------------------------------------------


def test_trace_v1_reserve_no_number_carries_two_contents(fleet: Fleet) -> None:
    fleet.commit(TTS, 11)
    fleet.crash_daemon_at("after_send")
    fleet.tick()  # the worker takes it
    fleet.commit(TTS, 12)
    fleet.wipe()
    fleet.start_daemon("behind")
    fleet.settle()
    assert [report.reason for report in fleet.workers[TTS_WORKER].reports if report.reason] == []


def test_trace_v2_resee_env_there_and_back_with_a_crash_before_the_cache(fleet: Fleet) -> None:
    fleet.env_edit("A")
    until_voice(fleet, "A")
    fleet.run(2.0)
    assert cached_number(fleet, TTS) == fleet.retained(TTS).sequence  # type: ignore[union-attr]
    fleet.env_edit("B")
    until_voice(fleet, "B")
    fleet.crash_daemon()
    fleet.tick()
    assert fleet.workers[TTS_WORKER].running["piper_voice"] == "B"
    fleet.env_edit("A")
    fleet.start_daemon("behind")
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["piper_voice"] == "A"


def test_trace_v4_feed_an_older_database_that_outgrew_the_lost_one_holds(fleet: Fleet) -> None:
    backup = fleet.backup()
    fleet.commit(TTS, 11)
    fleet.run(3.0)
    fleet.stop_daemon()
    fleet.restore_database(backup)
    for value in (12, 13, 14):
        fleet.commit(TTS, value)
    published = len(fleet.published())
    fleet.start_daemon("behind")
    fleet.run(40.0)
    assert fleet.host.held == {"not-the-newest"}
    assert len(fleet.published()) == published, "a daemon that holds published a config"
    assert fleet.health["operational_mode"] == "read-only-fallback"
    fleet.adopt()
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 14


def test_trace_v5_version_an_older_database_under_an_uncached_message_holds(fleet: Fleet) -> None:
    backup = fleet.backup()
    version = fleet.commit(TTS, 11).version
    until_published(fleet, TTS, version)
    fleet.crash_daemon()
    fleet.restore_database(backup)
    fleet.lose_marks()  # they may have been written after the commit, and would tell as well
    published = len(fleet.published())
    fleet.start_daemon("ok")
    fleet.run(40.0)
    assert fleet.host.held == {"not-the-newest"}
    assert len(fleet.published()) == published
    fleet.adopt()
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 10


def test_trace_v6_hold_of_two_daemons_from_a_copy_one_stops(fleet: Fleet) -> None:
    fleet.stop_daemon()
    twin = fleet.copy_host("twin")
    fleet.start_daemon()
    twin.start()
    fleet.run_beside(twin, 5.0)
    fleet.env_edit("A")  # of one of them only, and no version tells
    fleet.run_beside(twin, 60.0)
    assert sorted((fleet.host.held, twin.held), key=len) == [set(), {"not-the-newest"}]
    published = len(fleet.published())
    fleet.run_beside(twin, 60.0)
    assert len(fleet.published()) == published, "they fight"
    twin.crash()


# the broker -----------------------------------------------------------------------------------------------


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
    assert fleet.retained(TTS).config_version == version  # type: ignore[union-attr]
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
    board = StatusView(fleet.host.files.status)
    assert {name: board.service(name).state for name in (TTS, STT)} == {TTS: "confirmed", STT: "confirmed"}  # type: ignore[union-attr]


# deaths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", ["ok", "behind"])
@pytest.mark.parametrize("point", DAEMON_POINTS)
def test_a_daemon_killed_at_any_step_converges(fleet: Fleet, point: str, clock: str) -> None:
    fleet.commit(TTS, 11)
    fleet.crash_daemon_at(point)
    fleet.commit(STT, 21)
    fleet.run(1.0)
    fleet.start_daemon(clock)
    fleet.settle()
    for worker in fleet.workers.values():
        assert "rejected" not in [report.state for report in worker.reports]


@pytest.mark.parametrize("point", DAEMON_POINTS)
def test_a_daemon_killed_at_any_step_of_its_first_start_converges(tmp_path: Path, point: str) -> None:
    fleet = Fleet(tmp_path)
    fleet.commit(TTS, 10)
    fleet.start_daemon()
    fleet.crash_daemon_at(point)
    fleet.commit(STT, 20)
    fleet.start_daemon("behind")
    fleet.settle()
    fleet.close()


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_killed_at_any_step_converges(fleet: Fleet, point: str) -> None:
    worker = fleet.workers[TTS_WORKER]
    worker.die_at(point)
    fleet.commit(TTS, 11)
    fleet.run(2.0)
    assert not worker.up
    worker.start()
    assert worker.running["volume_percent"] == 11
    fleet.settle()


def test_a_clean_stop_says_so_and_a_start_sends_nothing_again(fleet: Fleet) -> None:
    fleet.stop_daemon()
    assert fleet.health["event"] == "stopped"
    published = len(fleet.published())
    fleet.start_daemon("behind")
    fleet.settle()
    assert len(fleet.published()) == published


def test_a_clean_stop_leaves_the_newest_messages_in_the_cache(fleet: Fleet) -> None:
    """Or a wiped broker and a value that returned would shut the workers out, without any crash."""
    for voice in ("A", "B"):  # the second change comes while the cache still rests from the first
        fleet.env_edit(voice)
        until_voice(fleet, voice)
        fleet.run(0.2)
    fleet.stop_daemon()
    assert cached_number(fleet, TTS) == fleet.retained(TTS).sequence  # type: ignore[union-attr]
    fleet.tick()
    fleet.env_edit("A")
    fleet.wipe()
    fleet.start_daemon("behind")
    fleet.settle()


def test_a_stop_with_a_full_disk_says_good_bye_all_the_same(fleet: Fleet) -> None:
    fleet.host.disk_full = True
    fleet.stop_daemon()
    assert fleet.health["event"] == "stopped"
    fleet.settle()


def test_a_late_joiner_gets_what_is_retained_and_flags_it_unconfirmed(fleet: Fleet) -> None:
    fleet.stop_daemon()
    late = fleet.add_worker("late", TTS)
    late.start()
    late.run()
    assert late.running["volume_percent"] == 10
    assert late.reports[-1].flags == ("unconfirmed",)


def test_a_deleted_service_is_withdrawn_and_comes_back_under_a_higher_number(fleet: Fleet) -> None:
    fleet.commit(TTS, None)
    fleet.settle()
    assert fleet.retained(TTS).deleted  # type: ignore[union-attr]
    assert fleet.workers[TTS_WORKER].state == "deleted"
    fleet.commit(TTS, 10)
    fleet.settle()


# the store --------------------------------------------------------------------------------------------------


def test_the_right_database_put_back_ends_the_hold_by_itself(fleet: Fleet) -> None:
    older = fleet.backup()
    fleet.commit(TTS, 11)
    fleet.run(3.0)
    newer = fleet.backup()
    fleet.restore_database(older)
    fleet.run(2.0)
    assert fleet.host.held == {"not-the-newest"}
    fleet.restore_database(newer)
    fleet.run(2.0)
    assert not fleet.host.held
    fleet.settle()


def test_a_lost_cache_is_made_again(fleet: Fleet) -> None:
    fleet.stop_daemon()
    fleet.lose_lkg()
    fleet.start_daemon("behind")
    fleet.settle()
    assert fleet.health["event"] == "lkg-created"
    assert cached_number(fleet, TTS) == fleet.retained(TTS).sequence  # type: ignore[union-attr]


def test_lost_marks_with_the_cache_there_are_no_trouble(fleet: Fleet) -> None:
    fleet.stop_daemon()
    fleet.lose_marks()
    fleet.start_daemon("ok")
    fleet.settle()
    assert fleet.health["event"] == "started"


def test_without_any_memory_a_broker_that_holds_our_messages_is_asked_about(fleet: Fleet) -> None:
    fleet.stop_daemon()
    fleet.lose_marks()
    fleet.lose_lkg()
    fleet.commit(TTS, 11)
    published = len(fleet.published())
    fleet.start_daemon("behind")
    fleet.run(40.0)
    assert "foreign-state" in fleet.host.held
    assert len(fleet.published()) == published
    fleet.adopt()
    fleet.settle()


def test_a_wiped_broker_gets_the_cached_bytes_while_the_database_is_locked(fleet: Fleet) -> None:
    before = dict(fleet.server.retained)
    fleet.stop_daemon()
    fleet.lock_database()
    fleet.wipe()
    fleet.start_daemon("behind")
    fleet.run(5.0)
    assert fleet.health["database_status"] == "locked"
    assert fleet.health["operational_mode"] == "read-only-fallback"
    for service in (TTS, STT):
        assert fleet.server.retained[fleet.topics.config(service)] == before[fleet.topics.config(service)]
    fleet.unlock_database()
    fleet.run(2.0)
    assert fleet.health["ok"]
    fleet.settle()


def test_with_a_locked_database_and_no_cache_nothing_is_published(fleet: Fleet) -> None:
    fleet.stop_daemon()
    fleet.lose_lkg()
    fleet.lock_database()
    before = dict(fleet.server.retained)
    fleet.start_daemon()
    fleet.run(40.0)
    for service in (TTS, STT):
        assert fleet.server.retained[fleet.topics.config(service)] == before[fleet.topics.config(service)]
    fleet.settle()


def test_a_lock_shorter_than_half_a_second_is_not_told(fleet: Fleet) -> None:
    fleet.lock_database()
    fleet.run(0.4)
    fleet.unlock_database()
    fleet.run(1.0)
    assert fleet.laws.said["daemon"][1:] == ("healthy", "normal")
    assert fleet.conditions == set()


def test_a_row_edited_by_hand_is_not_published_and_the_others_are(fleet: Fleet) -> None:
    fleet.edit_row_by_hand(TTS, 66)
    fleet.commit(STT, 21)
    fleet.run(3.0)
    assert fleet.health["database_status"] == "corrupted"
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 10
    assert fleet.workers[STT_WORKER].running["vad_silence_duration_ms"] == 21
    fleet.wipe()
    fleet.run(5.0)
    assert fleet.retained(TTS).config["volume_percent"] == 10  # type: ignore[union-attr]
    fleet.adopt_row(TTS)
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 66


def test_a_full_disk_stops_new_numbers_and_nothing_else_breaks(fleet: Fleet) -> None:
    fleet.host.disk_full = True
    for value in range(11, 40):
        fleet.commit(TTS, value)
        fleet.run(1.0)
    assert fleet.host.held == {"disk-full"}
    fleet.host.disk_full = False
    fleet.run(3.0)
    assert not fleet.host.held
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 39


@pytest.mark.parametrize("jump_ms", [365 * 86_400_000, -365 * 86_400_000])
def test_a_clock_that_jumps_a_year_matters_to_nobody(fleet: Fleet, jump_ms: int) -> None:
    fleet.clock.error_ms = jump_ms
    fleet.commit(TTS, 11)
    fleet.run(5.0)
    fleet.stop_daemon()
    fleet.host.start()
    fleet.settle()
    fleet.clock.error_ms = 0
    fleet.commit(TTS, 12)
    fleet.settle()
    assert {report.reason for report in fleet.workers[TTS_WORKER].reports} == {None}
