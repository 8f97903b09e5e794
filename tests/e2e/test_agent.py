"""`config-agent` beside a real daemon and broker: what an operator sets ends up in a program's files."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House, Process, until
from tests.forked import run


class Host:
    """A machine at the edge: one program with one `.env`, and an agent that serves it."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house, self.folder = house, folder
        self.file, self.log = folder / "app.env", folder / "reloads"
        self.key = folder / "key.pem"
        folder.mkdir()
        self.key.write_text(house.public_key)
        self.processes: list[Process] = []

    @property
    def arguments(self) -> list[str]:
        verify = f"/bin/sh -c 'if grep -q 0.66 {self.file}; then echo it is down; exit 1; fi'"
        return [
            "--service", "stt-worker", "--render", f"env:{self.file}", "--worker", "box-7",
            "--state", str(self.folder / "state"), "--public-key", str(self.key),
            "--check", "/bin/sh -c '! grep -q 0.11 {}'",
            "--reload", f"/bin/sh -c 'grep VAD_THRESHOLD {self.file} >> {self.log}'", "--verify", verify,
        ]  # fmt: skip

    def agent(self, *more: str, failpoint: str = "", url: str = "") -> Process:
        """Start the agent."""
        process = Process(
            [sys.executable, "-m", "config_daemon.agent.main", *self.arguments, *more],
            {"MQTT_URL": url or self.house.broker_url, "CONFIG_DAEMON_FAILPOINT": failpoint},
        )
        self.processes.append(process)
        return process

    def threshold(self) -> float | None:
        """Return what the program would read."""
        if not self.file.exists():
            return None
        lines = dict(line.split("=", 1) for line in self.file.read_text().splitlines())
        return float(lines["VAD_THRESHOLD"])

    def shows(self, threshold: float) -> None:
        until(lambda: self.threshold() == threshold, f"VAD_THRESHOLD={threshold}; the agent: {self.talk()}")

    def reloads(self) -> list[str]:
        return (
            [line.partition("=")[2] for line in self.log.read_text().splitlines()]
            if self.log.exists()
            else []
        )

    def talk(self) -> list[str]:
        return self.processes[-1].talk[-6:]


def said(process: Process, event: str) -> dict[str, Any]:
    """Wait for a log event of the agent, and return its facts."""

    def look() -> dict[str, Any] | None:
        lines = [json.loads(line) for line in list(process.talk) if line.startswith("{")]
        return next((line for line in lines if line["message"] == event), None)

    return until(look, f"{event}; said: {process.talk[-6:]}")


@pytest.fixture
def host(house: House, tmp_path: Path) -> Iterator[Host]:
    house.set("stt-worker", vad_threshold=0.5)
    host = Host(house, tmp_path / "host")
    yield host
    for process in host.processes:
        if process.running:
            process.kill()


def test_what_is_set_is_rendered_checked_reloaded_and_verified(host: Host) -> None:
    host.house.daemon()
    agent = host.agent()
    host.shows(0.5)
    host.house.set("stt-worker", vad_threshold=0.6)
    host.shows(0.6)

    host.house.set("stt-worker", vad_threshold=0.11)
    refused = said(agent, "config_refused")
    assert (refused["state"], refused["config_version"]) == ("rejected", 3)
    assert "check" in refused["errors"][0]
    host.house.set("stt-worker", vad_threshold=0.7)
    host.shows(0.7)
    until(lambda: host.reloads() == ["0.5", "0.6", "0.7"], "a reload for each config that passed the check")
    assert agent.stop() == 0


def test_a_config_that_the_program_does_not_run_with_is_rolled_back(host: Host) -> None:
    host.house.daemon()
    agent = host.agent()
    host.shows(0.5)
    host.house.set("stt-worker", vad_threshold=0.66)
    told = said(agent, "config_refused")
    assert told["state"] == "rolled-back"
    assert "it is down" in told["errors"][0]
    assert host.threshold() == 0.5
    assert host.reloads() == ["0.5", "0.66", "0.5"]


