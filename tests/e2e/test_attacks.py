"""What an attacker of the broker, the folder or the start tried, each ending as the promise says."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

from config_daemon.store.dotenv_new import write_new
from config_daemon.store.status import StatusView
from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House, until
from tests.e2e.test_inputs import env_lines
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts, retained


def threshold(client: Any) -> float:
    return float(json.loads(retained(client))["config"]["vad_threshold"])


def alive(house: House, pid: int) -> bool:
    return facts(house).get("pid") == pid and bool(facts(house).get("health"))


def test_a_refused_env_at_a_restart_does_not_let_the_database_through(
    house: House, raw_client: ClientFactory
) -> None:
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    env_lines(house, "STT_WORKER__VAD_THRESHOLD=0.9")
    client = raw_client(house.broker_url)
    until(lambda: threshold(client) == 0.9, "the value of .env")
    assert daemon.stop() == 0
    env_lines(
        house,
        "STT_WORKER__VAD_THRESHOLD=0.9",
        "DB_HOST=one.example.com",
        "BACKEND_API__DATABASE_HOST=two.example.com",
    )
    daemon = house.daemon()
    until(
        lambda: alive(house, daemon.pid) and "env-invalid" in conditions(house), "the condition env-invalid"
    )
    confirmed(house, house.set("tts-worker", volume_percent=50), "tts-worker")
    assert threshold(client) == 0.9


def test_deleting_the_wal_under_a_live_daemon_is_noticed(house: House) -> None:
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    for name in ("config.db-wal", "config.db-shm"):
        (house.folder / name).unlink()
    version = house.set("stt-worker", vad_threshold=0.2)
    until(
        lambda: "not-the-newest" in conditions(house) or is_confirmed(house, version),
        "the change published, or the loss noticed",
    )


def is_confirmed(house: House, version: int) -> bool:
    row = StatusView(house.files.status).service("stt-worker")
    return row is not None and (row.state, row.config_version) == ("confirmed", version)


def test_the_same_key_in_an_empty_folder_takes_nothing_over(
    house: House, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """Somebody restores the keys only, on a new host: the fleet's messages are still on the broker."""
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    assert daemon.stop() == 0
    before = retained(raw_client(house.broker_url))
    entries = [(e.name, e.value) for e in house.ground.env_file.entries.values()]
    other = tmp_path / "other"
    other.mkdir()
    write_new(other / ".env", entries, "restored")
    stranger = House(other, house.broker_url)
    try:
        stranger.daemon()
        until(lambda: "foreign-state" in conditions(stranger), "the hold")
        stranger.set("stt-worker", vad_threshold=0.7)
        until(lambda: facts(stranger).get("mode") == "read-only-fallback", "the fallback")
        assert retained(raw_client(house.broker_url)) == before
    finally:
        stranger.close()


def test_a_copy_that_holds_goes_on_holding_after_a_restart(
    house: House, raw_client: ClientFactory, tmp_path: Path
) -> None:
    first = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    assert first.stop() == 0
    shutil.copytree(house.folder, tmp_path / "copy")
    copy = House(tmp_path / "copy", house.broker_url)
    try:
        house.daemon()
        version = house.set("stt-worker", vad_threshold=0.2)
        confirmed(house, version)
        newest = retained(raw_client(house.broker_url))
        for _ in range(2):
            daemon = copy.daemon()
            pid = daemon.pid
            until(lambda pid=pid: alive(copy, pid) and "not-the-newest" in conditions(copy), "the hold")
            daemon.kill()
        assert retained(raw_client(house.broker_url), TOPIC) == newest
    finally:
        copy.close()


def test_a_broker_that_accepts_and_hangs_up_at_once_kills_nobody(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):  # the test is over
            while not stop.is_set():
                connection, _ = listener.accept()
                connection.recv(4096)
                connection.sendall(bytes([0x20, 3, 0, 0, 0]))
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    house = House(tmp_path / "data", f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
    try:
        daemon = house.daemon()
        until(lambda: "broker-down" in conditions(house), "the condition broker-down")
        assert daemon.running
        assert daemon.stop() == 0
    finally:
        stop.set()
        house.close()
        listener.close()
