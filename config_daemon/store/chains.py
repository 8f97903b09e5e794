"""The audit chains: each row of `config_history` and `access_log` commits to every row before it.

Laws: a row is chained in the transaction that writes it, and never to a damaged end; what is read back is
returned as it is stored, also where it is no text.

There is no secret in a chain: who may write the file can write the chain anew from any row on. That, and a
removed end, shows only against a head that is kept elsewhere.

A row whose `service` is the empty text begins a new chain: the link before it is the first one again, and it
holds what it leaves behind as JSON: `left` (count and head of the chain that ends there), `broken` (how many
links did not fit then), `known` (the head that the daemon knew, where that was another one) and, in the
history, `versions` (of services that had reached higher ones than they begin with).

Source: docs/cli.md "audit".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apsw

from config_daemon.errors import StoreCorrupted
from config_daemon.store.connection import first, rows
from config_daemon.store.seals import FIRST_CHAIN, next_chain
from config_daemon.wire import values as portable

BEFORE_ALL = -(1 << 63)  # no row has a lower id
_LINK = re.compile(r"[0-9a-f]{64}")

Head = tuple[int, str]  # how many rows a chain has, and the link of the last one
EMPTY: Head = (0, FIRST_CHAIN)


class Table(NamedTuple):
    """A chained table: its columns, and which of them say when, who, and what a chain leaves behind."""

    name: str
    at: str
    by: str
    left: str
    columns: tuple[str, ...]


HISTORY = Table(
    "config_history", "changed_at", "changed_by", "old_value_json",
    ("service", "key", "old_value_json", "new_value_json", "changed_at", "changed_by", "change_reason", "version",
     "change_id"),
)  # fmt: skip
ACCESS = Table(
    "access_log", "timestamp", "user_id", "key",
    ("user_id", "action", "service", "key", "success", "reason", "timestamp"),
)  # fmt: skip


class Link(NamedTuple):
    """A stored row and its link; where the row holds bytes that are no text, all its values are bytes."""

    id: int
    chain: str
    values: dict[str, Any]

    def follows(self, previous: str) -> bool:
        """Tell whether the row's link is the one that follows `previous`."""
        try:
            return next_chain(previous, self.values) == self.chain
        except (ValueError, TypeError):  # values that no writer of ours could have written
            return False

    @property
    def begins(self) -> bool:
        """Tell whether the row begins a new chain."""
        return bool(self.values["service"] == "")


class Begun(NamedTuple):
    """Where a chain began anew: its first row, when and by whom, and what it left behind."""

    row: int
    at: str | None
    by: str | None
    left: Head
    broken: int
    known: Head | None


def end_of(db: apsw.Connection, table: Table) -> str:
    """Return the link that the next row follows.

    Raises: StoreCorrupted when the last row's link is damaged.
    """
    chain = first(db, f"SELECT chain FROM {table.name} ORDER BY id DESC LIMIT 1", FIRST_CHAIN)  # noqa: S608
    if not isinstance(chain, str) or not _LINK.fullmatch(chain):
        raise StoreCorrupted(
            f"the end of the database's {table.name} is damaged",
            suggestion="Run `config-daemon rebuild`, or restore a copy; nothing is written on top of this one.",
        )
    return chain


def append(db: apsw.Connection, table: Table, previous: str, row: Mapping[str, Any]) -> str:
    """Write a row that follows `previous`, inside a transaction; return its link."""
    return append_all(db, table, previous, [row])


def append_all(db: apsw.Connection, table: Table, previous: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows of which each follows the one before; return the last one's link, `previous` for none."""
    places = ",".join("?" * (len(table.columns) + 1))
    statement = f"INSERT INTO {table.name}({','.join(table.columns)}, chain) VALUES ({places})"  # noqa: S608
    linked = []
    for row in rows:
        previous = next_chain(previous, dict(row))
        linked.append((*(row[column] for column in table.columns), previous))
    db.executemany(statement, linked)
    return previous


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

    Raises: StoreCorrupted when the end of the log is damaged; ValueError for a text that is no Unicode.
    """
    values = (by, action, service or None, key, int(success), reason, at)  # an empty name would begin a chain
    append(db, ACCESS, end_of(db, ACCESS), dict(zip(ACCESS.columns, values, strict=True)))


def links(db: apsw.Connection, table: Table, after: int, limit: int = -1) -> Iterator[Link]:
    """Return the stored rows with higher ids than `after`, in order, as they are read from the disk."""
    statement = f"SELECT id, {{}} FROM {table.name} WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608
    names = ("chain", *table.columns)
    cursor = db.execute(statement.format(",".join(names)), (after, limit))
    while True:
        try:
            row = next(cursor, None)
        except UnicodeDecodeError:
            raw = ",".join(f"CAST({name} AS BLOB)" for name in names)
            row = rows(db, statement.format(raw), (after, 1))[0]
        if row is None:
            return
        after, chain, *values = row
        yield Link(after, shown(chain) or "", dict(zip(table.columns, values, strict=True)))


def begun_by(table: Table, link: Link) -> Begun:
    """Return what a row says that begins a chain; what is not by us says that nothing led to it."""
    at, by = shown(link.values[table.at]), shown(link.values[table.by])
    try:
        facts = portable.parse(link.values[table.left])
        known = facts.get("known")
        return Begun(link.id, at, by, _head(facts["left"]), facts["broken"], known and _head(known))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Begun(link.id, at, by, (-1, ""), -1, None)


def shown(value: Any) -> str | None:
    """Return a stored value as text that can be shown, whatever was put there."""
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _head(pair: Any) -> Head:
    count, head = pair
    return count, head
