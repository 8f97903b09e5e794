"""Fixtures for end-to-end tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.broker_fixtures import brokers
from tests.e2e.house import House
from tests.e2e.living import NORMAL, Living
from tests.e2e.pasts import Past, make_past
from tests.e2e.wire import Wire
from tests.raw_client import RawClient
from tests.real_broker import Broker


@pytest.fixture
def house(broker: Broker, tmp_path: Path) -> Iterator[House]:
    """A data folder with a running broker; daemon and workers are started by the test."""
    house = House(tmp_path / "data", broker.url)
    yield house
    house.close()


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A house whose daemon published something and was stopped; to be copied."""
    return make_past(tmp_path_factory.mktemp("past"))


@pytest.fixture(scope="module")
def houses(past: Past, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Living]]:
    """Give a running daemon, and another one only where a test left the last one in trouble."""
    with ExitStack() as opened, brokers(tmp_path_factory.mktemp("brokers")) as make_broker:
        kept: list[Living] = []

        def give() -> Living:
            if not kept or kept[-1].wire.said[-1][:4] != NORMAL[:4]:
                broker = make_broker()
                folder = Path(shutil.copytree(past.folder, tmp_path_factory.mktemp("living") / "data"))
                house = House(folder, broker.url)
                opened.callback(house.close)
                wire = Wire(lambda: opened.enter_context(RawClient(broker.url)))
                wire.put(past.retained)
                daemon = house.daemon()
                wire.until_says(NORMAL)
                kept.append(Living(house, wire, daemon.pid))
            return kept[-1]

        yield give


@pytest.fixture
def living(houses: Callable[[], Living]) -> Living:
    """A running daemon that says that all is well."""
    return houses()
