"""Python imports this before anything else: the wall clock is off by what a file says, at every look."""

import json
import os
import time
from pathlib import Path

_wall_ns = time.time_ns


def _off_ns() -> int:
    return int(json.loads(Path(os.environ["FAULTS_CLOCK"]).read_text()))


if "FAULTS_CLOCK" in os.environ:
    time.time_ns = lambda: _wall_ns() + _off_ns()
    time.time = lambda: time.time_ns() / 1e9
