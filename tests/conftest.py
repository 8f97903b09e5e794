"""Fixtures for all tests, and where they keep their files.

Laws: TMPDIR and `--basetemp` are obeyed; else files lie in memory where there is plenty of it.
"""

import os
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.broker_fixtures import (  # noqa: F401 - pytest finds fixtures by name
    broker,
    broker_factory,
    proxy,
    pytest_report_header,
    raw_client,
)

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
PLENTY_BYTES = 2 << 30  # four times what all tests together write


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Write to memory: tests kill processes and never the power, so whoever waits for a disk waits in vain."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK):
        free = min(psutil.disk_usage(str(MEMORY)).free, psutil.virtual_memory().available)
        if free > PLENTY_BYTES:
            os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
