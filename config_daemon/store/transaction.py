"""One write transaction: edits become rows, items, history and seals.

Laws: every edit is checked before the first is written, and all problems are told at once; a row
whose seal does not fit is not built upon (unless it is being adopted); a version never restarts,
neither after a deletion.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import apsw

from config_daemon.core.resolve import leaves
from config_daemon.errors import (
    ErrorContext,
    InvalidConfig,
    NotAllowed,
    NotFound,
    StoreCorrupted,
    VersionConflict,
)
from config_daemon.store.ports import Edit, Written
from config_daemon.store.seals import FIRST_CHAIN, RowSealer, next_chain
from config_daemon.store.sqlite import rows
from config_daemon.wire import values as portable
from config_daemon.wire.sealing import canonical

_ENVELOPE_BYTES = 700  # what a message holds beside its config, with room


_INSERT = (
    "INSERT INTO service_configs(config_json, version, config_epoch, updated_at, updated_by, row_seal,"
    " row_seal_key_id, service) VALUES (?,?,?,?,?,?,?,?)"
)
_UPDATE = (
    "UPDATE service_configs SET config_json=?, version=?, config_epoch=?, updated_at=?, updated_by=?, row_seal=?,"
    " row_seal_key_id=? WHERE service=? AND version=?"
)
_UPSERT_ITEM = (
    "INSERT INTO config_items(service, key, value_json, type, complexity, description, help_text, is_secret,"
    " updated_at, updated_by) VALUES (?,?,?,?,?,?,?,0,?,?)"
    " ON CONFLICT(service, key) DO UPDATE SET value_json=excluded.value_json, type=excluded.type,"
    " complexity=excluded.complexity, description=excluded.description, help_text=excluded.help_text,"
    " updated_at=excluded.updated_at, updated_by=excluded.updated_by"
)


class Definitions(Protocol):
    """Where services are looked up; the catalog is one."""

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


class _Stored(NamedTuple):
    values: dict[str, Any]
    version: int  # of the row, or of the tombstone
    exists: bool


class Transaction:
    """Applies edits through one connection that is inside BEGIN IMMEDIATE."""

    def __init__(self, connection: apsw.Connection, sealer: RowSealer, definitions: Definitions, rules: Rules,
                 now: str, by: str, reason: str | None, adopt: bool) -> None:  # fmt: skip
        self._db, self._sealer, self._definitions, self._rules = connection, sealer, definitions, rules
        self._now, self._by, self._reason, self._adopt = now, by, reason, adopt
        self._change_id = str(uuid.uuid4())
        self._epoch: str = rows(connection, "SELECT config_epoch FROM config_epoch")[0][0]
        last = rows(connection, "SELECT chain FROM config_history ORDER BY id DESC LIMIT 1")
        self._chain: str = last[0][0] if last else FIRST_CHAIN

    def apply(self, edits: Iterable[Edit]) -> list[Written]:
        """Check all edits, then write them; return what each did, in order."""
        problems: list[ErrorContext] = []
        planned = [self._plan(edit, problems) for edit in edits]
        if problems:
            raise InvalidConfig(_headline(problems), contexts=problems)
        return [self._write(*plan) for plan in planned]

    def _plan(
        self, edit: Edit, problems: list[ErrorContext]
    ) -> tuple[str, _Stored, dict[str, Any] | None, dict[str, Change]]:
        stored = self._stored(edit.service)
        current = stored.version if stored.exists else 0
        if edit.expect_version is not None and edit.expect_version != current:
            raise VersionConflict(edit.service, edit.expect_version, current)
        new = edit.change(deepcopy(stored.values))
        if new is None and not stored.exists:
            raise self._unknown(edit.service)
        unreadable = portable.problems(new)
        if unreadable:
            problems.extend(unreadable)
            return edit.service, stored, new, {}
        changed = _changed(self._before(edit.service, stored), {} if new is None else leaves(new))
        if new is not None:
            self._check(edit.service, new, changed, problems)
        return edit.service, stored, new, changed

    def _stored(self, service: str) -> _Stored:
        row = rows(
            self._db,
            "SELECT config_json, version, config_epoch, updated_at, updated_by, row_seal FROM service_configs"
            " WHERE service = ?",
            (service,),
        )
        if not row:
            gone = rows(self._db, "SELECT version FROM deleted_services WHERE service = ?", (service,))
            return _Stored({}, gone[0][0] if gone else 0, False)
        text, version, epoch, at, by, seal = row[0]
        if not self._adopt and not self._sealer.fits(
            seal, "service_configs", service, version, epoch, text, at, by
        ):
            raise StoreCorrupted(
                f"the stored config of {service} was altered outside config-daemon; its seal does not fit",
                suggestion=f"Run `config-daemon adopt {service}` to see the difference and to seal it.",
            )
        return _Stored(parse_stored(service, text), version, True)

    def _before(self, service: str, stored: _Stored) -> dict[str, Any]:
        """Return the leaves that history knows as the current ones."""
        if not self._adopt:
            return leaves(stored.values)
        items = rows(self._db, "SELECT key, value_json FROM config_items WHERE service = ?", (service,))
        return {key: portable.parse(text) for key, text in items}

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
            raise NotAllowed(
                f"{service} {key} is fixed by {place}",
                code="FIXED_BY_ENV",
                suggestion=f"Change or remove that line of {place.rpartition(':')[0]}; it wins over the database.",
            )

    def _write(
        self, service: str, stored: _Stored, new: dict[str, Any] | None, changed: dict[str, Change]
    ) -> Written:
        if new is not None and stored.exists and not changed and not self._adopt:
            return Written(service, stored.version)
        version = stored.version + 1
        if new is None:
            self._delete(service, version)
        else:
            self._store(service, stored, version, canonical(new).decode())
        self._write_items(service, changed)
        self._write_history(service, version, changed)
        return Written(service, version, changed, deleted=new is None)

    def _store(self, service: str, stored: _Stored, version: int, text: str) -> None:
        seal = self._sealer.seal("service_configs", service, version, self._epoch, text, self._now, self._by)
        row = (text, version, self._epoch, self._now, self._by, seal, self._sealer.key_id, service)
        if not stored.exists:
            self._db.execute("DELETE FROM deleted_services WHERE service = ?", (service,))
            self._db.execute(_INSERT, row)
            return
        self._db.execute(_UPDATE, (*row, stored.version))
        if self._db.changes() != 1:
            raise VersionConflict(service, stored.version, 0)

    def _delete(self, service: str, version: int) -> None:
        seal = self._sealer.seal("deleted_services", service, version, self._epoch, "", self._now, self._by)
        self._db.execute("DELETE FROM service_configs WHERE service = ?", (service,))
        self._db.execute("INSERT INTO deleted_services VALUES (?,?,?,?,?,?,?)",
                         (service, version, self._epoch, self._now, self._by, seal, self._sealer.key_id))  # fmt: skip

    def _write_items(self, service: str, changed: Mapping[str, Change]) -> None:
        definition = self._definitions.get(service)
        for key, (_, new) in changed.items():
            if new is None:
                self._db.execute("DELETE FROM config_items WHERE service = ? AND key = ?", (service, key))
                continue
            field = definition.fields.get(key) if definition else None
            about = (
                (field.type, field.complexity, field.description, field.help_text)
                if field
                else ("object", "advanced", "", "")
            )
            self._db.execute(_UPSERT_ITEM, (service, key, new, *about, self._now, self._by))

    def _write_history(self, service: str, version: int, changed: Mapping[str, Change]) -> None:
        for key, (old, new) in changed.items():
            row = {
                "service": service, "key": key, "old_value_json": old, "new_value_json": "" if new is None else new,
                "changed_at": self._now, "changed_by": self._by, "change_reason": self._reason,
                "version": version, "change_id": self._change_id,
            }  # fmt: skip
            self._chain = next_chain(self._chain, row)
            self._db.execute(
                "INSERT INTO config_history(service, key, old_value_json, new_value_json, changed_at, changed_by,"
                " change_reason, version, change_id, chain) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (*row.values(), self._chain),
            )

    def _unknown(self, service: str) -> NotFound:
        meant = self._definitions.suggest(service)
        return NotFound(
            f"there is no service {service!r}",
            suggestion=f"Did you mean {meant!r}?"
            if meant
            else "Run `config-daemon services --all` to see what is defined.",
        )


def parse_stored(service: str, text: str) -> dict[str, Any]:
    """Parse a row's stored values.

    Raises: InvalidConfig when they are no JSON object.
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
    return values


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Change]:
    """Return the differing leaves as (old, new) JSON text, None where absent."""
    before = {key: canonical(value).decode() for key, value in old.items()}
    after = {key: canonical(value).decode() for key, value in new.items()}
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def _headline(problems: list[ErrorContext]) -> str:
    return (
        problems[0].message
        if len(problems) == 1
        else f"{len(problems)} values are not valid; nothing was stored"
    )
