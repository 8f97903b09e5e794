"""A broker with a daemon's messages on it, and a program that follows them through `ConfigClient`.

Laws: messages are sealed with a fixed key, and listed by a beacon of now; what workers say is verified as the
daemon does it; nothing waits without a bound.
"""

from __future__ import annotations

import hashlib
import queue
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from config_daemon.wire.beacon import BEACON, Beacon, Numbered, beacon_body
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import timestamp
from config_daemon.wire.sealing import seal
from config_daemon.wire.status import Status, read_status
from config_daemon.wire.workerkeys import PublicKeys
from config_daemon.worker import Change, ConfigClient, Report
from tests.raw_client import Message, RawClient
from tests.worker.updates import KEY, SERVICE, TOPICS, tombstone, update

SECONDS = 5.0
PUBLIC_KEY = bytes(KEY.verify_key).hex()


class Source:
    """What a daemon would publish, and what workers say to it."""

    def __init__(self, client: RawClient, after: Source | None = None) -> None:
        self._client = client
        self._number = after._number if after else 0
        self._listed: dict[str, Numbered] = dict(after._listed) if after else {}
        client.subscribe("system/status/+/+", "system/presence/+")

    def config(self, values: dict[str, Any], service: str = SERVICE) -> int:
        """Publish a config and a beacon that lists it; return its number."""
        return self._publish(service, lambda number: update(number, values, service=service))

    def withdraw(self) -> int:
        """Publish a tombstone."""
        return self._publish(SERVICE, tombstone)

    def status(self, folder: Path, look: Callable[[Status], object], service: str = SERVICE) -> Status:
        """Wait until a worker's status satisfies `look`."""
        keys = PublicKeys.from_text((folder / "worker.public.json").read_text())
        topic = TOPICS.status(service, keys.worker)

        def said(messages: Sequence[Message]) -> Status | None:
            raws = [one.payload for one in messages if one.topic == topic]
            read = [read_status(raw, service, keys.worker, keys.verifier, keys.key_id) for raw in raws]
            return next((status for status in read if look(status)), None)

        found = self._client.wait_for(said)
        assert found is not None
        return found

    def wait_for_presence(self, worker: str, *words: bytes) -> None:
        """Wait until a worker's presence has gone through these words."""
        topic = TOPICS.presence(worker)
        self._client.wait_for(
            lambda messages: [one.payload for one in messages if one.topic == topic] == list(words)
        )

    def wait_for_last_presence(self, worker: str, word: bytes) -> None:
        """Wait until this is what was said last of a worker's presence."""
        topic = TOPICS.presence(worker)
        self._client.wait_for(
            lambda messages: [one.payload for one in messages if one.topic == topic][-1:] == [word]
        )

    def _publish(self, service: str, make: Callable[[int], bytes]) -> int:
        self._number += 1
        number, raw = self._number, make(self._number)
        self._client.publish(TOPICS.config(service), raw, retain=True)
        self._listed[service] = Numbered(number, hashlib.sha256(raw[:-104] + b"}").hexdigest())
        self._number += 1
        beacon = Beacon(
            version=1, sequence=self._number, services=self._listed, generation=1,
            issued_at=timestamp(time.time_ns() // 1_000_000), key_id=key_id(bytes(KEY.verify_key)),
        )  # fmt: skip
        self._client.publish(TOPICS.beacon, seal(beacon_body(beacon), BEACON, KEY), retain=True)
        return number


class Program:
    """A program that keeps what it is given; `on_apply` may fail, or take its time."""

    def __init__(self, folder: Path, url: str, worker: str = "edge", **options: Any) -> None:
        self.folder = folder
        self.changes: queue.Queue[Change] = queue.Queue()
        self.reports: queue.Queue[Report] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()
        self.on_apply: Callable[[Change], object] = lambda change: None
        self.client = ConfigClient(
            options.pop("services", SERVICE), worker=worker, broker=url, state=folder, public_key=PUBLIC_KEY,
            apply=self._apply, report=self.reports.put, note=self.notes.put, **options,
        )  # fmt: skip

    def next(self, seconds: float = SECONDS) -> Change:
        """Return the next change that was applied."""
        return self.changes.get(timeout=seconds)

    def verdict(self, state: str, seconds: float = SECONDS) -> Report:
        """Return the next report with this state."""
        while (report := self.reports.get(timeout=seconds)).state != state:
            pass
        return report

    def note(self, word: str, seconds: float = SECONDS) -> str:
        """Return the next note that has this word in it."""
        while word not in (note := self.notes.get(timeout=seconds)):
            pass
        return note

    def __enter__(self) -> Program:
        self.client.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.stop()

    def _apply(self, change: Change) -> None:
        self.on_apply(change)
        self.changes.put(change)
