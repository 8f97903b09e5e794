"""The heads of both audit chains: checked as they grow, and begun anew when a database is adopted.

Laws: a check costs what is new since the last one, and never goes on past a row that does not fit; a chain
is begun anew only on a person's word, and its first row holds the head that it leaves behind.

A removed or altered row among those that were checked before is not looked at again here: `chain_walk.verify`
reads all.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from config_daemon.errors import StoreError
from config_daemon.store.chain_walk import Walk, walked
from config_daemon.store.chains import ACCESS, BEFORE_ALL, EMPTY, HISTORY, Head, Table, append, end_of, links
from config_daemon.store.connection import connect, first, snapshot, translated
from config_daemon.store.seals import FIRST_CHAIN
from config_daemon.wire.sealing import canonical

_MANY = 1000
_BUSY_MS = 0  # the daemon asks, and asks again with the next beacon


class Heads(NamedTuple):
    """Both chains' heads: how many rows, and the last row's link; 0 and 64 zeros for an empty chain."""

    history: Head
    access: Head


class HistoryRewritten(StoreError):
    """A chain does not extend what was known of it; `row` is the id that does not fit, None when rows are gone."""

    code = "HISTORY_REWRITTEN"
    suggestion = (
        "Keep a copy of the database and run `config-daemon audit verify` to see what is altered. If another"
        " database was put there on purpose, `config-daemon adopt --db` takes it for the true one."
    )

    def __init__(self, table: str, row: int | None, what: str) -> None:
        super().__init__(f"{table} was rewritten: {what}")
        self.table, self.row = table, row


def start_new_chains(
    db: apsw.Connection,
    *,
    action: str,
    by: str,
    at: str,
    reason: str | None,
    known: Heads | None,
    versions: Mapping[str, int] | None = None,
) -> Heads:
    """Begin both chains anew, inside a transaction, and return their heads; it is the access log's entry, too.

    `known` are the heads that the daemon knew: where the database's own are others, they are kept beside them.
    `versions` were reached by services that do not have them any more: they are not given again.
    """
    known = known or Heads(EMPTY, EMPTY)
    history = _left_behind(walked(db, HISTORY), known.history, versions)
    access = _left_behind(walked(db, ACCESS), known.access)
    change = ("", action, history, "", at, by, reason, 0, str(uuid.uuid4()))
    entry = (by, action, "", access, 1, reason, at)
    return Heads(_first_row(db, HISTORY, change), _first_row(db, ACCESS, entry))


def _left_behind(walk: Walk, known: Head, versions: Mapping[str, int] | None = None) -> str:
    left: dict[str, Any] = {"left": walk.head, "broken": len(walk.breaks)}
    if known not in (EMPTY, walk.head):
        left["known"] = known
    if versions:
        left["versions"] = versions
    return canonical(left).decode()


def _first_row(db: apsw.Connection, table: Table, values: tuple[Any, ...]) -> Head:
    return 1, append(db, table, FIRST_CHAIN, dict(zip(table.columns, values, strict=True)))


def present_heads(path: Path) -> Heads:
    """Return the heads as the database has them, unchecked: where nothing was known, there is nothing to extend.

    Raises: StoreError.
    """
    db = connect(path, _BUSY_MS)
    try:
        with translated(path), snapshot(db):
            return Heads(*((_count(db, table), end_of(db, table)) for table in (HISTORY, ACCESS)))
    finally:
        db.close(True)


def _count(db: apsw.Connection, table: Table) -> int:
    return int(first(db, f"SELECT count(*) FROM {table.name} WHERE id > ?", 0, (_before(db, table),)))  # noqa: S608


def _before(db: apsw.Connection, table: Table) -> int:
    """Return the id after which the present chain begins."""
    start = first(db, f"SELECT max(id) FROM {table.name} WHERE service = ''", None)  # noqa: S608
    return BEFORE_ALL if start is None else int(start) - 1


class _Place(NamedTuple):
    """A row that was checked: its id, its number in its chain, its link."""

    id: int
    number: int
    link: str


class Trail:
    """Knows how far both chains were checked, and checks what came after; with nothing known, all of them."""

    def __init__(self, path: Path, known: Heads | None) -> None:
        self._path, self._known = path, known or Heads(EMPTY, EMPTY)
        self._places: dict[str, _Place] = {}

    def heads(self) -> Heads:
        """Return the present heads, which extend what was known.

        Raises: HistoryRewritten; StoreError.
        """
        while (found := self.step(_MANY)) is None:
            pass
        return found

    def step(self, limit: int) -> Heads | None:
        """Check at most so many new rows of each chain; return the heads when no more are left, else None.

        Raises: HistoryRewritten; StoreError.
        """
        db = connect(self._path, _BUSY_MS)
        try:
            with translated(self._path):
                history = self._follow(db, HISTORY, self._known.history, limit)
                access = self._follow(db, ACCESS, self._known.access, limit)
        finally:
            db.close(True)
        return None if history is None or access is None else Heads(history, access)

    def _follow(self, db: apsw.Connection, table: Table, known: Head, limit: int) -> Head | None:
        place = self._places.get(table.name) or _place_of(db, table, known)
        if place.number and not _holds(db, table, place):
            raise HistoryRewritten(table.name, place.id, f"its row {place.id} is not what was known")
        for new, link in enumerate(links(db, table, place.id, limit), 1):
            if link.begins and place.number:
                raise HistoryRewritten(table.name, link.id, f"row {link.id} begins a chain nobody adopted")
            if not link.follows(place.link):
                raise HistoryRewritten(
                    table.name, link.id, f"row {link.id} does not follow from what was known"
                )
            place = self._places[table.name] = _Place(link.id, place.number + 1, link.chain)
            if new == limit:
                return None
        self._places[table.name] = place
        return place.number, place.link


def _place_of(db: apsw.Connection, table: Table, head: Head) -> _Place:
    """Return the row with a head's number; for an empty chain's, what stands before the first row."""
    before = _before(db, table)
    number, link = head
    if not number:
        return _Place(before, 0, FIRST_CHAIN)
    statement = f"SELECT id FROM {table.name} WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"  # noqa: S608
    row = first(db, statement, None, (before, number - 1))
    if row is None:
        raise HistoryRewritten(table.name, None, f"it has fewer rows than the {number} that were known")
    return _Place(row, number, link)


def _holds(db: apsw.Connection, table: Table, place: _Place) -> bool:
    statement = f"SELECT CAST(chain AS BLOB) FROM {table.name} WHERE id = ?"  # noqa: S608
    return bool(first(db, statement, None, (place.id,)) == place.link.encode())
