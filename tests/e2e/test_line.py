"""The straight line, from a commit to a worker, with real processes."""

from __future__ import annotations

import json
import signal

import pytest

from config_daemon.store.status import StatusView
from tests.e2e.house import House, until

# every step of the line at which the daemon may die
FAILPOINTS = ["after_read", "after_reserve", "after_seal", "after_send", "after_confirm", "after_status"]


def test_a_change_at_the_cli_is_applied_by_the_worker(house: House) -> None:
    house.daemon()
    worker = house.worker()
    code, out, error = house.cli("set", "stt-worker", "vad_threshold=0.6", "--json")
    assert code == 0, error
    report = worker.wait_for(json.loads(out)["config_version"])
    assert report["reason"] is None
    code, out, _ = house.cli("get", "stt-worker", "vad_threshold")
    assert (code, out) == (0, "0.6\n")


def test_a_late_joiner_gets_the_retained_config(house: House) -> None:
    house.daemon()
    version = house.set("stt-worker", vad_threshold=0.6)
    view = StatusView(house.files.status)
    until(lambda: (row := view.service("stt-worker")) and row.state == "confirmed", "confirmed")
    assert house.worker("late").wait_for(version)["flags"] == []


def test_versions_arrive_in_order_and_the_last_one_wins(house: House) -> None:
    house.daemon()
    worker = house.worker()
    versions = [house.set("stt-worker", vad_silence_duration_ms=ms) for ms in (100, 200, 300)]
    worker.wait_for(versions[-1])
    numbers = [(report["generation"], report["sequence"]) for report in worker.applied]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("point", FAILPOINTS)
def test_kill_9_of_the_daemon_converges(house: House, point: str) -> None:
    """Wherever the daemon dies, the next one brings the newest config, and no worker goes back."""
    first = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    assert first.stop() == 0

    dying = house.daemon(failpoint=f"{point}:kill")
    version = house.set("stt-worker", vad_threshold=0.2)
    assert dying.wait() == -signal.SIGKILL
    assert f"failpoint reached: {point}" in dying.talk

    last = house.set("stt-worker", vad_threshold=0.3)
    assert last == version + 1
    house.daemon()
    worker.wait_for(last)
    numbers = [(report["generation"], report["sequence"]) for report in worker.applied]
    assert numbers == sorted(numbers)
    versions = [report["config_version"] for report in worker.applied]
    assert versions == sorted(versions)
    assert not [report for report in worker.reports if report["state"] == "rejected"]


def test_after_kill_9_the_retained_health_says_not_ok(house: House, raw_client) -> None:  # type: ignore[no-untyped-def]
    daemon = house.daemon()
    client = raw_client(house.broker_url)
    client.subscribe("system/health/config-daemon")
    client.wait_for(lambda messages: any(json.loads(m.payload)["ok"] for m in messages))
    daemon.kill()
    client.wait_for(lambda messages: json.loads(messages[-1].payload)["event"] == "offline")
    assert json.loads(client.messages[-1].payload)["ok"] is False


def test_a_clean_stop_says_stopped_and_leaves_no_will(house: House, raw_client) -> None:  # type: ignore[no-untyped-def]
    daemon = house.daemon()
    client = raw_client(house.broker_url)
    client.subscribe("system/health/config-daemon")
    client.wait_for(lambda messages: any(json.loads(m.payload)["ok"] for m in messages))
    assert daemon.stop() == 0
    client.wait_for(lambda messages: json.loads(messages[-1].payload)["event"] == "stopped")
    assert json.loads(client.messages[-1].payload)["ok"] is False
