"""`dev`, `status` and `watch` as a newcomer meets them: what they say is true, also without a broker."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config_daemon.wire.keys import public_key_pem
from tests.cli.conftest import Cli, Daemon, call, refused
from tests.cli.keyring_folders import held, note_signing, public_key
from tests.e2e.house import Process, until
from tests.real_broker import Broker

PROGRAM = [sys.executable, "-m", "config_daemon.cli.main"]


@pytest.fixture
def closed() -> Iterator[str]:
    """The URL of a port at which nothing listens, for as long as the test lasts."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"mqtt://127.0.0.1:{holder.getsockname()[1]}"


def dev(folder: Path, *words: str) -> Process:
    return Process([*PROGRAM, "dev", "--data", str(folder), *words], {})


def told(process: Process) -> str:
    return "\n".join(process.talk)


def test_dev_says_that_its_broker_cannot_be_reached_and_goes_on(tmp_path: Path, closed: str) -> None:
    ready = tmp_path / "ready.json"
    process = dev(tmp_path / "data", "--broker", closed, "--no-worker", "--ready-file", str(ready))
    try:
        until(lambda: "keeps trying" in told(process), "that the broker cannot be reached")
        assert f"nothing listens at {closed}" in told(process)
        assert "config-daemon runs" not in told(process)
        time.sleep(0.6)  # longer than it looks after its parts
        assert process.running
        assert not ready.exists()
        assert call(["set", "stt-worker", "channels=2", "--data", str(tmp_path / "data")]).code == 0
    finally:
        assert process.stop() == 0


