"""The audit chains: each row of `config_history` and `access_log` commits to every row before it.

Laws: a row is chained in the transaction that writes it, and never to a damaged end; whoever checks only
reads; to check what extends a known head costs what is new, and to check everything holds one row at a time.

There is no secret in a chain: who may write the file can write the chain anew from any row on. That, and a
removed end, shows only against a head that is kept elsewhere.

A row whose `service` is the empty text begins a new chain: the link before it is the first one again, its
count is 1, and it holds what it leaves behind (`left`: count and head of the chain that ends there, `broken`:
how many links did not fit in it, `known`: what the daemon knew where that was something else).

Sources: DSSE v1 (pre-authentication encoding), docs/cli.md "audit".
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from config_daemon.errors import StoreCorrupted, StoreError
from config_daemon.store.seals import FIRST_CHAIN, next_chain
from config_daemon.store.sqlite import connect, first, rows, translated
from config_daemon.wire import values as portable
from config_daemon.wire.sealing import canonical

_CHAIN = re.compile(r"[0-9a-f]{64}")
_BEFORE_ALL = -(1 << 63)  # SQLite's lowest id
_NEW_MANY = 1000
_NEW_BUSY_MS = 100  # the daemon asks, and can ask again
_WHOLE_BUSY_MS = 1000
_TOLD_EVERY = 1000

Head = tuple[int, str]  # how many rows a chain has, and the last row's link


class Table(NamedTuple):
    """A chained table: its name for people, who and when, what the first row of a chain holds, its columns."""

    name: str
    words: str
    at: str
    by: str
    left: str
    columns: tuple[str, ...]


HISTORY = Table(
    "config_history", "history", "changed_at", "changed_by", "old_value_json",
    ("service", "key", "old_value_json", "new_value_json", "changed_at", "changed_by", "change_reason", "version",
     "change_id"),
)  # fmt: skip
ACCESS = Table(
    "access_log", "access log", "timestamp", "user_id", "key",
    ("user_id", "action", "service", "key", "success", "reason", "timestamp"),
)  # fmt: skip


class Heads(NamedTuple):
    """Both chains' heads; an empty chain has count 0 and 64 zeros."""

    history: Head
    access: Head


class HistoryRewritten(StoreError):
    """A chain does not extend what was known of it; `row` is the first id that does not fit, None for no row."""

    code = "HISTORY_REWRITTEN"
    suggestion = (
        "Keep a copy of the database, and run `config-daemon audit verify` to see what is altered. If an older"
        " database was put back on purpose, `config-daemon adopt --db` takes it for the true one."
    )

    def __init__(self, table: str, row: int | None, message: str) -> None:
        super().__init__(message)
        self.table, self.row = table, row


class Begun(NamedTuple):
    """Where a chain began anew: its first row, why, when and by whom, and what it left behind."""

    row: int
    at: str | None
    by: str | None
    left: Head
    broken: int
    known: Head | None


class Break(NamedTuple):
    """A row that does not follow from the row before (None: it is the first); `at` and `by` are its own words."""

    row: int
    before: int | None
    at: str | None
    by: str | None
    place: int  # the how-manieth row of the table it is


class Checked(NamedTuple):
    """What a whole table showed; `forgiven` are breaks that were there when a later chain was begun."""

    table: str
    rows: int
    head: Head
    begun: Begun | None
    breaks: tuple[Break, ...]
    forgiven: tuple[Break, ...]
    wanted: int | None  # the place of the head that was asked for
    given_up: Begun | None  # the chain whose beginning names that head as known, and lost


# writing --------------------------------------------------------------------------------------------


def end_of(db: apsw.Connection, table: Table) -> str:
    """Return the link that the next row follows.

    Raises: StoreCorrupted when the last row's is damaged.
    """
    chain = first(db, f"SELECT chain FROM {table.name} ORDER BY id DESC LIMIT 1", FIRST_CHAIN)  # noqa: S608
    if _sound(chain) != chain:
        raise StoreCorrupted(
            f"the database's {table.words} is damaged",
            suggestion="Restore the database from a backup; nothing is written on top of this one.",
        )
    return str(chain)


def append(db: apsw.Connection, table: Table, previous: str, row: Mapping[str, Any]) -> str:
    """Write a row that follows `previous`, inside a transaction; return its own link."""
    chain = next_chain(previous, dict(row))
    places = ",".join("?" * (len(table.columns) + 1))
    statement = f"INSERT INTO {table.name}({','.join(table.columns)}, chain) VALUES ({places})"  # noqa: S608
    db.execute(statement, (*(row[column] for column in table.columns), chain))
    return chain


def append_access(
    db: apsw.Connection,
    *,
    by: str | None,
    action: str,
    at: str,
    service: str | None = None,
    key: str | None = None,
    success: bool = True,
    reason: str | None = None,
) -> None:
    """Write an entry of the access log, inside a transaction.

    Raises: StoreCorrupted when the log's end is damaged.
    """
    row = _access(by, action, at, service or None, key, success, reason)  # an empty one would begin a chain
    append(db, ACCESS, end_of(db, ACCESS), row)