def test_killed_amid_a_change_it_ends_well_even_without_a_broker(host: Host) -> None:
    host.house.daemon()
    first = host.agent()
    host.shows(0.5)
    first.stop()
    second = host.agent(failpoint="agent_placed:kill")
    host.house.set("stt-worker", vad_threshold=0.6)
    assert second.wait() == -signal.SIGKILL

    third = host.agent(url="mqtt://127.0.0.1:1")
    host.shows(0.6)
    assert said(third, "files_put_back")["service"] == "stt-worker"
    assert "mqtt://127.0.0.1:1" in said(third, "broker_trouble")["reason"]
    until(lambda: host.reloads()[-1] == "0.6", "the program was told")
    assert sorted(path.name for path in host.folder.iterdir()) == ["app.env", "key.pem", "reloads", "state"]


def test_a_half_set_of_a_service_that_is_not_configured_any_more_is_put_back_and_told(host: Host) -> None:
    host.house.daemon()
    said(host.agent(failpoint="agent_placed:kill:2"), "config_applied")
    host.house.set("stt-worker", vad_threshold=0.7)
    assert host.processes[-1].wait() == -signal.SIGKILL
    assert host.threshold() == 0.7
    arguments = ["--service", "tts-worker", "--render", f"json:{host.folder}/tts.json", *host.arguments[4:10]]
    check = [sys.executable, "-m", "config_daemon.agent.main", *arguments, "check"]
    told = run(check)
    assert told.returncode == 78 and "stt-worker" in told.stderr, told.stderr

    command = [sys.executable, "-m", "config_daemon.agent.main", *arguments]
    agent = Process(command, {"MQTT_URL": "mqtt://127.0.0.1:1"})
    host.processes.append(agent)
    facts = said(agent, "files_put_back")
    assert (facts["service"], facts["is_program_told"], host.threshold()) == ("stt-worker", False, 0.5)


def test_a_reload_that_ends_the_agent_at_every_start_keeps_no_mended_config_from_it(host: Host) -> None:
    host.house.daemon()
    bad = host.folder / "bad"
    reload = f"/bin/sh -c 'if test -e {bad} && ! grep -q 0.3 {host.file}; then kill -9 $PPID; fi'"
    said(host.agent("--reload", reload), "config_applied")
    bad.touch()
    host.house.set("stt-worker", vad_threshold=0.7)
    assert host.processes[-1].wait() == -signal.SIGKILL
    lives: list[Process] = []
    while len(lives) < 5:
        agent = host.agent("--reload", reload, url="mqtt://127.0.0.1:1")
        lives.append(agent)
        until(
            lambda agent=agent: not agent.running or "broker_trouble" in str(agent.talk), "it ended or lives"
        )
        if agent.running:
            break
    facts = said(lives[-1], "files_put_back")
    assert (facts["is_program_told"], host.threshold()) == (False, 0.5)
    assert "was not told" in said(lives[-1], "config_refused")["errors"][0], "what runs, nobody knows"
    lives[-1].stop()
    host.house.set("stt-worker", vad_threshold=0.3)
    host.agent("--reload", reload)
    host.shows(0.3)
    said(host.processes[-1], "config_applied")


def test_a_hangup_that_was_meant_for_the_program_does_not_end_it(host: Host) -> None:
    host.house.daemon()
    agent = host.agent("--reload", "/bin/sh -c 'kill -HUP $PPID'")
    said(agent, "config_applied")
    host.house.set("stt-worker", vad_threshold=0.6)
    host.shows(0.6)
    assert agent.stop() == 0


def test_a_start_with_what_is_there_already_touches_nothing(host: Host) -> None:
    host.house.daemon()
    said(host.agent(), "config_applied")
    host.processes[-1].kill()
    before = host.file.stat()
    assert said(host.agent(), "config_applied")["config_version"] == 1
    assert (host.file.stat().st_ino, host.reloads()) == (before.st_ino, ["0.5"])


