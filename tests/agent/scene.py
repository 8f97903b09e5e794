"""A program with three files, as an agent sees it: what it reloaded is in a log, what it dislikes it refuses.

As a process of its own: `python -m tests.agent.scene FOLDER VALUES` starts an agent's life on that folder.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from config_daemon import failpoints
from config_daemon.agent.apply import Applier, Plan, Target
from config_daemon.agent.commands import Command
from config_daemon.agent.render import Config
from config_daemon.errors import ConfigDaemonError

NAMES = ("a.json", "b.env", "c.yaml")
SECONDS = 10.0


class Scene:
    """The folder of a program, and the plan of the agent that serves it."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder, self.state, self.log = folder, folder / "state", folder / "reloads"
        self.app = folder / "app"
        for one in (self.state, self.app):
            one.mkdir(exist_ok=True)
        self.paths = [self.app / name for name in NAMES]
        self.changes = changes

    def command(self, role: str, script: str) -> Command:
        return Command(role, ("/bin/sh", "-euc", script, "sh", "{}"), SECONDS)

    def plan(self) -> Plan:
        check = self.command("check", 'if grep -q unchecked "$1"; then echo "no such option"; exit 1; fi')
        # a program that reads all its files, and comes up only when none of them says `broken`
        reload = self.command(
            "reload",
            f'cd "{self.app}"; cat a.json b.env c.yaml 2>/dev/null | tr -d " \\n" >> {self.log}; echo >> {self.log}',
        )
        verify = self.command(
            "verify", f'cd "{self.app}"; if cat * | grep -q broken; then echo "it is down"; exit 3; fi'
        )
        targets = tuple(Target(path.suffix[1:], path, check=check) for path in self.paths)
        parts = {
            "reload": reload,
            "verify": verify,
            "attempts": 2,
            "backoff_seconds": 0.01,
            "targets": targets,
        }
        return Plan("stt-worker", **{**parts, **self.changes})

    def applier(self) -> Applier:
        return Applier(self.plan(), self.state, threading.Event())

    def apply(self, version: int = 1, **values: Any) -> bool:
        """Put a config into force as a fresh agent would."""
        return self.applier().apply(Config("stt-worker", version, values))

    def texts(self) -> list[str | None]:
        return [path.read_text() if path.exists() else None for path in self.paths]

    def says(self) -> set[str]:
        """Return the value of `x` that each file gives, as one set: a whole set of files says one thing."""
        found = set()
        for text in self.texts():
            found.add(
                "absent"
                if text is None
                else text.partition("x")[2].strip(' ":=\n}').strip('"')
                if "x" in text
                else text.partition("X=")[2].strip()
            )
        return found

    def reloads(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def left_over(self) -> list[str]:
        """Return whatever is in the folders beside the files themselves."""
        return sorted(
            one.name for folder in (self.app, self.state) for one in folder.iterdir() if one.name not in NAMES
        )


def live(scene: Scene, values: dict[str, Any]) -> None:
    """Begin as an agent does: what was left lying is removed, what is wanted is applied, else a half set put back."""
    applier = scene.applier()
    applier.sweep()
    try:
        if values:
            applier.apply(Config("stt-worker", 2, values))
    except ConfigDaemonError as error:
        print(type(error).__name__, error.message)
    applier.settle()


if __name__ == "__main__":
    failpoints.arm(os.environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    live(Scene(Path(sys.argv[1])), json.loads(sys.argv[2]))
