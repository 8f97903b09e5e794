"""The traces that the protocol's rules close, and what becomes of the fleet's memory and its store.

V1, V2, … are the shortest traces found by searching models of the protocol; each test goes red when its
rule is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config_daemon.daemon import sight
from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS

TTS_WORKER, STT_WORKER = f"{TTS}-1", f"{STT}-1"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


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
    fleet.until_voice("A")
    fleet.run(2.0)
    assert fleet.cached_number(TTS) == fleet.shown(TTS).sequence
    fleet.env_edit("B")
    fleet.until_voice("B")
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
    fleet.until(lambda: fleet.shown(TTS).config_version == version)
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
    assert fleet.cached_number(TTS) == fleet.shown(TTS).sequence


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


def test_without_any_memory_an_empty_broker_is_seen_before_the_rows_are_read(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.stop_daemon()
    fleet.lose_marks()
    fleet.lose_lkg()
    fleet.wipe()
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(sight, "BACKLOG", 0)  # no row is read
        fleet.start_daemon("behind")
        fleet.until(lambda: fleet.process.parts.mirror.ready)
        assert not fleet.process.parts.sight.settled
    fleet.settle()


@pytest.mark.parametrize("unsettled_seconds", [2.0, 20.0])
def test_without_any_memory_nothing_is_published_before_what_the_broker_holds_was_explained(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, unsettled_seconds: float
) -> None:
    fleet.stop_daemon()
    fleet.lose_marks()
    fleet.lose_lkg()
    published = len(fleet.published())
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(sight, "BACKLOG", 0)  # no row is read
        fleet.start_daemon("behind")
        fleet.run(unsettled_seconds)
        assert not fleet.process.parts.mirror.ready
    fleet.run(40.0)
    assert "foreign-state" in fleet.host.held
    assert len(fleet.published()) == published
    fleet.adopt()
    fleet.settle()


@pytest.mark.parametrize("clock", ["ok", "behind"])
def test_without_any_memory_the_broker_is_read_back_once_a_locked_database_opens(
    fleet: Fleet, clock: str
) -> None:
    fleet.stop_daemon()
    fleet.lose_marks()
    fleet.lose_lkg()
    fleet.lock_database()
    fleet.start_daemon(clock)
    fleet.run(5.0)
    fleet.server.restart()
    fleet.run(5.0)
    published = len(fleet.published())
    fleet.unlock_database()
    fleet.commit(TTS, 11)
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
    assert not [message for message in fleet.server.written if b'"database_status":"locked"' in message.raw]
    fleet.settle()


def test_a_row_edited_by_hand_is_not_published_and_the_others_are(fleet: Fleet) -> None:
    fleet.edit_row_by_hand(TTS, 66)
    fleet.commit(STT, 21)
    fleet.run(3.0)
    assert fleet.health["database_status"] == "corrupted"
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 10
    assert fleet.workers[STT_WORKER].running["vad_silence_duration_ms"] == 21
    fleet.wipe()
    fleet.run(5.0)
    assert fleet.shown(TTS).config["volume_percent"] == 10
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


def test_an_adoption_on_a_full_disk_changes_nothing(fleet: Fleet) -> None:
    backup = fleet.backup()
    fleet.commit(TTS, 11)
    fleet.run(2.0)
    fleet.stop_daemon()
    fleet.restore_database(backup)
    fleet.start_daemon()
    fleet.run(2.0)
    assert "not-the-newest" in fleet.host.held
    before = fleet.health["config_epoch"]
    fleet.host.disk_full = True
    fleet.adopt()
    fleet.crash_daemon()
    fleet.host.disk_full = False
    fleet.start_daemon()
    fleet.run(60.0, turn=0.5)
    assert "not-the-newest" in fleet.host.held
    assert "history-rewritten" not in fleet.conditions
    assert fleet.health["config_epoch"] == before
    fleet.settle()
