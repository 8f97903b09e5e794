"""Real workers, a real broker, the real daemon: what workers run is known, and counts when they are expected."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.daemon.ears import LARGEST_PACKET_BYTES
from config_daemon.store.edgeboard import EdgeView
from config_daemon.wire.convergence import CONVERGENCE, parse_convergence
from config_daemon.wire.sealing import unseal
from tests.e2e.house import House, Worker, until
from tests.raw_client import RawClient

SERVICE = "stt-worker"


def expect(house: House, name: str) -> None:
    keys = house.folder / f"worker-{name}" / "worker.public.json"
    until(keys.exists, "the worker wrote its public keys")
    code, _, error = house.cli("worker", "add", name, "--service", SERVICE, "--keys", str(keys))
    assert code == 0, error


def line(house: House, worker: str = "demo") -> Any:
    return next((one for one in EdgeView(house.files.status).workers() if one.worker == worker), None)


@pytest.fixture
def running(house: House) -> tuple[House, Worker]:
    """A house in which one worker runs version 1."""
    house.set(SERVICE, vad_threshold=0.6)
    house.daemon()
    worker = house.worker()
    worker.wait_for(1)
    return house, worker


def test_a_change_is_waited_for_until_the_expected_worker_runs_it(running: tuple[House, Worker]) -> None:
    house, _ = running
    until(lambda: line(house), "the daemon has seen the worker")
    assert not line(house).expected
    expect(house, "demo")
    version = house.set(SERVICE, vad_threshold=0.7)
    code, out, error = house.cli("wait", SERVICE, "--version", str(version), "--json")
    assert code == 0, error
    assert json.loads(out.splitlines()[-1])["applied"] == 1
    with RawClient(house.broker_url) as client:
        client.subscribe(f"system/convergence/{SERVICE}")
        found = until(lambda: _converged(house, client, version), "the convergence is published")
    assert (found.total, found.applied, found.converged) == (1, 1, True)


def _converged(house: House, client: RawClient, version: int) -> Any:
    for topic, raw in ((one.topic, one.payload) for one in list(client.messages)):
        if topic.endswith(SERVICE) and raw:
            found = parse_convergence(unseal(raw, CONVERGENCE, [house.ground.keys.public_key()])[0])
            if found.config_version == version and found.converged:
                return found
    return None


def test_a_worker_that_dies_is_offline_and_one_that_comes_back_applied(running: tuple[House, Worker]) -> None:
    house, worker = running
    expect(house, "demo")
    until(lambda: line(house) and line(house).state == "applied", "the worker counts")
    worker.kill()
    until(lambda: line(house).presence == "offline", "the broker's word about it")
    version = house.set(SERVICE, vad_threshold=0.8)
    until(lambda: line(house).state == "offline", "it does not run the new one, and has left")
    code, _, error = house.cli("wait", SERVICE, "--timeout", "0.2")
    assert (code, "demo  offline" in error) == (1, True)
    house.worker()
    code, _, error = house.cli("wait", SERVICE, "--version", str(version))
    assert code == 0, error


def test_what_is_too_long_does_not_reach_the_daemon_and_ends_nothing(
    running: tuple[House, Worker], tmp_path: Path
) -> None:
    house, worker = running
    expect(house, "demo")
    until(lambda: line(house) and line(house).state == "applied", "the worker counts")
    with RawClient(house.broker_url) as client:
        for size in (LARGEST_PACKET_BYTES - 200, LARGEST_PACKET_BYTES + 200, 500_000):
            client.publish(f"system/status/{SERVICE}/demo", b"x" * size)
    version = house.set(SERVICE, vad_threshold=0.9)
    worker.wait_for(version)
    until(lambda: line(house).status["running"]["config_version"] == version, "the next status was heard")
    assert line(house).state == "applied"


# what `wait` must not believe ---------------------------------------------------------------------------


def test_after_a_restart_wait_believes_nothing_that_an_earlier_daemon_said(
    running: tuple[House, Worker],
) -> None:
    """Nor in a fallback, in which nobody can say who is expected."""
    house, worker = running
    expect(house, "demo")
    assert house.cli("wait", SERVICE)[0] == 0
    daemon = next(one for one in house._processes if not isinstance(one, Worker))
    worker.kill()
    daemon.stop()
    for suffix in ("-wal", "-shm"):
        (house.folder / f"config.db{suffix}").unlink(missing_ok=True)
    with house.files.database.open("r+b") as stream:
        stream.write(b"x" * 100)
    house.daemon()
    until(lambda: house.status().get("operational_mode") == "read-only-fallback", "the fallback")
    assert line(house).state is None
    code, _, error = house.cli("wait", SERVICE, "--version", "1", "--timeout", "0.3")
    assert code == 69, error


def test_after_a_restore_a_later_version_of_the_lost_life_is_no_success(
    running: tuple[House, Worker], tmp_path: Path
) -> None:
    house, worker = running
    expect(house, "demo")
    copy = tmp_path / "copy.db"
    house.set(SERVICE, vad_threshold=0.61)
    assert house.cli("wait", SERVICE)[0] == 0
    backup(house.files.database, copy)
    house.set(SERVICE, vad_threshold=0.62)
    assert house.cli("wait", SERVICE)[0] == 0
    worker.signal(signal.SIGSTOP)
    code, _, error = house.cli("restore", "--from", str(copy), "--yes")
    assert code == 0, error
    code, out, _ = house.cli("wait", SERVICE, "--timeout", "1")
    assert code == 1, out
    worker.signal(signal.SIGCONT)
    code, _, error = house.cli("wait", SERVICE)
    assert code == 0, error


def test_an_altered_row_is_somebody_whom_wait_does_not_forget(running: tuple[House, Worker]) -> None:
    house, _ = running
    expect(house, "demo")
    assert house.cli("wait", SERVICE)[0] == 0
    with closing(apsw.Connection(str(house.files.database))) as db:
        db.set_busy_timeout(3000)
        db.execute("UPDATE workers SET updated_by = 'x'")
    code, _, error = house.cli("wait", SERVICE, "--timeout", "0.3")
    assert code == 1
    assert "its row was altered outside config-daemon" in error


def backup(source: Path, target: Path) -> None:
    with (
        closing(apsw.Connection(str(source))) as old, closing(apsw.Connection(str(target))) as new,
        new.backup("main", old, "main") as copying,
    ):  # fmt: skip
        copying.step()
