"""What a real worker says of itself, beside a real daemon: over kills, and when its own keys are gone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

import pytest

from config_daemon.wire.status import Status, read_status
from config_daemon.wire.topics import Topics
from config_daemon.wire.workerkeys import PublicKeys
from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House
from tests.raw_client import Message, RawClient
from tests.real_broker import Broker

STATUS, PRESENCE = Topics().status("stt-worker", "demo"), Topics().presence("demo")


@pytest.fixture
def listener(broker: Broker, raw_client: ClientFactory) -> RawClient:
    client = raw_client(broker)
    client.subscribe(STATUS, PRESENCE)
    return client


def said(house: House, listener: RawClient, look: Callable[[Status], object]) -> Status:
    """Wait for a verified status."""

    def find(messages: Sequence[Message]) -> Status | None:
        raws = [one.payload for one in messages if one.topic == STATUS]
        if not raws:
            return None
        keys = PublicKeys.from_text((house.folder / "worker-demo/worker.public.json").read_text())
        read = (read_status(raw, "stt-worker", "demo", keys.verifier, keys.key_id) for raw in raws)
        return next((status for status in read if look(status)), None)

    found = listener.wait_for(find, 15)
    assert found is not None
    return found


def presence(listener: RawClient, *words: bytes) -> None:
    listener.wait_for(lambda got: [one.payload for one in got if one.topic == PRESENCE] == list(words), 15)


def test_v23_a_worker_that_was_killed_speaks_above_all_that_it_said_before(
    house: House, listener: RawClient
) -> None:
    version = house.set("stt-worker", vad_threshold=0.5)
    house.daemon()
    worker = house.worker()
    before = said(house, listener, lambda status: status.running and status.beacon)
    assert before.running is not None and before.running.config_version == version
    assert before.running.source == "broker"
    worker.kill()
    presence(listener, b"online", b"offline")
    house.worker()
    after = said(house, listener, lambda status: status.boot > before.boot)
    assert after.order > before.order
    assert after.running is not None and after.running.source == "cache"
    assert after.running.body_sha256 == before.running.body_sha256
    presence(listener, b"online", b"offline", b"online")


def test_a_worker_that_is_stopped_says_so(house: House, listener: RawClient) -> None:
    worker = house.worker()
    presence(listener, b"online")
    assert worker.stop() == 0
    presence(listener, b"online", b"offline")


def test_a_worker_whose_keys_are_damaged_does_not_start_and_says_what_to_do(
    house: House, listener: RawClient
) -> None:
    worker = house.worker()
    presence(listener, b"online")
    worker.signal(signal.SIGTERM)
    worker.wait()
    (house.folder / "worker-demo/worker.keys").write_bytes(b"torn")
    again = house.worker()
    assert again.wait() == 78
    assert "damaged" in again.talk[0] and "worker add" in again.talk[1]
