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
from tests.node.programs import workshop

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

    @contextlib.contextmanager
    def left_running(self, commands: str) -> Iterator[Process]:
        """Run commands that do not end by themselves, in a terminal of their own."""
        worker = Process(["sh", "-c", f"cd '{self.folder}'\n{commands}"], self.environment)
        try:
            yield worker
        finally:
            for child in [*_children(worker.pid), psutil.Process(worker.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            worker.wait()

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Return what the demo worker printed into the first terminal."""
        return [json.loads(line) for line in list(self.dev.lines) if line.startswith("{")]


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Newcomer]:
    """Start `dev` as `make run` does, in an empty folder, and put `config-daemon` on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (
        ("config-daemon", "-m config_daemon.cli.main"),
        ("config-agent", "-m config_daemon.agent.main"),
        ("python", ""),
    ):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        program.chmod(0o755)
    program = programs / "config-daemon"
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


# a worker of one's own ------------------------------------------------------------------------------


def own(language: str) -> tuple[str, str | None]:
    """Return the commands that start a worker in a language, and the program that they start."""
    section = re.search(r"^## A worker of your own\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    assert section, "the README has a section 'A worker of your own'"
    found: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", section[1], re.DOTALL | re.MULTILINE)
    fences = [fence for fence, _ in found]
    assert fences == ["python", "sh", "sh", "js", "sh", "sh"], (
        "a program and its start, thrice; then the rest"
    )
    programs = {
        "python": (found[1][1], found[0][1]),
        "sh": (found[2][1], None),
        "js": (found[4][1], found[3][1]),
    }
    lines = [list(filter(None, text.splitlines())) for pair in programs.values() for text in pair if text]
    assert max(map(len, lines)) <= 10
    return (found[5][1], None) if language == "afterwards" else programs[language]


@pytest.mark.parametrize(
    ("language", "name", "file", "shows"),
    [("python", "kitchen", "worker.py", r"changed: vad_threshold to .*0\.7"), ("sh", "hall", "", "changed to 0.7"),
     ("js", "garden", "worker.mjs", r"vad_threshold: 0\.7")],
)  # fmt: skip
def test_a_worker_in_ten_lines_follows_and_is_waited_for(
    newcomer: Newcomer, language: str, name: str, file: str, shows: str
) -> None:
    start, program = own(language)
    if language == "js":
        workshop(newcomer.folder, "worker_program.mjs")
    if program is not None:
        (newcomer.folder / file).write_text(program)
    newcomer.type("config-daemon set stt-worker vad_threshold=0.6")
    with newcomer.left_running(start) as worker:
        keys = newcomer.folder / name / "worker.public.json"
        until(keys.exists, "the worker wrote its public keys")
        told = newcomer.type(own("afterwards")[0].replace("kitchen", name))
        assert re.search(r"runs on 2 workers", told), told
        assert re.search(name + r"\s+stt-worker\s+applied\s+2\s+2", told), told
        until(
            lambda: re.search(shows, "\n".join(worker.lines)), f"{shows!r} in {worker.lines}, {worker.talk}"
        )
