"""When a `.env` that changes under a running daemon counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config_daemon.store import dotenv_looks
from config_daemon.store.dotenv_looks import TwoLooks


class Clock:
    """A `.env`, its two looks, and a time that only moves when told."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 1_000.1
        self.looks = TwoLooks(path, lambda name: "__" in name, keys=frozenset({"KEY", "SEED"}))

    def after(self, seconds: float) -> dict[str, str] | None:
        self.now += seconds
        file = self.looks.look(self.now)
        return None if file is None else {name: entry.value for name, entry in file.entries.items()}

    def codes(self) -> list[str]:
        return [context.error_code for context in self.looks.problems]

    def settle(self, text: str) -> dict[str, str] | None:
        self.path.write_text(text)
        assert self.after(0) is None
        self.now = self.looks.next_look or self.now
        return self.after(0)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    clock = Clock(tmp_path / ".env")
    assert clock.settle("A=1\nS__K=1\n") == {"A": "1", "S__K": "1"}
    return clock


def test_a_change_counts_after_two_looks_that_agree(clock: Clock) -> None:
    clock.path.write_text("A=2\nS__K=1\n")
    assert clock.after(1) is None
    assert clock.looks.next_look == pytest.approx(clock.now + 0.2)
    assert clock.after(0.1) is None
    clock.path.write_text("A=3\nS__K=1\n")
    assert clock.after(0.11) is None  # other bytes: the wait begins again
    assert clock.after(0.19) is None
    assert clock.after(0.02) == {"A": "3", "S__K": "1"}
    assert (clock.looks.next_look, clock.after(60)) == (None, None)


def test_vanishing_service_values_wait_two_seconds(clock: Clock) -> None:
    clock.path.write_text("A=1\n")
    assert clock.after(1) is None
    assert clock.after(1.9) is None
    assert clock.looks.current is not None
    assert clock.looks.current.get("S__K") == "1"
    assert clock.after(0.2) == {"A": "1"}
    assert clock.settle("S__K=2\n") == {"S__K": "2"}  # A gave no service value


