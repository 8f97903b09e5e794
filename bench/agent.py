"""The agent: from a commit until its file is there, and until the program was reloaded.

One service, rendered as JSON, with a reload command that copies the file aside. The clock starts when the commit has
returned and stops when the new value is seen in the file, and in the copy; both are looked at all the time. The daemon,
the worker's steps, the renames with their syncs and the start of `/bin/cp` are within.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from bench.figure import Outcome, Scope, below, percentile
from bench.scene import Scene, scene, until
from bench.services import revise
from config_daemon.cli.private_broker import ends_with_parent

GAP_SECONDS, LOOK_SECONDS = 0.1, 0.0005
PATIENCE_SECONDS = 30.0


def measure(scope: Scope) -> Outcome:
    """Measure one agent beside one daemon."""
    with scene(1) as here:
        here.start_daemon()
        file, copy = here.folder / "app.json", here.folder / "copy.json"
        agent = _start(here, file, copy)
        try:
            rendered, reloaded = _run(here, file, copy, scope.of(200, 10))
        finally:
            agent.terminate()
            agent.wait(PATIENCE_SECONDS)
    raw = {"rendered": rendered, "reloaded": reloaded}
    limits = (("rendered", 50, 100.0, 40.0), ("rendered", 99, 500.0, 150.0), ("reloaded", 50, 150.0, 60.0))
    lines = [
        below(f"commit → {what}, p{percent}", percentile(raw[what], percent), reach, aim, "{:.0f} ms")
        for what, percent, reach, aim in limits
    ]
    return Outcome(lines, {"milliseconds": raw})


def _start(here: Scene, file: Path, copy: Path) -> subprocess.Popen[bytes]:
    key = here.folder / "key.hex"
    key.write_text(here.public_key.hex())
    arguments = [
        "--service", here.services[0], "--worker", "bench", "--state", str(here.folder / "agent"),
        "--public-key", str(key), "--render", f"json:{file}", "--reload", f"/bin/cp {file} {copy}",
    ]  # fmt: skip
    with (here.folder / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            [sys.executable, "-m", "config_daemon.agent.main", *arguments], env={**os.environ, "MQTT_URL": here.url},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=ends_with_parent(),
        )  # fmt: skip
    until(copy.exists, "the agent's first config", PATIENCE_SECONDS)
    return agent


def _run(here: Scene, file: Path, copy: Path, changes: int) -> tuple[list[float], list[float]]:
    rendered, reloaded = [], []
    with here.store.writer() as writer:
        for revision in range(2, changes + 2):
            time.sleep(GAP_SECONDS)
            revise(writer, here.services, revision)
            committed = time.monotonic()
            for path, seconds in ((file, rendered), (copy, reloaded)):
                shows = partial(_shows, path, revision)
                until(shows, f"{path.name} of {revision}", PATIENCE_SECONDS, LOOK_SECONDS)
                seconds.append(1000 * (time.monotonic() - committed))
    return rendered, reloaded


def _shows(path: Path, revision: int) -> bool:
    try:
        return bool(json.loads(path.read_bytes())["revision"] == revision)
    except ValueError:  # the copy is being written
        return False
