"""Node, with the example worker's one library installed once, and a folder in which its programs run.

Laws: the library lies in the environment's own folder and is installed again only when its version changes; what runs
is the example as it stands in the repository.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
INSTALL = (
    "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--loglevel=error",
)  # fmt: skip


def program(name: str) -> str:
    """Return where a program is."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing, and examples/node cannot be checked: apt-get install {name}")
    return found


def libraries() -> Path:
    """Return the folder of the example's library; install it where it is not there yet."""
    wanted = (EXAMPLES / "node/package.json").read_bytes()
    place = Path(sys.prefix) / "share/config-daemon-node" / hashlib.sha256(wanted).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes may both find that nothing is there
        if not (place / "done").exists():
            (place / "package.json").write_bytes(wanted)
            done = subprocess.run(
                [program("npm"), *INSTALL], cwd=place, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr
            (place / "done").touch()
    return place / "node_modules"


def workshop(folder: Path, name: str) -> list[str]:
    """Lay the examples and a program of this folder into another one; return how to start it."""
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("node", "verify"):
            ignored = shutil.ignore_patterns("node_modules")
            shutil.copytree(EXAMPLES / part, folder / "examples" / part, ignore=ignored, dirs_exist_ok=True)
        (folder / "node_modules").symlink_to(libraries())
        (folder / "package.json").write_text(json.dumps({"type": "module"}))
        shutil.copy(Path(__file__).with_name(name), folder / name)
    return [program("node"), str(folder / name)]
