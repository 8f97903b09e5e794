"""Messages say where in the database they came from: a database that never was there is another one.

What makes the difference is a crash right before the cache was written: it knows an older place, which an older
database has as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def dies_before_its_cache(fleet: Fleet, value: int) -> None:
    """Have a change be acknowledged, published and applied by a daemon that dies before its cache has it."""
    marks = fleet.host.files.marks.read_bytes()
    fleet.commit(TTS, value)
    fleet.crash_daemon_at("before_lkg_rename")
    fleet.host.files.marks.write_bytes(marks)  # a thousand numbers last for long; here five do not
    fleet.run(3.0)
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == value


@pytest.mark.parametrize("height", [1, 2, 3], ids=["below", "at", "past"])
def test_a_database_put_back_to_where_the_cache_stood_and_written_anew_is_not_taken(
    fleet: Fleet, height: int
) -> None:
    older = fleet.backup()
    dies_before_its_cache(fleet, 11)
    dies = fleet.shown(TTS)
    fleet.restore_database(older)
    for value in range(60, 60 + height - 1):
        fleet.commit(TTS, value)
    fleet.start_daemon()
    fleet.run(5.0)
    assert fleet.host.held == {"not-the-newest"}
    assert fleet.shown(TTS) == dies
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == 11
    fleet.adopt()
    fleet.settle()


def test_a_worker_alone_can_show_that_the_database_is_another_one(fleet: Fleet) -> None:
    older = fleet.backup()
    dies_before_its_cache(fleet, 11)
    fleet.restore_database(older)
    for value in (60, 61):
        fleet.commit(TTS, value)
    theirs = fleet.server.retained[fleet.topics.config(TTS)]
    fleet.wipe()
    fleet.workers[f"{TTS}-1"].crash()
    fleet.start_daemon()
    fleet.run(5.0)
    assert not fleet.host.held  # nobody has shown anything
    fleet.server.connect("a-worker").show(fleet.topics.evidence(TTS, "a-worker"), theirs)
    fleet.run(5.0)
    assert fleet.host.held == {"not-the-newest"}


def test_the_hold_outlives_the_message_and_ends_with_the_right_database(fleet: Fleet) -> None:
    older = fleet.backup()
    dies_before_its_cache(fleet, 11)
    newest = fleet.backup()
    fleet.restore_database(older)
    for value in (60, 61):
        fleet.commit(TTS, value)
    fleet.start_daemon()
    fleet.run(5.0)
    assert fleet.host.held == {"not-the-newest"}
    fleet.crash_daemon()
    fleet.wipe()
    fleet.start_daemon()
    fleet.run(5.0)
    assert fleet.host.held == {"not-the-newest"}
    fleet.restore_database(newest)
    fleet.settle()
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == 11


def test_what_a_dead_process_sent_is_no_reason_to_hold_where_the_database_is_the_same(fleet: Fleet) -> None:
    dies_before_its_cache(fleet, 11)
    fleet.commit(TTS, 12)
    fleet.commit(STT, 22)
    fleet.start_daemon()
    fleet.settle()
    assert fleet.workers[f"{TTS}-1"].running["volume_percent"] == 12
