"""What resolution takes and gives: a definition's questions, an override of `.env`, a resolved service."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from config_daemon.errors import ErrorContext

Source = Literal["env", "database", "default"]
Verdict = Literal["ready", "invalid", "incomplete", "definition-missing"]


class Definition(Protocol):
    """What resolution needs of a service's definition; the catalog's definitions are such.

    `secrets` are the keys of the fields whose values nobody may see;
    `check` finds everything that keeps a config from being published, also what parsers disagree about.
    """

    @property
    def secrets(self) -> Collection[str]: ...  # noqa: D102
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
    """One service's effective values, and whether they may be published."""

    verdict: Verdict
    values: dict[str, Any]
    errors: tuple[ErrorContext, ...] = ()
    withheld: tuple[str, ...] = ()