def test_the_same_bytes_in_a_new_file_are_no_change(clock: Clock, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_bytes(clock.path.read_bytes())
    new.replace(clock.path)
    assert [clock.after(step) for step in (1, 0.2, 0.2, 10)] == [None] * 4
    assert clock.looks.next_look is None


def test_a_swapped_link_is_a_change(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "v2").write_text("A=1\nS__K=2\n")
    (tmp_path / "link").symlink_to("v2")
    (tmp_path / "link").replace(clock.path)
    assert [clock.after(1), clock.after(1)] == [None, {"A": "1", "S__K": "2"}]


def test_a_file_touched_all_the_time_still_counts(clock: Clock) -> None:
    clock.path.write_text("A=2\nS__K=1\n")
    seen = []
    for second in range(8):
        os.utime(clock.path, (second, second))
        seen.append(clock.after(0.1))
    assert [file for file in seen if file] == [{"A": "2", "S__K": "1"}]


def test_a_touch_between_the_looks_asks_for_one_more(clock: Clock) -> None:
    clock.path.write_text("A=2\nS__K=1\n")
    assert clock.after(1) is None
    os.utime(clock.path, (1, 1))
    assert [clock.after(0.1), clock.after(0.1)] == [None, {"A": "2", "S__K": "1"}]
    assert clock.looks.next_look == pytest.approx(clock.now + 0.2)
    assert (clock.after(0.21), clock.looks.next_look) == (None, None)


def test_a_broken_or_missing_file_keeps_the_old_values(clock: Clock) -> None:
    assert clock.settle("A=1\nS__K='\n") is None
    assert [context.failed_field for context in clock.looks.problems] == [".env:2"]
    clock.path.unlink()
    assert [clock.after(1), clock.after(1)] == [None, None]
    assert clock.codes() == ["ENV_MISSING"]
    assert clock.looks.current is not None
    assert clock.looks.current.get("S__K") == "1"
    assert clock.settle("A=1\nS__K=1\n") is None  # back, and the same
    assert clock.codes() == []


def test_starts_without_a_file(tmp_path: Path) -> None:
    clock = Clock(tmp_path / ".env")
    assert [clock.after(0), clock.after(0.2)] == [None, None]
    assert (clock.codes(), clock.looks.current, clock.looks.next_look) == (["ENV_MISSING"], None, None)
    assert clock.settle("A=1") == {"A": "1"}
    assert clock.codes() == []


def test_a_change_that_the_file_times_hide_is_found_within_five_seconds(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = dotenv_looks._signature(clock.path)
    clock.after(1)
    monkeypatch.setattr(dotenv_looks, "_signature", lambda path: frozen)
    clock.path.write_text("A=9\nS__K=1\n")
    assert [clock.after(1), clock.after(5), clock.after(0.2)] == [None, None, {"A": "9", "S__K": "1"}]


def test_an_idle_look_opens_nothing(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> int:
        raise AssertionError("opened")

    monkeypatch.setattr(os, "open", forbidden)
    assert [clock.after(0.25) for _ in range(10)] == [None] * 10


@pytest.fixture
def keyed(tmp_path: Path) -> Clock:
    clock = Clock(tmp_path / ".env")
    assert clock.settle("KEY=s3cret\nSEED=s3ed\nS__K=1\n")
    return clock


@pytest.mark.parametrize(
    ("torn", "named"),
    [
        ("", "KEY and SEED are"),
        ("# only talk\n", "KEY and SEED are"),
        ("KEY=s3cret\n", "SEED is"),
        ("KEY=s3cret\nSEED=\n", "SEED is"),
        ("KEY=s3cret\nSEED=s3", "SEED is"),
        ("SEED=s3ed\nS__K=2\n", "KEY is"),
    ],
)
def test_a_file_that_lost_a_key_of_the_daemon_is_torn_and_never_counts(
    keyed: Clock, torn: str, named: str
) -> None:
    assert keyed.settle(torn) is None
    assert [keyed.after(step) for step in (3, 10)] == [None, None]
    assert keyed.looks.current is not None
    assert keyed.looks.current.get("S__K") == "1"
    assert keyed.codes() == ["ENV_INVALID"]
    told = keyed.looks.problems[0].message
    assert told.startswith(f"{named} gone or cut short")
    assert "put the file back" in told
    assert "restart the daemon" in told
    assert "s3" not in str(keyed.looks.problems)
    assert keyed.settle("KEY=s3cret\nSEED=s3ed\nS__K=1\n") is None  # back, and the same
    assert keyed.codes() == []


def test_keys_may_change_and_move_to_files_of_their_own(keyed: Clock) -> None:
    assert keyed.settle("KEY_FILE=/k\nSEED=0ther\nS__K=2\n")
    assert keyed.settle("KEY=new\nSEED_FILE=/s\nNEW_KEY=1\nS__K=3\n")
    assert keyed.settle("KEY=new\nSEED_FILE=/s\nS__K=4\n")
    assert keyed.codes() == []


def test_the_path_of_a_key_is_as_dear_as_the_key(tmp_path: Path) -> None:
    clock = Clock(tmp_path / ".env")
    assert clock.settle("KEY_FILE=/k\nS__K=1\n")
    assert clock.settle("S__K=1\n") is None
    assert clock.looks.problems[0].message.startswith("KEY is gone")


def test_a_file_without_keys_from_the_start_may_do_without_them(clock: Clock) -> None:
    assert clock.settle("KEY=s3cret\nS__K=2\n")
    assert clock.settle("S__K=3\n") == {"S__K": "3"}


def test_a_file_torn_between_its_first_two_looks_is_refused(tmp_path: Path) -> None:
    clock = Clock(tmp_path / ".env")
    clock.path.write_text("KEY=s3cret\nS__K=1\n")
    assert clock.after(0) is None
    assert clock.settle("") is None
    assert (clock.codes(), clock.looks.current) == (["ENV_INVALID"], None)
    assert clock.settle("KEY=s3cret\nS__K=1\n") == {"KEY": "s3cret", "S__K": "1"}