def start_new_chains(
    db: apsw.Connection, *, action: str, by: str, at: str, reason: str | None, known: Heads | None
) -> Heads:
    """Begin both chains anew, inside a transaction; return their heads. In the access log this is the entry.

    `known` are the heads that the daemon knew: they are kept where the database's own are others.
    """
    history, access = (
        canonical(_left_behind(_walked(db, table), None if known is None else known[number])).decode()
        for number, table in enumerate((HISTORY, ACCESS))
    )
    change = {
        "service": "", "key": action, "old_value_json": history, "new_value_json": "", "changed_at": at,
        "changed_by": by, "change_reason": reason, "version": 0, "change_id": str(uuid.uuid4()),
    }  # fmt: skip
    return Heads(
        (1, append(db, HISTORY, FIRST_CHAIN, change)),
        (1, append(db, ACCESS, FIRST_CHAIN, _access(by, action, at, "", access, True, reason))),
    )


def _access(
    by: str | None, action: str, at: str, service: str | None, key: str | None, success: bool, reason: str | None
) -> dict[str, Any]:
    values = (by, action, service, key, int(success), reason, at)
    return dict(zip(ACCESS.columns, values, strict=True))


def _left_behind(walk: _Walk, known: Head | None) -> dict[str, Any]:
    left: dict[str, Any] = {"left": walk.head, "broken": len(walk.breaks)}
    return left if known is None or known == walk.head else {**left, "known": known}


# checking all ---------------------------------------------------------------------------------------


def verify(
    path: Path, wanted: str | None = None, told: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Checked, Checked]:
    """Check both tables from their first row, in one snapshot, and look for a head on the way.

    `told` hears now and then how many of how many rows are done. Raises: StoreError.
    """
    db = connect(path, _WHOLE_BUSY_MS)
    try:
        with translated(path):
            db.execute("BEGIN")
            total = sum(first(db, f"SELECT count(*) FROM {each.name}", 0) for each in (HISTORY, ACCESS))  # noqa: S608
            history = _walked(db, HISTORY, wanted, lambda done: told(done, total))
            before = history.rows
            access = _walked(db, ACCESS, wanted, lambda done: told(before + done, total))
    finally:
        db.close(True)
    return history.checked(), access.checked()


def _walked(
    db: apsw.Connection, table: Table, wanted: str | None = None, told: Callable[[int], None] = lambda done: None
) -> _Walk:
    walk = _Walk(table, wanted)
    for read in _rows_after(db, table, _BEFORE_ALL):
        walk.take(read)
        if walk.rows % _TOLD_EVERY == 0:
            told(walk.rows)
    return walk


class _Read(NamedTuple):
    """A stored row; where its bytes are no text, all its values are bytes, which no link fits."""

    id: int
    values: dict[str, Any]
    chain: Any


class _Walk:
    """Follows one table's chain from its first row; after a row that does not fit it goes on from that row."""

    def __init__(self, table: Table, wanted: str | None) -> None:
        self._table, self._wanted = table, wanted
        self._last: int | None = None
        self.rows = 0
        self.head: Head = (0, FIRST_CHAIN)
        self.begun: Begun | None = None
        self.breaks: list[Break] = []
        self.forgiven: list[Break] = []
        self.place = 0 if wanted == FIRST_CHAIN else None
        self.given_up: Begun | None = None

    def take(self, read: _Read) -> None:
        self.rows += 1
        count, link = self.head
        fits = True
        begun = _begun(self._table, read)
        if begun is not None:
            fits = begun.left == self.head
            self._begin(begun)
            count, link = 0, FIRST_CHAIN
        if not fits or _link(link, read.values) != read.chain:
            at, by = (_shown(read.values[column]) for column in (self._table.at, self._table.by))
            self.breaks.append(Break(read.id, self._last, at, by, self.rows))
        self.head, self._last = (count + 1, _sound(read.chain)), read.id
        if self._wanted is not None and read.chain == self._wanted:
            self.place = self.rows

    def _begin(self, begun: Begun) -> None:
        self.begun = begun
        if begun.known is not None and begun.known[1] == self._wanted:
            self.given_up = begun
        if len(self.breaks) == begun.broken:  # more than that were made since
            self.forgiven += self.breaks
            self.breaks = []

    def checked(self) -> Checked:
        return Checked(self._table.name, self.rows, self.head, self.begun, tuple(self.breaks),
                       tuple(self.forgiven), self.place, self.given_up)  # fmt: skip


