"""What beacons prove: whether today's world is shown, by number, date and list; and what they never prove."""

from __future__ import annotations

from typing import Any

import pytest

from config_daemon.wire.beacon import Beacon, Numbered, list_digest, shard_of
from config_daemon.wire.messages import timestamp
from config_daemon.worker.freshness import Freshness
from config_daemon.worker.trust import Floor

NOW_MS = 1_767_323_045_678
YEAR_MS = 365 * 86_400_000
IN_1970_MS = 40_000
STT = "stt-worker"
SHARD = shard_of(STT)


def digest(number: int) -> str:
    return f"{number:064x}"


def floor(sequence: int, generation: int = 1) -> Floor:
    return Floor(generation, sequence, digest(sequence))


def listing(sequence: int = 0) -> dict[str, Numbered]:
    """Return what lists one message; nothing without a number."""
    return {STT: Numbered(sequence, digest(sequence))} if sequence else {}


def beacon(
    sequence: int, services: dict[str, Numbered] | None = None, at_ms: int = NOW_MS, **more: Any
) -> Beacon:
    return Beacon(
        version=1, generation=1, sequence=sequence, issued_at=timestamp(at_ms), key_id="0" * 32,
        services=listing() if services is None else services, **more,
    )  # fmt: skip


class Watch:
    """A freshness with a clock that only `pass_` moves; `ms` is what this machine calls the time."""

    def __init__(self, ms: int = NOW_MS) -> None:
        self.freshness, self.now, self.ms, self.daemon_ms = Freshness(0.0), 0.0, ms, NOW_MS

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.ms += round(seconds * 1000)
        self.daemon_ms += round(seconds * 1000)

    def take(
        self, sequence: int, services: dict[str, Numbered] | None = None, held: int = 0, **more: Any
    ) -> bool:
        """Take a beacon that the daemon seals now."""
        return self.retake(beacon(sequence, services, self.daemon_ms, **more), held)

    def retake(self, one: Beacon, held: int = 0) -> bool:
        """Take a beacon that was sealed at any time."""
        return self.freshness.take(one, (1, held), self.now, self.ms)

    @property
    def stale(self) -> bool:
        return self.freshness.is_stale(self.now)

    def twice(self, held: Floor | None) -> tuple[str, bool]:
        """Compare as the lookout does."""
        standing = self.freshness.standing(STT, held)
        return standing, self.freshness.twice(STT, standing)


# what is fresh ------------------------------------------------------------------------------------


@pytest.mark.parametrize("age_seconds", [-90, -1, 0, 30, 90])
def test_a_beacon_within_three_intervals_of_the_clock_is_fresh_and_sure(age_seconds: int) -> None:
    watch = Watch()
    assert watch.retake(beacon(5, at_ms=NOW_MS - age_seconds * 1000))
    assert not watch.freshness.is_time_unsure


def test_a_beacon_older_than_three_intervals_is_not_fresh_however_it_advances() -> None:
    """Somebody may be playing yesterday at yesterday's pace."""
    watch = Watch()
    for step in range(10):
        assert not watch.retake(beacon(5 + step, at_ms=watch.ms - 90_001))
        watch.pass_(30)
    assert watch.stale


def test_the_same_beacon_again_and_one_lower_than_seen_prove_nothing() -> None:
    watch = Watch()
    assert watch.take(5)
    assert not watch.take(5)
    assert not watch.take(4)
    assert watch.freshness.highest == 5


def test_a_beacon_below_what_is_held_proves_nothing() -> None:
    watch = Watch()
    assert not watch.take(9, held=10)
    assert watch.take(11, held=10)


def test_a_replayed_beacon_does_not_put_off_staleness() -> None:
    watch = Watch()
    first = beacon(5)
    assert watch.retake(first)
    for _ in range(4):
        watch.pass_(25)
        watch.retake(first)
    assert watch.stale


def test_without_a_fresh_beacon_for_three_intervals_it_is_stale_and_one_ends_that() -> None:
    watch = Watch()
    watch.pass_(90)
    assert not watch.stale, "the patience begins with the process"
    watch.pass_(0.1)
    assert watch.stale
    assert watch.take(5)
    assert not watch.stale
    watch.pass_(90.1)
    assert watch.stale


# clocks -------------------------------------------------------------------------------------------


def test_a_worker_in_1970_trusts_beacons_that_advance_and_says_that_it_is_unsure() -> None:
    watch = Watch(IN_1970_MS)
    assert not watch.take(5), "one alone may be of any day"
    assert not watch.freshness.is_time_unsure
    watch.pass_(30)
    assert not watch.take(5)
    assert watch.take(6)
    assert watch.freshness.is_time_unsure
    assert not watch.stale


def test_a_worker_in_1970_wants_the_advance_within_three_intervals() -> None:
    watch = Watch(IN_1970_MS)
    watch.take(5)
    watch.pass_(90.1)
    assert not watch.take(6)
    watch.pass_(30)
    assert watch.take(7)


