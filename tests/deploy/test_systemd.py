"""The shipped unit and its folders, judged by systemd's own tools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parents[2] / "systemd"
UNIT = SHIPPED / "config-daemon.service"
PROGRAM = "ExecStart=/opt/config-daemon/bin/config-daemon "


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def settings() -> list[tuple[str, str]]:
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in lines]


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert PROGRAM in text
    # `verify` wants the program to be there: the interpreter of these tests stands in for it.
    (tmp_path / UNIT.name).write_text(text.replace(PROGRAM, f"ExecStart={sys.executable} "))
    verified = run("systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_the_unit_is_exposed_to_no_more_than_one_point_five_of_ten() -> None:
    judged = run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(UNIT))
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_a_stuck_or_crashed_daemon_comes_back_and_a_misconfigured_one_does_not() -> None:
    unit = dict(settings())
    assert (unit["Type"], unit["WatchdogSec"], unit["Restart"]) == ("notify", "30", "always")
    assert "78" in unit["RestartPreventExitStatus"].split()
    assert unit["StartLimitIntervalSec"] == "0"


def test_each_key_comes_as_a_credential_under_the_name_that_the_daemon_looks_for() -> None:
    from config_daemon.store import keyfiles

    loaded = dict(value.split(":", 1) for name, value in settings() if name == "LoadCredential")
    rotating = {
        "signing-key-next",
        "master-key-old",
        "lkg-hmac-key-old",
    }  # there while a key is being replaced
    assert set(loaded) == set(keyfiles._CREDENTIALS.values()) - rotating
    assert all(path == f"/etc/config-daemon/{name}" for name, path in loaded.items())


def test_the_group_shares_the_folder_and_only_the_group() -> None:
    unit = dict(settings())
    assert (unit["StateDirectory"], unit["StateDirectoryMode"], unit["UMask"]) == (
        "config-daemon",
        "2770",
        "0007",
    )
    assert (
        unit["Environment"] != ""
        and ("Environment", "CONFIG_DAEMON_DATA=/var/lib/config-daemon") in settings()
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that systemd's tools take for the root of a machine."""
    for folder in ("etc", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_user_and_folders_are_made_as_the_unit_expects_them(root: Path) -> None:
    made = run("systemd-sysusers", f"--root={root}", str(SHIPPED / "config-daemon.sysusers"))
    assert made.returncode == 0, made.stderr
    user = next(
        line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("config-daemon:")
    )
    assert user.split(":")[5:] == ["/var/lib/config-daemon", "/usr/sbin/nologin"]
    assert any(line.startswith("config-daemon:") for line in (root / "etc/group").read_text().splitlines())
    text = (SHIPPED / "config-daemon.tmpfiles").read_text()
    entries = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {(path, mode, user, group) for _, path, mode, user, group, _ in entries} == {
        ("/etc/config-daemon", "0755", "root", "root"),
        ("/var/lib/config-daemon", "2770", "config-daemon", "config-daemon"),
        ("/var/lib/config-daemon/requests", "2770", "config-daemon", "config-daemon"),
    }
