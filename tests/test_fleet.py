"""Named plays of the fleet: what a rule prevents, what a fault costs, how each one ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
