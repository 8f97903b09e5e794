"""What can be seen of a run: the data folder, the daemon's board, what workers say, what the broker retains.

Laws: looking changes nothing; what does not come in time is Unexpected, in words.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import apsw

from config_daemon.errors import CacheError
from config_daemon.store import cache as cache_file
from config_daemon.store.files import Files
from config_daemon.store.ground import load_ground
from config_daemon.store.status import StatusView
from tests.raw_client import RawClient
from tools.faults.children import Child

SECONDS = 20.0


class Unexpected(Exception):
    """What a row of the campaign says did not happen."""


class Scene:
    """A run's folder and processes, to be looked at; `full` asks for what the campaign names, not for less."""

    def __init__(self, folder: Path, data: Path, seed: int, services: list[str], full: bool) -> None:
        self.folder, self.data, self.seed, self.services, self.full = folder, data, seed, services, full
        self.rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.daemon: Child | None = None
        self.workers: dict[str, Child] = {}
        self.figures: dict[str, Any] = {}

    def url(self, user: str, direct: bool = False) -> str:
        """Return the broker's address for a user; the stage knows it."""
        raise NotImplementedError

    @property
    def ca(self) -> Path | None:
        """Return the CA that clients of the broker need, where it has a certificate; the stage knows it."""
        raise NotImplementedError

    @property
    def files(self) -> Files:
        """Return the data folder's files."""
        return Files.below(self.data)

    @property
    def ground(self) -> Any:
        """Return settings and keys as they are now."""
        return load_ground(self.data, {}, {})

    @property
    def view(self) -> StatusView:
        """Return what the daemon says on its board."""
        return StatusView(self.files.status)

    @property
    def conditions(self) -> set[str]:
        """Return the names of the open conditions."""
        return {row[0] for row in self.view.conditions()}

    def scaled(self, quick: float, full: float) -> float:
        """Return the size or duration that this run shall have."""
        return full if self.full else quick

    def worker_lines(self, name: str) -> Path:
        """Return the file that a worker writes down what it does in."""
        return self.folder / f"{name}.jsonl"

    def reports(self, name: str) -> list[dict[str, Any]]:
        """Return what a worker wrote down so far."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.worker_lines(name).read_text().split("\n")[:-1]]
        return []

    def versions_of(self, name: str) -> dict[str, int]:
        """Return the version of each service that a worker runs."""
        taken = (one for one in self.reports(name) if one.get("state") in ("applied", "deleted"))
        return {one["service"]: one["config_version"] or 0 for one in taken}

    def in_force(self, versions: Mapping[str, int | None]) -> bool:
        """Tell whether all workers run these versions, or newer ones."""
        for name in self.workers:
            runs = self.versions_of(name)
            if any(runs.get(service, 0) < (version or 0) for service, version in versions.items()):
                return False
        return True

    def confirmed(self) -> bool:
        """Tell whether the broker confirmed everything that the daemon knows."""
        rows = self.view.services()
        return bool(rows) and all(row.state in ("confirmed", "deleted") for row in rows)

    def connected(self) -> bool:
        """Tell whether the daemon that runs now said so itself, and is connected."""
        facts = self.view.daemon()
        return (
            self.daemon is not None and facts.get("pid") == self.daemon.pid and bool(facts.get("health"))
            and not self.conditions & {"broker-down", "broker-auth", "broker-tls"}
        )  # fmt: skip

    def stored_versions(self) -> dict[str, int]:
        """Return the version at which each service stands in the database."""
        connection = apsw.Connection(str(self.files.database))
        try:
            return dict(connection.execute("SELECT service, version FROM service_configs"))
        finally:
            connection.close(True)

    def cache_is_sealed(self) -> bool:
        """Tell whether the cache is sealed with the present key alone."""
        try:
            return cache_file.load(self.files.cache, self.ground.keys.hmac_keys()[:1]) is not None
        except CacheError:
            return False

    def cache_is_new(self) -> bool:
        """Tell whether the cache holds what is stored."""
        kept = cache_file.load(self.files.cache, self.ground.keys.hmac_keys())
        versions = {name: one.fingerprint.config_version for name, one in kept.sealed.items()} if kept else {}
        return versions == self.stored_versions()

    def retained_on(self, topic: str) -> bytes:
        """Return what the broker retains on one topic."""
        with RawClient(self.url("edge", direct=True), ca=self.ca) as listener:
            listener.subscribe(topic)
            return bytes(listener.wait_for_topic(topic).payload)

    def until(self, look: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """Look again and again until something is there.

        Raises: Unexpected.
        """
        end = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > end:
                raise Unexpected(f"not within {seconds:g} s: {what} (open: {sorted(self.conditions)})")
            time.sleep(0.025)
        return found

    def pass_time(self, seconds: float) -> None:
        """Let a fault last for a while: its duration is what is tried, nobody waits for anything."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def must(self, holds: object, what: str) -> None:
        """Fail the run unless something holds.

        Raises: Unexpected.
        """
        if not holds:
            raise Unexpected(what)
