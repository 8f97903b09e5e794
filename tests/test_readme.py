"""The README's tour, taken as a newcomer takes it: block by block, in one folder, beside a running `dev`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.house import Process, until

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks() -> list[str]:
    """Return the commands of the tour, one block each, in the page's order."""
    tour = re.search(r"^## A tour of two minutes\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    assert tour, "the README has a section 'A tour of two minutes'"
    return re.findall(r"^```sh\n(.*?)^```", tour[1], re.DOTALL | re.MULTILINE)


@dataclass
class Newcomer:
    """Somebody with `dev` in one terminal and a shell in another, in the same folder."""

    folder: Path
    environment: dict[str, str]
    dev: Process

    def type(self, commands: str) -> str:
        """Run one block as a shell does that stops at the first failure; return what it printed."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", commands], cwd=self.folder, capture_output=True, text=True,
            timeout=30, env=self.environment,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Return what the demo worker printed into the first terminal."""
        return [json.loads(line) for line in list(self.dev.lines) if line.startswith("{")]


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Newcomer]:
    """Start `dev` as `make run` does, in an empty folder, and put `config-daemon` on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "config-daemon"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m config_daemon.cli.main "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "checkout"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONFIG_DAEMON_")}
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    monkeypatch.chdir(folder)
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    dev = Process([str(program), "dev", "--ready-file", "ready.json"], environment)
    try:
        until(lambda: (folder / "ready.json").exists() or not dev.running, "everything is ready")
        assert dev.running, dev.talk
        yield Newcomer(folder, environment, dev)
    finally:
        for child in _children(dev.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        if dev.running:
            dev.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def test_the_tour_keeps_its_promises(newcomer: Newcomer) -> None:
    change, get, refused, status, watch = blocks()

    newcomer.type(change)
    applied = until(
        lambda: next((r for r in newcomer.reports if r["state"] == "applied"), None),
        "the worker says applied",
    )
    assert (applied["service"], applied["config_version"]) == ("stt-worker", 1)

    shown = newcomer.type(get)
    assert re.search(r"vad_threshold\s+0\.6\s+database", shown), shown
    assert "default" in shown, "values that nobody set are there, with their source"

    told = newcomer.type(refused)
    assert "exit code 1" in told
    assert "vad_threshold" in told, "the reason names the key"
    assert json.loads(newcomer.type("config-daemon get stt-worker --json"))["config_version"] == 1

    assert "healthy" in newcomer.type(status)

    watched = newcomer.type(watch)
    assert re.search(r"system/config/stt-worker .*\"vad_threshold\": ?0\.6", watched), watched

    children = _children(newcomer.dev.pid)
    assert len(children) == 3, "broker, daemon and worker"
    newcomer.dev.signal(signal.SIGINT)
    assert newcomer.dev.wait() == 0, newcomer.dev.talk
    assert not [child for child in children if child.is_running()]