def test_once_gets_the_newest_and_ends(host: Host) -> None:
    host.house.daemon()
    assert host.agent("--once").wait() == 0
    assert host.threshold() == 0.5
    host.house.set("stt-worker", vad_threshold=0.6)
    until(
        lambda: host.agent("--once").wait() == 0 and host.threshold() == 0.6,
        "the newest one, once it is published",
    )


def test_once_fails_where_the_newest_does_not_work(host: Host) -> None:
    host.house.daemon()
    assert host.agent("--once").wait() == 0
    host.house.set("stt-worker", vad_threshold=0.66)
    until(
        lambda: host.agent("--once").wait() == 1, "what the program does not run with, once it is published"
    )
    assert host.threshold() == 0.5


def test_what_strangers_send_fills_no_log_and_is_no_refused_config(
    host: Host, raw_client: ClientFactory
) -> None:
    stranger = raw_client(host.house.broker_url)
    stranger.publish("system/config/stt-worker", b"garbage", retain=True)
    once = host.agent("--once", "--timeout", "2")
    assert once.wait() == 69, "nothing came; what is no config was not refused either"
    assert said(once, "config_refused")["count"] == 1

    host.house.daemon()
    agent = host.agent()
    host.shows(0.5)
    for number in range(200):
        stranger.publish("system/config/stt-worker", b"garbage %d" % number)
    host.house.set("stt-worker", vad_threshold=0.6)
    host.shows(0.6)
    lines = [line for line in agent.talk if "config_refused" in line]
    assert len(lines) == len({json.loads(line)["reason"] for line in lines}) > 0


def test_once_says_that_nothing_came(host: Host) -> None:
    agent = host.agent("--once", "--timeout", "0.5")
    assert (agent.wait(), host.file.exists()) == (69, False)
    assert "nothing came within 0.5 s" in "".join(agent.talk)
    assert "no config of stt-worker" in "".join(agent.talk)


