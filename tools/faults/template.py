"""A data folder to begin with, and the services in it.

Laws: one `init` for each process of the campaign; its keys have sealed nothing when a run gets its copy.
"""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

DEFAULTS = {"token": "", "count": 0, "fixed": "as shipped", "padding": ""}
SCHEMA = json.dumps({
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": False,
    "properties": {
        key: {"type": "integer" if value == 0 else "string", "default": value, "description": key}
        for key, value in DEFAULTS.items()
    },
})  # fmt: skip


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "config_daemon.cli.main", "init", "--data", str(folder / "data")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return folder / "data"


def copy_template(target: Path) -> None:
    """Make a fresh data folder."""
    shutil.copytree(_template(), target, dirs_exist_ok=True)


def define(schemas: Path, services: list[str]) -> None:
    """Define services, as a person does who drops schema files."""
    for service in services:
        (schemas / f"{service}.schema.json").write_text(SCHEMA)
