"""The database, read from a copy that SQLite's own backup made; and the daemon's board of what it says.

Laws: the original is opened only by SQLite, and closed again at once.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import apsw


class Line(NamedTuple):
    """One line of history; values are JSON texts, a new one is empty where the key was removed."""

    service: str
    key: str
    old: str | None
    new: str
    version: int
    change: str


@dataclass
class Book:
    """What a database holds: rows and tombstones by service, items, history."""

    rows: dict[str, tuple[int, dict[str, Any] | None]] = field(default_factory=dict)
    items: dict[str, dict[str, str]] = field(default_factory=dict)
    history: list[Line] = field(default_factory=list)
    sound: str = "ok"

    def states(self) -> dict[str, dict[int, dict[str, str]]]:
        """Return each service's values (JSON texts by key) at each of its versions, folded from history alone."""
        folded: dict[str, dict[int, dict[str, str]]] = defaultdict(dict)
        now: dict[str, dict[str, str]] = defaultdict(dict)
        for line in self.history:
            state = now[line.service]
            state.pop(line.key, None)
            if line.new:
                state[line.key] = line.new
            folded[line.service][line.version] = dict(state)
        return folded


def copy(path: Path, beside: Path) -> Path:
    """Copy a database as SQLite does it.

    Raises: apsw.Error.
    """
    beside.unlink(missing_ok=True)
    source = apsw.Connection(
        f"file:{quote(str(path))}?mode=rw", flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    )
    source.set_busy_timeout(2000)
    target = apsw.Connection(str(beside))
    try:
        with target.backup("main", source, "main") as backup:
            backup.step(-1)
    finally:
        source.close(True)
        target.close(True)
    return beside


def read(path: Path, beside: Path) -> Book:
    """Read a copy of the store.

    Raises: apsw.Error when it cannot be read.
    """
    connection = apsw.Connection(str(copy(path, beside)), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return _read(connection)
    finally:
        connection.close(True)


def _read(connection: apsw.Connection) -> Book:
    book = Book(sound=str(connection.pragma("integrity_check")))
    for service, version, text in connection.execute(
        "SELECT service, version, config_json FROM service_configs"
    ):
        book.rows[service] = (version, json.loads(text))
    for service, version in connection.execute("SELECT service, version FROM deleted_services"):
        book.rows[service] = (version, None)
    for service, key, text in connection.execute("SELECT service, key, value_json FROM config_items"):
        book.items.setdefault(service, {})[key] = text
    # lines without a service begin a chain anew and change nothing
    told = connection.execute(
        "SELECT service, key, old_value_json, new_value_json, version, change_id FROM config_history"
        " WHERE service <> '' ORDER BY id"
    )
    book.history = [Line(*row) for row in told]
    return book


class Board:
    """The daemon's status.db as anybody may read it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def health(self) -> dict[str, Any]:
        """Return the daemon's present health as the board has it; nothing while there is none."""
        with contextlib.suppress(apsw.Error, ValueError):
            connection = apsw.Connection(
                f"file:{quote(str(self._path))}?mode=rw",
                flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI,
            )
            try:
                facts = {
                    key: json.loads(text) for key, text in connection.execute("SELECT key, value FROM daemon")
                }
                names = [name for (name,) in connection.execute("SELECT name FROM conditions")]
            finally:
                connection.close(True)
            return {
                "database_status": facts.get("database_status"), "operational_mode": facts.get("mode"),
                "event": facts.get("event"), "conditions": names,
            }  # fmt: skip
        return {}