def test_a_clock_that_was_set_right_ends_the_doubt() -> None:
    watch = Watch(IN_1970_MS)
    watch.take(5)
    watch.take(6)
    watch.ms = NOW_MS
    assert watch.take(7)
    assert not watch.freshness.is_time_unsure


def test_a_worker_a_year_ahead_believes_no_beacon() -> None:
    watch = Watch(NOW_MS + YEAR_MS)
    for step in range(10):
        assert not watch.take(5 + step)
        watch.pass_(30)
    assert watch.stale


def test_a_date_that_no_calendar_has_proves_nothing() -> None:
    """Its form is good and its signature too: no worker ends for that."""
    watch = Watch()
    one = Beacon(
        version=1,
        generation=1,
        sequence=5,
        issued_at="2026-02-30T00:00:00.000Z",
        key_id="0" * 32,
        services={},
    )
    assert not watch.retake(one)


# what is listed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("services", "held", "standing"),
    [
        (listing(7), floor(7), "listed"),
        (listing(8), floor(7), "more"),
        (listing(7), None, "more"),
        (listing(6), floor(7), "less"),
        (listing(), floor(7), "less"),
        ({STT: Numbered(7, digest(99))}, floor(7), "less"),
        (listing(7), floor(7, generation=2), "less"),
        (listing(), None, "unknown"),
    ],
)
def test_what_a_beacon_says_of_a_message(
    services: dict[str, Numbered], held: Floor | None, standing: str
) -> None:
    watch = Watch()
    assert watch.freshness.standing(STT, held) == "unknown", "before the first"
    watch.take(100, services)
    assert watch.freshness.standing(STT, held) == standing


def test_what_is_not_fresh_lists_nothing() -> None:
    watch = Watch()
    watch.take(100, listing(7))
    watch.retake(beacon(101, listing(8), at_ms=NOW_MS - 100_000))
    assert watch.freshness.standing(STT, floor(7)) == "listed"


def test_two_beacons_in_a_row_are_needed_and_another_word_between_them_begins_anew() -> None:
    watch = Watch()
    seen = []
    for sequence, number in ((100, 8), (101, 7), (102, 8), (103, 9), (104, 6), (105, 6)):
        watch.take(sequence, listing(number))
        seen.append(watch.twice(floor(7)))
    assert seen == [
        ("more", False), ("listed", False), ("more", False), ("more", True), ("less", False), ("less", True),
    ]  # fmt: skip


def test_looking_twice_at_one_beacon_is_not_two() -> None:
    watch = Watch()
    watch.take(100, listing(8))
    assert watch.twice(floor(7)) == ("more", False)
    watch.take(100, listing(8))
    assert watch.twice(floor(7)) == ("more", False)


def test_a_beacon_that_is_not_fresh_does_not_count_as_the_second() -> None:
    watch = Watch()
    watch.take(100, listing(8))
    assert watch.twice(floor(7)) == ("more", False)
    watch.retake(beacon(101, listing(8), at_ms=NOW_MS - 100_000))
    assert watch.twice(floor(7)) == ("more", False)


# shards -------------------------------------------------------------------------------------------


def sharded(sequence: int, services: dict[str, Numbered], watch: Watch) -> bool:
    return watch.take(sequence, {}, shards={SHARD: list_digest(services)})


def test_a_shard_counts_when_a_fresh_beacon_names_its_digest_whichever_came_first() -> None:
    for shard_first in (True, False):
        watch = Watch()
        if shard_first:
            watch.freshness.take_shard(SHARD, listing(7))
            assert watch.freshness.standing(STT, floor(7)) != "listed"
        assert sharded(100, listing(7), watch)
        if not shard_first:
            assert watch.freshness.standing(STT, floor(7)) != "listed"
            watch.freshness.take_shard(SHARD, listing(7))
        assert watch.freshness.standing(STT, floor(7)) == "listed"


def test_a_shard_that_a_beacon_does_not_name_lists_nothing() -> None:
    watch = Watch()
    watch.freshness.take_shard(SHARD, listing(7))
    watch.take(100, {}, shards={})
    assert watch.freshness.standing(STT, floor(7)) == "less"


def test_a_beacon_whose_shard_comes_later_counts_once() -> None:
    watch = Watch()
    sharded(100, listing(8), watch)
    assert not watch.twice(floor(7))[1]
    watch.freshness.take_shard(SHARD, listing(8))
    assert watch.twice(floor(7)) == ("more", False)
    watch.freshness.take_shard(SHARD, listing(8))
    assert watch.twice(floor(7)) == ("more", False)
    sharded(101, listing(8), watch)
    assert watch.twice(floor(7)) == ("more", True)


def test_a_shard_that_comes_before_its_beacon_does_not_begin_the_count_anew() -> None:
    """The daemon sends a changed shard first; another service in it may change at every beacon."""
    watch = Watch()
    for step in range(2):
        services = listing(8) | {"other": Numbered(50 + step, digest(50 + step))}
        watch.freshness.take_shard(SHARD, services)
        watch.twice(floor(7))
        sharded(100 + step, services, watch)
        last = watch.twice(floor(7))
    assert last == ("more", True)
