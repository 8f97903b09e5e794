"""The services that are measured: identical dropped-in schema files, configs of about 1 KB, quick seeding.

Laws: values go in through the store's own writer, in one transaction; every service is one file and
one row, as an operator would have them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config_daemon.catalog.catalog import Catalog
from config_daemon.store.ground import load_ground
from config_daemon.store.ports import Edit, Written
from config_daemon.store.writer import SqliteWriter
from config_daemon.wire.messages import timestamp

TEXTS, TEXT_CHARACTERS = 8, 100
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A measured service",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "revision": {"type": "integer", "minimum": 0, "default": 0},
        "is_enabled": {"type": "boolean", "default": True},
        **{f"text_{i}": {"type": "string", "maxLength": 200, "default": ""} for i in range(TEXTS)},
    },
}


def names(count: int) -> list[str]:
    """Return service names, sorted."""
    return [f"bench-{number:06d}" for number in range(count)]


def drop_schemas(folder: Path, services: Iterable[str]) -> None:
    """Define the services: one file each, all the same."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(SCHEMA)
    for service in services:
        (folder / f"{service}.schema.json").write_text(text)


def config(service: str, revision: int, texts: int = TEXTS) -> dict[str, Any]:
    """Return a service's values: about 1 KB with all texts."""
    filler = f"{service} says something of some length, as a real config does; ".ljust(TEXT_CHARACTERS, "x")
    return {"revision": revision, **{f"text_{i}": filler for i in range(texts)}}


class Store:
    """The store of one data folder, written by this process."""

    def __init__(self, folder: Path) -> None:
        self._ground = load_ground(folder, {}, {})
        self._definitions = Catalog.load(self._ground.files.schemas)

    @contextmanager
    def writer(self, synchronous: str = "FULL") -> Iterator[SqliteWriter]:
        """Yield a writer; it opens its connection at its first commit and closes it in the end."""
        files = self._ground.files
        writer = SqliteWriter(
            files.database, self._ground.keys.row_sealer(), self._definitions, lock=files.store_lock,
            now=lambda: timestamp(time.time_ns() // 1_000_000), synchronous=synchronous,
        )  # fmt: skip
        try:
            yield writer
        finally:
            writer.close()

    def seed(self, services: Sequence[str], texts: int = TEXTS) -> None:
        """Create all services in one transaction."""
        with self.writer() as writer:
            writer.commit([_creation(service, texts) for service in services], by="bench")


def revise(writer: SqliteWriter, services: Iterable[str], revision: int) -> list[Written]:
    """Set one value of each service, in one transaction."""
    return writer.commit(
        [Edit(service, lambda stored: {**stored, "revision": revision}) for service in services], by="bench"
    )


def _creation(service: str, texts: int) -> Edit:
    return Edit(service, lambda _: config(service, 1, texts))
