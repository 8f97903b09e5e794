"""status.db: what the daemon knows, for the processes that must not ask it.

Laws: it may be deleted at any time and is then made anew; it holds no secret and no credential; it is
written after the fact, without syncing, and never decides anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from config_daemon.store.files import SHARED_MODE

FORMAT = 3
CACHE_KIB = 256  # written once, and hardly ever again soon
KEPT_EVENTS = 1000
KEPT_PENDING = 50_000  # statements, while somebody else holds the file

_TABLES = """
CREATE TABLE IF NOT EXISTS daemon(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS services(service TEXT PRIMARY KEY, config_version INTEGER, effective_json TEXT,
    sources_json TEXT, generation INTEGER, sequence INTEGER, body_sha256 TEXT, state TEXT, state_since TEXT,
    error_json TEXT);
CREATE TABLE IF NOT EXISTS env_locks(service TEXT, key TEXT, file TEXT, line INTEGER, PRIMARY KEY(service, key));
CREATE TABLE IF NOT EXISTS workers(worker TEXT, service TEXT, expected INTEGER, status_json TEXT, verified INTEGER,
    key_id TEXT, boot INTEGER, n INTEGER, seen_at TEXT, presence TEXT, presence_at TEXT, state TEXT, reason TEXT,
    response_time_ms INTEGER, applied_ms INTEGER, PRIMARY KEY(worker, service));
CREATE TABLE IF NOT EXISTS convergence(service TEXT PRIMARY KEY, body_json TEXT);
CREATE TABLE IF NOT EXISTS service_status(service TEXT PRIMARY KEY, status TEXT, last_check TEXT,
    response_time_ms INTEGER, error_message TEXT, connection_details TEXT, dependencies TEXT);
CREATE TABLE IF NOT EXISTS enrollments(worker TEXT PRIMARY KEY, request_json TEXT, fingerprint TEXT,
    proof_ok INTEGER, seen_at TEXT);
CREATE TABLE IF NOT EXISTS conditions(name TEXT, subject TEXT, severity TEXT, since TEXT, detail TEXT,
    remedy TEXT, PRIMARY KEY(name, subject));
CREATE TABLE IF NOT EXISTS answers(request_id TEXT PRIMARY KEY, kind TEXT, state TEXT, at TEXT, result_json TEXT);
CREATE TABLE IF NOT EXISTS samples(metric TEXT, at TEXT, value REAL);
CREATE TABLE IF NOT EXISTS events(at TEXT, level TEXT, name TEXT, facts_json TEXT);
"""


_TELL = "INSERT OR REPLACE INTO services VALUES (?,?,?,?,?,?,?,?,?,?)"
_GO_ON = (
    "UPDATE services SET state=coalesce(nullif(?, ''), state), state_since=?, generation=coalesce(?, generation),"
    " sequence=coalesce(?, sequence), body_sha256=coalesce(?, body_sha256) WHERE service=?"
)


class ServiceStatus(NamedTuple):
    """One service as the daemon sees it; a row of `services`."""

    service: str
    config_version: int
    effective_json: str
    sources_json: str
    generation: int
    sequence: int
    body_sha256: str
    state: str
    state_since: str
    error_json: str


class _Progress(NamedTuple):
    """What became of a service's row since it was told; None and an empty state keep what stands there."""

    state: str
    state_since: str
    generation: int | None = None
    sequence: int | None = None
    body_sha256: str | None = None

    def of(self, row: ServiceStatus) -> ServiceStatus:
        """Return the row as it is by now."""
        kept = {name: value for name, value in self._asdict().items() if value not in (None, "")}
        return row._replace(**kept)


class StatusBoard:
    """The daemon's side: gathers changes and writes them in one transaction at a time, the rows of services last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None
        self._pending: list[tuple[str, tuple[Any, ...]]] = []
        self._rows: dict[str, Callable[[], ServiceStatus]] = {}
        self._progress: dict[str, _Progress] = {}
        self._lost = False  # something that was told is not in the file

    def service(self, service: str, row: Callable[[], ServiceStatus]) -> None:
        """Note what a service's state is now; the row is made when it is written, not while others wait."""
        self._rows[service] = row
        self._progress.pop(service, None)

    def confirmed(
        self, service: str, generation: int, sequence: int, body_sha256: str, since: str, state: str
    ) -> None:
        """Note that the broker holds a service's last message; with an empty `state` it keeps the one it has."""
        self._progress[service] = _Progress(state, since, generation, sequence, body_sha256)

    def state(self, service: str, state: str, since: str) -> None:
        """Note why a service is not confirmed."""
        before = self._progress.get(service, _Progress("", ""))
        self._progress[service] = before._replace(state=state, state_since=since)

    def note(self, statement: str, bindings: tuple[Any, ...]) -> None:
        """Note any other change."""
        self._pending.append((statement, bindings))

    def forget(self, service: str) -> None:
        """Note that a service is no more."""
        self._rows.pop(service, None)
        self._progress.pop(service, None)
        self._pending.append(("DELETE FROM services WHERE service = ?", (service,)))

    def daemon(self, **facts: Any) -> None:
        """Note facts about the daemon itself; values are stored as JSON."""
        for key, value in facts.items():
            self._pending.append(("INSERT OR REPLACE INTO daemon VALUES (?, ?)", (key, json.dumps(value))))

    def conditions(self, rows: Iterable[tuple[str, str, str, str, str, str]]) -> None:
        """Replace the open conditions: (name, subject, severity, since, detail, remedy)."""
        self._pending.append(("DELETE FROM conditions", ()))
        self._pending.extend(("INSERT OR REPLACE INTO conditions VALUES (?,?,?,?,?,?)", row) for row in rows)

    def env_locks(self, rows: Iterable[tuple[str, str, str, int]]) -> None:
        """Replace the places where `.env` fixes a value: (service, key, file, line)."""
        self._pending.append(("DELETE FROM env_locks", ()))
        self._pending.extend(("INSERT OR REPLACE INTO env_locks VALUES (?,?,?,?)", row) for row in rows)

    def answer(self, request_id: str, kind: str, state: str, at: str, result: Mapping[str, Any]) -> None:
        """Note the outcome of a request."""
        self._pending.append(
            (
                "INSERT OR REPLACE INTO answers VALUES (?,?,?,?,?)",
                (request_id, kind, state, at, json.dumps(result)),
            )
        )

    def event(self, at: str, level: str, name: str, facts: Mapping[str, Any]) -> None:
        """Note that something happened; the last thousand are kept."""
        self._pending.append(
            ("INSERT INTO events VALUES (?,?,?,?)", (at, level, name, json.dumps(facts, default=str)))
        )
        self._pending.append(
            ("DELETE FROM events WHERE rowid <= (SELECT max(rowid) FROM events) - ?", (KEPT_EVENTS,))
        )

    @property
    def pending(self) -> int:
        """Return how many changes wait to be written."""
        return len(self._pending) + len(self._rows) + len(self._progress)

    def flush(self) -> bool:
        """Write what was noted; True when what was told before is not in the file any more.

        What somebody's lock keeps out waits for the next time, a file that cannot be used is made anew,
        and what cannot be written at all is dropped: nothing here stops the daemon.
        """
        if not self.pending:
            return False
        try:
            return self._write()
        except (apsw.BusyError, apsw.LockedError):
            if self.pending <= KEPT_PENDING:
                return False
        except (apsw.Error, OSError):
            pass
        self.close()
        self._lost = True
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._write()
        except (apsw.Error, OSError):
            self.close()
            self._clear()
            return False

    def reset(self) -> None:
        """Forget what an earlier daemon said about services and conditions."""
        self._rows.clear()
        self._progress.clear()
        for statement in ("DELETE FROM services", "DELETE FROM conditions", "DELETE FROM env_locks"):
            self._pending.append((statement, ()))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close(True)
            self._connection = None

    def _write(self) -> bool:
        connection = self._open()
        with connection:
            for statement, some in groupby(self._pending, key=itemgetter(0)):
                connection.executemany(statement, (_row(bindings) for _, bindings in some))
            connection.executemany(_TELL, (_row(self._told(service)) for service in self._rows))
            news = ((service, one) for service, one in self._progress.items() if service not in self._rows)
            connection.executemany(_GO_ON, (_row((*one, service)) for service, one in news))
        self._clear()
        lost, self._lost = self._lost, False
        return lost

    def _told(self, service: str) -> ServiceStatus:
        row, progress = self._rows[service](), self._progress.get(service)
        return row if progress is None else progress.of(row)

    def _clear(self) -> None:
        self._pending.clear()
        self._rows.clear()
        self._progress.clear()

    def _open(self) -> apsw.Connection:
        if self._connection is not None and not self._path.exists():
            self.close()
        if self._connection is None:
            connection = apsw.Connection(str(self._path))
            self._connection = connection
            self._path.chmod(SHARED_MODE)
            connection.set_busy_timeout(50)
            connection.pragma("journal_mode", "WAL")
            connection.pragma("synchronous", "OFF")
            connection.pragma("cache_size", -CACHE_KIB)
            version = connection.pragma("user_version")
            if version not in (0, FORMAT):
                raise apsw.CorruptError("another format")
            self._lost = self._lost or version == 0
            connection.execute(_TABLES)
            connection.pragma("user_version", FORMAT)
        return self._connection


def _row(bindings: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(map(_as_text, bindings))


def _as_text(value: Any) -> Any:
    """Return a value as it can be stored: the name of a file may hold bytes that are no text."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


class StatusView:
    """Everybody else's side: reads what the daemon said, and never creates the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def daemon(self) -> dict[str, Any]:
        """Return the daemon's facts; empty when there are none."""
        return {key: json.loads(value) for key, value in self.read("SELECT key, value FROM daemon")}

    def services(self) -> list[ServiceStatus]:
        """Return all services, by name."""
        return [ServiceStatus(*row) for row in self.read("SELECT * FROM services ORDER BY service")]

    def service(self, name: str) -> ServiceStatus | None:
        """Return one service, None when the daemon does not know it."""
        rows = self.read("SELECT * FROM services WHERE service = ?", (name,))
        return ServiceStatus(*rows[0]) if rows else None

    def conditions(self) -> list[tuple[str, str, str, str, str, str]]:
        """Return the open conditions: (name, subject, severity, since, detail, remedy)."""
        return self.read("SELECT * FROM conditions ORDER BY severity, name, subject")

    def env_locks(self, service: str) -> dict[str, tuple[str, int]]:
        """Return where `.env` fixes a service's values: key → (file, line)."""
        found = self.read("SELECT key, file, line FROM env_locks WHERE service = ?", (service,))
        return {key: (file, line) for key, file, line in found}

    def env_lock(self, service: str, key: str) -> tuple[str, int] | None:
        """Return (file, line) where `.env` fixes a key, or an object that it is in or that it is."""
        for fixed, place in self.env_locks(service).items():
            if key == fixed or key.startswith(f"{fixed}.") or fixed.startswith(f"{key}."):
                return place
        return None

    def answer(self, request_id: str) -> tuple[str, dict[str, Any]] | None:
        """Return (state, result) of a request, None while there is none."""
        rows = self.read("SELECT state, result_json FROM answers WHERE request_id = ?", (request_id,))
        return (rows[0][0], json.loads(rows[0][1])) if rows else None

    def events(self, limit: int = KEPT_EVENTS) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Return the last events, oldest first: (at, level, name, facts)."""
        rows = self.read(
            "SELECT at, level, name, facts_json FROM events ORDER BY rowid DESC LIMIT ?", (limit,)
        )
        return [(at, level, name, json.loads(facts)) for at, level, name, facts in reversed(rows)]

    def read(self, statement: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a query, none where the file cannot be read."""
        if not self._path.exists():
            return []
        try:
            connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.set_busy_timeout(200)
                return list(connection.execute(statement, bindings).fetchall())
            finally:
                connection.close(True)
        except (apsw.Error, UnicodeDecodeError):
            return []
