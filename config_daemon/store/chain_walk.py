"""A whole audit chain, checked from its first row to its last.

Laws: both tables are seen in one snapshot, one row at a time; a row that does not fit is told and gone on
from, so that one alteration is one break; nothing is ever mended.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw

from config_daemon.store.chains import (
    ACCESS,
    BEFORE_ALL,
    EMPTY,
    HISTORY,
    Begun,
    Head,
    Link,
    Table,
    begun_by,
    links,
    shown,
)
from config_daemon.store.connection import connect, first, translated
from config_daemon.store.seals import FIRST_CHAIN

_BUSY_MS = 1000
_TOLD_EVERY = 1000


class Break(NamedTuple):
    """A row that does not follow from the row before (None: it is the first); `at` and `by` are its own words."""

    row: int
    before: int | None
    at: str | None
    by: str | None
    place: int  # its number in the table, counted from 1


class Checked(NamedTuple):
    """What a table showed; `forgiven` are the breaks that were there when a later chain was begun."""

    table: str
    rows: int
    head: Head
    begun: Begun | None
    breaks: tuple[Break, ...]
    forgiven: tuple[Break, ...]
    wanted: int | None  # the place of the head that was asked for, 0 before the first row
    given_up: Begun | None  # the beginning that names that head as one whose rows were lost


def verify(
    path: Path, wanted: str | None = None, told: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Checked, Checked]:
    """Check the history and the access log, and look for a head on the way.

    `told` hears now and then how many of how many rows are done. Raises: StoreError.
    """
    db = connect(path, _BUSY_MS)
    try:
        with translated(path):
            db.execute("BEGIN")
            total = sum(first(db, f"SELECT count(*) FROM {each.name}", 0) for each in (HISTORY, ACCESS))  # noqa: S608
            history = walked(db, HISTORY, wanted, lambda done: told(done, total))
            access = walked(db, ACCESS, wanted, lambda done: told(history.rows + done, total))
    finally:
        db.close(True)
    return history.checked(), access.checked()


def walked(
    db: apsw.Connection,
    table: Table,
    wanted: str | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> Walk:
    """Return a walk that took all rows of a table."""
    walk = Walk(table, wanted)
    for link in links(db, table, BEFORE_ALL):
        walk.take(link)
        if walk.rows % _TOLD_EVERY == 0:
            told(walk.rows)
    return walk


class Walk:
    """Follows one table's chains row by row."""

    def __init__(self, table: Table, wanted: str | None) -> None:
        self._table, self._wanted = table, wanted
        self._last: int | None = None
        self._begun: Begun | None = None
        self._forgiven: list[Break] = []
        self._place = 0 if wanted == FIRST_CHAIN else None
        self._given_up: Begun | None = None
        self.rows, self.head, self.breaks = 0, EMPTY, list[Break]()

    def take(self, link: Link) -> None:
        """Check the next row."""
        self.rows += 1
        led_to = not link.begins or self._begin(begun_by(self._table, link))
        count, previous = self.head
        if not led_to or not link.follows(previous):
            at, by = (shown(link.values[column]) for column in (self._table.at, self._table.by))
            self.breaks.append(Break(link.id, self._last, at, by, self.rows))
        self.head, self._last = (count + 1, link.chain), link.id
        if link.chain == self._wanted:
            self._place = self.rows

    def checked(self) -> Checked:
        """Return what the rows showed so far."""
        return Checked(self._table.name, self.rows, self.head, self._begun, tuple(self.breaks),
                       tuple(self._forgiven), self._place, self._given_up)  # fmt: skip

    def _begin(self, begun: Begun) -> bool:
        """Go on with a new chain; tell whether what it leaves behind is what is there."""
        fits = begun.left == self.head
        if begun.known is not None and begun.known[1] == self._wanted:
            self._given_up = begun
        if len(self.breaks) == begun.broken:  # where there are more, somebody made them since
            self._forgiven += self.breaks
            self.breaks = []
        self._begun, self.head = begun, EMPTY
        return fits
