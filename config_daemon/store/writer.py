"""The default store, written: one code path for every change.

Laws: a call is one transaction, begun IMMEDIATE, and commits all of its edits or none; snapshot,
items, history and seal are written together; values are validated inside the transaction, where they
are known; nobody writes into a database that is being recovered or was moved away.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import apsw

from config_daemon import failpoints
from config_daemon.errors import StoreUnavailable, UsageError
from config_daemon.store import locks
from config_daemon.store.connection import Wal, connect, drop, identity_of, translated
from config_daemon.store.ports import Edit, Place, StoreFacts, Written
from config_daemon.store.seals import RowSealer
from config_daemon.store.transaction import Definitions, Rules, Transaction
from config_daemon.store.workers import Deed
from config_daemon.wire import values as portable

LOCK_SECONDS = 0.25
BUSY_MS = 5000
MAX_WORDS = 5000  # characters of an actor or a reason
_RECORD = (
    "UPDATE schema_version SET version = version + 1, model_hash = ?, updated_at = ?"
    " WHERE version = ? AND model_hash = ? AND EXISTS (SELECT 1 FROM config_epoch WHERE config_epoch = ?)"
    " AND (SELECT token FROM change_feed WHERE seq = (SELECT max(seq) FROM change_feed)) = ?"
)


T = TypeVar("T")
Refusal = Callable[[Collection[str], bool], str | None]
"""Why these services must not be written now, None when they may be; the flag tells that rows are adopted."""


def _anybody_may_write(_services: Collection[str], _adopt: bool) -> str | None:
    return None


class SqliteWriter:
    """Writes one database file; `refusal` is asked once a commit, while no recovery can begin."""

    def __init__(
        self,
        path: Path,
        sealer: RowSealer,
        definitions: Definitions,
        *,
        lock: Path,
        now: Callable[[], str],
        rules: Rules | None = None,
        refusal: Refusal = _anybody_may_write,
        synchronous: str = "FULL",
        lock_seconds: float = LOCK_SECONDS,
        busy_ms: int = BUSY_MS,
    ) -> None:
        self._path, self._sealer, self._definitions = path, sealer, definitions
        self._lock, self._now, self._refusal = lock, now, refusal
        self._rules = rules or Rules()
        self._synchronous, self._lock_seconds, self._busy_ms = synchronous, lock_seconds, busy_ms
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._wal = Wal(path)

    def commit(
        self,
        edits: Iterable[Edit],
        *,
        by: str,
        reason: str | None = None,
        dry_run: bool = False,
        adopt: bool = False,
    ) -> list[Written]:
        """Apply all edits in one transaction; with `dry_run` do everything but keep it.

        `adopt` takes rows as somebody left them who edited the database by hand.

        Raises: InvalidConfig with every problem of every service, VersionConflict, NotFound,
        NotAllowed, StoreError; UsageError for two edits of one service, or an actor or reason that
        is no text of 1 to 5000 characters.
        """
        edits = list(edits)
        _check_call([edit.service for edit in edits], by, reason)
        with locks.shared(self._lock, self._lock_seconds):
            refused = self._refusal([edit.service for edit in edits], adopt)
            if refused:
                raise StoreUnavailable(refused)
            with self._begun() as connection:
                transaction = Transaction(
                    connection,
                    self._sealer,
                    self._definitions,
                    self._rules,
                    self._now(),
                    by,
                    reason,
                    adopt,
                )
                written = transaction.apply(edits)
                failpoints.reached("before_commit")
                connection.execute("ROLLBACK" if dry_run else "COMMIT")
            failpoints.reached("after_commit")
        return written

    def change_workers(
        self, change: Callable[[apsw.Connection, Deed], T], *, by: str, reason: str | None
    ) -> T:
        """Change the table of expected workers in one transaction; return what `change` returns.

        Raises: what `change` raises; StoreError; UsageError for an actor or reason that is no text of 1 to 5000
        characters.
        """
        check_words(by, reason)
        with locks.shared(self._lock, self._lock_seconds):
            refused = self._refusal((), False)
            if refused:
                raise StoreUnavailable(refused)
            with self._begun() as connection:
                outcome = change(connection, Deed(self._sealer, self._now(), by, reason))
                failpoints.reached("before_commit")
                connection.execute("COMMIT")
            failpoints.reached("after_commit")
        return outcome

    def record_models(self, model_hash: str, known: StoreFacts, place: Place) -> bool:
        """Record the models that all stored configs fit; the schema's version goes up by one.

        False, and nothing is written, when the database is not at that place, or has other facts by now.

        Raises: StoreError.
        """
        with locks.shared(self._lock, self._lock_seconds), self._begun() as connection:
            judged = (known.schema_version, known.model_hash, known.epoch, place.token)
            connection.execute(_RECORD, (model_hash, self._now(), *judged))
            is_recorded = connection.changes() == 1
            failpoints.reached("before_commit")
            connection.execute("COMMIT" if is_recorded else "ROLLBACK")
        failpoints.reached("after_commit")
        return is_recorded

    def close(self) -> None:
        """Close the connection; the next commit opens a new one."""
        if self._connection is not None:
            self._connection.close(True)
            self._connection = self._identity = None

    @contextlib.contextmanager
    def _begun(self) -> Iterator[apsw.Connection]:
        """Begin a transaction, which the caller ends; what the caller leaves by an error is undone."""
        with translated(self._path):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException as error:
                self._abandon(connection, error)
                raise

    def _open(self) -> apsw.Connection:
        identity = identity_of(self._path)
        if self._connection is not None and (identity != self._identity or not self._wal.same()):
            drop(self._connection)
            self.close()
        if self._connection is None:
            self._connection, self._identity = connect(self._path, self._busy_ms), identity
            self._wal = Wal(self._path)
            self._connection.execute("PRAGMA journal_mode=WAL")  # a restored copy comes without
            self._connection.execute(f"PRAGMA synchronous={self._synchronous}")
        return self._connection

    def _abandon(self, connection: apsw.Connection, error: BaseException) -> None:
        broken = isinstance(error, apsw.Error)
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except apsw.Error:
                broken = True
        if broken:
            self.close()  # after a failed write nothing of this connection is trusted


def _check_call(services: list[str], by: str, reason: str | None) -> None:
    twice = [service for service, times in Counter(services).items() if times > 1]
    if twice:
        raise UsageError(
            f"{twice[0]} is changed twice in one commit",
            suggestion="Name each service once, with all its values.",
        )
    check_words(by, reason)


def check_words(by: str, reason: str | None) -> None:
    """Refuse (UsageError) a name or a reason that history cannot hold."""
    for name, words in (("actor", by), ("reason", reason)):
        if words is None:
            continue
        if not 1 <= len(words) <= MAX_WORDS or portable.problems(words):
            raise UsageError(
                f"the {name} is no text of 1 to {MAX_WORDS} characters", suggestion=f"Give another {name}."
            )
