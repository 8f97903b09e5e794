"""What there is of a service before a change is built upon it.

Laws: a row that we did not seal in this epoch is no ground to build on, unless it is being adopted; a
version counts on from the highest that the service ever had, whatever somebody did to its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import apsw

from config_daemon.errors import InvalidConfig, StoreCorrupted
from config_daemon.store.connection import first
from config_daemon.store.ports import BadRow, Row, Tombstone
from config_daemon.store.sqlite import VERSION, live_rows, tombstones
from config_daemon.wire import values as portable

if TYPE_CHECKING:
    from config_daemon.store.seals import RowSealer

# what services had reached before a rebuild, from the rows that begin a history; a damaged one says nothing
REACHED = (
    "SELECT said.key AS service, max(said.value) AS version FROM config_history begun, json_each("
    "CASE WHEN json_valid(begun.old_value_json) THEN begun.old_value_json ELSE '{}' END, '$.versions') said"
    " WHERE begun.service = '' AND said.type = 'integer' GROUP BY said.key"
)


class Stored(NamedTuple):
    """One service's values and where its count of versions stands; `last` is the highest that it ever had."""

    kind: Literal[
        "row", "tombstone", "lost", "none"
    ]  # lost: history knows it, and nothing says it was deleted
    values: dict[str, Any]
    version: int  # of the row, 0 without one
    last: int


def find(connection: apsw.Connection, sealer: RowSealer, service: str, epoch: str | None) -> Stored:
    """Return what there is of a service; the epoch is that of the database, None to take rows as they are.

    Raises: StoreCorrupted when the row was not sealed by us in this epoch, InvalidConfig when its text
    holds no values.
    """
    statement = f"SELECT {VERSION} FROM config_history WHERE service = ? ORDER BY id DESC LIMIT 1"  # noqa: S608
    known: int = first(connection, statement, 0, (service,))
    last = max(known, _sane(reached(connection, service)))
    row = live_rows(connection, sealer, [service]).get(service)
    if row is not None:
        _refuse_altered(row, epoch)
        row = row.row if isinstance(row, BadRow) else row
        assert isinstance(row, Row)
        return Stored("row", parse_stored(service, row.text), row.version, max(_sane(row.version), last))
    gone = tombstones(connection, sealer, [service]).get(service)
    if gone is not None:
        _refuse_altered(gone, epoch)
        version = gone.row.version if isinstance(gone, BadRow) else gone.version
        return Stored("tombstone", {}, 0, max(_sane(version), last))
    return Stored("lost" if known else "none", {}, 0, last)


def reached(connection: apsw.Connection, service: str) -> int:
    """Return the version that a service had reached before a rebuild that lost it, 0 for none."""
    statement = f"SELECT version FROM ({REACHED}) WHERE service = ?"  # noqa: S608
    return int(first(connection, statement, 0, (service,)))


def _refuse_altered(found: Row | Tombstone | BadRow, epoch: str | None) -> None:
    if epoch is not None and (isinstance(found, BadRow) or found.epoch != epoch):
        raise StoreCorrupted(
            f"the row of {found.service} was altered outside config-daemon; its seal does not fit",
            suggestion=f"Run `config-daemon adopt {found.service}` to see the difference and to seal it.",
        )


def _sane(version: int) -> int:
    """Return a version that can be counted on from, 0 for one that somebody made up."""
    return version if 0 < version < portable.MAX_INTEGER else 0


def parse_stored(service: str, text: str) -> dict[str, Any]:
    """Parse a row's stored values.

    Raises: InvalidConfig when they are no JSON object, or hold what could not be walked or written again.
    """
    try:
        values = portable.parse(text)
    except portable.BadJson as error:
        raise InvalidConfig(
            f"the stored config of {service} is not JSON: {error}",
            suggestion=f"Mend the row, then run `config-daemon adopt {service}`.",
        ) from error
    if not isinstance(values, dict):
        raise InvalidConfig(
            f"the stored config of {service} is no JSON object", suggestion="Mend the row, then adopt it."
        )
    # half a character is spelled with an escape, and depth takes brackets: all others need no second walk
    doubtful = "\\u" in text or text.count("{") + text.count("[") > portable.MAX_DEPTH
    problems = portable.problems(values) if doubtful else ()
    if problems:
        raise InvalidConfig(
            f"the stored config of {service} is not valid: {problems[0].message}", contexts=problems
        )
    return values
