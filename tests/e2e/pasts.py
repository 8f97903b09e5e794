"""Houses with a past: made once, and copied for every test that starts a daemon on one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.broker_fixtures import brokers
from tests.e2e.house import House, until
from tests.e2e.test_foul_play import cached
from tests.e2e.test_weather import confirmed
from tests.e2e.wire import SERVICES, Wire
from tests.raw_client import RawClient

DATABASE = ("config.db", "config.db-wal", "config.db-shm")
CACHE = ("config.lkg.json", "config.lkg.json.1")
MARKS = ("marks.json",)


@dataclass(frozen=True)
class Past:
    """A stopped daemon's folder and what the broker retains; the folder one change earlier, a config one later."""

    folder: Path
    earlier: Path
    retained: dict[str, bytes]
    later: bytes

    def config(self, service: str) -> bytes:
        return self.retained[f"system/config/{service}"]


def make_past(base: Path) -> Past:
    """Publish two services, and one of them a second time."""
    with brokers(base) as make:
        broker = make()
        house = House(base / "house", broker.url)
        wire = Wire(lambda: RawClient(broker.url))
        try:
            daemon = house.daemon()
            house.set("tts-worker", volume_percent=40)
            house.set("stt-worker", vad_threshold=0.1)
            for service in SERVICES:
                confirmed(house, 1, service)
            assert daemon.stop() == 0
            earlier = Path(shutil.copytree(house.folder, base / "earlier"))
            daemon = house.daemon()
            house.set("stt-worker", vad_threshold=0.2)
            confirmed(house, 2)
            until(lambda: cached(house.files.cache) == 2, "the cache")
            assert daemon.stop() == 0
            folder, retained = Path(shutil.copytree(house.folder, base / "folder")), wire.all_retained()
            house.daemon()
            house.set("stt-worker", vad_threshold=0.3)
            confirmed(house, 3)
            return Past(folder, earlier, retained, wire.configs("stt-worker")[-1])
        finally:
            wire.client.close()
            house.close()


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def take_over(folder: Path, source: Path) -> None:
    """Put another folder's database in place of a stopped daemon's, whole."""
    remove(folder, *DATABASE)
    shutil.copy(source / "config.db", folder / "config.db")
