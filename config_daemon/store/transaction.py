"""One write transaction: edits become rows, items, history and seals.

Laws: every edit is checked before the first is written, and all problems are told at once; a row
whose seal does not fit is not built upon (unless it is being adopted); a version never restarts,
neither after a deletion.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import apsw

from config_daemon.core.paths import leaves
from config_daemon.errors import (
    ErrorContext,
    InvalidConfig,
    NotAllowed,
    NotFound,
    StoreCorrupted,
    VersionConflict,
)
from config_daemon.store.chains import HISTORY, append, end_of
from config_daemon.store.complaints import fixed_by_env, headline, of_service, unnameable
from config_daemon.store.connection import first, rows
from config_daemon.store.ports import Edit, Written
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import VERSION
from config_daemon.store.stored import Stored, find
from config_daemon.store.stored import parse_stored as parse_stored
from config_daemon.wire import values as portable
from config_daemon.wire.sealing import canonical

_ENVELOPE_BYTES = 700  # what a message holds beside its config, with room
_INSERT = (
    "INSERT INTO service_configs(config_json, version, config_epoch, updated_at, updated_by, row_seal,"
    " row_seal_key_id, service) VALUES (?,?,?,?,?,?,?,?)"
)
_UPDATE = (
    "UPDATE service_configs SET config_json=?, version=?, config_epoch=?, updated_at=?, updated_by=?, row_seal=?,"  # noqa: S608
    f" row_seal_key_id=? WHERE service=? AND {VERSION}=?"
)
_BURY = (  # REPLACE: a tombstone that somebody put beside the row must not keep the service alive
    "INSERT OR REPLACE INTO deleted_services(service, version, config_epoch, deleted_at, deleted_by, row_seal,"
    " row_seal_key_id) VALUES (?,?,?,?,?,?,?)"
)
_UPSERT_ITEM = (
    "INSERT INTO config_items(service, key, value_json, type, complexity, description, help_text, is_secret,"
    " updated_at, updated_by) VALUES (?,?,?,?,?,?,?,0,?,?)"
    " ON CONFLICT(service, key) DO UPDATE SET value_json=excluded.value_json, type=excluded.type,"
    " complexity=excluded.complexity, description=excluded.description, help_text=excluded.help_text,"
    " updated_at=excluded.updated_at, updated_by=excluded.updated_by"
)
_KNOWN = (
    "SELECT key, new_value_json FROM config_history WHERE id IN"
    " (SELECT max(id) FROM config_history WHERE service = ? GROUP BY key) AND new_value_json <> ''"
)


class Definitions(Protocol):
    """Where services are looked up; the catalog is one."""

    @property
    def model_hash(self) -> str: ...  # noqa: D102
    def get(self, service: str) -> Any: ...  # noqa: D102
    def suggest(self, service: str) -> str | None: ...  # noqa: D102


def _not_fixed(service: str, key: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a write must respect beside the definitions: places in `.env` by (service, key), and the size."""

    fixed: Callable[[str, str], str | None] = _not_fixed
    max_message_bytes: int = 256 * 1024


Change = tuple[str | None, str | None]  # a leaf's JSON text before and after; None: absent


