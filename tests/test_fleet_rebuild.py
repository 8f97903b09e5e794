"""A fleet whose daemon loses its database: whatever is rebuilt, restored or adopted, in any weather, it converges.

The laws of the simulator hold all the time: no worker runs what was never committed, and none goes back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from config_daemon.daemon import recovery
from config_daemon.errors import StoreUnavailable
from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS

POINTS = (
    "rebuild_built", "rebuild_intended", "rebuild_database_moved", "rebuild_moved", "rebuild_placed",
    "rebuild_epoch_told", "rebuild_cache_aside", "rebuild_marked",
)  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet.settled(tmp_path)
    yield fleet
    fleet.close()


def lose_database(fleet: Fleet) -> None:
    fleet.close_writer()
    for path in fleet.host.folder.glob("config.db*"):
        path.unlink()
    fleet.until(lambda: "db-missing" in fleet.conditions)


def test_a_lost_database_comes_back_and_everybody_goes_on(fleet: Fleet) -> None:
    lose_database(fleet)
    fleet.ask("restore", what="lkg")
    fleet.settle()
    fleet.commit(TTS, 30)
    fleet.settle()
    assert fleet.rows[TTS].version == 2


def test_a_value_of_env_is_still_env_s_afterwards(fleet: Fleet) -> None:
    fleet.env_edit("en_GB")
    fleet.until_voice("en_GB")
    fleet.settle()
    lose_database(fleet)
    fleet.ask("rebuild")
    fleet.settle()
    fleet.env_edit(None)
    fleet.settle()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_value_of_env_that_ended_while_the_database_was_lost_is_nobodys(
    fleet: Fleet, restarted: bool
) -> None:
    fleet.env_edit("en_GB")
    fleet.until_voice("en_GB")
    fleet.settle()
    lose_database(fleet)
    fleet.env_edit(None)
    fleet.run(5)
    if restarted:
        fleet.crash_daemon()
        fleet.start_daemon()
        fleet.run(2)
    fleet.ask("rebuild")
    fleet.settle()


@pytest.mark.parametrize("point", POINTS)
def test_a_daemon_that_dies_in_a_rebuild_loses_nothing(fleet: Fleet, point: str) -> None:
    fleet.commit(STT, 40)  # the cache may not know of it yet
    fleet.tick()
    fleet.host.die_at(point)
    fleet.laws.forgot = True
    fleet.ask("rebuild")
    fleet.until(lambda: fleet.host.process is None)
    fleet.start_daemon()
    fleet.settle()
    assert fleet.rows[STT].version == 2


def test_a_broker_that_is_wiped_meanwhile_gets_everything_back(fleet: Fleet) -> None:
    lose_database(fleet)
    fleet.server.up = False
    fleet.wipe()
    fleet.run(2)
    fleet.ask("restore", what="lkg")
    fleet.settle()


def test_an_older_copy_is_restored_over_what_workers_have(fleet: Fleet) -> None:
    backup = fleet.backup()
    fleet.commit(TTS, 50)
    fleet.settle()
    fleet.close_writer()
    fleet.ask("restore", what="file", file=str(backup.path))
    fleet.rows = dict(backup.rows)
    fleet.settle()


def test_an_older_database_is_outdone_by_what_was_published_last(fleet: Fleet) -> None:
    backup = fleet.backup()
    fleet.commit(TTS, 50)
    fleet.settle()
    rows = dict(fleet.rows)
    fleet.restore_database(backup)
    fleet.until(lambda: "not-the-newest" in fleet.conditions)
    fleet.ask("adopt", what="lkg")
    fleet.rows = rows
    fleet.settle()
    assert fleet.commit(TTS, 60).version == 3
    fleet.settle()


def alone(fleet: Fleet) -> None:
    """Have the next daemon rebuild without being asked."""
    with (fleet.host.folder / ".env").open("a") as file:
        file.write("ALLOW_AUTO_REBUILD=1\n")


def test_what_the_broker_shows_beyond_the_cache_is_listed_and_a_persons_matter(fleet: Fleet) -> None:
    """Confirmed and at the workers, the cache not written yet, the database lost: nothing takes it back unasked."""
    alone(fleet)
    fleet.host.die_at("before_lkg_rename")
    fleet.commit(TTS, 77)
    fleet.until(lambda: fleet.host.process is None)
    fleet.close_writer()
    for path in fleet.host.folder.glob("config.db*"):
        path.unlink()
    fleet.start_daemon()
    fleet.until(lambda: "db-missing" in fleet.conditions)
    fleet.run(10)
    assert fleet.shown(TTS).config_version == 2
    assert not fleet.host.files.database.exists()
    fleet.ask("rebuild")
    info = json.loads(fleet.host.files.rebuild_info.read_text())
    assert info["lost"]["services"] == {TTS: {"from": 2, "to": 1}}


def test_without_the_broker_nothing_is_rebuilt_unasked(fleet: Fleet) -> None:
    alone(fleet)
    fleet.stop_daemon()
    fleet.server.up = False
    fleet.start_daemon()
    lose_database(fleet)
    fleet.run(10)
    assert not fleet.host.files.database.exists()
    fleet.server.up = fleet.laws.may_rebuild = True
    fleet.settle()
    assert {service: fleet.shown(service).config_version for service in (STT, TTS)} == {STT: 1, TTS: 1}


def test_a_cache_of_an_earlier_life_is_not_taken_but_by_a_persons_word(fleet: Fleet) -> None:
    alone(fleet)
    old = fleet.host.files.cache.read_bytes()
    fleet.adopt()
    fleet.commit(TTS, 50)
    fleet.settle()
    fleet.stop_daemon()
    fleet.host.files.cache.write_bytes(old)
    fleet.start_daemon()
    lose_database(fleet)
    fleet.run(10)
    assert not fleet.host.files.database.exists()
    assert fleet.shown(TTS).config_version == 2
    fleet.ask("restore", what="lkg")
    fleet.ask("rebuild")
    assert not fleet.host.files.database.exists()
    fleet.ask("adopt", what="lkg")
    assert fleet.host.files.database.exists()


def test_a_daemon_outlives_whatever_a_rebuild_raises(fleet: Fleet) -> None:
    alone(fleet)
    fleet.stop_daemon()
    fleet.start_daemon()
    with patch.object(recovery, "rebuild", side_effect=TypeError("nobody thought of it")) as rebuilt:
        fleet.laws.may_rebuild = True
        lose_database(fleet)
        fleet.run(20)
        assert rebuilt.call_count == 1
    assert fleet.host.process is not None
    fleet.ask("restore", what="lkg")
    fleet.settle()


def test_a_daemon_outlives_whatever_a_request_provokes(fleet: Fleet) -> None:
    with patch.object(recovery, "rebuild", side_effect=RuntimeError("nobody thought of it")) as rebuilt:
        fleet.ask("rebuild")
        fleet.run(5)
        assert rebuilt.call_count == 1
    assert fleet.host.process is not None
    fleet.commit(TTS, 12)
    fleet.settle()


@pytest.mark.parametrize("point", ["rebuild_built", "rebuild_intended"])
def test_a_rebuild_that_nobody_asked_for_and_that_ends_the_process_is_not_tried_again(
    fleet: Fleet, point: str
) -> None:
    alone(fleet)
    fleet.stop_daemon()
    fleet.start_daemon()
    fleet.host.die_at(point)
    fleet.laws.may_rebuild = fleet.laws.forgot = True
    fleet.close_writer()
    rubbish = fleet.host.folder / "rubbish"
    rubbish.write_bytes(b"rubbish " * 4096)
    rubbish.rename(fleet.host.files.database)
    fleet.until(lambda: fleet.host.process is None)
    fleet.start_daemon()
    with patch.object(recovery, "rebuild", side_effect=StoreUnavailable("again")) as again:
        fleet.run(20)
        assert again.call_count == 0
    assert "db-corrupted" in fleet.conditions
    fleet.ask("rebuild")
    fleet.settle()
