"""What the loop may rely on in a broker: the same tests on the fake server and on Mosquitto."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from config_daemon.daemon.events import Arrived, Confirmed, Connected, Lost, Refused, Subscribed
from config_daemon.daemon.traffic import PACE_SECONDS, PUBACK_SECONDS, WINDOW
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.contracts.places import SECONDS, WILL, FakePlace, Line, MosquittoPlace, Place

A, B, C = "system/config/a", "system/config/b", "system/config/c"
EVERY, HEALTH = "system/config/+", "system/health/test"
MakePlace = Callable[..., Place]


@pytest.fixture(params=["fake", "mosquitto"])
def make_place(request: pytest.FixtureRequest) -> Iterator[MakePlace]:
    """Make the place of a test, with rights and limits as it needs them."""
    places: list[Place] = []

    def make(**wanted: Any) -> Place:
        if request.param == "fake":
            places.append(FakePlace(**wanted))
        else:
            factory: BrokerFactory = request.getfixturevalue("broker_factory")
            clients: ClientFactory = request.getfixturevalue("raw_client")
            places.append(MosquittoPlace(factory, clients, (A, B, C), **wanted))
        return places[-1]

    yield make
    for place in places:
        place.close()


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    """Make a place where everybody may do everything."""
    return make_place()


def wait_until_retained(place: Place, topic: str, raw: bytes) -> None:
    end = time.monotonic() + SECONDS
    while place.retained(topic) != raw:
        assert time.monotonic() < end, f"{topic} retains {place.retained(topic)!r}"


def numbers(line: Line) -> list[int]:
    return [event.number for event in line.events if isinstance(event, Confirmed)]


def subscribe(line: Line, topics: list[str], **options: Any) -> None:
    """Subscribe, and wait for the answer."""
    request = line.broker.subscribe(topics, **options)
    line.until(Subscribed(request, 0))


def test_before_it_is_opened_it_is_idle_and_has_no_room(place: Place) -> None:
    line = place.line()
    assert line.broker.idle
    assert not line.broker.connected
    assert not line.broker.has_window
    assert not line.broker.room(A, 0.0)
    assert line.turn() == []


def test_it_connects(place: Place) -> None:
    line = place.line()
    line.broker.open(WILL)
    assert not line.broker.idle
    line.until(Connected())
    assert line.broker.connected
    assert line.broker.room(A, time.monotonic())


def test_where_nobody_listens_it_says_so_and_is_idle_again(place: Place) -> None:
    place.go_down()
    line = place.line()
    line.broker.open(WILL)
    line.until_true(lambda: line.events, "an answer")
    (lost,) = line.events
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("broker-down: ")
    assert line.broker.idle


def test_a_message_is_confirmed_with_its_number_and_retained(place: Place) -> None:
    line = place.line().connected()
    line.send(A, b"one", 41)
    assert line.broker.in_flight == 1
    line.until(Confirmed(A, 41))
    assert line.broker.in_flight == 0
    assert place.retained(A) == b"one"


def test_one_message_is_in_flight_per_topic(place: Place) -> None:
    line = place.line().connected()
    line.send(A, b"one")
    later = time.monotonic() + 10 * PACE_SECONDS
    assert not line.broker.free(A)
    assert not line.broker.room(A, later)
    assert line.broker.room(B, later)
    line.until(Confirmed(A, 1))
    assert line.broker.free(A)
    assert line.broker.room(A, later)


def test_a_topic_gets_one_message_per_50_ms(place: Place) -> None:
    line = place.line().connected()
    sent = time.monotonic()
    line.broker.send(A, b"one", 1, sent)
    line.until(Confirmed(A, 1))
    assert line.broker.free(A)
    assert not line.broker.room(A, sent + 0.049)
    assert 0.0 < line.broker.next_room(sent + 0.04) <= 0.011
    assert line.broker.room(A, sent + 0.0501)
    assert line.broker.next_room(sent + 0.0501) > 1.0


def test_a_window_bounds_what_is_in_flight(place: Place) -> None:
    line = place.line().connected()
    for number in range(WINDOW):
        assert line.broker.has_window
        line.send(f"system/config/s{number}", b"x", number)
    assert not line.broker.has_window
    assert not line.broker.room(A, time.monotonic())
    line.until(Confirmed(f"system/config/s{WINDOW - 1}", WINDOW - 1))
    assert line.broker.in_flight == 0
    assert line.broker.room(A, time.monotonic())


def test_confirmations_come_in_the_order_of_sending(place: Place) -> None:
    line = place.line().connected()
    for number, topic in enumerate((C, A, B), 1):
        line.send(topic, b"x", number)
    line.until_true(lambda: len(numbers(line)) == 3, "three confirmations")
    assert numbers(line) == [1, 2, 3]


def test_a_denied_topic_is_refused_with_135_and_the_others_go_on(make_place: MakePlace) -> None:
    place = make_place(denied=[B])
    line = place.line().connected()
    line.send(B, b"no", 1)
    line.until(Refused(B, 1, "denied", 135))
    assert line.broker.free(B)
    line.deliver(A, b"yes", 2)
    assert place.retained(B) is None


def test_a_message_too_large_is_refused_without_losing_the_connection(make_place: MakePlace) -> None:
    line = make_place(limit_bytes=2000).line().connected()
    line.send(A, b"x" * 3000, 1)
    line.until(Refused(A, 1, "too-large", 0x95))
    line.deliver(A, b"x" * 1900, 2)
    assert line.broker.connected


def test_the_foreign_subscription_shows_writes_of_others_and_not_our_own(place: Place) -> None:
    place.write(A, b"retained before")
    line = place.line().connected()
    subscribe(line, [EVERY], foreign_only=True)
    line.deliver(A, b"ours")
    place.write(B, b"theirs")
    line.until(Arrived(B, b"theirs"))
    assert line.arrived() == [(B, b"theirs")]


def test_a_topic_that_somebody_cleared_arrives_as_empty(place: Place) -> None:
    line = place.line().connected()
    subscribe(line, [EVERY], foreign_only=True)
    line.deliver(A, b"ours")
    place.write(A, b"")
    line.until(Arrived(A, b""))
    assert place.retained(A) is None


def test_a_foreign_subscription_can_ask_for_what_is_retained(place: Place) -> None:
    place.write(A, b"one")
    place.write(B, b"two")
    line = place.line().connected()
    line.broker.subscribe([EVERY], foreign_only=True, retained=True)
    line.until_true(lambda: len(line.arrived()) == 2, "both")
    assert sorted(line.arrived()) == [(A, b"one"), (B, b"two")]


def test_a_read_back_brings_what_is_retained_and_then_our_own_health(place: Place) -> None:
    place.write(A, b"old")
    line = place.line().connected()
    line.deliver(B, b"ours")
    subscribe(line, [HEALTH], retained=False)
    subscribe(line, [A, B, C])
    line.send(HEALTH, b"sentinel", 7)
    line.until(Arrived(HEALTH, b"sentinel"))
    assert sorted(line.arrived()[:-1]) == [(A, b"old"), (B, b"ours")]


def test_a_topic_subscribed_again_is_brought_again(place: Place) -> None:
    place.write(A, b"one")
    line = place.line().connected()
    subscribe(line, [EVERY], foreign_only=True)
    for round_ in (1, 2):
        subscribe(line, [A])
        line.until_true(lambda wanted=round_: len(line.arrived()) == wanted, f"round {round_}")  # type: ignore[misc]
        line.broker.unsubscribe([A])


def test_after_an_exact_subscription_ended_own_messages_do_not_arrive(place: Place) -> None:
    line = place.line().connected()
    subscribe(line, [EVERY], foreign_only=True)
    subscribe(line, [A])
    line.deliver(A, b"one", 1)
    line.until(Arrived(A, b"one"))
    line.broker.unsubscribe([A])
    line.deliver(A, b"two", 2)
    place.write(B, b"theirs")
    line.until(Arrived(B, b"theirs"))
    assert (A, b"two") not in line.arrived()


def test_what_may_not_be_read_does_not_come_though_the_subscription_is_granted(make_place: MakePlace) -> None:
    place = make_place(secret=[A])
    line = place.line().connected()
    line.deliver(A, b"one")
    subscribe(line, [HEALTH], retained=False)
    subscribe(line, [A])
    line.send(HEALTH, b"sentinel", 2)
    line.until(Arrived(HEALTH, b"sentinel"))
    assert len(line.arrived()) == 1


def test_a_broken_connection_publishes_the_will(place: Place) -> None:
    line = place.line().connected()
    place.cut()
    line.until_true(lambda: any(isinstance(event, Lost) for event in line.events), "the loss")
    wait_until_retained(place, *WILL)


def test_a_good_bye_publishes_no_will(place: Place) -> None:
    line = place.line().connected()
    line.deliver(HEALTH, b"stopped")
    line.broker.close(1.0)
    assert not line.broker.connected
    place.line().connected().deliver(A, b"later")
    assert place.retained(HEALTH) == b"stopped"


def test_a_lost_connection_forgets_what_was_in_flight(place: Place) -> None:
    line = place.line().connected()
    place.freeze()
    line.send(A, b"one")
    place.cut()
    line.until_true(lambda: any(isinstance(event, Lost) for event in line.events), "the loss")
    assert line.broker.in_flight == 0
    assert line.broker.idle
    assert not line.broker.room(B, time.monotonic())
    place.thaw()


def test_a_broker_that_stops_confirming_is_given_up(place: Place) -> None:
    line = place.line().connected()
    place.freeze()
    line.send(A, b"one")
    line.turn(later=PUBACK_SECONDS - 1)
    assert line.broker.connected
    line.turn(later=PUBACK_SECONDS + 1)
    assert line.events[-1] == Lost("broker-down: the broker stopped confirming messages")
    assert line.broker.idle
    place.thaw()


def test_a_frozen_broker_never_puts_an_older_message_over_a_newer_one(place: Place) -> None:
    """What we gave up on must not come later than what we sent on the next connection."""
    line = place.line().connected()
    place.freeze()
    line.send(A, b"older", 1)
    line.turn(later=PUBACK_SECONDS + 1)
    line.broker.open(WILL)
    place.thaw()
    line.until_true(lambda: line.events[-1] == Connected(), "the next connection")
    line.deliver(A, b"newer", 2)
    assert place.retained(A) == b"newer"


def test_a_new_connection_begins_afresh(place: Place) -> None:
    line = place.line().connected()
    subscribe(line, [EVERY], foreign_only=True)
    place.cut()
    line.until_true(lambda: any(isinstance(event, Lost) for event in line.events), "the loss")
    line.events.clear()
    line.connected()
    assert line.broker.room(A, time.monotonic())
    place.write(A, b"theirs")
    subscribe(line, [HEALTH], retained=False)
    line.deliver(HEALTH, b"sentinel")
    line.until(Arrived(HEALTH, b"sentinel"))
    assert line.arrived() == [(HEALTH, b"sentinel")], "the old subscription lived on"
    line.deliver(A, b"ours")