class Transaction:
    """Applies edits through one connection that is inside BEGIN IMMEDIATE."""

    def __init__(self, connection: apsw.Connection, sealer: RowSealer, definitions: Definitions, rules: Rules,
                 now: str, by: str, reason: str | None, adopt: bool) -> None:  # fmt: skip
        self._db, self._sealer, self._definitions, self._rules = connection, sealer, definitions, rules
        self._now, self._by, self._reason, self._adopt = now, by, reason, adopt
        self._change_id = str(uuid.uuid4())
        self._epoch: str = first(connection, "SELECT config_epoch FROM config_epoch", "")
        self._chain = end_of(connection, HISTORY)
        if not self._epoch or not isinstance(self._epoch, str):
            raise StoreCorrupted(
                "the database's epoch is damaged",
                suggestion="Run `config-daemon rebuild`, or restore a copy; nothing is written on top of this one.",
            )

    def apply(self, edits: Iterable[Edit]) -> list[Written]:
        """Check all edits, then write them; return what each did, in order."""
        problems: list[ErrorContext] = []
        planned = []
        for edit in edits:
            found: list[ErrorContext] = []
            planned.append(self._plan(edit, found))
            problems.extend(of_service(edit.service, problem) for problem in found)
        if problems:
            raise InvalidConfig(headline(problems), contexts=problems)
        return [self._write(*plan) for plan in planned]

    def _plan(
        self, edit: Edit, problems: list[ErrorContext]
    ) -> tuple[str, Stored, dict[str, Any] | None, dict[str, Change]]:
        stored = find(self._db, self._sealer, edit.service, None if self._adopt else self._epoch)
        if edit.expect_version is not None and edit.expect_version != stored.version:
            raise VersionConflict(edit.service, edit.expect_version, stored.version)
        before = self._before(edit.service, stored)  # the change may alter what it is given
        new = edit.change(stored.values)
        if self._adopt and stored.kind == "tombstone":
            new = None  # what is adopted stays what it is
        self._refuse_baseless(edit.service, stored, new)
        unreadable = portable.problems(new) or tuple(unnameable(new or {}))
        if unreadable:
            problems.extend(unreadable)
            return edit.service, stored, new, {}
        changed = _changed(before, {} if new is None else texts_of(new))
        if new is not None:
            self._check(edit.service, new, changed, problems)
        return edit.service, stored, new, changed

    def _refuse_baseless(self, service: str, stored: Stored, new: dict[str, Any] | None) -> None:
        if stored.kind == "lost" and (new is not None or self._adopt):
            raise StoreCorrupted(
                f"the row of {service} was removed outside config-daemon, at version {stored.last}",
                suggestion=f"Restore the row, or run `config-daemon delete {service}` and write it again.",
            )
        if stored.kind == "none" and (new is None or self._adopt):
            raise self._unknown(service)
        if stored.kind == "tombstone" and new is None and not self._adopt:
            raise self._unknown(service)

    def _before(self, service: str, stored: Stored) -> dict[str, str]:
        """Return the JSON texts of the leaves that history knows as the current ones."""
        if self._adopt or stored.kind == "lost":
            return dict(rows(self._db, _KNOWN, (service,)))
        return texts_of(stored.values)

    def _check(
        self, service: str, new: dict[str, Any], changed: Mapping[str, Change], problems: list[ErrorContext]
    ) -> None:
        definition = self._definitions.get(service)
        if definition is None:
            raise self._unknown(service)
        for key in changed:
            self._refuse_untouchable(service, definition, key)
        effective = definition.effective(new)
        problems.extend(e for e in definition.check(effective) if e.error_code != "MISSING_FIELD")
        size = len(canonical(effective))
        limit = self._rules.max_message_bytes - _ENVELOPE_BYTES
        if size > limit:
            problems.append(
                ErrorContext(
                    "invalid_config",
                    "TOO_LARGE",
                    f"{service}: the config has {size} bytes, at most {limit} fit",
                    "Store less, or split the service.",
                    failed_field=service,
                )
            )

    def _refuse_untouchable(self, service: str, definition: Any, key: str) -> None:
        field = definition.fields.get(key)
        if field is not None and field.is_secret:
            raise NotAllowed(
                f"{service} {key} is a secret, and secrets come with a later version",
                code="SECRET_FIELD",
                suggestion="Give the value to the worker itself for now; config-daemon stores no secret in clear text.",
            )
        place = self._rules.fixed(service, key)
        if place is not None:
            raise fixed_by_env(service, key, place)

    def _write(
        self, service: str, stored: Stored, new: dict[str, Any] | None, changed: dict[str, Change]
    ) -> Written:
        if new is not None and stored.kind == "row" and not changed and not self._adopt:
            return Written(service, stored.version, stored=False)
        version = stored.last + 1
        if new is None:
            self._delete(service, version)
        else:
            self._store(service, stored, version, canonical(new).decode())
        if self._adopt:  # whoever altered the row may have altered what is derived from it
            self._db.execute("DELETE FROM config_items WHERE service = ?", (service,))
            self._write_items(service, _changed({}, texts_of(new or {})))
        else:
            self._write_items(service, changed)
        self._write_history(service, version, changed)
        return Written(service, version, changed, deleted=new is None)

    def _store(self, service: str, stored: Stored, version: int, text: str) -> None:
        seal = self._sealer.seal("service_configs", service, version, self._epoch, text, self._now, self._by)
        row = (text, version, self._epoch, self._now, self._by, seal, self._sealer.key_id, service)
        if stored.kind != "row":
            self._db.execute("DELETE FROM deleted_services WHERE service = ?", (service,))
            self._db.execute(_INSERT, row)
            return
        self._db.execute(_UPDATE, (*row, stored.version))
        if self._db.changes() != 1:
            raise VersionConflict(service, stored.version, 0)

    def _delete(self, service: str, version: int) -> None:
        seal = self._sealer.seal("deleted_services", service, version, self._epoch, "", self._now, self._by)
        self._db.execute("DELETE FROM service_configs WHERE service = ?", (service,))
        self._db.execute(
            _BURY, (service, version, self._epoch, self._now, self._by, seal, self._sealer.key_id)
        )

    def _write_items(self, service: str, changed: Mapping[str, Change]) -> None:
        write_items(self._db, self._definitions.get(service), service, changed, self._now, self._by)

    def _write_history(self, service: str, version: int, changed: Mapping[str, Change]) -> None:
        for key, (old, new) in changed.items():
            row = {
                "service": service, "key": key, "old_value_json": old, "new_value_json": "" if new is None else new,
                "changed_at": self._now, "changed_by": self._by, "change_reason": self._reason,
                "version": version, "change_id": self._change_id,
            }  # fmt: skip
            self._chain = append(self._db, HISTORY, self._chain, row)

    def _unknown(self, service: str) -> NotFound:
        meant = self._definitions.suggest(service)
        return NotFound(
            f"there is no service {service!r}",
            suggestion=f"Did you mean {meant!r}?"
            if meant
            else "Run `config-daemon services --all` to see what is defined.",
        )


def write_items(
    db: apsw.Connection, definition: Any, service: str, changed: Mapping[str, Change], at: str, by: str | None
) -> None:
    """Have `config_items` say what changed of a service; nothing describes the values without a definition."""
    fields = definition.fields if definition else {}
    gone = [(service, key) for key, (_, new) in changed.items() if new is None]
    there = [
        (service, key, new, *_about(fields.get(key)), at, by)
        for key, (_, new) in changed.items()
        if new is not None
    ]
    db.executemany("DELETE FROM config_items WHERE service = ? AND key = ?", gone)
    db.executemany(_UPSERT_ITEM, there)


def _about(field: Any) -> tuple[str, str, str, str | None]:
    if field is None:
        return "object", "advanced", "", ""
    return field.type, field.complexity, field.description, field.help_text


def texts_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the leaves as JSON text."""
    return {key: canonical(value).decode() for key, value in leaves(values).items()}


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Change]:
    """Return the differing leaves as (old, new) JSON text, None where absent."""
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}
