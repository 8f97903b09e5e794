"""What bad luck or an attacker on the host may do to a daemon: clocks, old files, a second daemon, a bad line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.broker_fixtures import ClientFactory
from tests.broker_proxy import Proxy
from tests.e2e.house import House, Process, until
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts, retained
from tests.raw_client import RawClient

YEAR_NS = 365 * 24 * 3600 * 1_000_000_000
# Python imports this before anything else: the wall clock is off by what the file says, at every look.
CLOCK = """
import os, time
_real = time.time_ns
def _off():
    with open(os.environ["TEST_CLOCK"]) as file:
        return int(file.read())
time.time_ns = lambda: _real() + _off()
time.time = lambda: time.time_ns() / 1e9
"""
TO_1970_NS = YEAR_NS // 12 - time.time_ns()


class WallClock:
    """The wall clock of a daemon, which may be set while it runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(CLOCK)
        self._file = folder / "off"
        self.environment = {"PYTHONPATH": str(folder), "TEST_CLOCK": str(self._file)}
        self.set(0)

    def set(self, off_ns: int) -> None:
        beside = self._file.with_name("off.new")
        beside.write_text(str(off_ns))
        beside.replace(self._file)


def told_of(house: House, daemon: Process) -> None:
    until(lambda: facts(house).get("pid") == daemon.pid, "the new daemon")


def messages(client: RawClient) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in list(client.messages)]


def test_a_clock_far_off_stops_no_worker_from_taking_what_comes_later(
    house: House, raw_client: ClientFactory, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path / "clock")
    client = raw_client(house.broker_url)
    client.subscribe(TOPIC)
    worker = house.worker(first_use="run")  # a daemon in 1970 has no beacon that is of today
    version = 0
    for at_start, while_running in (
        (TO_1970_NS, 0),
        (YEAR_NS, 0),
        (0, TO_1970_NS),
        (TO_1970_NS, YEAR_NS),
        (0, 0),
    ):
        clock.set(at_start)
        daemon = house.daemon(**clock.environment)
        for off in (at_start, while_running):
            clock.set(off)
            version = house.set("stt-worker", vad_threshold=(version + 1) / 100)
            worker.wait_for(version)
        daemon.kill()
    issued = {message["issued_at"][:4] for message in messages(client)}
    assert "1970" in issued and len(issued) >= 2, "the clock was believed to be off"
    numbers = [message["sequence"] for message in messages(client)]
    assert numbers == sorted(set(numbers))
    assert {report["state"] for report in worker.reports} <= {"applied", "held"}
    assert conditions(house) == set()


def stopped_with_an_older_cache(house: House) -> int:
    """Leave a stopped daemon's folder with the cache before the last one in its place; return the version."""
    daemon = house.daemon()
    first = house.set("stt-worker", vad_threshold=0.1)
    until(lambda: cached(house.files.cache) == first, "the first cache")
    older = house.files.cache.read_bytes()  # what is `.1` after the next one
    newest = house.set("stt-worker", vad_threshold=0.2)
    confirmed(house, newest)
    assert daemon.stop() == 0
    house.files.cache.write_bytes(older)
    return newest


def cached(path: Path) -> int:
    """Return the version of stt-worker that a cache holds."""
    sealed = json.loads(path.read_text())["sealed"].get("stt-worker", "{}") if path.exists() else "{}"
    return int(json.loads(sealed).get("config_version", 0))


def test_an_older_cache_in_place_of_the_newest_brings_nothing_back(
    house: House, raw_client: ClientFactory
) -> None:
    worker = house.worker()
    newest = stopped_with_an_older_cache(house)
    client = raw_client(house.broker_url)
    client.subscribe(TOPIC)
    daemon = house.daemon()
    told_of(house, daemon)
    confirmed(house, newest)
    last = house.set("stt-worker", vad_threshold=0.9)
    worker.wait_for(last)
    assert {message["config_version"] for message in messages(client)} <= {newest, last}
    assert conditions(house) == set()
    assert not [report for report in worker.reports if report["state"] == "rejected"]


def test_an_older_cache_without_a_database_replaces_nothing_newer_at_the_broker(
    house: House, raw_client: ClientFactory
) -> None:
    """So it is, too, where a daemon died between a PUBACK and its cache, and starts without its database."""
    newest = stopped_with_an_older_cache(house)
    away = house.folder / "away"
    house.files.database.rename(away)
    client = raw_client(house.broker_url)
    client.subscribe("system/#")
    daemon = house.daemon()
    told_of(house, daemon)
    until(lambda: "db-missing" in conditions(house), "the condition db-missing")
    until(lambda: "db-missing" in str(messages(client)), "a health message that says so")
    away.rename(house.files.database)
    confirmed(house, newest)
    versions = [message["config_version"] for message in messages(client) if "config_version" in message]
    assert set(versions) == {newest}
    assert json.loads(retained(client))["config_version"] == newest


def test_a_daemon_whose_lock_was_deleted_ends_and_leaves_the_folder_to_the_next(house: House) -> None:
    """Somebody deletes `daemon.lock`, and a second daemon starts: only one goes on, and nothing holds."""
    first = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    house.files.daemon_lock.unlink()
    assert first.wait() == 69
    assert any("daemon.lock was removed or replaced" in line for line in first.talk)
    house.daemon()
    for step in (2, 3):
        worker.wait_for(house.set("stt-worker", vad_threshold=step / 10))
    confirmed(house, 3)
    assert not conditions(house)
    numbers = [report["sequence"] for report in worker.applied]
    assert numbers == sorted(set(numbers))


def test_a_line_that_tears_every_packet_loses_nothing(proxy: Proxy, tmp_path: Path) -> None:
    house = House(tmp_path / "data", proxy.url)
    try:
        proxy.drip(7, 0.001)
        house.daemon(CONFIG_DAEMON_KEEPALIVE_SECONDS="2")
        worker = house.worker()
        worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
        proxy.cut()
        worker.wait_for(house.set("stt-worker", vad_threshold=0.2), 30)
        confirmed(house, 2)
        assert not conditions(house)
        assert [report["config_version"] for report in worker.applied] == [1, 2]
    finally:
        house.close()
