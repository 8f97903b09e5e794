"""Fixtures for end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House
from tests.real_broker import Broker


@pytest.fixture
def house(broker: Broker, tmp_path: Path) -> Iterator[House]:
    """A data folder with a running broker; daemon and workers are started by the test."""
    house = House(tmp_path / "data", broker.url)
    yield house
    house.close()
