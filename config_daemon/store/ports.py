"""What the daemon and the commands need of a store, whichever database is behind it.

Laws: a reader returns rows as they were sealed, or says what is wrong with each; a writer commits
everything of a call or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # with Pydantic and libsodium behind it: who reads configs need not load these
    from config_daemon.wire.workerkeys import PublicKeys


class Place(NamedTuple):
    """Where in a database's life somebody stands: a feed number and that row's random token."""

    seq: int
    token: str


class Row(NamedTuple):
    """One service's stored values, exactly as sealed."""

    service: str
    text: str
    version: int
    epoch: str
    updated_at: str
    updated_by: str | None


class Tombstone(NamedTuple):
    """A deleted service."""

    service: str
    version: int
    epoch: str


class BadRow(NamedTuple):
    """A row whose seal does not fit its content."""

    service: str
    row: Row


class Changes(NamedTuple):
    """What changed since a place: None when that place is not in this database (an older or another one).

    `workers` tells that the list of expected workers may be another; `facts` are the database's at that moment.
    """

    services: tuple[str, ...] | None
    place: Place
    workers: bool
    facts: StoreFacts


class WorkerRow(NamedTuple):
    """A worker that is expected to run services; keys are 64 hex digits, services sorted names."""

    worker: str
    verify_key: str
    box_key: str
    services: tuple[str, ...]
    version: int
    added_at: str
    added_by: str | None
    updated_at: str
    updated_by: str | None

    @property
    def keys(self) -> PublicKeys:
        """Return the worker's public keys."""
        from config_daemon.wire.workerkeys import PublicKeys

        return PublicKeys(self.worker, self.verify_key, self.box_key)


class Workers(NamedTuple):
    """All expected workers by name, and the names of rows that cannot be believed."""

    rows: Mapping[str, WorkerRow]
    altered: tuple[str, ...]


class StoreFacts(NamedTuple):
    """What identifies a database."""

    epoch: str
    schema_version: int
    model_hash: str


class Reader(Protocol):
    """Reads verified rows; every method raises StoreError when the store does not answer."""

    def moved(self, thorough: bool = True) -> bool:
        """Tell whether anything may have been committed since the last call; `thorough`: or the file replaced."""

    def holds(self, place: Place) -> bool:
        """Tell whether a place is in this database's change feed."""

    def changes(self, since: Place | None) -> Changes:
        """Return which services changed since a place; all of them for None."""

    def read(self, services: Sequence[str]) -> Mapping[str, Row | Tombstone | BadRow]:
        """Return the rows of the services that exist."""

    def workers(self) -> Workers:
        """Return all workers that are expected."""

    def probe(self, afresh: bool) -> None:
        """Find out whether anybody could write, without changing anything; `afresh`: and open the store at all."""

    def check(self, thorough: bool) -> None:
        """Have the database look whether its file is whole; `thorough` takes longer and finds more."""

    @property
    def identity(self) -> tuple[int, int] | None:
        """Return what tells one file from another; None while none is open."""

    def close(self) -> None:
        """Give the database back."""

    def abandon(self) -> None:
        """Give a database back in which something is wrong, and write nothing more into it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A wanted change of one service.

    `change` takes the stored values and returns the new ones, None to delete the service; it runs
    inside the transaction. `expect_version` refuses a service that is at another version (0: exists).
    """

    service: str
    change: Callable[[dict[str, Any]], dict[str, Any] | None]
    expect_version: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit did to one service; `changed` maps keys to their JSON text (before, after), None: absent.

    `stored` is false where everything was so already; without a changed key it can be true, for a service
    that was made without values or a row that was adopted.
    """

    service: str
    version: int
    changed: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    deleted: bool = False
    stored: bool = field(default=True, compare=False)


class Writer(Protocol):
    """Changes the store; one transaction a call."""

    def commit(
        self,
        edits: Iterable[Edit],
        *,
        by: str,
        reason: str | None = None,
        dry_run: bool = False,
        adopt: bool = False,
    ) -> list[Written]:
        """Apply all edits or none."""

    def close(self) -> None:
        """Give the database back."""
