"""Daemons and workers that die or stop at every step: the next life goes on, and nobody goes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS
from tests.test_fleet_machine import DAEMON_POINTS, WORKER_POINTS

TTS_WORKER, STT_WORKER = f"{TTS}-1", f"{STT}-1"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


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
        fleet.until_voice(voice)
        fleet.run(0.2)
    fleet.stop_daemon()
    assert fleet.cached_number(TTS) == fleet.shown(TTS).sequence
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


def test_a_late_joiner_gets_what_is_retained_and_a_beacon_confirms_it(fleet: Fleet) -> None:
    fleet.stop_daemon()
    late = fleet.add_worker("late", TTS)
    late.start()
    late.run()
    assert late.running["volume_percent"] == 10
    assert late.reports[-1].flags == ()


def test_a_deleted_service_is_withdrawn_and_comes_back_under_a_higher_number(fleet: Fleet) -> None:
    fleet.commit(TTS, None)
    fleet.settle()
    assert fleet.shown(TTS).deleted
    assert fleet.workers[TTS_WORKER].state == "deleted"
    fleet.commit(TTS, 10)
    fleet.settle()
