"""Resolve one service: `.env` over database over default, with the source of every value.

Laws: a value that is missing stays missing (nothing is invented for it); secret values never come
out of here, only their names; what does not validate is a verdict, never an exception.

Source: seed 004 `ConfigSource`; docs/architecture.md "Precedence".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from config_daemon.core.definition import Definition, Override, Resolved, Source, Verdict
from config_daemon.core.paths import copied, leaves, put, remove
from config_daemon.errors import ErrorContext, InvalidConfig


def resolve(
    definition: Definition | None, stored: Mapping[str, Any], overrides: Mapping[str, Override]
) -> Resolved:
    """Return what the service's config is now; keys are dotted paths, values nested objects."""
    if definition is None:
        return Resolved("definition-missing", dict(stored))
    errors: list[ErrorContext] = []
    secret = definition.secrets
    values = copied(stored) if secret or overrides else dict(stored)  # else nothing nested is touched below
    withheld = tuple(key for key in secret if key in overrides or remove(values, key))
    for key, override in overrides.items():
        if key in secret:
            continue
        try:
            put(values, key, definition.coerce(key, override.text))
        except InvalidConfig as error:
            put(values, key, override.text)  # shown as it stands there, and published by nobody
            told = [replace(e, message=f".env line {override.line}: {e.message}") for e in error.contexts]
            errors.extend(told)
    effective = definition.effective(values)
    known = {error.failed_field for error in errors}
    errors.extend(error for error in definition.check(effective) if error.failed_field not in known)
    return Resolved(_verdict(errors), effective, tuple(errors), withheld)


def sources(
    effective: Mapping[str, Any], stored: Mapping[str, Any], overrides: Mapping[str, Override]
) -> dict[str, Source]:
    """Return where each effective value came from, by dotted key."""
    given = leaves(stored)
    return {
        key: "env" if overrides and _is_fixed(key, overrides) else "database" if key in given else "default"
        for key in leaves(effective)
    }


def _is_fixed(key: str, overrides: Mapping[str, Override]) -> bool:
    return any(key == fixed or key.startswith(f"{fixed}.") for fixed in overrides)


def _verdict(errors: list[ErrorContext]) -> Verdict:
    if not errors:
        return "ready"
    return "incomplete" if all(error.error_code == "MISSING_FIELD" for error in errors) else "invalid"
