"""What the rest of the program may know about a service's config: its fields and four questions.

Laws:
- nothing here imports Pydantic or jsonschema-rs, so the command line stays quick;
- a field is a leaf of the config, named by its dotted path; an object whose members are known is no
  field but a path, except when it may be null: then it is a field too, and its members come after it;
- a definition never changes; a changed definition is another object.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from config_daemon.errors import ErrorContext


class _Absent(Enum):
    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Absent.MISSING
"""The default of a field that has none; `None` is a value."""

SEGMENT: Final = re.compile(r"[a-z][a-z0-9_]*")
"""One name of a dotted key (seed 004, "Field Constraints")."""

_SERVICE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_RESERVED_SERVICE_NAMES: Final = frozenset({"keyring"})


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf of a config: what it may hold and what a person should know about it.

    `type` is `string`, `integer`, `float`, `boolean`, `enum`, `path`, `secret`, `list` or `object`.
    `required` is true when the config is incomplete without a value for it. `default` is `MISSING`
    where there is none; a secret's default is never put into a config. `allowed` holds the choices
    of an enumeration, as text. `aliases` are further names in `.env`; the prefixed name of
    `env_name` always works.
    """

    key: str
    type: str
    complexity: str
    description: str
    help_text: str
    is_secret: bool
    required: bool
    nullable: bool
    default: Any
    minimum: int | float | None
    maximum: int | float | None
    pattern: str | None
    allowed: tuple[str, ...]
    aliases: tuple[str, ...]


class Definition(Protocol):
    """What one service's config may be, wherever the definition comes from."""

    @property
    def service(self) -> str:
        """The service's name."""

    @property
    def title(self) -> str:
        """A short name for people."""

    @property
    def description(self) -> str:
        """What the service is."""

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The services that this one needs."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """Every field by its dotted key, in the order of the definition."""

    @property
    def secrets(self) -> Collection[str]:
        """The keys of the fields that are secret."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12), a copy of the caller's own.

        It carries `x-complexity`, `x-secret`, `x-env` and `x-help` beside the standard keywords.
        """

    def effective(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return `values` laid over the defaults, nested, without judging them.

        Unknown keys are kept; a secret never gets a default. Values are not copied.
        """

    def check(self, values: Mapping[str, Any]) -> tuple[ErrorContext, ...]:
        """Return every problem of a complete effective config at once; empty when there is none.

        A secret that is absent is no problem. Never raises, whatever `values` hold.
        """

    def coerce(self, key: str, text: str) -> Any:
        """Return the value that `text` (of a `.env` line or a command line) means for `key`.

        Strings are taken literally, everything else as JSON. Only the type is judged, not the limits.
        Raises: InvalidConfig, with one context.
        """


def env_name(service: str, key: str) -> str:
    """Return the name that sets a key in `.env`, such as `STT_WORKER__VAD_THRESHOLD`."""
    return f"{env_part(service)}__{env_part(key)}"


def env_part(name: str) -> str:
    """Return a service name or a dotted key as one part of a name in `.env`."""
    return name.upper().replace("-", "_").replace(".", "_")


def is_service_name(name: object) -> bool:
    """Tell whether `name` may name a service: at most 64 characters, and not a word of the topics."""
    return (
        isinstance(name, str)
        and _SERVICE_NAME.fullmatch(name) is not None
        and name not in _RESERVED_SERVICE_NAMES
    )