def _rows_after(db: apsw.Connection, table: Table, last: int, limit: int = -1) -> Iterator[_Read]:
    statement = f"SELECT id, {{}} FROM {table.name} WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608
    names = ("chain", *table.columns)
    cursor = db.execute(statement.format(",".join(names)), (last, limit))
    while True:
        try:
            row = next(cursor, None)
        except UnicodeDecodeError:
            raw = ",".join(f"CAST({name} AS BLOB)" for name in names)
            row = rows(db, statement.format(raw), (last, 1))[0]
        if row is None:
            return
        last, chain, *values = row
        yield _Read(last, dict(zip(table.columns, values, strict=True)), _shown(chain))


def _begun(table: Table, read: _Read) -> Begun | None:
    """Return what a row says that begins a chain, None for any other."""
    if read.values["service"] != "":
        return None
    at, by = (_shown(read.values[column]) for column in (table.at, table.by))
    try:
        facts = portable.parse(read.values[table.left])
        known = facts.get("known")
        return Begun(read.id, at, by, _head(facts["left"]), facts["broken"], known and _head(known))
    except (ValueError, TypeError, KeyError, AttributeError):  # not by us: nothing can have led to it
        return Begun(read.id, at, by, (-1, ""), -1, None)


def _head(pair: Any) -> Head:
    count, head = pair
    return count, head


def _link(previous: str, values: dict[str, Any]) -> str | None:
    try:
        return next_chain(previous, values)
    except (ValueError, TypeError):  # values that no writer of ours could have written
        return None


def _sound(chain: Any) -> str:
    """Return a link that something can follow; the first one for what is none."""
    return chain if isinstance(chain, str) and _CHAIN.fullmatch(chain) else FIRST_CHAIN


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


# checking what is new -------------------------------------------------------------------------------


class _Place(NamedTuple):
    id: int
    count: int
    head: str


class Trail:
    """Knows how far both chains were checked, and checks what came after; with nothing known, the whole chains."""

    def __init__(self, path: Path, known: Heads | None) -> None:
        self._path = path
        self._known = known or Heads((0, FIRST_CHAIN), (0, FIRST_CHAIN))
        self._places: dict[str, _Place] = {}

    def heads(self) -> Heads:
        """Return the present heads, which extend what was known.

        Raises: HistoryRewritten; StoreError.
        """
        while (found := self.step(_NEW_MANY)) is None:
            pass
        return found

    def step(self, limit: int) -> Heads | None:
        """Check at most so many new rows of each chain; return the heads once none is left, None before.

        Raises: HistoryRewritten; StoreError.
        """
        db = connect(self._path, _NEW_BUSY_MS)
        try:
            with translated(self._path):
                history = self._follow(db, HISTORY, self._known.history, limit)
                access = self._follow(db, ACCESS, self._known.access, limit)
        finally:
            db.close(True)
        return None if history is None or access is None else Heads(history, access)

    def _follow(self, db: apsw.Connection, table: Table, known: Head, limit: int) -> Head | None:
        place = self._places.get(table.name)
        if place is None:
            place = _known_place(db, table, known)
        elif place.count and not _holds(db, table, place):
            raise HistoryRewritten(
                table.name, place.id, f"{table.name} does not hold its row {place.id} any more as it was checked"
            )
        count = 0
        for count, read in enumerate(_rows_after(db, table, place.id, limit), 1):  # noqa: B007 - how many came
            if place.count and read.values["service"] == "":
                raise HistoryRewritten(
                    table.name, read.id, f"in {table.name} a new chain begins at row {read.id}, and nobody adopted it"
                )
            if _link(place.head, read.values) != read.chain:
                raise HistoryRewritten(
                    table.name, read.id, f"row {read.id} of {table.name} does not follow from what was known"
                )
            place = self._places[table.name] = _Place(read.id, place.count + 1, str(read.chain))
        self._places[table.name] = place
        return (place.count, place.head) if count < limit else None


def _known_place(db: apsw.Connection, table: Table, known: Head) -> _Place:
    """Return where the row with a known head is; before the present chain's first row where nothing is known."""
    start = first(db, f"SELECT max(id) FROM {table.name} WHERE service = ''", None)  # noqa: S608
    before = _BEFORE_ALL if start is None else start - 1
    count, head = known
    if not count:
        return _Place(before, 0, FIRST_CHAIN)
    statement = f"SELECT id FROM {table.name} WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"  # noqa: S608
    row = first(db, statement, None, (before, count - 1))
    if row is None:
        raise HistoryRewritten(table.name, None, f"{table.name} has fewer than the {count} rows that were known")
    place = _Place(row, count, head)
    if not _holds(db, table, place):
        raise HistoryRewritten(
            table.name, row, f"row {row} of {table.name} is not the one that was known as number {count}"
        )
    return place


def _holds(db: apsw.Connection, table: Table, place: _Place) -> bool:
    statement = f"SELECT CAST(chain AS BLOB) FROM {table.name} WHERE id = ?"  # noqa: S608
    return bool(first(db, statement, None, (place.id,)) == place.head.encode())
