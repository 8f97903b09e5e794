"""A deleted service whose tombstone somebody purges: its topic stays empty whatever happens, and its versions go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet in which one service was deleted, and everybody has heard of it."""
    fleet = Fleet.settled(tmp_path)
    fleet.commit(TTS, None)
    fleet.settle()
    yield fleet
    fleet.close()


def purged(fleet: Fleet) -> None:
    assert fleet.purge(TTS) == ("done", {"service": TTS, "version": 2})
    del fleet.rows[TTS]  # the broker is to hold nothing of it


def is_empty(fleet: Fleet) -> bool:
    return not fleet.server.retained.get(fleet.topics.config(TTS))


def test_a_purged_tombstone_stays_away_over_read_backs_restarts_and_a_wiped_broker(fleet: Fleet) -> None:
    purged(fleet)
    assert is_empty(fleet)
    fleet.run(90.0, 0.25)
    assert is_empty(fleet)
    for end in (fleet.stop_daemon, fleet.crash_daemon):
        end()
        fleet.start_daemon()
        fleet.settle()
        assert is_empty(fleet)
    fleet.wipe()
    fleet.settle()
    assert is_empty(fleet)
    assert fleet.conditions == set()


def test_a_service_that_is_made_again_goes_on_with_its_versions(fleet: Fleet) -> None:
    purged(fleet)
    assert fleet.commit(TTS, 33).version == 3
    fleet.settle()
    assert fleet.workers[f"{TTS}-1"].running is not None
    fleet.commit(TTS, None)
    fleet.settle()
    assert fleet.retained(TTS) is not None, "the tombstone of the second death"


@pytest.mark.parametrize("what", ["tombstone", "config", "garbage"])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_somebody_puts_there_is_cleared_again(fleet: Fleet, what: str, restarted: bool) -> None:
    indices = fleet.published(TTS)
    purged(fleet)
    if restarted:
        fleet.stop_daemon()
    if what == "garbage":
        fleet.deface(TTS, b"garbage")
    else:
        fleet.put_back(indices[-1] if what == "tombstone" else indices[0])
    assert not is_empty(fleet)
    if restarted:
        fleet.start_daemon()
    fleet.run(5.0)
    assert is_empty(fleet)
    assert fleet.conditions <= {"foreign-write"}
    fleet.settle()


def test_a_daemon_that_dies_between_marks_and_broker_clears_it_after_its_start(fleet: Fleet) -> None:
    fleet.host.die_at("purge_marked")
    fleet.purge(TTS)
    assert fleet.host.process is None
    assert not is_empty(fleet)
    fleet.laws.forgot = True
    fleet.start_daemon()
    del fleet.rows[TTS]
    fleet.settle()
    assert is_empty(fleet)


def test_a_lost_connection_leaves_no_topic_uncleared(fleet: Fleet) -> None:
    fleet.server.acks = "dropped"
    fleet.laws.purged.add(fleet.topics.config(TTS))
    with pytest.raises(AssertionError, match="does not answer"):
        fleet.ask("purge", service=TTS)
    del fleet.rows[TTS]
    fleet.wipe()
    fleet.settle()
    assert is_empty(fleet)


def test_of_a_service_that_lives_nothing_is_cleared(fleet: Fleet) -> None:
    before = dict(fleet.server.retained)
    state, result = fleet.ask("purge", service=STT)
    assert (state, result["exit_code"]) == ("failed", 4)
    assert "is not deleted" in result["message"]
    state, result = fleet.ask("purge", service="nobody")
    assert (state, result["exit_code"]) == ("failed", 5)
    topics = [topic for topic in before if "/config/" in topic]
    assert all(fleet.server.retained[topic] == before[topic] for topic in topics)


def test_a_deletion_that_nobody_has_heard_of_yet_is_not_purged(fleet: Fleet) -> None:
    fleet.server.denied.add(fleet.topics.config(STT))
    fleet.commit(STT, None)
    fleet.run(1.0)
    state, result = fleet.ask("purge", service=STT)
    assert (state, result["exit_code"]) == ("failed", 69)
    assert "has not confirmed yet" in result["message"]
    fleet.settle()


def test_a_broker_that_forbids_it_is_told_and_tried_again(fleet: Fleet) -> None:
    fleet.server.denied.add(fleet.topics.config(TTS))
    state, result = fleet.purge(TTS)
    assert (state, result["exit_code"]) == ("failed", 69)
    assert "ACL" in result["suggestion"]
    assert "publish-denied" in fleet.conditions
    del fleet.rows[TTS]
    fleet.server.denied.clear()
    fleet.run(70.0, 0.25)
    assert is_empty(fleet)
    fleet.settle()
    assert fleet.conditions == set()


def test_an_orphan_is_cleared(fleet: Fleet) -> None:
    """What a store of an earlier life published, and the present one does not know."""
    orphan = fleet.published(TTS)[0]
    fleet.ask("rebuild", what="defaults")
    fleet.rows.clear()
    fleet.commit(STT, 21)
    fleet.stop_daemon()
    fleet.put_back(orphan)
    fleet.start_daemon()
    fleet.until(lambda: "orphan-retained" in fleet.conditions)
    assert not is_empty(fleet)
    assert fleet.purge(TTS) == ("done", {"service": TTS, "version": 0})
    assert is_empty(fleet)
    assert fleet.conditions == set()
