"""Resolve one service: `.env` over database over default, with the source of every value.

Laws: a value that is missing stays missing (nothing is invented for it); secret values never come
out of here, only their names; what does not validate is a verdict, never an exception.

Source: seed 004 `ConfigSource`; docs/architecture.md "Precedence".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from config_daemon.core.paths import copied, leaves, put
from config_daemon.errors import ErrorContext, InvalidConfig
from config_daemon.wire import values as portable

Source = Literal["env", "database", "default"]
Verdict = Literal["ready", "invalid", "incomplete", "definition-missing"]


class Knob(Protocol):
    """What resolution needs to know of one field."""

    @property
    def is_secret(self) -> bool: ...  # noqa: D102


class Definition(Protocol):
    """What resolution needs of a service's definition; the catalog's definitions are such."""

    @property
    def fields(self) -> Mapping[str, Knob]: ...  # noqa: D102
    def effective(self, values: Mapping[str, Any]) -> dict[str, Any]: ...  # noqa: D102
    def check(self, values: Mapping[str, Any]) -> tuple[ErrorContext, ...]: ...  # noqa: D102
    def coerce(self, key: str, text: str) -> Any: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Override:
    """One service value that `.env` fixes: its text, and the line where it stands."""

    text: str = field(repr=False)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Resolved:
    """One service's effective values, where each came from, and whether they may be published."""

    verdict: Verdict
    values: dict[str, Any]
    sources: dict[str, Source]
    errors: tuple[ErrorContext, ...] = ()
    withheld: tuple[str, ...] = ()


def resolve(
    definition: Definition | None, stored: Mapping[str, Any], overrides: Mapping[str, Override]
) -> Resolved:
    """Return what the service's config is now; keys are dotted paths, values nested objects."""
    if definition is None:
        return Resolved("definition-missing", dict(stored), dict.fromkeys(leaves(stored), "database"))
    values = copied(stored)
    errors: list[ErrorContext] = []
    withheld = []
    for key, override in overrides.items():
        if definition.fields[key].is_secret:
            withheld.append(key)
            continue
        try:
            put(values, key, definition.coerce(key, override.text))
        except InvalidConfig as error:
            errors.extend(error.contexts)
    effective = definition.effective(values)
    given = set(leaves(stored))
    sources = {key: _source(key, overrides, given) for key in leaves(effective)}
    errors.extend(definition.check(effective) or portable.problems(effective))
    return Resolved(_verdict(errors), effective, sources, tuple(errors), tuple(withheld))


def _source(key: str, overrides: Mapping[str, Override], given: set[str]) -> Source:
    if any(key == fixed or key.startswith(f"{fixed}.") for fixed in overrides):
        return "env"
    return "database" if key in given else "default"


def _verdict(errors: list[ErrorContext]) -> Verdict:
    if not errors:
        return "ready"
    return "incomplete" if all(error.error_code == "MISSING_FIELD" for error in errors) else "invalid"
