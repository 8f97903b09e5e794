"""The driver's side of the checker: start it, tell it that the fault is over, take its verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from config_daemon.cli.private_broker import ends_with_parent
from tools.faults.scene import Unexpected


class Referee:
    """A checker's process; what it needs to know is in a file that only its owner reads."""

    def __init__(self, spec: dict[str, Any], place: Path) -> None:
        place.touch(0o600)
        place.write_text(json.dumps(spec))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.faults.checker", str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, start_new_session=True, preexec_fn=ends_with_parent(),
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise Unexpected("the checker did not come up")

    def verdict(self) -> dict[str, Any]:
        """Tell the checker that the fault is over, and return what it says.

        Raises: Unexpected.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("over\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        if not told:
            raise Unexpected("the checker ended without a verdict")
        return dict(json.loads(told))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
