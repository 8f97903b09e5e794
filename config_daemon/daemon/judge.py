"""Judge one row: what it makes the plan want, or why the service is held back.

Laws: a row that is damaged, older than what was published, invalid or incomplete changes nothing that
workers have; every service held back has a condition and a state that say why; secret values never
leave the resolver; while the definitions are others than those that the store was last used with,
nothing new is wanted of any row, and rows that do not fit them are listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from config_daemon.core.definition import Override, Resolved
from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan, is_behind
from config_daemon.core.resolve import resolve, sources
from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.errors import InvalidConfig
from config_daemon.store.ports import BadRow, Row, Tombstone
from config_daemon.store.status import ServiceStatus, StatusBoard
from config_daemon.store.transaction import Definitions, parse_stored
from config_daemon.wire.sealing import canonical

Found = Row | Tombstone | BadRow | None

# why a service is held back -> the condition that says so
CONDITION = {
    "invalid": "row-invalid",
    "incomplete": "incomplete",
    "definition-missing": "definition-missing",
    "held": "env-missing",
    "row-corrupted": "rows-corrupted",
    "row-rolled-back": "row-rolled-back",
    "row-missing": "row-missing",
    "too-large": "too-large",
}
UNTRUSTED = ("row-corrupted", "row-rolled-back", "row-missing")  # then what was published is shown instead
SHOWN_ERRORS = 5
ENVELOPE_BYTES = 700  # what a message holds beside its config, with room


class Judge:
    """Turns rows into wishes of the plan; `epoch` and `model_hash` are the database's, as last read.

    `misfits` names the stored configs that break their definition, with the fields.
    """

    def __init__(
        self,
        definitions: Definitions,
        plan: Plan,
        findings: Findings,
        board: StatusBoard,
        signs: Callable[[], tuple[int, str]],
        now_text: Callable[[], str],
        max_message_bytes: int,
    ) -> None:
        self._definitions, self._plan, self._findings, self._board = definitions, plan, findings, board
        self._signs, self._now_text, self._limit = signs, now_text, max_message_bytes - ENVELOPE_BYTES
        self._held_back: dict[str, str] = {}
        self._with_secrets: set[str] = set()
        self._corrupted = 0
        self._undecided: set[str] = set()
        self.epoch = ""
        self.model_hash: str | None = None
        self.misfits: dict[str, tuple[str, ...]] = {}
        self.overrides: Mapping[str, Mapping[str, Override]] = {}
        self.orphaned: frozenset[str] = frozenset()
        self.purged: Mapping[str, int] = {}
        self.emptied: set[str] = set()

    @property
    def corrupted(self) -> bool:
        """Tell whether any row's seal does not fit."""
        return self._corrupted > 0

    @property
    def services(self) -> list[str]:
        """Return every service that is known, whatever the store holds of it."""
        return list(self._plan.services)

    @property
    def behind(self) -> int:
        """Return of how many services the broker lacks what is wanted."""
        return len(self._plan)

    @property
    def doubts(self) -> bool:
        """Tell whether the definitions are others than those that the store was last used with."""
        return self.model_hash is not None and self.model_hash != self._definitions.model_hash

    def take_undecided(self) -> set[str]:
        """Return the services that were judged in doubt, to be judged again; they are forgotten here."""
        undecided, self._undecided = self._undecided, set()
        return undecided

    def judge(self, service: str, found: Found) -> None:
        """Judge what the store holds for a service."""
        self.misfits.pop(service, None)
        self.emptied.discard(service)
        if found is None:
            self._miss(service)
        elif isinstance(found, BadRow) or found.epoch != self.epoch:
            version = found.row.version if isinstance(found, BadRow) else found.version
            self._hold_back(service, version, "row-corrupted", "its seal does not fit its content")
        elif service in self.orphaned:
            self._hold_back(service, found.version, "held", ".env gave it values and is missing")
        elif isinstance(found, Tombstone) and self.purged.get(service) == found.version:
            self._want_nothing(service, found.version)
        elif self._is_rolled_back(service, found.version):
            pass
        elif isinstance(found, Tombstone):
            self._want(service, b"{}", found.version, Resolved("ready", {}), deleted=True)
        else:
            self._resolve(found)

    def _resolve(self, row: Row) -> None:
        try:
            stored = parse_stored(row.service, row.text)
        except InvalidConfig as error:
            self._hold_back(row.service, row.version, "invalid", error.message)
            return
        overrides = self.overrides.get(row.service, {})
        resolved = resolve(self._definitions.get(row.service), stored, overrides)
        self._tell_withheld(row.service, resolved)
        if self._is_misfit(row.service, resolved, stored):
            self.misfits[row.service] = tuple(error.failed_field or "" for error in resolved.errors)
        if resolved.verdict != "ready":
            detail = (
                "; ".join(e.message for e in resolved.errors[:SHOWN_ERRORS]) or "nothing defines this service"
            )
            self._hold_back(row.service, row.version, resolved.verdict, detail, resolved, stored)
            return
        config = canonical(resolved.values)
        if len(config) > self._limit:
            detail = f"the config has {len(config)} bytes, at most {self._limit} fit into a message"
            self._hold_back(row.service, row.version, "too-large", detail, resolved, stored)
            return
        self._want(row.service, config, row.version, resolved, stored)

    def _is_misfit(self, service: str, resolved: Resolved, stored: Mapping[str, Any]) -> bool:
        """Tell whether a stored config breaks its definition: what `.env` breaks is no matter of the models.

        One that lacks a value is still being made, unless workers have it: then it is the definition that asks more.
        """
        if resolved.verdict != "invalid" or not self.overrides.get(service):
            return resolved.verdict == "invalid" or (
                resolved.verdict == "incomplete" and self._published(service) is not None
            )
        return resolve(self._definitions.get(service), stored, {}).verdict == "invalid"

    def _want(
        self, service: str, config: bytes, version: int, resolved: Resolved,
        stored: Mapping[str, Any] = MappingProxyType({}), deleted: bool = False,
    ) -> None:  # fmt: skip
        self._release(service)
        if self.doubts:
            self._undecided.add(service)
            self._plan.hold_back(service, version)
            self._tell_undecided(service, version, resolved, stored)
            return
        digest = hashlib.sha256(config).digest()
        self._plan.want(service, config, Fingerprint(digest, version, self.epoch, *self._signs(), deleted))
        self._tell(service, version, resolved, self._progress(service), stored=stored, config=config)

    def _progress(self, service: str) -> str:
        entry = self._plan.services[service]
        if is_behind(entry):
            return "in-flight"
        return "deleted" if entry.wanted and entry.wanted.deleted else "confirmed"

    def _is_rolled_back(self, service: str, version: int) -> bool:
        entry = self._plan.services.get(service)
        last = entry.sealed.fingerprint if entry and entry.sealed else None
        if last is None or last.epoch != self.epoch or version >= last.config_version:
            return False
        detail = f"version {version} is below the published {last.config_version}"
        self._hold_back(service, version, "row-rolled-back", detail)
        return True

    def _published(self, service: str) -> Fingerprint | None:
        """Return what was last published of a service that lives, None without that."""
        entry = self._plan.services.get(service)
        last = entry.sealed.fingerprint if entry and entry.sealed else None
        return last if last is not None and last.epoch == self.epoch and not last.deleted else None

    def _want_nothing(self, service: str, version: int) -> None:
        """Have the broker hold nothing of a deleted service, of which only the version stays known."""
        self._release(service)
        self._plan.forget(service)
        self._plan.hold_back(service, version)
        self._board.forget(service)
        self.emptied.add(service)

    def _miss(self, service: str) -> None:
        entry = self._plan.services.get(service)
        last = entry.sealed.fingerprint if entry and entry.sealed else None
        if last is not None and last.epoch == self.epoch:
            is_gone = "what said that it was deleted" if last.deleted else "its row"
            detail = f"{is_gone} is gone, and the database does not say why"
            self._hold_back(service, last.config_version, "row-missing", detail)
        else:
            self._release(service)
            self._plan.forget(service)
            self._board.forget(service)

    def _hold_back(
        self, service: str, version: int, state: str, detail: str,
        resolved: Resolved | None = None, stored: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if self._held_back.get(service) != state:
            self._release(service)
            self._held_back[service] = state
            self._corrupted += state == "row-corrupted"
        self._plan.hold_back(service, version)
        self._findings.open(CONDITION[state], service, detail, self._now_text())
        entry = self._plan.services.get(service)
        if state in UNTRUSTED and entry is not None and entry.sealed is not None:
            last = entry.sealed
            version = last.fingerprint.config_version
            self._tell(service, version, Resolved("invalid", {}), state, detail, config=last.read_config())
            return
        self._tell(service, version, resolved or Resolved("invalid", {}), state, detail, stored or {})

    def _release(self, service: str) -> None:
        state = self._held_back.pop(service, None)
        if state is not None:
            self._corrupted -= state == "row-corrupted"
            self._findings.close(CONDITION[state], service)

    def _tell_withheld(self, service: str, resolved: Resolved) -> None:
        if resolved.withheld:
            self._with_secrets.add(service)
            self._findings.open("secrets-held-back", service, ", ".join(resolved.withheld), self._now_text())
        elif service in self._with_secrets:
            self._with_secrets.discard(service)
            self._findings.close("secrets-held-back", service)

    def _tell_undecided(
        self, service: str, version: int, resolved: Resolved, stored: Mapping[str, Any]
    ) -> None:
        """Show what was last published, as in every fallback."""
        entry = self._plan.services[service]
        if entry.sealed is None:
            self._tell(
                service,
                version,
                resolved,
                "held",
                "whether it fits its definition is not decided yet",
                stored,
            )
        else:
            self._board.service(service, partial(_cached_row, service, entry.sealed, self._now_text()))

    def _tell(
        self, service: str, version: int, resolved: Resolved, state: str, detail: str = "",
        stored: Mapping[str, Any] = MappingProxyType({}), config: bytes | None = None,
    ) -> None:  # fmt: skip
        entry, since = self._plan.services.get(service), self._now_text()
        sealed, overrides = entry.sealed if entry else None, self.overrides.get(service, {})

        def row() -> ServiceStatus:
            told = [error.as_dict() for error in resolved.errors] or ([{"message": detail}] if detail else [])
            return ServiceStatus(
                service=service,
                config_version=version,
                effective_json=_text(resolved.values) if config is None else config.decode(),
                sources_json=_text(sources(resolved.values, stored, overrides)),
                generation=sealed.fingerprint.generation if sealed else 0,
                sequence=sealed.sequence if sealed else 0,
                body_sha256=sealed.body_sha256 if sealed else "",
                state=state,
                state_since=since,
                error_json=_text(told),
            )

        self._board.service(service, row)


def tell_cached(board: StatusBoard, plan: Plan, at: str) -> None:
    """Show the services of the cache in status.db, until the store has been read."""
    for service, entry in plan.services.items():
        if entry.sealed is not None:
            board.service(service, partial(_cached_row, service, entry.sealed, at))


def _cached_row(service: str, sealed: Sealed, at: str) -> ServiceStatus:
    return ServiceStatus(
        service, sealed.fingerprint.config_version, (sealed.read_config() or b"{}").decode(), "{}",
        sealed.fingerprint.generation, sealed.sequence, sealed.body_sha256, "held", at, "[]",
    )  # fmt: skip


def _text(value: Any) -> str:
    """Return JSON for status.db; values that no JSON can hold are told by the errors beside them."""
    try:
        return canonical(value).decode()
    except (ValueError, RecursionError):
        return "{}"
