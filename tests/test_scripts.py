"""The installed commands say what is missing where only a worker's needs were installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [("config_daemon", "click", "daemon"), ("config_agent", "jinja2", "agent")],
)
def test_a_command_without_its_extra_names_it(command: str, missing: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['--help']\n"
        f"from config_daemon.scripts import {command}; sys.exit({command}())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 69
    assert done.stderr.splitlines() == [
        f"error: {missing} is missing: what is installed is all that a worker needs",
        f"  Run pip install 'config-daemon[{extra}]'.",
    ]


@pytest.mark.parametrize("command", ["config_daemon", "config_agent"])
def test_a_command_with_its_extra_runs(command: str) -> None:
    called = f"from config_daemon.scripts import {command}; sys.exit({command}())"
    program = f"import sys; sys.argv[1:] = ['--help']; {called}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
