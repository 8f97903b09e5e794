"""A state folder belongs to one worker program: the other one says so, and leaves it as it is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from config_daemon.errors import KeyUnavailable
from config_daemon.worker.identity import own_keys
from tests.node.programs import workshop
from tests.worker.scene import PUBLIC_KEY


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def node(folder: Path, state: Path) -> subprocess.CompletedProcess[str]:
    """Run the worker in JavaScript until it ends by itself."""
    options = {
        "services": ["stt-worker"], "worker": "kitchen", "broker": "mqtt://127.0.0.1:1", "state": str(state),
        "publicKey": PUBLIC_KEY,
    }  # fmt: skip
    return subprocess.run(
        workshop(folder / "workshop", "worker_program.mjs"), env={**os.environ, "NODE_WORKER": json.dumps(options)},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_node_does_not_take_the_folder_of_a_worker_in_python(tmp_path: Path) -> None:
    own_keys(tmp_path / "state", "kitchen")
    before = contents(tmp_path / "state")
    done = node(tmp_path, tmp_path / "state")
    assert done.returncode != 0
    assert "belongs to another worker program: give this one a folder of its own" in done.stderr
    assert contents(tmp_path / "state") == before


def test_python_does_not_take_the_folder_of_a_worker_in_node(tmp_path: Path) -> None:
    (state := tmp_path / "state").mkdir()
    command, program = workshop(tmp_path / "workshop", "worker_program.mjs")
    script = (
        "import { Identity } from './examples/node/identity.mjs'; new Identity(process.argv[1], 'kitchen');"
    )
    subprocess.run(
        [command, "--input-type=module", "-e", script, str(state)],
        cwd=Path(program).parent,
        check=True,
        timeout=30,
    )
    before = contents(state)
    with pytest.raises(KeyUnavailable, match="belongs to another worker program"):
        own_keys(state, "kitchen")
    assert contents(state) == before
