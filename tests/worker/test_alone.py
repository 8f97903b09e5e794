"""One process at a time lives in a worker's state folder, and whoever comes second is told so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from config_daemon.errors import SettingsError
from config_daemon.worker import AsyncConfigClient
from tests.broker_fixtures import ClientFactory
from tests.real_broker import Broker
from tests.worker.scene import PUBLIC_KEY, Program, Source
from tests.worker.updates import SERVICE


def test_a_second_client_on_a_state_folder_is_refused_until_the_first_one_ends(
    broker: Broker, raw_client: ClientFactory, tmp_path: Path
) -> None:
    Source(raw_client(broker)).config({"number": 1})
    second = Program(tmp_path / "state", broker.url)
    with Program(tmp_path / "state", broker.url) as first:
        first.next()
        for begin in (second.client.start, second.client.run):
            with pytest.raises(SettingsError, match="another worker program uses") as refusal:
                begin()
            assert "a state folder of its own" in refusal.value.suggestion
        assert first.notes.empty(), "it lost nothing to the second one"
        assert second.changes.empty()
    with second:
        assert second.next().new == {"number": 1}


async def second_on_asyncio(url: str, folder: Path) -> None:
    await AsyncConfigClient(SERVICE, worker="edge", broker=url, state=folder, public_key=PUBLIC_KEY).run()


def test_the_twin_on_asyncio_ends_with_the_same_words(broker: Broker, tmp_path: Path) -> None:
    with (
        Program(tmp_path / "state", broker.url),
        pytest.raises(SettingsError, match="another worker program uses"),
    ):
        asyncio.run(second_on_asyncio(broker.url, tmp_path / "state"))


def test_a_client_that_could_not_begin_leaves_the_folder_to_others(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Program(tmp_path / "state", broker.url)

    def fail() -> None:
        raise OSError("the disk cannot be read")

    monkeypatch.setattr(dead.client._follower, "start", fail)
    with pytest.raises(OSError, match="the disk"):
        dead.client.run()
    with Program(tmp_path / "state", broker.url):
        pass
