"""What the store, `.env` and the definitions say now, turned into what the plan wants.

Laws: the place in the change feed says what is unread, so only what changed is read, resolved and
validated; a service whose row is damaged, missing, older or invalid is held back and keeps its last
good update, the others go on; a store that does not answer changes nothing that was wanted before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from config_daemon import failpoints
from config_daemon.core.health import Findings
from config_daemon.core.modes import Status
from config_daemon.core.plan import Plan
from config_daemon.core.resolve import Override, Resolved, resolve
from config_daemon.errors import (
    InvalidConfig,
    SchemaMismatch,
    StoreCorrupted,
    StoreError,
    StoreLocked,
    StoreUnavailable,
)
from config_daemon.store.ports import BadRow, Place, Reader, Row, StoreFacts, Tombstone
from config_daemon.store.status import ServiceStatus, StatusBoard
from config_daemon.store.transaction import Definitions, parse_stored
from config_daemon.wire.sealing import canonical

SLICE = 200
BACKLOG = 1000
LOCK_SECONDS = 0.5
Found = Row | Tombstone | BadRow | None

# verdict or fault -> the condition that says so
_CONDITION = {
    "invalid": "row-invalid", "incomplete": "incomplete", "definition-missing": "definition-missing",
    "row-corrupted": "rows-corrupted", "row-rolled-back": "row-rolled-back", "row-missing": "row-missing",
}  # fmt: skip
_FAULT: tuple[tuple[type[StoreError], str, Status], ...] = (
    (StoreLocked, "db-locked", "locked"),
    (SchemaMismatch, "schema-too-new", "schema-mismatch"),
    (StoreCorrupted, "db-corrupted", "corrupted"),
    (StoreUnavailable, "db-missing", "corrupted"),
    (StoreError, "db-error", "corrupted"),
)


class Sight:
    """Looks at the sources; the plan, the findings and the board learn what it sees."""

    def __init__(
        self,
        reader: Reader,
        definitions: Definitions,
        plan: Plan,
        findings: Findings,
        board: StatusBoard,
        signer: tuple[int, str],
        now_text: Callable[[], str],
        place: Place | None = None,
    ) -> None:
        self._reader, self._definitions, self._plan = reader, definitions, plan
        self._findings, self._board, self._signer, self._now_text = findings, board, signer, now_text
        self.overrides: Mapping[str, Mapping[str, Override]] = {}
        self.facts: StoreFacts | None = None
        self.place: Place | None = None
        self._expected = place
        self._stale = True
        self._unread: dict[str, None] = {}
        self._fault: StoreError | None = None
        self._fault_since = 0.0
        self._troubled: dict[str, str] = {}

    @property
    def unread(self) -> int:
        """Return how many services are known to have changed and were not read yet."""
        return len(self._unread)

    @property
    def status(self) -> Status:
        """Return what the store's state is called."""
        for kind, _, status in _FAULT:
            if self._fault is not None and isinstance(self._fault, kind):
                return status
        return "corrupted" if "row-corrupted" in self._troubled.values() else "healthy"

    def look(self, now: float, connected: bool) -> None:
        """Read what changed, at most a slice, and hand it to the plan."""
        try:
            if self._reader.moved():
                self._stale = True
            if self._stale:
                self._follow_feed()
            if self._unread and not (connected and len(self._plan) > BACKLOG):
                self._read_slice()
        except StoreError as error:
            self._reader.close()
            self._stale = True
            self._note_fault(error, now)
        else:
            self._clear_fault()

    def reread(self, services: list[str] | None = None) -> None:
        """Have services read again although the store did not change; all of them for None."""
        self._unread.update(dict.fromkeys(self._plan.services if services is None else services))

    def _follow_feed(self) -> None:
        self.facts = self._reader.facts()
        if self._expected is not None and self._reader.changes(self._expected).services is None:
            place = self._expected
            self._findings.open(
                "not-the-newest",
                "config.db",
                f"the database lacks change {place.seq} ({place.token})",
                self._now_text(),
            )
            return
        changes = self._reader.changes(self.place)
        if changes.services is None:
            self._expected = self.place
            self._follow_feed()
            return
        if self._expected is not None:
            self._expected = None
            self._findings.close("not-the-newest", "config.db")
        self._unread.update(dict.fromkeys(changes.services))
        self.place = changes.place
        self._stale = False

    def _read_slice(self) -> None:
        some = list(self._unread)[:SLICE] if len(self._unread) > SLICE else list(self._unread)
        rows = self._reader.read(some)
        failpoints.reached("after_read")
        for service in some:
            self._see(service, rows.get(service))
            del self._unread[service]

    def _see(self, service: str, found: Found) -> None:
        assert self.facts is not None
        if isinstance(found, Row) and found.epoch == self.facts.epoch:
            if not self._rolled_back(service, found.version):
                self._resolve(found)
        elif isinstance(found, Tombstone) and found.epoch == self.facts.epoch:
            if not self._rolled_back(service, found.version):
                self._plan.want(service, b"{}", found.version, found.epoch, self._signer, deleted=True)
                self._tell(service, found.version, {}, {}, "in-flight")
        elif found is None:
            self._miss(service)
        else:
            version = found.row.version if isinstance(found, BadRow) else found.version
            self._hold_back(service, version, "row-corrupted", "its seal does not fit its content")

    def _resolve(self, row: Row) -> None:
        try:
            stored = parse_stored(row.service, row.text)
        except InvalidConfig as error:
            self._hold_back(row.service, row.version, "invalid", error.message)
            return
        resolved = resolve(self._definitions.get(row.service), stored, self.overrides.get(row.service, {}))
        self._tell_withheld(row.service, resolved)
        if resolved.verdict == "ready":
            config = canonical(resolved.values)
            self._plan.want(row.service, config, row.version, row.epoch, self._signer)
            self._calm(row.service)
            state = self._plan.services[row.service]
            word = "confirmed" if state.confirmed and not state.config else "in-flight"
            self._tell(row.service, row.version, resolved.values, resolved.sources, word)
        else:
            detail = (
                "; ".join(error.message for error in resolved.errors[:5]) or "nothing defines this service"
            )
            self._hold_back(row.service, row.version, resolved.verdict, detail, resolved)

    def _rolled_back(self, service: str, version: int) -> bool:
        entry = self._plan.services.get(service)
        if entry is None or entry.sealed is None:
            return False
        last = entry.sealed.fingerprint
        assert self.facts is not None
        if last.epoch != self.facts.epoch or version >= last.config_version:
            return False
        self._hold_back(
            service,
            version,
            "row-rolled-back",
            f"version {version} is below the published {last.config_version}",
        )
        return True

    def _miss(self, service: str) -> None:
        entry = self._plan.services.get(service)
        if entry is not None and entry.sealed is not None:
            version = entry.sealed.fingerprint.config_version
            self._hold_back(
                service, version, "row-missing", "its row is gone and nothing says that it was deleted"
            )
        else:
            self._calm(service)
            self._plan.forget(service)
            self._board.forget(service)

    def _hold_back(
        self, service: str, version: int, state: str, detail: str, resolved: Resolved | None = None
    ) -> None:
        self._calm(service)
        self._plan.hold_back(service, state)
        self._troubled[service] = state
        self._findings.open(_CONDITION[state], service, detail, self._now_text())
        errors = [error.as_dict() for error in resolved.errors] if resolved else [{"message": detail}]
        values, sources = (resolved.values, resolved.sources) if resolved else ({}, {})
        self._tell(service, version, values, sources, state, errors)

    def _calm(self, service: str) -> None:
        state = self._troubled.pop(service, None)
        if state is not None:
            self._findings.close(_CONDITION[state], service)

    def _tell_withheld(self, service: str, resolved: Resolved) -> None:
        if resolved.withheld:
            self._findings.open("secrets-held-back", service, ", ".join(resolved.withheld), self._now_text())
        else:
            self._findings.close("secrets-held-back", service)

    def _tell(self, service: str, version: int, values: Mapping[str, Any], sources: Mapping[str, Any], state: str,
              errors: list[dict[str, Any]] | None = None) -> None:  # fmt: skip
        sealed = entry.sealed if (entry := self._plan.services.get(service)) else None
        self._board.service(
            ServiceStatus(
                service, version, _text(values), _text(sources),
                sealed.fingerprint.generation if sealed else 0, sealed.sequence if sealed else 0, "",
                state, self._now_text(), _text(errors or []),
            )
        )  # fmt: skip

    def _note_fault(self, error: StoreError, now: float) -> None:
        if self._fault is None or type(error) is not type(self._fault):
            if isinstance(error, StoreLocked):
                self._fault_since = self._fault_since or now
                if now - self._fault_since < LOCK_SECONDS:
                    return
            self._clear_fault()
            self._fault = error
        self._findings.open(_name_of(error), "config.db", error.message, self._now_text())

    def _clear_fault(self) -> None:
        self._fault_since = 0.0
        if self._fault is not None:
            self._findings.close(_name_of(self._fault), "config.db")
            self._fault = None


def _name_of(error: StoreError) -> str:
    return next(name for kind, name, _ in _FAULT if isinstance(error, kind))


def _text(value: Any) -> str:
    try:
        return canonical(value).decode()
    except (ValueError, RecursionError):
        return "{}"
