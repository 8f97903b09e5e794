"""Status and mode: no combination is undefined, no change is one that nobody drew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path

import pytest

from config_daemon.core.modes import MODES, STATUSES, mode_of
from tests.arrows import MODE_ARROWS, STATUS_ARROWS, table
from tests.fleet import Fleet
from tests.fleet_laws import STT, TTS
from tests.test_fleet_rebuild import lose_database

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def test_the_mode_follows_from_three_facts_in_all_sixteen_combinations() -> None:
    rows = list(product(STATUSES, (False, True), (False, True)))
    assert len(rows) == 16
    for status, held, rebuilding in rows:
        if rebuilding:
            expected = "rebuilding"
        else:
            expected = "normal" if status == "healthy" and not held else "read-only-fallback"
        assert mode_of(status, held, rebuilding) == expected, (status, held, rebuilding)
    assert {mode_of(*row) for row in rows} == set(MODES)


def test_every_arrow_joins_two_states_that_exist_and_every_state_can_be_left() -> None:
    for states, arrows in ((STATUSES, STATUS_ARROWS), (MODES, MODE_ARROWS)):
        assert {state for pair in arrows for state in pair} == set(states)
        assert {before for before, _ in arrows} == {after for _, after in arrows} == set(states)


def test_the_arrows_are_those_of_the_page() -> None:
    assert table() in PAGE.read_text(), "put what `tests.arrows.table` returns into docs/architecture.md"


@contextmanager
def a_rebuild_that_fails(fleet: Fleet) -> Iterator[None]:
    """Take database and cache away, so that there is nothing to build of, and bring them back at the end."""
    fleet.close_writer()
    names = [path.name for name in ("config.db*", "config.lkg*") for path in fleet.host.folder.glob(name)]
    (fleet.folder / "away").mkdir()
    for name in names:
        (fleet.host.folder / name).rename(fleet.folder / "away" / name)
    fleet.run(2.0)
    fleet.ask("rebuild")
    yield
    for name in names:
        (fleet.folder / "away" / name).rename(fleet.host.folder / name)
    fleet.run(3.0)


def test_a_fleet_in_every_trouble_goes_along_the_arrows(fleet: Fleet) -> None:
    """The laws of the fleet allow no other arrow; here all are gone along that need no other program version."""
    fleet.lock_database()
    fleet.run(2.0)
    fleet.unlock_database()
    fleet.run(2.0)
    backup = fleet.backup()
    fleet.edit_row_by_hand(TTS, 66)
    fleet.run(2.0)
    fleet.lock_database()
    fleet.run(2.0)
    fleet.unlock_database()
    fleet.run(2.0)
    fleet.adopt_row(TTS)
    fleet.run(2.0)
    fleet.ask("rebuild")
    fleet.run(3.0)
    lose_database(fleet)
    fleet.run(2.0)
    fleet.ask("rebuild")
    fleet.run(3.0)
    with a_rebuild_that_fails(fleet):
        fleet.run(3.0)
    fleet.commit(STT, 21)
    fleet.run(2.0)
    fleet.restore_database(backup)
    fleet.run(3.0)
    assert fleet.health["database_status"] == "healthy"
    assert fleet.health["operational_mode"] == "read-only-fallback", "a hold"
    fleet.adopt()
    fleet.settle()
    unseen = {*STATUS_ARROWS, *MODE_ARROWS} - fleet.laws.arrows
    assert {pair for pair in unseen if "schema-mismatch" not in pair} == set()
