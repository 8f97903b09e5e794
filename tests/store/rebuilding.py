"""A store with what a daemon keeps beside it, for tests of rebuilding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
from nacl.signing import SigningKey

from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.store import marks
from config_daemon.store.cache import Cache, Draft, Head, load
from config_daemon.store.choice import Order, Site, Source
from config_daemon.store.journal import Intent
from config_daemon.store.ports import Row
from config_daemon.store.rebuild import rebuild
from config_daemon.wire.messages import CONFIG_UPDATE, Envelope, update_body
from config_daemon.wire.sealing import canonical, seal
from tests.store.conftest import EPOCH, NOW, SEALER, FakeDefinition, FakeDefinitions, Store

HMAC = bytes(range(1, 33))
LATER = "2026-02-03T04:05:06.789Z"
KEY_ID = "0" * 32
SIGNER = SigningKey(bytes(32))


def message(
    service: str, version: int, config: Mapping[str, Any], *, deleted: bool = False, epoch: str = EPOCH
) -> Sealed:
    """Return a config as the daemon sealed it."""
    text = canonical(config)
    envelope = Envelope(
        service=service, config_epoch=epoch, config_version=version, generation=1, sequence=version, key_id=KEY_ID,
        issued_at=NOW, deleted=deleted,
    )  # fmt: skip
    fingerprint = Fingerprint(hashlib.sha256(text).digest(), version, epoch, 1, KEY_ID, deleted)
    return Sealed(seal(update_body(text, envelope), CONFIG_UPDATE, SIGNER), version, fingerprint, len(text))


class House:
    """A store, its cache and its marks."""

    cached: Cache

    def __init__(self, store: Store) -> None:
        self.store = store

    def numbers(self) -> marks.Numbers:
        known = marks.load(self.store.files.marks, (HMAC,)) or marks.Marks(1, 100, EPOCH, None)
        return marks.Numbers(self.store.files.marks, HMAC, known, known.reserved)

    def publish(
        self, extra: Mapping[str, Any] | None = None, instead: Mapping[str, Any] | None = None
    ) -> None:
        """Write the cache as it is after everything was published."""
        reader, sealed = self.store.reader(), {}
        changes = reader.changes(None)
        assert changes.services is not None
        for name, row in reader.read(changes.services).items():
            if isinstance(row, Row):
                config = (instead or {}).get(name) or FakeDefinition().effective(json.loads(row.text))
                sealed[name] = message(name, row.version, config)
            else:
                sealed[name] = message(name, row.version, {}, deleted=True)  # type: ignore[union-attr]
        for name, config in (extra or {}).items():
            sealed[name] = message(name, 1, config)
        reader.close()
        self.store.files.cache.unlink(missing_ok=True)
        draft = Draft(self.store.files.cache, Head(EPOCH, NOW, 1, 90, changes.place, 3, "hmac-test"), sealed)
        while draft.write(1000):
            pass
        draft.put_in_place(HMAC)
        cached = load(self.store.files.cache, (HMAC,))
        assert cached is not None
        self.cached = cached

    def unpublished(self, name: str, values: Mapping[str, Any] | None = None) -> None:
        """Store a service that the daemon never published, for want of a definition."""
        text = canonical(values or {"gain": 9}).decode()
        seal_ = SEALER.seal("service_configs", name, 1, EPOCH, text, NOW, "test")
        self.store.sql(
            "INSERT INTO service_configs VALUES (?,?,?,?,?,?,?,?)",
            (name, text, 1, EPOCH, NOW, "test", seal_, SEALER.key_id),
        )

    def lose_database(self) -> None:
        self.store.close()
        for path in self.store.files.folder.glob("config.db*"):
            path.unlink()

    def rebuild(self, source: Source, reason: str | None = None, **more: Any) -> Intent:
        """Rebuild as daemon and command do, by default also what is sound."""
        return rebuild(*self.orders(source, reason, **more))

    def orders(self, source: Source, reason: str | None = None, **more: Any) -> tuple[Site, Order]:
        """Return what a rebuild is asked with."""
        self.store.close()
        more = {"force": True, **more}
        sealer, fixed = more.pop("sealer", SEALER), more.pop("fixed", {})
        alive = more.pop("alive", lambda: None)
        site = Site(
            self.store.files, sealer, (HMAC,), self.numbers(), FakeDefinitions(), "f" * 64, fixed, alive
        )
        return site, Order(source, "test", reason, LATER, **more)

    def everything(self) -> dict[str, bytes]:
        """Return the content of all files but locks and marks; who reads in WAL mode may leave an empty `-wal`."""
        kept = [
            path
            for path in sorted(self.store.files.folder.rglob("*"))
            if path.is_file() and path.suffix != ".lock" and path.name not in ("marks.json", "config.db-shm")
        ]
        found = {str(path): path.read_bytes() for path in kept}
        return {name: content for name, content in found.items() if content or not name.endswith("-wal")}


def pages_of(path: Path, table: str) -> list[int]:
    """Return the leaf pages of a table or an index."""
    db = apsw.Connection(str(path))
    db.pragma("wal_checkpoint(TRUNCATE)")
    found = list(db.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,)))
    db.close()
    return [page for (page,) in found]


def garble_page(path: Path, page: int) -> None:
    """Overwrite one page of a database that nobody has open."""
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