def test_a_wrong_public_key_is_named_as_what_is_wrong(host: Host) -> None:
    host.key.write_text("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    host.house.daemon()
    (told,) = said(host.agent(), "config_refused")["errors"]
    assert "signed by a key that this worker does not trust" in told
    assert "config-daemon keys public" in told and "public_key_file" in told


def test_a_second_agent_on_the_same_folder_is_refused(host: Host) -> None:
    said(host.agent(), "agent_started")
    second = host.agent()
    assert second.wait() == 69
    assert "another config-agent" in second.talk[0]


def test_a_withdrawn_config_stops_the_program_where_that_is_wanted(host: Host) -> None:
    host.house.daemon()
    stopped = host.folder / "stopped"
    agent = host.agent("--on-delete", "stop", "--stop", f"touch {stopped}")
    host.shows(0.5)
    assert host.house.cli("delete", "stt-worker", "--yes")[0] == 0
    assert agent.wait() == 0
    assert (stopped.exists(), host.threshold()) == (True, 0.5)


def test_a_stop_that_a_crash_or_a_failure_cut_off_is_tried_at_each_start(host: Host) -> None:
    host.house.daemon()
    stopped, first = host.folder / "stopped", host.folder / "first"
    crash = f"/bin/sh -c 'touch {first}; kill -9 $PPID'"
    agent = host.agent("--on-delete", "stop", "--stop", crash)
    host.shows(0.5)
    assert host.house.cli("delete", "stt-worker", "--yes")[0] == 0
    assert (agent.wait(), first.exists()) == (-signal.SIGKILL, True)

    agent = host.agent("--on-delete", "stop", "--stop", "/bin/sh -c 'echo it hangs; exit 1'")
    told = said(agent, "config_refused")
    assert (told["state"], told["reason"]) == ("pending", "apply-failed")
    assert "it hangs" in told["errors"][0]
    agent.stop()

    agent = host.agent("--on-delete", "stop", "--stop", f"touch {stopped}", url="mqtt://127.0.0.1:1")
    assert (agent.wait(), stopped.exists()) == (0, True)
    said(agent, "config_withdrawn")


def test_a_withdrawn_config_is_kept_and_followed_on(host: Host) -> None:
    host.house.daemon()
    agent = host.agent()
    host.shows(0.5)
    assert host.house.cli("delete", "stt-worker", "--yes")[0] == 0
    said(agent, "config_withdrawn")
    assert host.threshold() == 0.5
    host.house.set("stt-worker", vad_threshold=0.8)
    host.shows(0.8)


def test_it_is_ready_when_every_service_has_its_config(host: Host, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(15)
        host.house.daemon()
        process = Process(
            [sys.executable, "-m", "config_daemon.agent.main", *host.arguments],
            {"MQTT_URL": host.house.broker_url, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        host.processes.append(process)
        assert notices.recv(100) == b"READY=1"
        assert host.threshold() == 0.5
        process.stop()
        assert notices.recv(100) == b"STOPPING=1"


def test_its_status_tells_what_runs_and_what_was_rolled_back(host: Host, raw_client: ClientFactory) -> None:
    host.house.daemon()
    watcher = raw_client(host.house.broker_url)
    watcher.subscribe("system/status/stt-worker/box-7")
    agent = host.agent()
    host.shows(0.5)
    host.house.set("stt-worker", vad_threshold=0.66)
    said(agent, "config_refused")

    def told() -> dict[str, Any] | None:
        bodies = [json.loads(message.payload) for message in list(watcher.messages)]
        return next(
            (one for one in bodies if (one["last_attempt"] or {}).get("state") == "rolled-back"), None
        )

    status = until(told, "the status of a rolled-back config")
    assert (status["running"]["config_version"], status["last_attempt"]["config_version"]) == (1, 2)
    assert status["last_attempt"]["errors"][0]["error_code"] == "COMMAND_FAILED"
    assert status["agent"].startswith("config-agent/")


def test_a_file_of_settings_serves_several_services_each_by_its_own_files(host: Host) -> None:
    house = host.house
    house.set("router")
    (host.folder / "site.j2").write_text("# {{ service }} {{ version }}\n{{ config | tojson }}\n")
    settings = host.folder / "config-agent.toml"
    settings.write_text(f"""
worker = "box-7"
state = "{host.folder}/state"
public_key_file = "{host.key}"
[services.stt-worker]
reload = "false"
attempts = 1
[[services.stt-worker.render]]
template = "json"
destination = "{host.folder}/stt.json"
[services.router]
[[services.router.render]]
template = "{host.folder}/site.j2"
destination = "{host.folder}/site.conf"
""")
    house.daemon()
    agent = Process(
        [sys.executable, "-m", "config_daemon.agent.main", "--config", str(settings)],
        {"MQTT_URL": house.broker_url},
    )
    host.processes.append(agent)
    until((host.folder / "site.conf").exists, f"the file of the one that works; {agent.talk[-4:]}")
    assert (host.folder / "site.conf").read_text().startswith("# router 1\n{")
    assert said(agent, "config_refused")["service"] == "stt-worker"
    assert not (host.folder / "stt.json").exists(), "what no program took is not left there"


def test_stopped_amid_a_reload_it_lets_that_end(host: Host) -> None:
    host.house.daemon()
    began, go = host.folder / "began", host.folder / "go"
    agent = host.agent("--reload", f"/bin/sh -c 'touch {began}; while ! test -e {go}; do sleep 0.02; done'")
    until(began.exists, "the reload runs")
    agent.signal(signal.SIGTERM)
    go.touch()
    assert agent.wait() == 0
    assert host.threshold() == 0.5
    assert not list((host.folder / "state").glob("*.before")), "nothing is open any more"
    assert said(agent, "config_applied")["config_version"] == 1
