"""Fixtures for the worker's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.edge import Edge


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """Return a started worker that knows nothing yet."""
    return Edge(tmp_path / "state").start()
