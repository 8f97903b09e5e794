"""The agent's unit and folders, judged by systemd's own tools."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from config_daemon.agent import settings
from config_daemon.agent.commands import END_SECONDS
from config_daemon.agent.tables import ServiceTable
from config_daemon.errors import SettingsError

SHIPPED = Path(__file__).parents[2] / "systemd"
UNIT = SHIPPED / "config-agent@.service"
PROGRAM = "ExecStart=/opt/config-daemon/bin/config-agent "


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def unit() -> dict[str, str]:
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    return {name: value for name, _, value in lines}


def worker_of(instance: str, settings_file: Path, host: str = "box-7") -> str:
    """Return the name of an instance's worker, as systemd hands it to the agent."""
    lines = re.findall(r"^Environment=(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)
    environ = {name: text.replace("%l", host).replace("%i", instance) for name, text in lines}
    return settings.identity({}, environ, settings_file)[0]


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert PROGRAM in text
    # `verify` wants the program to be there: the interpreter of these tests stands in for it.
    (tmp_path / UNIT.name).write_text(text.replace(PROGRAM, f"ExecStart={sys.executable} "))
    verified = run("systemd-analyze", "verify", "--man=no", str(tmp_path / "config-agent@stt-worker.service"))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_the_unit_is_exposed_to_no_more_than_one_point_six_of_ten() -> None:
    judged = run("systemd-analyze", "security", "--offline=true", "--threshold=16", "--no-pager", str(UNIT))
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_it_reads_the_file_that_the_agent_looks_for_and_follows_its_instance() -> None:
    command = unit()["ExecStart"]
    assert re.search(r"--config (\S+) --service %i$", command)[1] == str(settings.FILE)  # type: ignore[index]
    assert unit()["LoadCredential"] == "broker-password:/etc/config-agent/broker-password"


def test_two_instances_of_one_host_are_two_workers_whatever_the_file_names(tmp_path: Path) -> None:
    """They have different keys: under one name and client id the broker and the daemon would keep one of them."""
    (tmp_path / "config-agent.toml").write_text('worker = "box-9"\n')
    names = [worker_of(one, tmp_path / "config-agent.toml") for one in ("stt-worker", "tts-worker")]
    assert names == ["box-7-stt-worker", "box-7-tts-worker"]


def test_an_instance_whose_host_names_no_worker_says_where_its_name_comes_from(tmp_path: Path) -> None:
    (tmp_path / "config-agent.toml").write_text("")
    with pytest.raises(SettingsError, match="'7BOX-stt-worker'") as refused:
        worker_of("stt-worker", tmp_path / "config-agent.toml", host="7BOX")
    assert "CONFIG_AGENT_WORKER" in refused.value.suggestion


def test_whoever_waits_for_it_has_a_config_and_a_withdrawn_one_is_an_end() -> None:
    told = unit()
    assert (told["Type"], told["TimeoutStartSec"], told["Restart"]) == ("notify", "infinity", "on-failure")
    # a folder that is not mounted yet is a wrong setting of the moment, and nobody may be near
    assert "RestartPreventExitStatus" not in told
    assert float(told["RestartSec"]) >= 5


def test_a_stop_leaves_a_running_command_the_time_to_end_and_to_go_back() -> None:
    longest = ServiceTable.model_fields["command_seconds"].default
    assert float(unit()["TimeoutStopSec"]) >= 2 * (longest + 2 * END_SECONDS)


def test_user_and_folders_are_made_as_the_unit_expects_them(tmp_path: Path) -> None:
    for folder in ("etc", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    made = run("systemd-sysusers", f"--root={tmp_path}", str(SHIPPED / "config-agent.sysusers"))
    assert made.returncode == 0, made.stderr
    passwd = (tmp_path / "etc/passwd").read_text()
    assert f"{unit()['User']}:" in passwd and passwd.strip().endswith("/usr/sbin/nologin")
    text = (SHIPPED / "config-agent.tmpfiles").read_text()
    entries = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {(path, mode, user, group) for _, path, mode, user, group, _ in entries} == {
        ("/etc/config-agent", "0755", "root", "root"),
        ("/etc/config-agent/rendered", "0755", "config-agent", "config-agent"),
    }
    assert unit()["ReadWritePaths"] == "-/etc/config-agent/rendered"
