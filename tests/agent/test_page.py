"""docs/agent.md: its programs run, and its file is one that the agent takes."""

from __future__ import annotations

import os
import re
import signal
import tomllib
from pathlib import Path

from config_daemon.agent.env_format import env_text
from config_daemon.agent.main import main
from config_daemon.agent.tables import RenderTable, ServiceTable, read_table
from tests.e2e.house import Process, until

PAGE = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[number]


def test_the_shell_program_takes_what_is_rendered_at_its_start_and_when_it_is_told_to(tmp_path: Path) -> None:
    env, program = tmp_path / "app.env", tmp_path / "app"
    text = block("sh", 1)
    assert len(text.splitlines()) <= 10
    assert "/etc/config-agent/rendered/app.env" in text
    program.write_text(text.replace("/etc/config-agent/rendered/app.env", str(env)))
    program.chmod(0o755)
    env.write_text(env_text({"vad_threshold": 0.5}))
    app = Process([str(program)], {})
    try:
        until(lambda: app.lines == ["threshold is 0.5"], "it started")
        env.write_text(env_text({"vad_threshold": 0.6}))
        app.signal(signal.SIGHUP)
        until(lambda: app.lines[1:] == ["threshold is 0.6"], "it was told")
    finally:
        os.killpg(app.pid, signal.SIGKILL)  # its `sleep` holds the output as well
        app.wait()


def test_the_agents_command_line_is_one(tmp_path: Path) -> None:
    """But for the key, which this machine has not."""
    command = block("sh", 2).partition("config-agent ")[2].replace("\\\n", " ")
    words = re.findall(r"'[^']*'|\S+", command)
    assert main([*(word.strip("'") for word in words), "--state", str(tmp_path)], {}) == 78
    assert main(["check", "--render", "x"], {}) == 2


def test_the_file_has_known_names_only_and_all_defaults_are_as_it_says() -> None:
    table, problems = read_table(tomllib.loads(block("toml")), "docs/agent.md")
    assert problems == []
    service, fresh = (
        table.services["stt-worker"],
        ServiceTable(render=[RenderTable(template="env", destination="x")]),
    )
    for name in ("command_seconds", "attempts", "backoff_seconds", "on_delete"):
        assert getattr(service, name) == getattr(fresh, name)
