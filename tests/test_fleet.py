"""Named plays of the fleet: what a rule prevents, what a fault costs, how each one ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config_daemon.store.status import StatusView
from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS


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


def test_a_read_back_that_was_given_up_is_done_again(fleet: Fleet) -> None:
    fleet.server.restart()
    while not fleet.process.parts.mirror.waiting:
        fleet.tick()
    fleet.tick(31.0)  # the machine was suspended
    assert "readback-unavailable" in fleet.conditions
    fleet.run(60.0)
    assert fleet.conditions == set()


def test_a_stop_with_a_full_disk_says_good_bye_all_the_same(fleet: Fleet) -> None:
    fleet.host.disk_full = True
    fleet.stop_daemon()
    assert fleet.health["event"] == "stopped"
    fleet.settle()


def test_what_a_read_back_finds_in_place_is_told_as_confirmed(fleet: Fleet) -> None:
    fleet.stop_daemon()
    fleet.start_daemon()
    fleet.run(5.0)
    board = StatusView(fleet.host.files.status)
    assert {name: board.service(name).state for name in (TTS, STT)} == {TTS: "confirmed", STT: "confirmed"}  # type: ignore[union-attr]


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
