"""A worker among beacons: first use, what it flags, when it asks again, and the bytes that it shows the daemon."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from config_daemon.wire.beacon import BEACON, Beacon, Numbered, beacon_body, list_digest, shard_of
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import timestamp
from config_daemon.wire.sealing import canonical, seal
from tests.worker.edge import NOW_MS, Edge
from tests.worker.updates import KEY, OTHER_KEY, SERVICE, TOPIC, TOPICS, sealed_body, tombstone, update

YEAR_MS = 365 * 86_400_000
SHARD = shard_of(SERVICE)
EVIDENCE = TOPICS.evidence(SERVICE, "edge")


def body_sha256(raw: bytes) -> str:
    return hashlib.sha256(raw[:-104] + b"}").hexdigest()


def listed(raw: bytes, sequence: int) -> dict[str, Numbered]:
    return {SERVICE: Numbered(sequence, body_sha256(raw))}


def beacon(sequence: int, services: Any, at_ms: int = NOW_MS, *, key: SigningKey = KEY, **more: Any) -> bytes:
    members = {"generation": 1, "issued_at": timestamp(at_ms), "key_id": key_id(bytes(key.verify_key))} | more
    return seal(beacon_body(Beacon(version=1, sequence=sequence, services=services, **members)), BEACON, key)


def hear(edge: Edge, sequence: int, services: Any, **more: Any) -> bool:
    """Deliver a beacon that was sealed now; tell whether everything is wanted again."""
    at_ms = NOW_MS + round((edge.clock - 1000.0) * 1000)
    return not edge.follower.receive(TOPICS.beacon, beacon(sequence, services, at_ms, **more))


def pass_(edge: Edge, seconds: float) -> None:
    edge.clock += seconds
    edge.calendar_ms += round(seconds * 1000)


def flags(edge: Edge) -> tuple[str, ...]:
    """What was said last, after whatever passing time alone makes the worker say."""
    edge.follower.tick()
    return edge.reports[-1].flags if edge.reports else ()


@pytest.fixture
def waiting(tmp_path: Path) -> Edge:
    """A worker that knows nothing yet and waits for a beacon."""
    return Edge(tmp_path / "waiting", first_use="wait").start()


@pytest.fixture
def served(edge: Edge) -> Edge:
    """A worker that holds number 5, which a beacon lists."""
    edge.receive(update(5))
    hear(edge, 100, listed(update(5), 5))
    assert flags(edge) == ()
    return edge


# first use ----------------------------------------------------------------------------------------


def test_a_first_message_waits_until_a_fresh_beacon_lists_exactly_it(waiting: Edge) -> None:
    report = waiting.receive(update(5))
    assert (report.state, report.flags, waiting.attempts, waiting.floor()) == (
        "held",
        ("unconfirmed",),
        [],
        None,
    )
    assert not hear(waiting, 100, listed(update(5), 5))
    assert waiting.applied == [{"number": 5}]
    assert (waiting.reports[-1].state, waiting.reports[-1].flags) == ("applied", ())
    assert waiting.floor() == 5


def test_a_first_message_that_a_beacon_listed_before_runs_at_once(waiting: Edge) -> None:
    hear(waiting, 100, listed(update(5), 5))
    assert waiting.receive(update(5)).state == "applied"
    assert flags(waiting) == ()


@pytest.mark.parametrize(
    "services",
    [
        {},
        listed(update(6), 6),
        listed(update(5, {"other": 1}), 5),
        listed(update(5), 4),
        listed(update(5), 6),
    ],
)
def test_a_first_message_that_is_not_the_one_listed_does_not_run(waiting: Edge, services: Any) -> None:
    waiting.receive(update(5))
    hear(waiting, 100, services)
    assert waiting.attempts == []
    assert "unconfirmed" in flags(waiting)


def test_a_first_message_of_yesterday_does_not_run_on_yesterdays_beacons(waiting: Edge) -> None:
    waiting.receive(update(5))
    for sequence in range(100, 105):
        waiting.follower.receive(TOPICS.beacon, beacon(sequence, listed(update(5), 5), NOW_MS - 86_400_000))
    assert waiting.attempts == []


@pytest.mark.parametrize(
    "forged",
    [
        beacon(100, listed(update(5), 5), key=OTHER_KEY),
        beacon(100, listed(update(5), 5), key_id="0" * 32),
        seal(beacon_body(Beacon.model_validate_json(beacon(100, {})[:-104] + b"}")), "config-update", KEY),
        sealed_body(canonical({"version": 1}), body_type=BEACON),
        b"", b"{}", update(5), beacon(100, listed(update(5), 5))[:-1],
    ],
)  # fmt: skip
def test_what_is_no_beacon_of_ours_confirms_nothing_and_ends_nobody(waiting: Edge, forged: bytes) -> None:
    waiting.receive(update(5))
    assert waiting.follower.receive(TOPICS.beacon, forged)
    assert waiting.attempts == []


def test_a_beacon_of_a_later_generation_confirms_nothing_and_comes_again_with_its_keyring(
    waiting: Edge,
) -> None:
    waiting.receive(update(5))
    assert not waiting.follower.receive(TOPICS.beacon, beacon(100, listed(update(5), 5), generation=2))
    assert waiting.attempts == []


def test_an_older_first_message_never_replaces_the_newer_one_that_waits(waiting: Edge) -> None:
    for number in (5, 7, 6, 5):
        waiting.receive(update(number))
    hear(waiting, 100, listed(update(7), 7))
    assert waiting.applied == [{"number": 7}]


def test_a_first_message_that_was_outdone_while_it_waited_is_asked_for_again(waiting: Edge) -> None:
    """The broker confirmed number 5 and not 6, which came too: 5 comes again, and runs."""
    waiting.receive(update(5))
    waiting.receive(update(6))
    assert [hear(waiting, 100, listed(update(5), 5)), hear(waiting, 101, listed(update(5), 5))] == [
        False,
        True,
    ]
    assert waiting.receive(update(5)).state == "applied"


def test_a_first_message_waits_in_a_next_life_too(waiting: Edge) -> None:
    waiting.receive(update(5))
    life = Edge(waiting.folder, first_use="wait").start()
    assert life.receive(update(5)).state == "held"
    hear(life, 100, listed(update(5), 5))
    assert life.runs == {"number": 5}


def test_a_listed_tombstone_as_first_message_deletes(waiting: Edge) -> None:
    waiting.receive(tombstone(5))
    hear(waiting, 100, listed(tombstone(5), 5))
    assert (waiting.reports[-1].state, waiting.attempts, waiting.floor()) == ("deleted", [], 5)


def test_a_waiting_message_that_a_full_disk_does_not_take_is_asked_for_again(waiting: Edge) -> None:
    waiting.receive(update(5))
    save, waiting.keep.save = waiting.keep.save, _full  # type: ignore[method-assign]
    assert hear(waiting, 100, listed(update(5), 5))
    assert waiting.attempts == []
    waiting.keep.save = save  # type: ignore[method-assign]
    assert waiting.receive(update(5)).state == "applied"


def _full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_run_applies_at_once_and_says_unconfirmed_until_it_is_listed(edge: Edge) -> None:
    assert edge.receive(update(5)).flags == ("unconfirmed",)
    assert edge.runs == {"number": 5}
    hear(edge, 100, listed(update(6), 6))
    assert "unconfirmed" in flags(edge)
    edge.receive(update(6))
    hear(edge, 101, listed(update(6), 6))
    assert flags(edge) == ()


# stale, time-unsure -------------------------------------------------------------------------------


def test_three_intervals_without_a_beacon_are_told_once_and_the_next_one_ends_it(served: Edge) -> None:
    before = len(served.reports)
    pass_(served, 90)
    assert flags(served) == ()
    pass_(served, 0.1)
    assert flags(served) == ("stale",)
    for _ in range(5):
        served.follower.tick()
    hear(served, 101, listed(update(5), 5))
    assert flags(served) == ()
    assert [report.flags for report in served.reports[before:]] == [("stale",), ()]
    assert served.applied == [{"number": 5}], "being stale stops nothing"


def test_a_stale_worker_takes_configs(served: Edge) -> None:
    pass_(served, 3600)
    assert served.receive(update(6)).state == "applied"


def test_a_worker_in_1970_is_unsure_after_two_advancing_beacons(served: Edge) -> None:
    life = served.next_life()
    life.calendar_ms = 40_000
    hear(life, 101, listed(update(5), 5))
    assert flags(life) == ()
    pass_(life, 30)
    hear(life, 102, listed(update(5), 5))
    assert flags(life) == ("time-unsure",)
    assert life.receive(update(6)).state == "applied"


def test_a_worker_in_1970_runs_its_first_message_after_two_advancing_beacons(waiting: Edge) -> None:
    waiting.calendar_ms = 40_000
    waiting.receive(update(5))
    hear(waiting, 100, listed(update(5), 5))
    assert waiting.attempts == []
    pass_(waiting, 30)
    hear(waiting, 101, listed(update(5), 5))
    assert waiting.runs == {"number": 5}
    assert flags(waiting) == ("time-unsure",)


def test_a_worker_a_year_ahead_is_stale_and_takes_configs(served: Edge) -> None:
    served.calendar_ms += YEAR_MS
    for sequence in range(101, 106):
        pass_(served, 30)
        hear(served, sequence, listed(update(5), 5))
    assert flags(served) == ("stale",)
    assert served.receive(update(6)).state == "applied"


# frozen -------------------------------------------------------------------------------------------


def test_two_beacons_that_list_more_freeze_and_ask_for_everything_once(served: Edge) -> None:
    asked = []
    for sequence in range(101, 105):
        pass_(served, 30)
        asked.append(hear(served, sequence, listed(update(9), 9)))
    assert asked == [False, True, False, False]
    assert flags(served) == ("frozen",)
    assert served.receive(update(9)).state == "applied"
    hear(served, 105, listed(update(9), 9))
    assert flags(served) == ()
    assert served.shown == [], "whoever lacks something has nothing to show"


def test_what_came_between_two_beacons_is_not_frozen(served: Edge) -> None:
    hear(served, 101, listed(update(6), 6))
    served.receive(update(6))
    assert not hear(served, 102, listed(update(6), 6))
    assert not hear(served, 103, listed(update(7), 7))
    assert flags(served) == ()


def test_one_beacon_delivered_twice_is_one(served: Edge) -> None:
    raw = beacon(101, listed(update(9), 9))
    assert [served.follower.receive(TOPICS.beacon, raw) for _ in range(3)] == [True] * 3
    assert flags(served) == ()


def test_frozen_anew_asks_anew(served: Edge) -> None:
    asked = [
        hear(served, sequence, listed(update(number), number))
        for sequence, number in ((101, 9), (102, 9), (103, 5), (104, 9), (105, 9))
    ]
    assert asked == [False, True, False, False, True]


def test_a_first_config_that_never_comes_is_frozen(waiting: Edge) -> None:
    assert [hear(waiting, sequence, listed(update(5), 5)) for sequence in (100, 101, 102)] == [
        False,
        True,
        False,
    ]
    assert flags(waiting) == ("unconfirmed", "frozen")


# evidence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("services", [{}, listed(update(4), 4), listed(update(5, {"other": 1}), 5)])
def test_two_beacons_that_list_less_or_other_make_it_show_what_it_holds(served: Edge, services: Any) -> None:
    hear(served, 101, services)
    assert served.shown == []
    hear(served, 102, services)
    assert served.shown == [(EVIDENCE, update(5))]
    assert flags(served) == ()


@pytest.mark.parametrize("refused", [update(4), update(5, {"other": 1})])
def test_a_rollback_and_a_fork_are_answered_with_what_is_held_at_most_once_a_minute(
    served: Edge, refused: bytes
) -> None:
    for seconds in (0, 59, 1, 30, 29.9, 0.1):
        pass_(served, seconds)
        served.receive(refused)
    assert served.shown == [(EVIDENCE, update(5))] * 3


@pytest.mark.parametrize(
    ("foul", "topic"),
    [
        (b"", TOPIC), (b"garbage", TOPIC), (update(9, key=OTHER_KEY), TOPIC),
        (update(4, generation=2), TOPIC), (update(4, service="other"), TOPIC),
    ],
)  # fmt: skip
def test_what_proves_no_forgetting_is_answered_with_nothing(served: Edge, foul: bytes, topic: str) -> None:
    served.receive(foul, topic)
    assert served.shown == []


@pytest.mark.parametrize("life", ["this", "next"])
@pytest.mark.parametrize(
    "at_floor", [update(6), update(6, {"invalid": 1}), update(6, {"failing": 1}), tombstone(6)]
)
def test_it_shows_the_message_at_the_floor_whatever_became_of_it(
    served: Edge, at_floor: bytes, life: str
) -> None:
    served.receive(at_floor)
    shower = served if life == "this" else served.next_life()
    shower.receive(update(5))
    assert shower.shown == [(EVIDENCE, at_floor)]


def test_it_shows_a_message_that_ended_the_process(served: Edge) -> None:
    served.on_apply = _die
    with pytest.raises(KeyboardInterrupt):
        served.follower.receive(TOPIC, update(6, {"deadly": 1}))
    life = served.next_life()
    life.receive(update(5))
    assert life.shown == [(EVIDENCE, update(6, {"deadly": 1}))]


def _die(_values: Any) -> None:
    raise KeyboardInterrupt


def test_a_rejected_message_that_a_mended_program_takes_is_shown_as_before(served: Edge) -> None:
    raw = update(6, {"invalid": 1})
    served.receive(raw)
    life = served.next_life(mended=True)
    assert life.receive(raw).state == "applied"
    life.receive(update(5))
    assert life.shown == [(EVIDENCE, raw)]
    assert life.kept().unused is None


def test_nothing_is_shown_of_a_message_that_only_waits(waiting: Edge) -> None:
    waiting.receive(update(5))
    hear(waiting, 100, {})
    hear(waiting, 101, {})
    assert waiting.shown == []


# beacons that prove nothing -----------------------------------------------------------------------


def test_beacons_below_the_floor_neither_freeze_nor_show(edge: Edge) -> None:
    edge.receive(update(500))
    for sequence in (490, 495, 499):
        hear(edge, sequence, {})
    assert edge.shown == []
    pass_(edge, 91)
    assert flags(edge) == ("unconfirmed", "stale")


def test_a_replayed_older_beacon_changes_nothing(served: Edge) -> None:
    old = beacon(101, listed(update(4), 4))
    served.receive(update(6))
    hear(served, 102, listed(update(6), 6))
    for _ in range(5):
        assert served.follower.receive(TOPICS.beacon, old)
    assert (flags(served), served.shown) == ((), [])


# shards -------------------------------------------------------------------------------------------


def hear_shard(edge: Edge, sequence: int, services: Any, shard: str = SHARD, topic: str = "") -> bool:
    raw = beacon(sequence, services, shard=shard)
    return not edge.follower.receive(topic or TOPICS.beacon_shard(shard), raw)


def names(services: Any) -> dict[str, str]:
    return {SHARD: list_digest(services)}


@pytest.mark.parametrize("shard_first", [True, False])
def test_a_first_message_waits_for_beacon_and_shard(waiting: Edge, shard_first: bool) -> None:
    services = listed(update(5), 5)
    waiting.receive(update(5))
    steps = [
        lambda: hear_shard(waiting, 99, services),
        lambda: hear(waiting, 100, {}, shards=names(services)),
    ]
    first, second = steps if shard_first else steps[::-1]
    first()
    assert waiting.attempts == []
    second()
    assert waiting.runs == {"number": 5}


def test_a_shard_alone_or_of_another_list_confirms_nothing(waiting: Edge) -> None:
    waiting.receive(update(5))
    hear(waiting, 100, {}, shards=names({}))
    hear_shard(waiting, 99, listed(update(5), 5))
    assert waiting.attempts == []


def test_a_shard_on_the_beacons_topic_and_the_other_way_round_are_refused(waiting: Edge) -> None:
    waiting.receive(update(5))
    services = listed(update(5), 5)
    hear_shard(waiting, 100, services, topic=TOPICS.beacon)
    waiting.follower.receive(TOPICS.beacon_shard(SHARD), beacon(101, services))
    assert waiting.attempts == []
    other = f"{int(SHARD, 16) ^ 1:02x}"
    hear_shard(waiting, 102, services, SHARD, TOPICS.beacon_shard(other))
    hear(waiting, 103, {}, shards=names(services))
    assert waiting.attempts == []


def test_a_shard_that_comes_late_does_not_count_as_a_second_beacon(served: Edge) -> None:
    more = listed(update(9), 9)
    assert not hear(served, 101, {}, shards=names(more))
    assert not hear_shard(served, 99, more)
    assert not hear_shard(served, 99, more)
    assert flags(served) == ()
    assert hear(served, 102, {}, shards=names(more))
    assert flags(served) == ("frozen",)


def test_whose_shard_is_kept_back_is_frozen(served: Edge) -> None:
    """Else a broker that withholds one config and its shard would go unnoticed: the beacon stays fresh."""
    more = listed(update(9), 9)
    asked = [hear(served, sequence, {}, shards=names(more)) for sequence in (101, 102, 103)]
    assert asked == [False, True, False]
    assert flags(served) == ("frozen",)


def test_it_follows_the_shards_of_its_services_and_no_other(edge: Edge) -> None:
    assert edge.lookout.filters[2:] == [TOPICS.beacon, TOPICS.beacon_shard(SHARD)]
    assert edge.lookout.filters[:2] == [TOPICS.every_keyring_number, TOPICS.keyring]


PAST, SOON, LATER = "2026-01-01T00:00:00.000Z", "2026-01-02T04:00:00.000Z", "2026-01-03T00:00:00.000Z"


@pytest.mark.parametrize(("expires_at", "stale"), [(PAST, True), (SOON, False), (LATER, False)])
def test_a_config_whose_own_date_has_passed_is_stale_and_runs_on(
    edge: Edge, expires_at: str, stale: bool
) -> None:
    report = edge.receive(update(5, expires_at=expires_at))
    assert (report.state, "stale" in report.flags) == ("applied", stale)


def test_a_date_passes_by_the_daemons_clock_where_the_workers_own_stands_still(edge: Edge) -> None:
    edge.receive(update(5, expires_at=LATER))
    edge.calendar_ms = 0
    for sequence in (100, 101):  # no clock: the second one in time is believed
        edge.follower.receive(TOPICS.beacon, beacon(sequence, listed(update(5), 5), NOW_MS + 2 * 86_400_000))
    edge.follower.tick()
    assert "stale" in edge.reports[-1].flags


def test_a_date_does_not_pass_by_what_an_earlier_generation_said(tmp_path: Path) -> None:
    edge = Edge(tmp_path, generation=2)
    edge.start()
    edge.follower.receive(TOPICS.beacon, beacon(100, {}, NOW_MS + 2 * 86_400_000))  # of generation 1
    edge.receive(update(5, generation=2, expires_at=LATER))
    assert "stale" not in edge.reports[-1].flags