def test_dev_refuses_a_ready_file_before_anything_runs(cli: Cli, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    refused(cli("dev", "--ready-file", str(nowhere / "ready.json")), 2, f"there is no folder {nowhere}")


def test_dev_says_when_its_broker_answers_at_last(tmp_path: Path, broker: Broker) -> None:
    broker.stop()
    ready = tmp_path / "ready.json"
    process = dev(tmp_path / "data", "--broker", broker.url, "--no-worker", "--ready-file", str(ready))
    try:
        until(lambda: "keeps trying" in told(process), "that the broker cannot be reached")
        broker.start()
        until(lambda: f"the broker at {broker.url} answers" in told(process), "that it answers", 30)
        assert json.loads(ready.read_text())["mqtt_url"] == broker.url
        broker.stop()
        time.sleep(0.6)
        assert process.running, "somebody else's broker may come and go"
    finally:
        assert process.stop() == 0


def test_dev_that_is_stopped_early_does_not_say_that_it_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes connections and never answers
        url = f"mqtt://127.0.0.1:{mute.getsockname()[1]}"
        process = dev(tmp_path / "data", "--broker", url)
        until(lambda: (tmp_path / "data" / "daemon.log").exists(), "a daemon")
        assert process.stop() == 0
    assert "runs" not in told(process)


def test_the_hints_of_dev_work_as_they_are_printed(tmp_path: Path, broker: Broker) -> None:
    process = dev(tmp_path / "data", "--broker", broker.url, "--no-worker")
    try:
        until(lambda: "config-daemon watch" in told(process), "the hints")
        assert f"config-daemon get stt-worker --source --data {tmp_path}/data" in told(process)
        assert "demo worker" not in told(process), "there is none"
    finally:
        assert process.stop() == 0


def test_dev_gives_its_worker_the_root_that_keys_public_prints(cli: Cli, broker: Broker) -> None:
    roots = [str(cli.folder.parent / f"root-{number}.pem") for number in (1, 2)]
    cli.ok("keys", "split-root", *roots)
    cli.ok("keys", "rotate", "--root-key", roots[0])
    new = held(cli).keys[-1].key_id
    note_signing(cli.files, held(cli), new)
    cli.ok("keys", "rotate", "--retire", "--root-key", roots[1])
    cli.ok("set", "stt-worker", "channels=2")
    ready = cli.folder.parent / "ready.json"
    process = dev(cli.folder, "--broker", broker.url, "--ready-file", str(ready))
    try:
        until(ready.exists, "that it runs")
        given = json.loads(ready.read_text())["public_key"]
        assert given == cli.json("keys", "public")["pem"]
        assert given != public_key_pem(public_key(cli))
        until(lambda: any("applied" in str(line) for line in process.lines), "a config", 20)
    finally:
        assert process.stop() == 0


def test_dev_leaves_a_daemon_that_runs_already_alone(cli: Cli, daemon: Daemon) -> None:
    refused(cli("dev"), 69, f"a daemon runs on {cli.folder} already", "stop it first")


def test_dev_tells_why_its_daemon_ended(cli: Cli, closed: str) -> None:
    cli.files.marks.write_text("no marks")
    process = dev(cli.folder, "--broker", closed, "--no-worker")
    assert process.wait() == 78
    assert f"error: the daemon ended at once: {cli.files.marks} cannot be trusted" in told(process)
    assert "\n  Keep the file aside for inspection" in told(process)


def test_status_after_dev_says_how_to_start_it_again(tmp_path: Path, closed: str) -> None:
    process = dev(tmp_path / "data", "--broker", closed, "--no-worker")
    until(lambda: "keeps trying" in told(process), "a daemon")
    process.stop()
    shown = call(["status", "--data", str(tmp_path / "data")])
    assert shown.code == 8
    assert f"`config-daemon dev --data {tmp_path}/data`" in shown.out


def test_status_says_how_to_begin_where_nothing_is(tmp_path: Path) -> None:
    shown = call(["status", "--data", str(tmp_path / "none")])
    assert shown.code == 8
    assert f"there is no data folder {tmp_path}/none" in shown.out
    assert f"`config-daemon init --data {tmp_path}/none`" in shown.out


def test_status_of_a_folder_made_by_init_names_the_daemon(cli: Cli) -> None:
    assert f"`config-daemon run --data {cli.folder}`" in cli("status").out
    assert "config-daemon dev" not in cli("status").out


def test_watch_refuses_a_service_that_nothing_defines(cli: Cli) -> None:
    refused(cli("watch", "stt-workr"), 5, "there is no service 'stt-workr'", "Did you mean 'stt-worker'?")
    refused(cli("watch", "no service"), 5, "there is no service 'no service'")


def watching(folder: Path, broker: Broker, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "watch", *words, "--data", str(folder), "--broker", broker.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_watch_listens_for_an_unknown_service_where_the_store_cannot_be_read(
    cli: Cli, broker: Broker
) -> None:
    cli.files.database.unlink()
    process = watching(cli.folder, broker, "elsewhere-worker")
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "nothing here defines elsewhere-worker" in first
    assert "watching system/config/elsewhere-worker" in process.stderr.readline()
    process.terminate()
    assert process.wait(10) == 0


def test_watch_ends_as_soon_as_its_reader_has_seen_enough(cli: Cli, broker: Broker) -> None:
    process = watching(cli.folder, broker)
    assert process.stdout is not None and process.stderr is not None
    assert "watching" in process.stderr.readline()
    process.stdout.close()  # nothing is ever published here, so no write can fail
    assert process.wait(10) == 141
    assert process.stderr.read() == ""


def test_watch_into_head_ends_quietly(cli: Cli, broker: Broker, daemon: Daemon) -> None:
    daemon.ends()
    cli.ok("set", "stt-worker", "channels=2")
    ours = Process([*PROGRAM, "run", "--data", str(cli.folder)], {"MQTT_URL": broker.url})
    process = watching(cli.folder, broker)
    assert process.stdout is not None and process.stderr is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], 15)
        assert ready
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        assert process.wait(10) == 141
        assert "Traceback" not in process.stderr.read()
    finally:
        ours.signal(signal.SIGTERM)
        ours.wait()
