"""What a daemon leaves behind on a folder, and how a database is lost."""

from __future__ import annotations

import json
from typing import Any

from config_daemon.catalog.catalog import Catalog
from config_daemon.store import marks
from config_daemon.store.cache import Draft, Head
from config_daemon.store.ground import load_ground
from config_daemon.store.ports import Row, Tombstone
from config_daemon.store.sqlite import SqliteReader
from tests.cli.conftest import Cli
from tests.store.rebuilding import message


def published(cli: Cli, **fixed: dict[str, Any]) -> None:
    """Leave the cache and the marks that a daemon leaves; `fixed` is what `.env` gives services."""
    ground = load_ground(cli.folder, {}, {})
    reader, catalog = (
        SqliteReader(ground.files.database, ground.keys.row_sealer()),
        Catalog.load(ground.files.schemas),
    )
    facts, changes = reader.facts(), reader.changes(None)
    assert changes.services is not None
    sealed = {}
    for name, row in reader.read(changes.services).items():
        definition = catalog.get(name)
        assert definition is not None
        stored = {**json.loads(row.text), **fixed.get(name, {})} if isinstance(row, Row) else {}
        config = definition.effective(stored) if isinstance(row, Row) else {}
        assert isinstance(row, Row | Tombstone)
        sealed[name] = message(
            name, row.version, config, deleted=isinstance(row, Tombstone), epoch=facts.epoch
        )
    reader.close()
    hmac = ground.keys.hmac_key()[1]
    head = Head(facts.epoch, "2026-01-02T03:04:05.678Z", 1, 900, changes.place, 1, "hmac")
    draft = Draft(ground.files.cache, head, sealed)
    while draft.write(1000):
        pass
    draft.put_in_place(hmac)
    known = marks.Marks(1, 1000, facts.epoch, changes.place)
    marks.Numbers(ground.files.marks, hmac, known, 1000).write()


def lose(cli: Cli) -> None:
    for path in cli.folder.glob("config.db*"):
        path.unlink()
